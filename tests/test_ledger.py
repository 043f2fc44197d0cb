"""The promise: every trigger gets exactly one verdict, by its deadline."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_inspector.ledger import Counts, Ledger, Part, Settled, guard_for
from edge_inspector.types import Outcome, Reason, Verdict

PASS = Verdict(Outcome.PASS, Reason.OK)
REJECT = Verdict(Outcome.REJECT, Reason.DEFECT)
VERDICTS = [PASS, REJECT, Verdict.fault(Reason.ENGINE_FAULT)]
MEMORY = 6


def part(trigger_id: int, trigger_ns: int = 0, *, allowed_ns: int = 100) -> Part:
    """A part whose time runs from trigger_ns."""
    return Part("top", trigger_id, trigger_ns, trigger_ns + allowed_ns)


class LedgerMachine(RuleBasedStateMachine):
    """Opens, settles, waits and asks in any order; a model that is only lists and sets says what must be true."""

    @initialize(guard_ns=st.integers(0, 30))
    def begin(self, guard_ns: int) -> None:
        """An empty ledger."""
        self.ledger = Ledger(guard_ns=guard_ns, memory=MEMORY)
        self.guard_ns = guard_ns
        self.now_ns = 1000
        self.parts: list[Part] = []
        self.ids: list[int] = []
        self.settled: list[Settled] = []
        self.reported: list[Part] = []
        self.late = 0

    @rule(trigger_id=st.integers(-3, 30), age_ns=st.integers(0, 60), allowed_ns=st.integers(1, 100))
    def open(self, trigger_id: int, age_ns: int, allowed_ns: int) -> None:
        """A trigger arrives, of an id that may be old, new, or not in order, perhaps with its time up already."""
        new = part(trigger_id, self.now_ns - age_ns, allowed_ns=allowed_ns)
        expected = trigger_id not in self.ids[-MEMORY:]
        assert self.ledger.open(new) is expected
        if expected:
            self.parts.append(new)
            self.ids.append(trigger_id)

    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def settle(self, data: st.DataObject, verdict: Verdict) -> None:
        """Somebody has an answer: perhaps too late, perhaps the second one."""
        if self.parts:
            self._settle(data.draw(st.sampled_from(self.parts)), verdict)

    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS), by_ns=st.integers(-1, 1))
    def settle_at_the_edge(self, data: st.DataObject, verdict: Verdict, by_ns: int) -> None:
        """An answer within a nanosecond of the time at which a part is given up."""
        ahead = [p for p in self.open_parts if p.deadline_ns - self.guard_ns + by_ns >= self.now_ns]
        if ahead:
            chosen = data.draw(st.sampled_from(ahead))
            self.now_ns = chosen.deadline_ns - self.guard_ns + by_ns
            self._settle(chosen, verdict)

    @rule(by_ns=st.integers(0, 80))
    def wait(self, by_ns: int) -> None:
        """Time passes."""
        self.now_ns += by_ns

    @rule(settle_them=st.booleans())
    def due(self, settle_them: bool) -> None:
        """The publisher asks whose time is up, and as a rule settles them at once."""
        expected = [p for p in self.open_parts if self._up_ns(p) <= self.now_ns and p not in self.reported]
        found = self.ledger.due(self.now_ns)
        assert sorted(map(id, found)) == sorted(map(id, expected))
        assert [self._up_ns(p) for p in found] == sorted(self._up_ns(p) for p in found)
        self.reported += found
        for each in found if settle_them else ():
            self._settle(each, Verdict.fault(Reason.TIMEOUT))

    @rule()
    def due_to_the_nanosecond(self) -> None:
        """The publisher wakes exactly when it was told to: then there is something to do."""
        next_ns = self.ledger.next_due_ns()
        if next_ns is not None and next_ns > self.now_ns:
            self.now_ns = next_ns - 1
            assert self.ledger.due(self.now_ns) == []
            self.now_ns = next_ns
            found = self.ledger.due(self.now_ns)
            assert found
            assert all(self._up_ns(each) == next_ns for each in found)
            self.reported += found

    @rule()
    def next_due(self) -> None:
        """The publisher asks how long it may sleep: no longer than to the first open part that was not reported."""
        expected = [self._up_ns(p) for p in self.open_parts if p not in self.reported]
        assert self.ledger.next_due_ns() == min(expected, default=None)

    @property
    def open_parts(self) -> list[Part]:
        """The model's answer to what is open."""
        done = {id(each.part) for each in self.settled}
        return [p for p in self.parts if id(p) not in done]

    def _up_ns(self, which: Part) -> int:
        return which.deadline_ns - self.guard_ns

    def _settle(self, which: Part, verdict: Verdict) -> None:
        again = any(each.part is which for each in self.settled)
        result = self.ledger.settle(which, verdict, self.now_ns)
        assert (result is None) is again
        if result is None:
            self.late += 1
            return
        in_time = self.now_ns < self._up_ns(which)
        assert result.part is which
        assert result.t_ns == self.now_ns
        assert result.verdict == (verdict if in_time or verdict.outcome is Outcome.FAULT else result.verdict)
        assert in_time or result.verdict.outcome is Outcome.FAULT
        self.settled.append(result)

    @invariant()
    def adds_up(self) -> None:
        """Triggers == passed + rejected + faulted + open, and each number is what the model counts."""
        outcomes = [each.verdict.outcome for each in self.settled]
        assert self.ledger.counts == Counts(
            triggers=len(self.parts),
            passed=outcomes.count(Outcome.PASS),
            rejected=outcomes.count(Outcome.REJECT),
            faulted=outcomes.count(Outcome.FAULT),
            open=len(self.open_parts),
            late=self.late,
        )
        assert self.ledger.counts.add_up()

    @invariant()
    def seq_has_no_gaps(self) -> None:
        """Seq is 1, 2, 3, in the order in which verdicts were given."""
        assert [each.seq for each in self.settled] == list(range(1, len(self.settled) + 1))
        assert self.ledger.last_seq == len(self.settled)

    @invariant()
    def remembers(self) -> None:
        """The greatest id is known, and the memory of ids has a bound."""
        assert self.ledger.last_trigger_id == max([0, *self.ids])
        assert len(self.ledger._seen) == len(self.ledger._seen_order) <= MEMORY

    @invariant()
    def nothing_forgotten(self) -> None:
        """What is open and was not reported as due is still listed as open."""
        listed = self.ledger.open_parts()
        assert sorted(map(id, listed)) == sorted(id(p) for p in self.open_parts if p not in self.reported)
        assert [self._up_ns(p) for p in listed] == sorted(self._up_ns(p) for p in listed)


LedgerMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase


@pytest.mark.parametrize("verdict", [PASS, REJECT])
@pytest.mark.parametrize(("now_ns", "expected"), [(89, None), (90, Reason.TIMEOUT), (100, Reason.TIMEOUT)])
def test_edge_of_the_guard(verdict: Verdict, now_ns: int, expected: Reason | None) -> None:
    """One nanosecond before the guard an answer counts; at it, and after it, the part has timed out."""
    ledger, only = Ledger(guard_ns=10), part(1)
    ledger.open(only)
    settled = ledger.settle(only, verdict, now_ns)
    assert settled is not None
    assert settled.verdict == (verdict if expected is None else Verdict.fault(expected))


def test_late_fault_keeps_its_reason() -> None:
    """A fault is a fault after the deadline as well, and says what happened."""
    ledger, only = Ledger(), part(1)
    ledger.open(only)
    settled = ledger.settle(only, Verdict.fault(Reason.CAMERA_FAULT), 10**9)
    assert settled is not None
    assert settled.verdict.reason is Reason.CAMERA_FAULT


def test_a_second_answer_changes_nothing() -> None:
    """The first answer stands, whatever comes after it; the second is counted as late."""
    ledger, only = Ledger(), part(1)
    ledger.open(only)
    ledger.settle(only, REJECT, 1)
    before = dataclasses.replace(ledger.counts)
    assert ledger.settle(only, PASS, 2) is None
    assert ledger.counts == dataclasses.replace(before, late=1)


def test_duplicate_makes_no_second_part() -> None:
    """A trigger id that was seen is refused, also after its part has got its verdict."""
    ledger, only = Ledger(), part(7)
    assert ledger.open(only)
    assert not ledger.open(part(7))
    ledger.settle(only, PASS, 1)
    assert not ledger.open(part(7))
    assert ledger.counts.triggers == 1


def test_memory_is_bounded() -> None:
    """Twenty thousand parts leave behind no more than the ids that are remembered, and nothing that waits."""
    ledger = Ledger(memory=100)
    for n in range(1, 20_001):
        each = part(n, n)
        ledger.open(each)
        ledger.settle(each, PASS, n)
        ledger.next_due_ns()
    assert len(ledger._seen) == len(ledger._seen_order) == 100
    assert not ledger._due


def test_nothing_open_is_due_never() -> None:
    """Without open parts there is no next time to ask."""
    ledger, only = Ledger(), part(1)
    assert ledger.next_due_ns() is None
    ledger.open(only)
    assert ledger.next_due_ns() == only.deadline_ns
    ledger.settle(only, PASS, 1)
    assert ledger.next_due_ns() is None
    assert ledger.due(10**9) == []


@given(st.integers(1_000_000, 3_600_000_000_000))
def test_guard_leaves_time_to_work(deadline_ns: int) -> None:
    """The guard is a millisecond at the least, and never more than a tenth of a deadline of ten or more."""
    guard_ns = guard_for(deadline_ns)
    assert 1_000_000 <= guard_ns <= max(1_000_000, deadline_ns // 10)

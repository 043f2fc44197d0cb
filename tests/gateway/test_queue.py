"""Results for the PLC: in order, each once, and none overwritten before the PLC has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_inspector.gateway import queue
from edge_inspector.gateway.queue import ResultQueue
from edge_inspector.gateway.registers import SLOTS, U32, Result, Verdict

MOST, USUAL = 5, queue.WAITING_AT_MOST  # that may wait: in these tests, and as a rule


def result_of(part: int) -> Callable[[int], Result]:
    """What makes the result of this part."""
    return lambda number: Result(number, part, 0, 0, Verdict.PASS, "ok")


def ids(results: list[Result]) -> list[int]:
    """The parts they speak of."""
    return [result.id for result in results]


def filled(parts: int, *, number: int = 0) -> ResultQueue:
    """A queue with the results of parts 1, 2, 3... whose numbers follow this one."""
    made = ResultQueue(number=number)
    for part in range(1, parts + 1):
        made.put(result_of(part))
    return made


class QueueMachine(RuleBasedStateMachine):
    """Puts and acknowledges in any order, around the end of 32 bits; the model is two lists."""

    @initialize(back=st.sampled_from([0, 1, 7, 8, 9, 20, 1000]))
    def begin(self, back: int) -> None:
        """An empty queue, at the start of a session or shortly before its numbers wrap."""
        queue.WAITING_AT_MOST = MOST
        self.queue = ResultQueue(number=(U32 - back) % U32)
        self.parts = self.lost = self.overruns = 0
        self.standing: list[Result] = []
        self.waiting: list[int] = []
        self.given: list[int] = [self.queue.number]

    def teardown(self) -> None:
        """Leave the limit as it was."""
        queue.WAITING_AT_MOST = USUAL

    @rule()
    def put(self) -> None:
        """A result."""
        self.parts += 1
        self.waiting.append(self.parts)
        self.queue.put(result_of(self.parts))
        self._fill()
        self.overruns += bool(self.waiting)
        if len(self.waiting) > MOST:
            self.waiting.pop(0)
            self.lost += 1

    @rule(back=st.integers(0, SLOTS))
    def acknowledge(self, back: int) -> None:
        """The PLC has some, or says the same again."""
        number = self.given[max(-1 - back, -len(self.given))]
        expected = [each for each in self.standing if each.number in self.given[: self.given.index(number) + 1]]
        assert self.queue.acknowledge(number) == expected
        self.standing = self.standing[len(expected) :]
        self._fill()

    @rule(ahead=st.integers(1, U32 // 2))
    def acknowledge_nonsense(self, ahead: int) -> None:
        """A number that was never given, and what the registers hold after a restart: nothing comes of it."""
        assert self.queue.acknowledge((self.given[-1] + ahead) % U32) == []
        assert self.queue.acknowledge(0) == []

    @rule()
    def clear(self) -> None:
        """The PLC has started anew."""
        self.queue.clear()
        self.standing, self.waiting = [], []

    @invariant()
    def stands(self) -> None:
        """What the registers show, where, and what is said of it."""
        slots = self.queue.slots
        assert sorted(ids([each for each in slots if each])) == ids(self.standing)
        assert all(each is None or each.number % SLOTS == slot for slot, each in enumerate(slots))
        assert self.queue.valid is bool(self.standing)
        assert self.queue.number == self.given[-1]
        assert (self.queue.overruns, self.queue.lost) == (self.overruns, self.lost)
        assert self.queue.overrun is bool(self.overruns)

    def _fill(self) -> None:
        """Whoever waits takes the next number, if its place is free; 0 is nobody's."""
        while self.waiting:
            number = 1 if self.given[-1] == U32 - 1 else self.given[-1] + 1
            if any(each.number % SLOTS == number % SLOTS for each in self.standing):
                return
            self.given.append(number)
            self.standing.append(result_of(self.waiting.pop(0))(number))


QueueMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestQueueMachine = QueueMachine.TestCase


def test_oldest_first() -> None:
    """What one acknowledgement takes comes in the order in which it was queued."""
    assert ids(filled(SLOTS).acknowledge(SLOTS)) == list(range(1, SLOTS + 1))
    assert ids(filled(4, number=U32 - 3).acknowledge(2)) == [1, 2, 3, 4]


def test_the_ninth_waits_for_its_place() -> None:
    """Nothing is overwritten; the ninth gets its number when the first is acknowledged."""
    full = filled(SLOTS + 2)
    assert (full.number, full.overruns, full.overrun) == (SLOTS, 2, True)
    assert ids(full.acknowledge(1)) == [1]
    assert full.number == SLOTS + 1
    assert ids(full.acknowledge(SLOTS + 1)) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert ids(full.acknowledge(SLOTS + 2)) == [10]
    assert not full.valid


def test_a_plc_of_zeros_has_nothing() -> None:
    """Zeroed registers acknowledge nothing, not even while the numbers have just wrapped."""
    just_wrapped = filled(4, number=U32 - 3)
    assert just_wrapped.number == 2
    assert just_wrapped.acknowledge(0) == []
    assert sum(each is not None for each in just_wrapped.slots) == 4


def test_a_plc_that_never_acknowledges() -> None:
    """A hundred thousand results: the first eight stand where they were, the newest wait, the rest is counted."""
    stuck = filled(100_000)
    assert len(stuck._waiting) == queue.WAITING_AT_MOST
    assert stuck.lost == 100_000 - SLOTS - queue.WAITING_AT_MOST
    assert sorted(ids([each for each in stuck.slots if each])) == list(range(1, SLOTS + 1))
    stuck.acknowledge(SLOTS)
    assert min(ids([each for each in stuck.slots if each])) == 100_000 - queue.WAITING_AT_MOST + 1


def test_what_cannot_be_made_takes_no_number() -> None:
    """A result that fails to be made leaves no hole for the PLC to wait at."""
    broken = ResultQueue()
    with pytest.raises(ZeroDivisionError):
        broken.put(lambda number: Result(number, 1 // 0, 0, 0, Verdict.PASS, "ok"))
    assert (broken.number, broken.valid) == (0, False)
    broken.put(result_of(2))
    assert ids(broken.acknowledge(1)) == [2]

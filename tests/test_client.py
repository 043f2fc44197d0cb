"""A reader's order: each verdict once, in the order of seq, and what never came is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.client import PATIENCE_S, InOrder, Message


def verdict(seq: int, epoch: str = "e1") -> Message:
    """A verdict, as far as the order goes."""
    return {"type": "verdict", "epoch": epoch, "seq": seq}


def heartbeat(last_seq: int, epoch: str = "e1") -> Message:
    """A heartbeat, as far as the order goes."""
    return {"type": "heartbeat", "epoch": epoch, "last_seq": last_seq}


@dataclass
class Reader:
    """An InOrder and what came out of it: (epoch, seq)."""

    order: InOrder = field(default_factory=InOrder)
    out: list[tuple[str, int]] = field(default_factory=list)
    now_s: float = 100.0

    def take(self, *messages: Message) -> list[int]:
        """Feed messages; returns the seqs that came out of it."""
        return [seq for each in messages for seq in self._note(self.order.take(each, self.now_s))]

    def give_up_before(self, seq: int) -> list[int]:
        """What lies before is gone."""
        return self._note(self.order.give_up_before(seq, self.now_s))

    def wait(self, seconds: float) -> list[int]:
        """Time passes, and the reader looks whether it has waited long enough."""
        self.now_s += seconds
        return self._note(self.order.impatient(self.now_s))

    def _note(self, messages: object) -> list[int]:
        found = [(m["epoch"], m["seq"]) for m in messages]  # type: ignore[attr-defined]
        self.out += found
        return [seq for _, seq in found]


def test_straight_through() -> None:
    """Without losses every verdict comes out as it goes in."""
    reader = Reader()
    assert reader.take(heartbeat(0), verdict(1), verdict(2), heartbeat(2), verdict(3)) == [1, 2, 3]
    assert reader.order.wanted is None
    assert reader.order.lost == 0


@pytest.mark.parametrize(("first", "expected"), [(verdict(7), [7, 8]), (heartbeat(7), [8])])
def test_a_reader_that_comes_later(first: Message, expected: list[int]) -> None:
    """What was before the first message is not missing."""
    reader = Reader()
    assert reader.take(first, verdict(8)) == expected
    assert reader.order.lost == 0


def test_a_gap_is_held_until_it_is_filled() -> None:
    """What comes too early waits; `wanted` says what to ask for; the replay sets everything right."""
    reader = Reader()
    assert reader.take(verdict(1), verdict(4), verdict(3)) == [1]
    assert reader.order.wanted == 2
    assert reader.take(verdict(2), verdict(3), verdict(4)) == [2, 3, 4]
    assert reader.order.wanted is None


def test_a_heartbeat_shows_that_the_last_ones_are_missing() -> None:
    """Nothing comes after the last verdict but heartbeats: they say what there is."""
    reader = Reader()
    assert reader.take(verdict(1), heartbeat(3)) == [1]
    assert reader.order.wanted == 2


def test_each_once() -> None:
    """A verdict that was sent again, or replayed, is not given again."""
    reader = Reader()
    assert reader.take(verdict(1), verdict(1), verdict(3), verdict(3), verdict(2), verdict(2), verdict(1)) == [1, 2, 3]


def test_patience_ends() -> None:
    """What has not come within the patience is counted as lost, and what waited behind it is given."""
    reader = Reader()
    reader.take(verdict(1), verdict(4))
    assert reader.wait(PATIENCE_S - 0.1) == []
    assert reader.wait(0.2) == [4]
    assert reader.order.lost == 2
    assert reader.order.wanted is None


def test_patience_ends_without_a_later_verdict() -> None:
    """Also where only a heartbeat told of the missing ones."""
    reader = Reader()
    reader.take(verdict(1), heartbeat(3))
    assert reader.wait(PATIENCE_S + 0.1) == []
    assert (reader.order.lost, reader.order.wanted) == (2, None)
    assert reader.take(verdict(4)) == [4]


def test_what_cannot_be_had() -> None:
    """The daemon keeps only so many: what lies before them is lost at once."""
    reader = Reader()
    reader.take(verdict(1), verdict(9))
    assert reader.give_up_before(6) == []
    assert (reader.order.lost, reader.order.wanted) == (4, 6)
    assert reader.give_up_before(2) == []
    assert reader.order.lost == 4


def test_a_new_epoch_begins_with_one() -> None:
    """A restarted daemon counts from 1: what it said before the reader heard of it is missing."""
    for first in (verdict(3, "e2"), heartbeat(3, "e2")):
        reader = Reader()
        reader.take(verdict(41), first)
        assert reader.order.wanted == 1
        assert reader.take(verdict(1, "e2"), verdict(2, "e2"), verdict(3, "e2")) == [1, 2, 3]


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


steps = st.lists(
    st.integers(1, 12).map(verdict)
    | st.integers(0, 12).map(heartbeat)
    | st.sampled_from([0.01, 0.3, PATIENCE_S + 0.01]).map(Wait)
    | st.integers(1, 12),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 4), steps)
def test_whatever_arrives(last_seq: int, arrivals: list[Message | Wait | int]) -> None:
    """Losses, duplicates, any order, pauses and gaps: out comes each once, in order, and the sums are right."""
    reader, heard = Reader(), set()
    reader.take(heartbeat(last_seq))
    for step in arrivals:
        if isinstance(step, Wait):
            reader.wait(step.seconds)
        elif isinstance(step, int):
            reader.give_up_before(step)
        else:
            if step["type"] == "verdict" and step["seq"] >= reader.order.next_seq:
                heard.add(step["seq"])
            reader.take(step)
    for _ in range(20):  # more gaps than there are numbers
        reader.wait(PATIENCE_S + 0.01)
    assert reader.order.wanted is None
    out = [seq for _, seq in reader.out]
    assert out == sorted(set(out))
    assert set(out) == heard  # nothing that came in time was kept back, nothing was made up
    assert last_seq + len(out) + reader.order.lost == reader.order.next_seq - 1


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 25), st.data())
def test_a_replay_makes_it_whole(last: int, data: st.DataObject) -> None:
    """Whatever was lost on the way, and lost again: asking for `wanted` long enough gives every verdict, each once."""
    reader = Reader()
    reader.take(heartbeat(0))
    sent = [verdict(seq) for seq in range(1, last + 1)]
    arrived = data.draw(st.lists(st.sampled_from(sent), max_size=2 * last))
    reader.take(*arrived, heartbeat(last))
    for _ in range(last + 1):
        wanted = reader.order.wanted
        if wanted is None:
            break
        replay = [each for each in sent if each["seq"] >= wanted]
        reader.take(*[each for each in replay if each["seq"] == wanted or data.draw(st.booleans())])
    assert reader.out == [("e1", seq) for seq in range(1, last + 1)]
    assert reader.order.lost == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=12), min_size=1, max_size=4))
def test_epochs_do_not_mix(epochs: list[list[int]]) -> None:
    """Restart after restart: in every epoch the output rises, from 1 on where the reader was there before."""
    reader = Reader()
    for n, seqs in enumerate(epochs):
        reader.take(*[verdict(seq, f"e{n}") for seq in seqs])
    for n in range(len(epochs)):
        out = [seq for epoch, seq in reader.out if epoch == f"e{n}"]
        assert out == sorted(set(out))
        if 0 < n < len(epochs) - 1:  # what came of an epoch that has ended is all out, gaps or not
            assert out == sorted(set(epochs[n]))
        elif n:
            assert out == list(range(1, len(out) + 1))


def test_patience_begins_when_the_gap_is_seen() -> None:
    """After a broken connection of some seconds there is time to ask for what was missed, before it counts as lost."""
    reader = Reader()
    reader.take(verdict(1))
    reader.wait(5.0)
    reader.take(verdict(5))
    assert reader.wait(0.05) == []
    assert reader.order.wanted == 2
    assert reader.order.lost == 0


def test_an_epoch_that_ends_keeps_nothing_back() -> None:
    """What arrived of the old epoch comes out before the new one; what was missing before it is counted as lost."""
    reader = Reader()
    reader.take(verdict(1), verdict(3), verdict(1, "e2"))
    assert reader.out == [("e1", 1), ("e1", 3), ("e2", 1)]
    assert reader.order.lost == 1


def test_an_old_epoch_does_not_come_back() -> None:
    """A replay of the old epoch that arrives late (it has its own connection) does not start everything anew."""
    reader = Reader()
    reader.take(verdict(1), verdict(1, "e2"), verdict(2, "e2"), verdict(1), verdict(1, "e2"), verdict(3, "e2"))
    assert reader.out == [("e1", 1), ("e2", 1), ("e2", 2), ("e2", 3)]


def test_a_reader_that_has_heard_nothing_misses_nothing() -> None:
    """Before the first message there is nothing to ask for."""
    reader = Reader()
    assert reader.order.wanted is None
    reader.wait(PATIENCE_S + 0.01)
    assert reader.order.lost == 0

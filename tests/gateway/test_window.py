"""No defective part in the good bin: the window against a belt that is simulated here, count by count."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.gateway.window import Closed, Opened, Unwrap, Window

# a belt, its parts, and what a gateway hears of them


@dataclass(slots=True, eq=False)
class Thing:
    """A part of the real world. x: where it lies on the belt. keys: it was given these, one each time it was seen."""

    x: int
    length: int
    bad: bool
    keys: list[int] = field(default_factory=list)
    bin: str = ""


@dataclass(slots=True)
class Seen:
    """What the simulation knows of one key. clear: nothing else is near, and there was no other trouble."""

    thing: Thing
    at: int
    clear: bool
    forward: bool
    flagged: bool = False
    passed: bool | None = None
    opened: Opened | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """distance, tolerance: of the window. bits: of both counters; ids and encoder begin so far before they wrap.

    gaps: between parts. steps: (counts a tick, ticks). poll: ticks between looks. slow: a verdict takes up to so many
    ticks. jitter: of the photo-eye. moves_first: within a look the position is told first, then the triggers.
    """

    distance: int
    tolerance: int
    bits: int
    before_wrap: int
    gaps: list[int]
    steps: list[tuple[int, int]]
    poll: int
    slow: int
    jitter: int
    moves_first: bool
    doubles: bool
    seed: int


class Belt:
    """Runs a plan. The ejector lets pass what is at its line while a window is open there that passes, and no other."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.random = plan, random.Random(plan.seed)
        self.window = Window(distance=plan.distance, tolerance=plan.tolerance)
        self.ids, self.encoder = Unwrap(plan.bits), Unwrap(plan.bits)
        self.size = 2**plan.bits
        self.things: list[Thing] = []
        x = 0
        for gap in plan.gaps:
            x += gap
            self.things.append(Thing(x, self.random.randint(1, max(1, gap // 2)), self.random.random() < 0.4))
        self.p = self.turned = plan.gaps[0] + plan.gaps[1] + 1  # two parts are past the eye when we begin to look
        self.first = self.reached = self.p  # reached: as far as the window has heard
        self.farthest = self.p  # as far as the ejector has seen
        self.triggers: list[tuple[int, int, Thing, bool]] = []
        self.verdicts: list[tuple[int, int, bool]] = []
        self.seen: dict[int, Seen] = {}
        self.tick = self.count = 0
        self.ids.take(self.size - plan.before_wrap)
        self.zero = self.encoder.take(self.raw(self.p)) - self.p

    def raw(self, x: int) -> int:
        """The PLC's encoder there."""
        return (x - self.first + self.size - self.plan.before_wrap) % self.size

    def run(self) -> None:
        """The plan, and then on until the belt is empty."""
        self.look()
        for speed, ticks in self.plan.steps:
            for _ in range(ticks):
                self.step(speed)
        end = max([thing.x for thing in self.things] + [self.farthest, self.reached]) + 1
        while self.p < end + self.plan.distance + 2 * self.plan.tolerance + 3 or self.verdicts or self.triggers:
            self.step(3)
        self.look()

    def step(self, speed: int) -> None:
        """One tick."""
        self.tick += 1
        for _ in range(abs(speed)):
            self.one_count(1 if speed > 0 else -1)
        for due in [each for each in self.verdicts if each[0] <= self.tick]:
            self.verdicts.remove(due)
            self.decide(due[1], due[2])
        if self.tick % self.plan.poll == 0:
            self.look()

    def one_count(self, by: int) -> None:
        """The photo-eye sees a part begin: its front when the belt runs forward, its rear when it runs back."""
        if by < 0:
            self.turned = max(self.turned, self.p)
        for thing in self.things:
            if (by > 0 and thing.x == self.p + 1) or (by < 0 and thing.x + thing.length == self.p - 1):
                for _ in range(1 + (self.plan.doubles and self.random.random() < 0.1)):
                    self.count += 1
                    at = self.p + by + self.random.randint(-self.plan.jitter, self.plan.jitter)
                    self.triggers.append((self.count, at, thing, by > 0))
        self.p += by

    def look(self) -> None:
        """What the gateway does with what the PLC says."""
        if self.plan.moves_first:
            self.move()
        triggers, self.triggers = self.triggers, []
        for each in triggers:
            self.enter(*each)
        self.move()
        self.eject()

    def enter(self, count: int, at: int, thing: Thing, forward: bool) -> None:
        """A trigger, as the PLC counts: the window must say what it says of it, and no more."""
        plan, newest = self.plan, max((seen.at for seen in self.seen.values()), default=-(10**9))
        key = self.ids.take((count - plan.before_wrap) % self.size)
        assert key == self.size - plan.before_wrap + count
        assert self.encoder.near(self.raw(at)) == at + self.zero
        near = [other for other in self.seen.values() if abs(other.at - at) <= 2 * plan.tolerance]
        clear = not thing.keys and not near and at > max(newest, self.turned, self.first + 2 * plan.tolerance)
        self.reached = max(self.reached, at)
        changeable = {key for key, other in self.seen.items() if other in near and self.frozen_at(other) > self.reached}
        expected = {key for key in changeable if not self.seen[key].flagged}
        said = dict(self.window.enter(key, at + self.zero))
        assert set(said) - {key} == expected
        assert set(said.values()) <= {"too_close", "repeated"}
        assert not (clear and said)
        if any(not other.closed for other in near) or at <= max(newest, self.first + 2 * plan.tolerance):
            assert key in said
        if thing.keys and forward:
            assert key in said or self.frozen_at(Seen(thing, at, clear, forward)) <= self.reached
        if at <= newest:
            assert said[key] == "repeated"
        for other in near:
            other.clear = False
        for flagged in expected:
            self.seen[flagged].flagged = True
        self.seen[key] = Seen(thing, at, clear, forward, key in said)
        thing.keys.append(key)
        self.answer(key, thing)

    def answer(self, key: int, thing: Thing) -> None:
        """The detector is right the first time that it sees a part, praises all that it sees again, and may add."""
        truth = len(thing.keys) > 1 or not thing.bad
        delay = self.random.randint(0, self.plan.slow)
        self.verdicts.append((self.tick + delay, key, truth))
        if self.random.random() < 0.3:
            self.verdicts.append((self.tick + delay + self.random.randint(0, self.plan.slow), key, not truth))

    def decide(self, key: int, passed: bool) -> None:
        """A verdict arrives: it must count in time, and never else."""
        seen = self.seen[key]
        in_time = self.frozen_at(seen) > self.reached
        counts = in_time and not (passed and (seen.flagged or seen.passed is False))
        assert self.window.decide(key, passed) is counts
        if counts:
            seen.passed = passed
        if not (in_time and passed):
            seen.clear = False

    def frozen_at(self, seen: Seen) -> int:
        """Where its window opens."""
        return seen.at + self.plan.distance - self.plan.tolerance

    def move(self) -> None:
        """The belt has gone somewhere since."""
        self.reached = max(self.reached, self.p)
        last = -(10**9)
        at = self.encoder.take(self.raw(self.p))
        assert at == self.p + self.zero
        for event in self.window.move(at):
            seen = self.seen[event.key]
            place = self.frozen_at(seen)
            if isinstance(event, Opened):
                assert seen.opened is None
                self.check_action(event, seen)
                seen.opened = event
            else:
                assert isinstance(event, Closed)
                assert seen.opened is not None
                assert not seen.closed
                seen.closed = True
                place += 2 * self.plan.tolerance
            assert last <= place <= self.reached
            last = place
        assert len(self.window) == sum(not seen.closed for seen in self.seen.values())

    def eject(self) -> None:
        """The ejector acts for each count that went by."""
        for thing in self.things:
            line = thing.x + self.plan.distance
            if not thing.bin and self.farthest < line <= self.p:
                thing.bin = "good" if self.passes(thing) else "reject"
        self.farthest = max(self.farthest, self.p)

    def check_action(self, event: Opened, seen: Seen) -> None:
        """It passes on a pass of its own and nothing against it, and says why not."""
        assert event.passed is (seen.passed is True and not seen.flagged)
        if not seen.flagged:
            assert event.why == ("" if seen.passed is not None else "no_verdict")
        else:
            assert event.why in ("too_close", "repeated")

    def passes(self, thing: Thing) -> bool:
        """What the ejector does when this part is at its line: by what was opened there until now."""
        there = [seen for seen in self.seen.values() if abs(seen.at - thing.x) <= self.plan.tolerance]
        opened = [seen.opened for seen in there if seen.opened is not None]
        assert len(opened) == len(there)
        return len(opened) == 1 and opened[0].passed


STEPS = st.tuples(st.sampled_from([0, 1, 1, 2, 3, 5, 9, 60, -1, -2, -7]), st.integers(1, 25))


@st.composite
def plans(draw: st.DrawFn, *, orderly: bool = False) -> Plan:
    """orderly: parts are well apart and in time, the belt only runs forward, at any speed."""
    tolerance = draw(st.integers(0, 8))
    distance = tolerance + draw(st.integers(1, 200)) + 100 * orderly
    jitter = draw(st.integers(0, tolerance))
    least = 2 * tolerance + 2 * jitter + 1 if orderly else 1
    gaps = st.integers(least, least + draw(st.sampled_from([4, 20, 80])))
    steps = draw(st.lists(STEPS, min_size=1, max_size=25))
    return Plan(
        distance=distance, tolerance=tolerance, jitter=jitter, gaps=draw(st.lists(gaps, min_size=4, max_size=30)),
        steps=[(min(abs(speed), 5), ticks) for speed, ticks in steps] if orderly else steps,
        bits=draw(st.sampled_from([16, 32])), before_wrap=draw(st.integers(1, 300)),
        poll=1 if orderly else draw(st.integers(1, 6)), slow=10 if orderly else draw(st.sampled_from([0, 20, 200])),
        moves_first=draw(st.booleans()), doubles=not orderly and draw(st.booleans()), seed=draw(st.integers(0, 2**32)),
    )  # fmt: skip


def check_ends(belt: Belt) -> None:
    """What must hold of every belt that has run empty."""
    assert not any(thing.bad for thing in belt.things if thing.bin == "good")
    assert all(thing.bin for thing in belt.things[2:])
    assert all(seen.opened is not None and seen.closed for seen in belt.seen.values())
    assert len(belt.window) == 0
    assert all(seen.thing.bin == "good" for seen in belt.seen.values() if seen.clear)


@settings(max_examples=250, deadline=None)
@given(plans())
def test_no_defective_part_in_the_good_bin(plan: Plan) -> None:
    """Stops, reversals, jumps, crowds, doubles, late, second and lying verdicts, counters that wrap: none gets through.

    And nothing is rejected without a reason: what was alone, seen once and praised in time is in the good bin.
    """
    belt = Belt(plan)
    belt.run()
    check_ends(belt)


@settings(max_examples=100, deadline=None)
@given(plans(orderly=True))
def test_an_orderly_belt_loses_nothing(plan: Plan) -> None:
    """Parts just further apart than their windows, verdicts in time: every part goes where its verdict says."""
    belt = Belt(plan)
    belt.run()
    check_ends(belt)
    for seen in belt.seen.values():
        if seen.at > belt.first + 2 * plan.tolerance:
            assert seen.passed is not None
            assert seen.thing.bin == ("good" if seen.passed else "reject")


@pytest.mark.parametrize("seed", range(3))
def test_a_long_shift(seed: int) -> None:
    """Two hundred parts, with everything that can happen: good ones get through, and no bad one."""
    chance = random.Random(seed)
    steps = [(chance.choice([0, 1, 2, 3, 4, 4, 4, 5, 6, 8, -3]), chance.randint(1, 20)) for _ in range(800)]
    gaps = [chance.choice([5, 12, 30, 50, 70]) for _ in range(200)]
    belt = Belt(Plan(150, 6, 16, 200, gaps, steps, 2, 30, 3, True, True, seed))
    belt.run()
    check_ends(belt)
    good = [thing for thing in belt.things[2:] if not thing.bad]
    assert sum(thing.bin == "good" for thing in good) > 20
    assert len(belt.seen) > len(belt.things)


# the rules, one by one


def made(*, distance: float = 100, tolerance: float = 5, most: int = 1024) -> Window:
    """A window that has watched an empty belt come to 0."""
    window = Window(distance=distance, tolerance=tolerance, most=most)
    window.move(-1000)
    window.move(0)
    return window


def entered(*positions: float, passed: bool | None = True) -> Window:
    """Parts 0, 1, 2... at these positions, each with a pass where it is not rejected already."""
    window = made()
    for key, at in enumerate(positions):
        window.enter(key, at)
    for key in range(len(positions) if passed is not None else 0):
        window.decide(key, bool(passed))
    return window


def actions(window: Window, at: float = 10_000) -> dict[int, tuple[bool, str]]:
    """What is opened on the way there."""
    return {event.key: (event.passed, event.why) for event in window.move(at) if isinstance(event, Opened)}


def test_one_part() -> None:
    """It opens at distance - tolerance, closes at distance + tolerance, and is forgotten."""
    window = made()
    assert window.enter(7, 10) == ()
    assert window.decide(7, True)
    assert window.move(104) == []
    assert window.move(105) == [Opened(7, True, "")]
    assert window.move(114) == []
    assert len(window) == 1
    assert window.move(115) == [Closed(7)]
    assert len(window) == 0
    assert window.move(10_000) == []


@pytest.mark.parametrize("passed", [None, False])
def test_whatever_is_not_a_pass_is_a_reject(passed: bool | None) -> None:
    """No verdict, or a fail; the record can tell which."""
    assert actions(entered(10, passed=passed)) == {0: (False, "no_verdict" if passed is None else "")}


@pytest.mark.parametrize(("at", "in_time"), [(104, True), (105, False), (110, False), (115, False), (150, False)])
def test_a_late_verdict_is_refused(at: float, in_time: bool) -> None:
    """From the opening on nothing changes this part, nor another one."""
    window = made()
    window.enter(0, 10)
    window.enter(1, 60)
    window.move(at)
    assert window.decide(0, True) is in_time
    assert window.decide(0, False) is in_time
    assert window.reject(0, "not_healthy") is in_time
    assert actions(window)[1] == (False, "no_verdict")


def test_a_trigger_says_where_the_belt_is() -> None:
    """A new part at the eye tells that a former one is at the ejector, before any `move` does."""
    window = made()
    window.enter(0, 10)
    window.enter(1, 105)
    assert not window.decide(0, True)
    assert not window.reject(0, "not_healthy")
    assert window.decide(1, True)
    assert actions(window) == {0: (False, "no_verdict"), 1: (True, "")}


def test_a_fail_overrides_and_is_not_overridden() -> None:
    """A pass that does not count is refused."""
    window = made()
    window.enter(0, 10)
    assert window.decide(0, True)
    assert window.decide(0, False)
    assert not window.decide(0, True)
    assert actions(window) == {0: (False, "")}


def test_unknown_parts() -> None:
    """A verdict of nobody is for nobody."""
    window = entered(10, passed=None)
    assert not window.decide(1, True)
    assert not window.reject(1, "not_healthy")
    assert actions(window) == {0: (False, "no_verdict")}


@pytest.mark.parametrize(("gap", "close"), [(9, True), (10, True), (10.5, False)])
def test_windows_that_meet(gap: float, close: bool) -> None:
    """Both are rejected, also the one that had its pass; windows that only touch meet."""
    window = made()
    assert window.enter(0, 10) == ()
    assert window.decide(0, True)
    assert window.enter(1, 10 + gap) == (((1, "too_close"), (0, "too_close")) if close else ())
    assert window.decide(1, True) is not close
    assert actions(window) == dict.fromkeys((0, 1), (False, "too_close") if close else (True, ""))


def test_a_row_of_parts_too_close() -> None:
    """Each is named once."""
    window = made()
    assert window.enter(0, 10) == ()
    assert window.enter(1, 18) == ((1, "too_close"), (0, "too_close"))
    assert window.enter(2, 26) == ((2, "too_close"),)
    assert window.enter(3, 40) == ()


@pytest.mark.parametrize("again", [92, 100, 108])
def test_a_part_that_crosses_again(again: float) -> None:
    """The belt runs back to 50 and on: keys 0 and 2 are one part. Its neighbour upstream, new at 190, is its own."""
    window = made(distance=200)
    window.enter(0, 60)
    window.enter(1, 100)
    for at in (120, 50, again):
        window.move(at)
    assert window.enter(2, again) == ((2, "repeated"), (1, "repeated"))
    assert window.enter(3, 190) == ()
    for key in range(4):
        window.decide(key, True)
    assert actions(window) == {0: (True, ""), 1: (False, "repeated"), 2: (False, "repeated"), 3: (True, "")}


def test_a_rear_seen_while_running_back() -> None:
    """A part that lies where the belt has been is no new one, although none was seen just there."""
    window = made()
    window.enter(0, 60)
    window.move(130)
    window.move(119)
    assert window.enter(1, 118) == ((1, "repeated"),)
    window.move(131)
    assert window.enter(2, 131) == ()


def test_a_belt_that_trembles_has_not_turned() -> None:
    """Back by no more than two tolerances: a trigger that is read a little late is still new."""
    window = made()
    window.move(130)
    window.move(120)
    assert window.enter(0, 129) == ()


def test_a_part_that_crosses_again_after_its_window() -> None:
    """The former one is over and stays as it was; the new one is never passed."""
    window = entered(10)
    assert actions(window, 200) == {0: (True, "")}
    window.move(0)
    assert window.enter(1, 11) == ((1, "repeated"),)
    assert not window.decide(1, True)
    assert window.move(11) == [Opened(1, False, "repeated"), Closed(1)]


def test_a_part_that_crosses_again_while_its_window_is_open() -> None:
    """What has been said stands; the new key's window is open beside it, and two windows reject."""
    window = entered(10)
    assert actions(window, 108) == {0: (True, "")}
    window.move(0)
    assert window.enter(1, 10) == ((1, "repeated"),)
    assert window.move(10) == [Opened(1, False, "repeated")]


def test_the_same_key_twice() -> None:
    """There is no second part, and neither the first nor what is near the second passes."""
    window = entered(10, 60)
    assert window.enter(0, 66) == ((0, "repeated"), (1, "repeated"))
    assert window.enter(0, 66) == ()
    assert window.enter(2, 70) == ((2, "too_close"),)
    assert actions(window) == {0: (False, "repeated"), 1: (False, "repeated"), 2: (False, "too_close")}


@pytest.mark.parametrize("with_move", [True, False])
def test_parts_from_before_our_time(with_move: bool) -> None:
    """Where we come to a belt that runs, at the start or after `clear`, one may have passed the eye just before."""
    window = entered(10)
    window.clear()
    assert len(window) == 0
    if with_move:
        window.move(5000)
    assert window.enter(1, 5000 + 10 * with_move) == ((1, "too_close"),)
    assert window.enter(2, 5100) == ()
    assert actions(window) == {1: (False, "too_close"), 2: (False, "no_verdict")}


def test_parts_that_nobody_saw() -> None:
    """Triggers were lost between 20 and 40: the one before and those after may have them in their windows."""
    window = entered(5, 20)
    assert window.unseen(40) == ((1, "too_close"),)
    assert window.enter(2, 40) == ((2, "too_close"),)
    assert window.enter(3, 50) == ((3, "too_close"),)
    assert window.enter(4, 61) == ()
    assert window.decide(4, True)
    assert {key: passed for key, (passed, _) in actions(window).items()} == {
        0: True,
        1: False,
        2: False,
        3: False,
        4: True,
    }


def test_reasons_to_reject() -> None:
    """The first one stays, an empty one is one too, and all at once names those that are new to it."""
    window = entered(10, 30, 50)
    assert window.reject(1, "")
    assert window.reject(1, "line_stop")
    window.move(105)
    assert window.reject_all("not_healthy") == [2]
    assert window.reject_all("disabled") == []
    assert actions(window) == {1: (False, ""), 2: (False, "not_healthy")}


def test_a_jump_over_everything() -> None:
    """All events come, in the order of the belt; where two fall together, it opens before it closes."""
    window = Window(distance=100, tolerance=0)
    window.move(0)
    window.enter(0, 10)
    window.enter(1, 20)
    window.decide(1, True)
    opened = [Opened(0, False, "no_verdict"), Opened(1, True, "")]
    assert window.move(500) == [opened[0], Closed(0), opened[1], Closed(1)]
    crowd = entered(10, 15, 22, passed=None)
    kinds = [(type(event).__name__, event.key) for event in crowd.move(500)]
    assert kinds == [("Opened", 0), ("Opened", 1), ("Closed", 0), ("Opened", 2), ("Closed", 1), ("Closed", 2)]


def test_a_belt_that_never_moves() -> None:
    """Triggers without end: the memory has a bound, each key opens and closes once, and the part before is safe."""
    window = made(most=10)
    window.enter(-1, -20)
    window.decide(-1, True)
    events = []
    for key in range(1000):
        assert (key, "repeated" if key else "too_close") in window.enter(key, 3) or key == 0
        events += window.move(3)
        assert len(window) <= 10
    assert events == [each for key in range(9, 1000) for each in (Opened(key, False, "repeated"), Closed(key))]
    rest = window.move(1000)
    assert rest[:2] == [Opened(-1, True, ""), Closed(-1)]
    assert len(rest) == 20


def test_more_parts_than_fit() -> None:
    """Those beyond are rejected, and what comes close to one of them as well, although it is gone."""
    window = made(most=3)
    for key in range(3):
        assert window.enter(key, 20 * key + 1) == ()
    assert window.enter(3, 61) == ((3, "overload"),)
    assert not window.decide(3, True)
    assert window.move(61) == [Opened(3, False, "overload"), Closed(3)]
    assert window.enter(4, 65) == ((4, "too_close"),)


@pytest.mark.parametrize("at", [float("nan"), float("inf")])
def test_nowhere(at: float) -> None:
    """A position that is none compares false to everything, so it must not come in."""
    with pytest.raises(ValueError, match="at: found"):
        made().enter(0, at)


@pytest.mark.parametrize(("distance", "tolerance"), [(10, 10), (10, -1), (float("nan"), 1), (float("inf"), 1)])
def test_windows_that_cannot_be(distance: float, tolerance: float) -> None:
    """A window that opens before the part is seen would never wait for a verdict."""
    with pytest.raises(ValueError, match="distance"):
        Window(distance=distance, tolerance=tolerance)


# counters that wrap


@given(st.sampled_from([16, 32]), st.integers(0, 2**32), st.lists(st.floats(-0.4999, 0.4999), max_size=30))
def test_unwrap_follows(bits: int, start: int, moves: list[float]) -> None:
    """Any way, forward and back, whose single moves are less than half way round."""
    unwrap, at = Unwrap(bits), start % 2**bits
    assert unwrap.value == 0
    assert unwrap.near(start) == at
    assert unwrap.take(start) == at
    for by in moves:
        at += int(by * 2**bits)
        assert unwrap.near(at % 2**bits) == at
        assert unwrap.take(at % 2**bits) == unwrap.value == at


@pytest.mark.parametrize("bits", [16, 32])
def test_unwrap_at_its_edges(bits: int) -> None:
    """Half way round is ahead, one more is back; `near` goes nowhere."""
    unwrap, half = Unwrap(bits), 2 ** (bits - 1)
    unwrap.take(5)
    assert unwrap.near(5 + half) == 5 + half
    assert unwrap.near(6 + half) == 6 - half
    assert unwrap.value == 5
    assert unwrap.take(2**bits - 1) == -1
    assert unwrap.take(0) == 0

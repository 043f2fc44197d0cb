"""The belt: physical parts that go past the photo-eye, the lens and the ejector. Positions are encoder counts."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_inspector.gateway.registers import Trigger

from .events import MS

if TYPE_CHECKING:
    from .plant import Plant


@dataclass(slots=True, eq=False)
class Thing:
    """A part of the real world. clear: no other is near enough to be taken for it."""

    at: float
    bad: bool
    clear: bool
    eye_ns: int | None = None
    fell_ns: int | None = None
    good_bin: bool = False
    triggers: list[Trigger] = field(default_factory=list)  # one each time the PLC has seen it


class Belt:
    """Moves things past the photo-eye, the lens and the ejector. speed: counts a millisecond, below 0 backwards."""

    def __init__(self, plant: Plant, things: list[Thing]) -> None:
        plan = plant.plan
        self._plant, self._events = plant, plant.events
        self.things = things
        places = (("eye", 0.0), ("lens", plan.lens), ("end", plan.distance))
        self._ahead = sorted(
            ((thing.at + where, kind, thing) for thing in things for kind, where in places), key=lambda each: each[:2]
        )
        self._behind = [(thing.at + plan.length, thing) for thing in things]
        self._where = [each[0] for each in self._ahead]
        self._ends = [each[0] for each in self._behind]
        self._at = [thing.at for thing in things]
        self._x, self._since_ns, self.speed, self._turns = 0.0, self._events.now_ns, 0.0, 0
        self._wanted, self._held = 0.0, False
        self._next = 0
        self.furthest = 0.0

    @property
    def x(self) -> float:
        """How far it has run."""
        return self.x_before(0)

    def x_before(self, ns: int) -> float:
        """How far it had run so long ago, if its speed was the same."""
        return self._x + self.speed * (self._events.now_ns - ns - self._since_ns) / MS

    def run(self, speed: float) -> None:
        """Run at this speed from now on, unless it is held."""
        self._wanted = speed
        self._go()

    def hold(self, held: bool) -> None:
        """Stop, as the PLC wants it; or run again."""
        self._held = held
        self._go()

    def cut(self) -> None:
        """Lay no more parts."""
        x = self.x
        self.things = [thing for thing in self.things if thing.eye_ns is not None]
        self._ahead = [each for each in self._ahead if each[0] <= x or each[2].eye_ns is not None]
        self._where = [each[0] for each in self._ahead]
        self._go()

    def under_lens(self) -> Thing | None:
        """The part that a picture would show now: the nearest one in the field of view."""
        seen = self.x - self._plant.plan.lens
        first = bisect_left(self._at, seen)
        near = [self.things[n] for n in (first - 1, first) if 0 <= n < len(self.things)]
        near = [thing for thing in near if thing.fell_ns is None and abs(seen - thing.at) <= self._plant.plan.view]
        return min(near, key=lambda thing: abs(seen - thing.at), default=None)

    def _go(self) -> None:
        self._x, self._since_ns = self.x, self._events.now_ns
        self.furthest = max(self.furthest, self._x)
        self.speed, self._turns = 0.0 if self._held else self._wanted, self._turns + 1
        if self.speed > 0:
            self._next = bisect_right(self._where, self._x)
        elif self.speed < 0:
            self._next = bisect_left(self._ends, self._x) - 1
        self._schedule()

    def _schedule(self) -> None:
        points = self._where if self.speed > 0 else self._ends
        if self.speed and 0 <= self._next < len(points):
            ms = (points[self._next] - self._x) / self.speed
            self._events.at(self._since_ns + math.ceil(ms * MS), self._reached, self._turns, points[self._next])

    def _reached(self, turns: int, x: float) -> None:
        if turns != self._turns:
            return
        self._x, self._since_ns = x, self._events.now_ns
        if self.speed > 0:
            _, kind, thing = self._ahead[self._next]
            self._next += 1
            self._schedule()
            self._happens(kind, thing)
        else:
            thing = self._behind[self._next][1]
            self._next -= 1
            self._schedule()
            if thing.fell_ns is None and not self._plant.plan.minds_direction:
                self._plant.plc.eye(thing)

    def _happens(self, kind: str, thing: Thing) -> None:
        plant = self._plant
        if thing.fell_ns is not None:
            return
        if kind == "end":
            thing.fell_ns, thing.good_bin = self._events.now_ns, plant.plc.passing()
        elif kind == "lens":
            plant.strobe()
        elif not (plant.plan.minds_direction and thing.eye_ns is not None):
            thing.eye_ns = thing.eye_ns or self._events.now_ns
            plant.early_strobe()
            plant.plc.eye(thing)

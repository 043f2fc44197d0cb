"""Everything together: a scenario is run from its first part to its last."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random

from edge_inspector.gateway.registers import Registers
from edge_inspector.wire import decode, encode

from .belt import Belt, Thing
from .daemon import Daemon, Message
from .events import MS, Events
from .faults import FAULTS
from .host import Host
from .plan import FIRST_MS, RECOVERED_MS, WATCHED_MS, Plan
from .plc import Plc, QuickCodec


class Plant:
    """Everything together. calm_ns: since then nothing is wrong any more."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.random = plan, Random(plan.seed + 1)
        self.events = Events(self.random.randrange(10_000, 200_000) * MS)
        self.codec = QuickCodec()
        self.begin_ns = self.calm_ns = self.events.now_ns
        self._checked: set[str] = set()
        self.doubles = False
        self.disabled_ns = 0, 0
        self.wrong: list[str] = []  # what was seen on the way, and must not be
        self.belt = Belt(self, self._things())
        self.host = Host(self, "g1")
        self.other: Host | None = None
        self.daemon = Daemon(self)
        self.plc = Plc(self)
        self.belt.run(plan.speed)
        for fault in plan.faults:
            self.events.after(fault.at_ms, FAULTS[fault.kind], self, fault.for_ms)

    def _things(self) -> list[Thing]:
        plan, random = self.plan, self.random
        last = max([fault.at_ms + 1.5 * fault.for_ms for fault in plan.faults], default=FIRST_MS) + 4000
        at, places = plan.speed * 450, []
        while at < plan.speed * last:
            places.append(at)
            crowded = random.random() < plan.crowded
            at += random.uniform(plan.length + 1, plan.gaps[0]) if crowded else random.uniform(*plan.gaps)
        gaps = [math.inf, *(b - a for a, b in itertools.pairwise(places)), math.inf]
        return [
            Thing(at, random.random() < plan.defective, min(gaps[n : n + 2]) >= plan.gaps[0])
            for n, at in enumerate(places)
        ]

    def run(self) -> None:
        """Through all faults, recovery, and until the last part has left the belt."""
        begin_ns, events = self.begin_ns, self.events
        last_ms = max([fault.at_ms + fault.for_ms for fault in self.plan.faults], default=0.0)
        events.run(begin_ns + round((last_ms + 1) * MS))
        while events.now_ns < self.calm_ns + round((RECOVERED_MS + WATCHED_MS) * MS):
            events.run(min(self.calm_ns + round((RECOVERED_MS + WATCHED_MS) * MS), events.now_ns + 100 * MS))
        self.belt.cut()
        flush_ms = (self.plan.distance + 3 * self.plan.tolerance) / self.plan.speed + 400
        if self.plan.line_stop_after:
            flush_ms += 3000
        events.run(events.now_ns + round(flush_ms * MS))

    def calm_after(self, ms: float = 0.0) -> None:
        """A fault is over now, or so much later."""
        self.calm_ns = max(self.calm_ns, self.events.now_ns + round(ms * MS))

    def later(self, ms: float, call: Callable[[], None], more_ms: float = 0.0) -> None:
        """End a fault."""

        def end() -> None:
            call()
            self.calm_after(more_ms)

        self.calm_after(ms)
        self.events.after(ms, end)

    def check(self, message: Message) -> None:
        """Every kind of message is as the protocol defines it."""
        if message["type"] not in self._checked:
            self._checked.add(message["type"])
            decode(encode(message))

    def strobe(self) -> None:
        """A part is exactly under the lens."""
        if self.plan.camera:
            self.daemon.strobe()
            if self.doubles and self.random.random() < 0.3:
                self.events.after(self.random.uniform(1, 5), self.daemon.strobe)

    def early_strobe(self) -> None:
        """A part is at the photo-eye; perhaps the camera is too hasty."""
        if self.plan.camera and self.doubles and self.random.random() < 0.3:
            self.events.after(self.random.uniform(0, self.plan.picture_ms[1]), self.daemon.strobe)

    def write_vision(self, host: Host, life: int, words: Registers) -> None:
        """The gateway as a Modbus client writes."""
        if self.plc.on:
            self.plc.look(words)
            host.from_plc.carry(host.wrote, life)

    def read_plc(self, host: Host, life: int, asked_ns: int) -> None:
        """The gateway as a Modbus client reads."""
        if self.plc.on:
            host.from_plc.carry(host.answered, life, asked_ns, self.plc.block())

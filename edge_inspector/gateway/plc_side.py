"""What the gateway knows of the PLC: whether it lives, where the belt is, which parts have come. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .base import Heard
from .registers import SLOTS, Control, Trigger
from .window import Unwrap


@dataclass(frozen=True, slots=True)
class Arrival:
    """A part at the photo-eye. key: its id, unbounded. It came between these two times (monotonic); None: unknown.

    after_lost: others came before it of which nothing is known.
    """

    key: int
    after_lost: bool
    trigger: Trigger
    earliest_ns: int | None
    latest_ns: int


@dataclass(slots=True)
class PlcSide:
    """session: ours. as_of_ns: what was heard last was true at some time after this; every trigger before it is known.

    lost: triggers that were overwritten before they could be read. position: of the belt, unbounded. way: counts from
    photo-eye to ejector.
    """

    session: int
    silent_ns: int
    id_bits: int = 32
    way: float = math.inf
    as_of_ns: int | None = None
    lost: int = 0
    position: int = 0
    enabled: bool = False
    last_id: int = 0
    _ids: Unwrap = field(init=False)
    _encoder: Unwrap = field(init=False)
    _boot: int | None = None
    _heartbeat: int | None = None
    _alive_ns: int | None = None
    _clear: int = 0
    _last: int = 0
    _seen: int = 0
    _broken: str = "not heard yet"

    def __post_init__(self) -> None:
        self._start()

    def problem(self, now_ns: int) -> str:
        """Why the PLC cannot be relied upon at the moment; "" where it can."""
        if self._broken:
            return f"PLC: {self._broken}"
        if self._alive_ns is None or now_ns - self._alive_ns > self.silent_ns:
            return "no heartbeat from the PLC"
        return ""

    def broken(self, reason: str) -> None:
        """The link does not work."""
        self._broken = reason

    def is_old(self, heard: Heard) -> bool:
        """Whether this was said before what was heard already: a link may delay and turn around."""
        if heard.age_ns is None or self.as_of_ns is None:
            return False
        newer_ns = heard.t_ns - heard.age_ns - self.as_of_ns
        if newer_ns == 0:  # an echo is not finer than a millisecond
            return heard.block.boot == self._boot and self._behind(heard)
        return newer_ns < 0

    def restarted(self, heard: Heard) -> bool:
        """Whether this is another PLC program run than before: parts and results of the former one mean nothing.

        Or its encoder was set back: all of a sudden the belt is before anything that we know of.
        """
        if self._boot is None:
            return False
        back = self.position - self.at(heard.block.encoder)
        return heard.block.boot != self._boot or self._behind(heard) or back > self.way

    def _behind(self, heard: Heard) -> bool:
        """Whether it has counted fewer parts than it had."""
        return (heard.block.trigger - self._last) % (1 << self.id_bits) >= 1 << (self.id_bits - 1)

    def begin(self, heard: Heard) -> None:
        """Take over where the PLC is: of parts that came before, nothing is known, so they get no result."""
        self._start()
        block = heard.block
        self._boot, self._clear, self._last = block.boot, block.clear, block.trigger
        self._seen = self._ids.take(block.trigger)
        self._note(heard)

    @property
    def known(self) -> bool:
        """Whether it was heard since the start."""
        return self._boot is not None

    def take(self, heard: Heard) -> list[Arrival]:
        """The parts that are new in what it says, in their order."""
        since_ns, before = self.as_of_ns, self._ids.value
        block = heard.block
        now = self._ids.take(block.trigger)
        self._last = block.trigger
        by_id = {trigger.id: trigger for trigger in block.triggers}
        arrivals = []
        for key in range(max(before + 1, now - SLOTS + 1), now + 1):
            trigger = by_id.get(key % (1 << self.id_bits))
            if trigger is not None:
                arrivals.append(Arrival(key, key != self._seen + 1, trigger, since_ns, heard.t_ns))
                self._seen = key
        self.lost += max(0, now - before) - len(arrivals)
        self._note(heard)
        return arrivals

    def cleared(self, heard: Heard) -> bool:
        """Whether the operator has acknowledged since the last time."""
        before, self._clear = self._clear, heard.block.clear
        return before != self._clear

    def at(self, encoder: int) -> int:
        """An encoder count near to where the belt is, unbounded."""
        return self._encoder.near(encoder)

    def _note(self, heard: Heard) -> None:
        block = heard.block
        if heard.age_ns is not None:
            as_of_ns = heard.t_ns - heard.age_ns
            self.as_of_ns = as_of_ns if self.as_of_ns is None else max(self.as_of_ns, as_of_ns)
        if block.heartbeat != self._heartbeat:
            self._heartbeat, self._alive_ns = block.heartbeat, heard.t_ns
        self._broken = ""
        self.position = self._encoder.take(block.encoder)
        self.enabled = bool(block.control & Control.ENABLE)
        self.last_id = block.trigger

    def _start(self) -> None:
        """as_of_ns holds across starts: what was said before it is old, and what comes new came after it."""
        self._ids, self._encoder = Unwrap(self.id_bits), Unwrap(32)

"""The PLC's program, one scan at a time, without clock or wires: what a careful engineer would write.

It ejects whatever it has no Pass for. It shares the register map with the gateway, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..gateway.registers import SLOTS, U16, U32, Control, Result, Status, Trigger, Verdict, VisionBlock
from ..tables import at_least, within

GAP_MS = 100  # a result that is missing in the queue for so long will not come any more
CLEAR_MS = 200  # between two attempts to clear an overrun
BLOCKING = Status.OVERRUN | Status.LINE_STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcTable:
    """Settings of the program. id_bits: of the trigger counter, 16 or 32; first_id: its first value after each start.

    tolerance_mm: the diverter leads a part to the good bin from so much before the ejector line to so much behind it.
    stale_ms: without a change of the gateway's heartbeat for so long, everything is ejected. operator_s: how long it
    takes until somebody clears a line stop. careless: also parts that cross the photo-eye a second time, or backwards,
    are triggers.
    """

    id_bits: int = 32
    first_id: int = 1
    tolerance_mm: float = 10.0
    stale_ms: float = 500.0
    operator_s: float = 3.0
    careless: bool = False

    def __post_init__(self) -> None:
        if self.id_bits not in (16, 32):
            raise ValueError(f"id_bits: found {self.id_bits}, expected 16 or 32")
        within("first_id", self.first_id, 0, (1 << self.id_bits) - 1)
        at_least("tolerance_mm", self.tolerance_mm, 0.1)
        within("stale_ms", self.stale_ms, 50.0, 60_000.0)
        within("operator_s", self.operator_s, 0.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Edge:
    """What the fast input has latched: the count at which the beam became broken, and which way the belt ran."""

    encoder: int
    forward: bool


@dataclass(slots=True)
class Tracked:
    """One part of the shift register. at: its count at the photo-eye, unbounded. A Fail stays, whatever comes later."""

    trigger: Trigger
    at: int
    passed: bool = False
    failed: bool = False

    @property
    def may_pass(self) -> bool:
        """Whether it has a Pass and no Fail."""
        return self.passed and not self.failed


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a scan ends with. values, triggers: for Codec.plc(). passing: the diverter. run: the belt may run."""

    passing: bool
    run: bool
    values: dict[str, int]
    triggers: tuple[Trigger, ...]


class Plc:
    """One run of the program. boot: another number at each start. distance, tolerance: of the ejector, in counts.

    A new session of the gateway takes back every Pass of the one before: nobody watches over those parts any more, so
    they are ejected. A part without a result may still get one, for its trigger stands in the ring.
    """

    def __init__(self, table: PlcTable, *, boot: int, distance: int, tolerance: int) -> None:
        self.parts: deque[Tracked] = deque()
        self.line_stops = 0
        self._table, self._boot = table, boot
        self._distance, self._tolerance = distance, tolerance
        self._ids = 1 << table.id_bits
        self._id = (table.first_id - 1) % self._ids
        self._ring: deque[Trigger] = deque(maxlen=SLOTS)
        self._encoder: int | None = None
        self._position = self._furthest = 0  # unbounded counts since this start
        self._last_at: int | None = None  # of the newest part
        self._scans = 0
        self._session = self._echo = self._acknowledged = self._clear = 0
        self._status = Status(0)
        self._heartbeat: int | None = None
        self._alive_ms: float | None = None
        self._gap_ms: float | None = None
        self._stopped_ms: float | None = None
        self._cleared_ms: float | None = None
        self._again = 0

    def scan(self, now_ms: float, edges: Sequence[Edge], encoder: int, vision: VisionBlock | None) -> Outputs:
        """One cycle. edges: since the last scan. vision: the gateway's block as read since then, None where it was not.

        now_ms: any clock that does not run back.
        """
        self._scans += 1
        self._track(edges, encoder)
        if vision is not None:
            self._hear(now_ms, vision)
        self._operate(now_ms)
        values = {
            "control": int(Control.ENABLE),
            "heartbeat": self._scans,
            "echo": self._echo,
            "session": self._session,
            "encoder": encoder,
            "acknowledged": self._acknowledged,
            "clear": self._clear,
            "boot": self._boot,
            "trigger": self._id,
        }
        return Outputs(self._passing(now_ms), self._stopped_ms is None, values, tuple(self._ring))

    def repeat(self) -> None:
        """A fault: the part that came last is told once more in the next scan, as if it were another."""
        self._again += 1

    def healthy(self, now_ms: float) -> bool:
        """Whether the gateway lives and says that parts may pass."""
        alive = self._alive_ms is not None and now_ms - self._alive_ms <= self._table.stale_ms
        return alive and Status.VISION_OK in self._status and not self._status & BLOCKING

    # where the parts are

    def _track(self, edges: Sequence[Edge], encoder: int) -> None:
        if self._encoder is None:  # what came before the first scan is not known
            self._encoder = encoder
            return
        for edge in edges:
            self._edge(edge, self._position + _signed(edge.encoder - self._encoder))
        while self._again and self._ring:
            self._again -= 1
            self._enter(self._ring[-1].encoder, self.parts[-1].at if self.parts else self._position)
        self._position += _signed(encoder - self._encoder)
        self._encoder = encoder
        self._furthest = max(self._furthest, self._position)
        gone = self._furthest - self._distance - 4 * self._tolerance
        while self.parts and self.parts[0].at < gone:
            self.parts.popleft()

    def _edge(self, edge: Edge, at: int) -> None:
        """A part counts when it comes for the first time: further than the belt has ever been."""
        new = edge.forward and at >= self._furthest and (self._last_at is None or at > self._last_at)
        if new or self._table.careless:
            self._last_at = at if new else self._last_at
            self._enter(edge.encoder, at)

    def _enter(self, encoder: int, at: int) -> None:
        self._id = (self._id + 1) % self._ids
        tag = self._boot % U16 * U16 + self._id % U16  # so that no result of an earlier start fits
        trigger = Trigger(self._id, tag, encoder)
        self._ring.append(trigger)
        self.parts.append(Tracked(trigger, at))

    def _passing(self, now_ms: float) -> bool:
        """Whether a passed part is at the ejector, and no other whose window overlaps with its."""
        if not self.healthy(now_ms):
            return False
        target = self._position - self._distance
        here = [part for part in self.parts if abs(target - part.at) <= self._tolerance]
        near = [each for each in self.parts for part in here if abs(each.at - part.at) <= 2 * self._tolerance]
        return bool(here) and all(each.may_pass for each in near)

    # what the gateway says

    def _hear(self, now_ms: float, vision: VisionBlock) -> None:
        header = vision.header
        if header["session"] != self._session:
            self._adopt(vision)
        if header["heartbeat"] != self._heartbeat:
            if self._heartbeat is not None:  # the first value may have stood there for hours
                self._alive_ms = now_ms
            self._heartbeat = header["heartbeat"]
        self._echo, self._status = header["clock"], vision.status
        newer = [result for result in vision.results if 0 < _ahead(result.number, self._acknowledged) < U32 // 2]
        for result in newer:
            self._take(result)
        self._acknowledge(now_ms, {result.number for result in newer})

    def _adopt(self, vision: VisionBlock) -> None:
        """Another gateway, or another start of it: go on with the oldest result that stands there."""
        self._session = vision.header["session"]
        self._alive_ms = self._heartbeat = self._gap_ms = None
        newest = vision.header["result"]
        oldest = min((result.number for result in vision.results), key=lambda n: _signed(n - newest), default=None)
        self._acknowledged = newest if oldest is None else (oldest - 1) % U32
        for part in self.parts:
            part.failed |= part.passed

    def _take(self, result: Result) -> None:
        for part in self.parts:
            if part.trigger == Trigger(result.id, result.tag, result.encoder):
                part.passed |= result.verdict is Verdict.PASS
                part.failed |= result.verdict is not Verdict.PASS

    def _acknowledge(self, now_ms: float, newer: set[int]) -> None:
        """Up to the first that is missing: it may have been torn, and will be whole in the next block."""
        while (following := (self._acknowledged + 1) % U32 or 1) in newer:
            self._acknowledged = following
            newer.remove(following)
        if not newer:
            self._gap_ms = None
        elif self._gap_ms is None:
            self._gap_ms = now_ms
        elif now_ms - self._gap_ms >= GAP_MS:
            first = min(newer, key=lambda number: _ahead(number, self._acknowledged))
            self._acknowledged, self._gap_ms = (first - 1) % U32, None
            self._acknowledge(now_ms, newer)

    def _operate(self, now_ms: float) -> None:
        """A line stop holds the belt until the operator has looked; an overrun is cleared once nothing waits there."""
        alive = self._alive_ms is not None and now_ms - self._alive_ms <= self._table.stale_ms
        status = self._status if alive else Status(0)
        if Status.LINE_STOP in status:
            if self._stopped_ms is None:
                self.line_stops += 1
                self._stopped_ms = now_ms
            elif now_ms - self._stopped_ms >= self._table.operator_s * 1000 + CLEAR_MS:
                self._clear, self._stopped_ms = self._clear + 1, now_ms
            return
        self._stopped_ms = None
        due = self._cleared_ms is None or now_ms - self._cleared_ms >= CLEAR_MS
        if Status.OVERRUN in status and self._gap_ms is None and due:
            self._clear, self._cleared_ms = self._clear + 1, now_ms


def _signed(difference: int) -> int:
    """The shorter way round, -2^31 to 2^31 - 1."""
    return (difference + U32 // 2) % U32 - U32 // 2


def _ahead(number: int, of: int) -> int:
    return (number - of) % U32

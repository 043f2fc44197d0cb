"""The PLC, as a careful engineer would program it after docs/modbus-map.md and nothing else."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_inspector.gateway.registers import (
    RESULT,
    SLOTS,
    TRIGGER,
    U32,
    Codec,
    Control,
    Field,
    Registers,
    Result,
    Status,
    Trigger,
    Verdict,
)

from .belt import Thing
from .events import MS, Wire

if TYPE_CHECKING:
    from .plant import Plant


class QuickCodec(Codec):
    """Remembers slots, as they are read again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[int, ...], dict[str, int]] = {}

    def unpack(self, fields: Sequence[Field], registers: Sequence[int]) -> dict[str, int]:
        """As it is, or as it was."""
        if fields is not RESULT and fields is not TRIGGER:
            return super().unpack(fields, registers)
        key = tuple(registers)
        if key not in self._known:
            self._known[key] = super().unpack(fields, registers)
        return self._known[key]


@dataclass(slots=True)
class Track:
    """One place of the shift register."""

    id: int
    tag: int
    encoder: int
    passed: bool = False
    failed: bool = False


class Plc:
    """As a careful engineer would write it after docs/modbus-map.md; who is the Modbus client is up to the plan."""

    def __init__(self, plant: Plant) -> None:
        self._plant, self._plan, self._events, self._random = plant, plant.plan, plant.events, plant.random
        self._codec = plant.codec
        self.to_gate = Wire(plant.events, plant.random)
        self.boot, self.enabled, self.on, self.bounces = 0, True, True, False
        self.issued = 0
        self.taken: dict[tuple[int, int, int], int] = {}  # when the first result for this part came
        self._clears = 0
        self._asked: tuple[int, int] | None = None  # transaction, and when
        self._transaction, self._answered = 0, False
        self.count = plant.plan.first_id
        self._zero = plant.plan.encoder_start
        self._start()
        if not plant.plan.client:
            self._events.after(self._random.uniform(0, 5), self._poll)

    # the program

    def _start(self) -> None:
        """Everything is forgotten."""
        self.boot += 1
        self._anew = self.boot > 1  # results that the gate has queued for us may be taken out
        self._tracks: deque[Track] = deque()
        self._ring: dict[int, Trigger] = {}
        self._acknowledged, self._session, self._echo = 0, 0, 0
        self._fresh, self._vision_ok = True, False
        self._beat, self._beat_ns = -1, 0
        self._blank_ns = self._events.now_ns + round(self._random.choice((0, 0, 60)) * MS)
        self._clear_ns = 0

    def restart(self, off_ms: float) -> None:
        """Off for so long; then ids, encoder or both may start anew."""
        self.on, self._asked = False, None
        self._events.after(off_ms, self._on_again)

    def _on_again(self) -> None:
        self._start()
        self.on = True
        if self._random.random() < 0.7:
            self.count = 0
        if self._random.random() < 0.5:
            self._zero -= self._encoder()

    def _encoder(self, *, ago_ns: int = 0, jitter: float = 0.0) -> int:
        """So long ago; without an encoder it counts milliseconds."""
        now_ns, belt = self._events.now_ns - ago_ns, self._plant.belt
        return (math.floor(now_ns / MS if self._plan.ms else belt.x_before(ago_ns) + jitter) + self._zero) % U32

    def set_back(self) -> None:
        """The encoder counts from 0 again; what is on the belt is not followed any more."""
        self._anew = True
        if self._encoder() < U32 // 2:  # else it would have gone ahead
            self._zero -= self._encoder()
            self._tracks.clear()

    def eye(self, thing: Thing) -> None:
        """The beam is broken."""
        self._count(thing)
        if self.bounces and self._random.random() < 0.3:
            self._events.after(self._random.uniform(0.5, 4), self._count, thing)

    def _count(self, thing: Thing) -> None:
        if not self.on:
            return
        self.count = (self.count + 1) % (1 << self._plan.id_bits)
        self.issued += 1
        tag = self._random.randrange(U32) if self._plan.tags else 0
        jitter = self._random.uniform(-self._plan.jitter, self._plan.jitter)
        trigger = Trigger(self.count, tag, self._encoder(jitter=jitter))
        self._ring[self.count % SLOTS] = trigger
        self._tracks.append(Track(trigger.id, tag, trigger.encoder))
        if len(self._tracks) > 1000:
            self._tracks.popleft()
        thing.triggers.append(trigger)

    def passing(self) -> bool:
        """Where the diverter leads now, as the last scan has set it: to the good bin only beyond any doubt."""
        now_ns, plan = self._events.now_ns, self._plan
        if not self.on or not self._vision_ok or now_ns - self._beat_ns > 500 * MS:
            return False
        encoder, window = self._encoder(ago_ns=now_ns % round(plan.scan_ms * MS)), plan.window
        inside = []
        for track in list(self._tracks):
            ahead = (encoder - track.encoder - round(window.distance) + U32 // 2) % U32 - U32 // 2
            if abs(ahead) <= window.tolerance:
                inside.append(track)
            elif ahead > window.distance:
                self._tracks.remove(track)
        if plan.naive:
            inside = inside[-1:]
        return bool(inside) and all(track.passed and not track.failed for track in inside)

    def look(self, words: Registers) -> None:
        """A vision block was read."""
        block = self._codec.read_vision(words)
        if block is None or not self.on:
            self._vision_ok = self._vision_ok and not self._plan.client
            return
        header = block.header
        if header["heartbeat"] != self._beat:
            self._beat, self._beat_ns = header["heartbeat"], self._events.now_ns
        self._vision_ok, self._echo = Status.VISION_OK in block.status, header["clock"]
        if self._fresh:
            self._fresh, self._acknowledged = False, header["result"]
        elif header["session"] != self._session:
            self._acknowledged = 0
            for track in self._tracks:
                track.failed = True
        self._session = header["session"]
        ahead = {(result.number - self._acknowledged) % U32: result for result in block.results}
        for n in sorted(n for n in ahead if 0 < n < U32 // 2):
            if ahead[n].number != self._acknowledged + 1 and not self._anew:
                self._plant.wrong.append(f"result {ahead[n].number} came after {self._acknowledged}")
            self._take(ahead[n])
        self._stop_line(Status.LINE_STOP in block.status)

    def _take(self, result: Result) -> None:
        self._acknowledged = result.number
        part = (result.id, result.tag, result.encoder)
        self.taken.setdefault(part, self._events.now_ns)
        for track in self._tracks:
            if track.id == result.id and (self._plan.by_id or (track.id, track.tag, track.encoder) == part):
                track.passed = track.passed or result.verdict is Verdict.PASS
                track.failed = track.failed or result.verdict is not Verdict.PASS

    def _stop_line(self, stop: bool) -> None:
        now_ns = self._events.now_ns
        self._plant.belt.hold(stop)
        if stop and now_ns - self._clear_ns > 300 * MS:
            self._clears, self._clear_ns = self._clears + 1, now_ns

    def block(self) -> Registers:
        """What stands in the plc block."""
        now_ns = self._events.now_ns
        if now_ns < self._blank_ns:
            return self._codec.plc(dict.fromkeys(self.words(), 0), ())
        return self._codec.plc(self.words(), self._ring.values())

    def words(self) -> dict[str, int]:
        """The plc block's header."""
        return {
            "control": int(Control.ENABLE) if self.enabled and self._plant.belt.speed >= self._plan.slow else 0,
            "heartbeat": self._events.now_ns // (50 * MS),
            "echo": self._echo,
            "session": self._session,
            "encoder": self._encoder(),
            "acknowledged": self._acknowledged,
            "clear": self._clears,
            "boot": self.boot,
            "trigger": self.count,
        }

    # as a Modbus client: read, then write, then wait for the next cycle

    def _poll(self) -> None:
        events, host = self._events, self._plant.host
        events.after(self._plan.poll_ms * self._random.uniform(0.95, 1.05), self._poll)
        if not self.on or (self._asked is not None and events.now_ns - self._asked[1] < 200 * MS):
            return
        if self._asked is not None and self._plan.writes_always and not self._fresh:
            self._write(self._transaction)
        self._transaction += 1
        self._answered = False
        self._asked = self._transaction, events.now_ns
        self.to_gate.carry(host.asked, self._transaction)

    def answered(self, transaction: int, words: Registers) -> None:
        """The gateway's answer to a reading."""
        if self.on and self._asked is not None and self._asked[0] == transaction and not self._answered:
            self._answered = True
            self.look(words)
            self._write(transaction)

    def _write(self, transaction: int) -> None:
        self.to_gate.carry(self._plant.host.told, transaction, self.block())

    def confirmed(self, transaction: int) -> None:
        """The gateway's answer to a writing."""
        if self._asked is not None and self._asked[0] == transaction:
            self._asked = None

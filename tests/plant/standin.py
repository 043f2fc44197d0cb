"""A stand-in for the gateway: answers each trigger by the truth, and does nothing else well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_inspector.gateway.queue import ResultQueue
from edge_inspector.gateway.registers import (
    MAP_VERSION,
    PLC_SIZE,
    VISION,
    Codec,
    Registers,
    Result,
    Status,
    Trigger,
    Verdict,
)
from edge_inspector.plant.ports import Port

HEALTHY = Status.ONLINE | Status.VISION_OK | Status.TRIGGER_READY


@dataclass
class Gateway:
    """good: whether a trigger's part may pass. delay_ms: from the trigger to the result. No clock, no socket."""

    good: Callable[[Trigger], bool]
    session: int = 7
    delay_ms: float = 0.0
    id_bits: int = 32
    status: Status = HEALTHY
    codec: Codec = field(default_factory=Codec)
    queue: ResultQueue = field(default_factory=ResultQueue)
    triggers: list[Trigger] = field(default_factory=list)
    boots: list[int] = field(default_factory=list)
    _newest: int = 0
    _waiting: list[tuple[float, Trigger, bool]] = field(default_factory=list)

    def hear(self, registers: Registers, now_ms: float) -> None:
        """A PLC block."""
        block = self.codec.read_plc(registers[:PLC_SIZE])
        if block is None or not block.boot:
            return
        if self.boots[-1:] != [block.boot]:
            self.boots.append(block.boot)
            self.queue.clear()
            self._waiting.clear()
            self._newest = block.trigger
            return
        by_id = {trigger.id: trigger for trigger in block.triggers}
        for n in range(1, (block.trigger - self._newest) % (1 << self.id_bits) + 1):
            trigger = by_id.get((self._newest + n) % (1 << self.id_bits))
            if trigger is not None:
                self.triggers.append(trigger)
                self._waiting.append((now_ms + self.delay_ms, trigger, self.good(trigger)))
        self._newest = block.trigger
        if block.session == self.session:
            self.queue.acknowledge(block.acknowledged)

    def say(self, now_ms: float) -> Registers:
        """The vision block."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            self.tell(*self._waiting.pop(0)[1:])
        heartbeat = int(now_ms // 100)
        values = dict.fromkeys((each.name for each in VISION), 0) | {
            "version": MAP_VERSION,
            "status": int(self.status),
            "heartbeat": heartbeat,
            "heartbeat_again": heartbeat,
            "clock": int(now_ms),
            "session": self.session,
            "result": self.queue.number,
        }
        slots = [word for each in self.queue.slots for word in self.codec.result(each)]
        return self.codec.pack(VISION, values) + slots

    def tell(self, trigger: Trigger, good: bool) -> None:
        """Queue a result."""
        verdict, reason = (Verdict.PASS, "ok") if good else (Verdict.FAIL, "defect")
        self.queue.put(lambda number: Result(number, trigger.id, trigger.tag, trigger.encoder, verdict, reason))


class Serving(threading.Thread):
    """The stand-in on a wire: the opposite role's port, with the two blocks changed over."""

    def __init__(self, gateway: Gateway, port: Port) -> None:
        super().__init__(daemon=True)
        self.gateway, self.port = gateway, port
        self._stop_it = threading.Event()

    def run(self) -> None:
        """Every 2 ms."""
        self.port.start()
        while not self._stop_it.wait(0.002):
            now_ms = time.monotonic() * 1000
            if (block := self.port.take()) is not None:
                self.gateway.hear(block, now_ms)
            self.port.put(self.gateway.say(now_ms))

    def stop(self) -> None:
        """End."""
        self._stop_it.set()
        self.join()
        self.port.close()

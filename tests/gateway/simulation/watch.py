"""Looks over the gate's shoulder: whether Fault and VisionOK are what the protocol says, at each of its turns."""

from __future__ import annotations

from typing import Any

from edge_inspector.gateway.base import Heard, Lost, PlcEvent
from edge_inspector.gateway.registers import Status

from .events import MS


class Watch:
    """One for each gate. unwell: from when to when there was a Fault. wrong: what must not be."""

    def __init__(self, unwell: list[tuple[int, int]], wrong: list[str]) -> None:
        self._unwell, self._wrong = unwell, wrong
        self._looked_ns = self._plc_ns = self._daemon_ns = 0
        self._plc_lost, self._ready, self._registered = False, False, False
        self._epochs: list[str] = []
        self._begin(0)

    def _begin(self, now_ns: int) -> None:
        """A new daemon. Verdicts have come without a gap up to _whole; the newest one that we know of is _last."""
        self._registered, self._whole, self._last = False, 0, 0
        self._got: set[int] = set()
        self._least_ns, self._sent_ns = now_ns, 0  # how long a heartbeat took at the least; when the newest was sent

    def plc(self, event: PlcEvent) -> None:
        """The gate was told this."""
        if isinstance(event, Heard):
            self._plc_ns, self._plc_lost = event.t_ns, False
        elif isinstance(event, Lost):
            self._plc_lost = True

    def daemon(self, message: dict[str, Any], now_ns: int) -> None:
        """The gate was given this."""
        kind, epoch = message["type"], message["epoch"]
        if epoch in self._epochs[:-1]:
            return
        if epoch not in self._epochs:
            self._epochs.append(epoch)
            self._begin(now_ns)
        if kind == "trigger_ack" and message["reason"].startswith("not_registered"):
            self._registered = False
        elif kind == "welcome" and not self._registered:
            self._registered, self._whole, self._last = True, message["stations"][0]["last_seq"], 0
            self._got = set()
        elif kind == "verdict":
            self._got.add(message["seq"])
            self._last = max(self._last, message["seq"])
        elif kind == "gap":
            self._whole = max(self._whole, message["oldest_seq"] - 1)
        elif kind == "heartbeat":
            self._last, self._sent_ns = max(self._last, message["last_seq"]), max(self._sent_ns, message["sent_ns"])
            self._least_ns = min(self._least_ns, now_ns - message["sent_ns"])
            self._daemon_ns, self._ready = now_ns, message["ready"]
        while self._whole + 1 in self._got:
            self._whole += 1

    def look(self, status: Status, now_ns: int) -> None:
        """The PLC can read this from now on."""
        ok = Status.FAULT not in status
        if not ok:
            begin_ns = now_ns
            if self._unwell and self._unwell[-1][1] == self._looked_ns:
                begin_ns, _ = self._unwell.pop()
            self._unwell.append((begin_ns, now_ns))
        self._looked_ns = now_ns
        troubles = {
            "the PLC is lost": self._plc_lost,
            "the PLC is silent": now_ns - self._plc_ns > 600 * MS,
            "the daemon is silent": now_ns - self._daemon_ns > 501 * MS,
            "its heartbeats are old": now_ns - self._sent_ns - self._least_ns > 510 * MS,
            "it is not ready": not self._ready,
            "verdicts are missing": self._registered and self._last > self._whole,
        }
        self._wrong += [f"no Fault, but {name}" for name, is_so in troubles.items() if ok and is_so]
        if (Status.VISION_OK in status) != (ok and Status.LINE_STOP not in status):
            self._wrong.append(f"VisionOK in {status!r}")

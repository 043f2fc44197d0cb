"""What the gateway knows of the daemon: registered or not, its epoch, its heartbeat, what is missing. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .clocks import Clocks

SILENT_US = 500_000  # a heartbeat comes every 100 ms
HELLO_US = 250_000  # while nobody answers
PING_US = 1_000_000  # while all is well: for the bounds of the clocks
REPLAY_US = 250_000
MOST_MISSING = 4096  # the daemon keeps so many

Message = dict[str, Any]


@dataclass(slots=True)
class DaemonSide:
    """Times are microseconds on our clock. send: a message to the daemon, as good as the link is.

    deadline_us: what the daemon allows from trigger to verdict; 0 before its welcome.
    """

    gateway: str
    station: str
    send: Callable[[Message], None]
    epoch: str = ""
    deadline_us: int = 0
    degraded: bool = False
    clocks: Clocks = field(default_factory=Clocks)
    _registered: bool = False
    _heard_us: int | None = None
    _not_ready: str = ""
    _next_seq: int = 1
    _missing: set[int] = field(default_factory=set)
    _former: deque[str] = field(default_factory=lambda: deque(maxlen=64))
    _hello_us: int | None = None
    _replay_us: int | None = None

    def problem(self, now_us: int) -> str:
        """Why no part may pass at the moment; "" where one may."""
        if not self._registered:
            return "the daemon does not answer" if not self.epoch else "a new daemon has not welcomed us yet"
        if self._heard_us is None or now_us - self._heard_us > SILENT_US:
            return "no heartbeat from the daemon"
        if self._not_ready:
            return f"the daemon is not ready: {self._not_ready}"
        if self._missing:
            return f"{len(self._missing)} verdicts are missing"
        return ""

    def turn(self, now_us: int) -> None:
        """Say hello while nobody answers, and now and then; ask for what is missing."""
        lost = self._heard_us is None or now_us - self._heard_us > SILENT_US
        every_us = HELLO_US if lost or not self._registered else PING_US
        if self._hello_us is None or now_us - self._hello_us >= every_us:
            self._hello_us = now_us
            last = self._next_seq - 1
            who = {"gateway": self.gateway, "epoch": self.epoch or None, "last_seq": last}
            self.send({"type": "hello", **who, "t_us": now_us})
        if self._missing and (self._replay_us is None or now_us - self._replay_us >= REPLAY_US):
            self._replay_us = now_us
            first = min(self._missing)
            self.send({"type": "replay", "station": self.station, "epoch": self.epoch, "from_seq": first})

    def is_old(self, message: Message) -> bool:
        """Whether it comes from a daemon that is no more, or speaks of another station."""
        return message.get("station", self.station) != self.station or message.get("epoch", self.epoch) in self._former

    def is_new(self, message: Message) -> bool:
        """Whether it comes from a daemon that was started since: then what was open is to be rejected first."""
        return bool(message.get("epoch", self.epoch) != self.epoch)

    def begin(self, epoch: str) -> None:
        """A new daemon: nothing that was known of the former one holds."""
        if self.epoch:
            self._former.append(self.epoch)
        self.epoch, self.clocks = epoch, Clocks()
        self._registered, self._heard_us = False, None
        self._next_seq, self._missing = 1, set()

    def welcome(self, message: Message, now_us: int) -> None:
        """It has registered us. Raises KeyError where it has no such station."""
        mine = {each["station"]: each for each in message["stations"]}[self.station]
        if message.get("echo_us") is not None:
            self.clocks.answered(message["echo_us"], message["t_us"], now_us)
        if not self._registered:
            self._registered = True
            self._next_seq, self._missing = mine["last_seq"] + 1, set()
        self.deadline_us = mine["deadline_us"]

    def displaced(self) -> None:
        """It does not know us any more: another gateway of the same name has taken our place, or it was restarted."""
        self._registered = False

    def heartbeat(self, message: Message, now_us: int) -> None:
        """It lives, unless this was on its way for too long."""
        delay_us = self.clocks.received(message["t_us"], now_us)
        if delay_us < SILENT_US:
            self._heard_us = now_us - delay_us
        self._not_ready = "" if message["ready"] else message["reason"] or message["state"]
        self.degraded = message["state"] == "degraded"
        self._note_missing(message["last_seq"] + 1)

    def verdict(self, message: Message, now_us: int) -> bool:
        """Whether it is heard for the first time."""
        if not message.get("replay"):
            self.clocks.received(message["t_publish_us"], now_us)
        seq = message["seq"]
        if seq < self._next_seq and seq not in self._missing:
            return False
        self._note_missing(seq)
        self._missing.discard(seq)
        self._next_seq = max(self._next_seq, seq + 1)
        return True

    def gap(self, message: Message) -> None:
        """What lies before cannot be had any more. The rest is asked for at once, or it will have gone as well."""
        self._missing = {seq for seq in self._missing if seq >= message["oldest_seq"]}
        self._replay_us = None

    def _note_missing(self, before: int) -> None:
        """Everything up to there should have come."""
        if before > self._next_seq:
            self._missing.update(range(max(self._next_seq, before - MOST_MISSING), before))
            self._missing = {seq for seq in self._missing if seq >= before - MOST_MISSING}
        self._next_seq = max(self._next_seq, before)

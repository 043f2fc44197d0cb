"""The daemon, as the protocol has it, with a detector that is always right about the picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .events import MS

if TYPE_CHECKING:
    from .host import Host
    from .plant import Plant

Message = dict[str, Any]


@dataclass(slots=True, eq=False)
class Open:
    """A part that the daemon has taken in."""

    trigger_id: int
    deadline_ns: int
    part_id: str | None = None
    encoder: int | None = None
    grab_ns: int | None = None
    closed: bool = False


@dataclass(slots=True)
class Peer:
    """A registered gateway. unacked: by seq, what it has not acknowledged."""

    host: Host
    unacked: dict[int, tuple[Message, int]] = field(default_factory=dict)


class Daemon:
    """As docs/protocol.md has it, with a detector that is always right about the picture: an empty belt is a pass."""

    def __init__(self, plant: Plant) -> None:
        self._plant, self._plan, self._events, self._random = plant, plant.plan, plant.events, plant.random
        self._stopped = False
        self._stopped_ns = self._belated_ns = 0
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.ready, self.hangs, self.misses = True, False, 0.0
        self.expose_ms = (0.5, 3.0)
        self._life = 0
        self.start()

    def start(self) -> None:
        """A new epoch."""
        random = self._random
        self._life += 1
        self.epoch = f"{random.getrandbits(64):016x}"
        self._offset_us, self._rate = random.randrange(10**9), 1 + random.uniform(-100e-6, 100e-6)
        self._peers: dict[Host, Peer] = {}
        self._history: deque[Message] = deque(maxlen=self._plan.history)
        self._seen: set[int] = set()
        self._seq, self._frames, self._camera_ns = 0, 0, 0
        self._ready_ns = self._events.now_ns + round(random.uniform(0, 300) * MS)
        self.running = True
        self._soon(random.uniform(1, 100), self._beat)

    def kill(self) -> None:
        """Gone."""
        self._life += 1
        self.running, self._stopped, self._waiting = False, False, []

    def stop(self) -> None:
        """SIGSTOP."""
        self._stopped, self._stopped_ns = True, self._events.now_ns

    def go_on(self) -> None:
        """SIGCONT: everything that waited happens now."""
        if not self._stopped:
            return
        self._stopped = False
        if self._events.now_ns - self._stopped_ns > 300 * MS:
            self._belated_ns = self._events.now_ns + 300 * MS
        waiting, self._waiting = self._waiting, []
        for call, args in waiting:
            call(*args)

    def hurry(self) -> None:
        """The camera is slow no more; it has to catch up first."""
        self.expose_ms = (0.5, 3.0)
        self._plant.calm_after((self._camera_ns - self._events.now_ns) / MS)

    def _soon(self, ms: float, call: Callable[..., None], *args: Any) -> None:
        self._events.after(ms, self._do, self._life, call, *args)

    def _do(self, life: int, call: Callable[..., None], *args: Any) -> None:
        if life != self._life:
            return
        if self._stopped:
            self._waiting.append((call, args))
        else:
            call(*args)

    def _us(self, t_ns: int) -> int:
        return round(t_ns * self._rate) // 1000 + self._offset_us

    @property
    def _is_ready(self) -> bool:
        return self.ready and self._events.now_ns >= self._ready_ns

    # the gateway endpoint

    def forget(self, host: Host) -> None:
        """Its connection has ended."""
        self._peers.pop(host, None)

    def receive(self, host: Host, message: Message) -> None:
        """Something has arrived from a gateway."""
        if self.running:
            self._do(self._life, self._answer, host, message)

    def _answer(self, host: Host, message: Message) -> None:
        kind = message["type"]
        if kind == "hello":
            self._register(host, message)
        elif kind == "trigger":
            why = self._trigger(message) if host in self._peers else "not_registered: say hello first"
            answer = {"type": "trigger_ack", "trigger_id": message["trigger_id"], "accepted": not why, "reason": why}
            self._send(host, answer)
        elif kind == "ack":
            if host in self._peers and message["epoch"] == self.epoch:
                self._peers[host].unacked.pop(message["seq"], None)
        elif message["epoch"] != self.epoch or message["from_seq"] < self._oldest:
            self._send(host, {"type": "gap", "oldest_seq": self._oldest})
        else:
            for verdict in self._history:
                if verdict["seq"] >= message["from_seq"]:
                    self._send(host, {**verdict, "replay": True})

    @property
    def _oldest(self) -> int:
        return self._history[0]["seq"] if self._history else self._seq + 1

    def _register(self, host: Host, message: Message) -> None:
        for other in list(self._peers):
            if other is not host and other.name == host.name:
                del self._peers[other]
        self._peers.setdefault(host, Peer(host))
        station = {
            "station": "top", "last_seq": self._seq, "oldest_seq": self._oldest, "ready": self._is_ready,
            "deadline_us": round(self._plan.deadline_ms * 1000), "last_trigger_id": 0,
        }  # fmt: skip
        times = {"t_us": self._us(self._events.now_ns), "echo_us": message["t_us"]}
        self._send(host, {"type": "welcome", "stations": [station], **times})

    def _send(self, host: Host, message: Message) -> None:
        about = {} if message["type"] == "welcome" else {"station": "top"}
        full = {"v": 1, "line": "l", "epoch": self.epoch, **about, **message}
        self._plant.check(full)
        host.from_daemon.carry(host.receive, host.connection, full)

    def _beat(self) -> None:
        self._soon(100, self._beat)
        state = "ready" if self._is_ready else "fault" if self.ready else "starting"
        message = {
            "type": "heartbeat", "last_seq": self._seq, "ready": self._is_ready, "state": state, "reason": "",
            "counts": {"triggers": 0, "pass": 0, "reject": 0, "fault": 0, "open": 0}, "counters": {},
            "t_us": self._us(self._events.now_ns), "sent_ns": self._events.now_ns,
        }  # fmt: skip
        for host in list(self._peers):
            self._send(host, message)

    # parts

    def _trigger(self, message: Message) -> str:
        if self._plan.camera:
            return "not_triggered: this station's trigger is camera"
        if self._events.now_ns < self._ready_ns:
            return "starting"
        if message["trigger_id"] in self._seen:
            return "duplicate"
        self._seen.add(message["trigger_id"])
        part = self._open(message["trigger_id"], self._events.now_ns)
        part.part_id, part.encoder = message["part_id"], message["encoder"]
        if self._events.now_ns < self._belated_ns or not self.ready:
            self._settle(part, "fault", "timeout")
            return ""
        # the camera takes one picture at a time
        now_ns = self._events.now_ns
        self._camera_ns = max(now_ns, self._camera_ns + 3 * MS) + round(self._random.uniform(*self.expose_ms) * MS)
        self._events.at(self._camera_ns, self._expose, self._life, part)
        return ""

    def strobe(self) -> None:
        """The hardware fires; a picture is a part."""
        if self.running and self._random.random() >= self.misses and self._events.now_ns >= self._ready_ns:
            self._frames += 1
            self._expose(self._life, self._open(self._frames, self._events.now_ns))

    def _open(self, trigger_id: int, now_ns: int) -> Open:
        part = Open(trigger_id, now_ns + round(self._plan.deadline_ms * MS))
        guard_ms = min(max(self._plan.deadline_ms / 10, 1), 25)
        self._soon(self._plan.deadline_ms - guard_ms, self._settle, part, "fault", "timeout")
        return part

    def _expose(self, life: int, part: Open) -> None:
        """Now the picture is taken, whatever the process does."""
        if life != self._life or not self.running or (not self._plan.camera and self._random.random() < self.misses):
            return
        shown = self._plant.belt.under_lens()
        part.grab_ns = self._events.now_ns
        if not self.hangs:
            outcome, reason = ("reject", "defect") if shown is not None and shown.bad else ("pass", "ok")
            self._soon(self._random.uniform(*self._plan.infer_ms), self._settle, part, outcome, reason)

    def _settle(self, part: Open, outcome: str, reason: str) -> None:
        """The one verdict of this part; at its deadline it only gets a fault."""
        if part.closed:
            return
        now_ns = self._events.now_ns
        if not self.ready or (now_ns >= part.deadline_ns - 1 * MS and outcome != "fault"):
            outcome, reason = "fault", "engine_fault"
        part.closed = True
        self._seq += 1
        identity = {"name": "n", "sha256": "0"}
        verdict: Message = {
            "type": "verdict", "seq": self._seq, "trigger_id": part.trigger_id, "part_id": part.part_id,
            "encoder": part.encoder, "outcome": outcome, "reason": reason, "grade": None, "defects": [],
            "near_misses": [], "suppressed": 0, "t_trigger_us": 0, "t_publish_us": self._us(now_ns),
            "t_grab_us": None if part.grab_ns is None else self._us(part.grab_ns), "deadline_us": 0,
            "latency_us": {"wait": 0, "preprocess": 0, "infer": 0, "decide": 0, "total": 0},
            "engine": identity, "recipe": identity, "simulated": True,
        }  # fmt: skip
        self._history.append(verdict)
        for host, peer in list(self._peers.items()):
            peer.unacked[self._seq] = verdict, part.deadline_ns
            self._send(host, verdict)
            self._soon(20, self._resend, host, self._seq)

    def _resend(self, host: Host, seq: int) -> None:
        peer = self._peers.get(host)
        if peer is None or seq not in peer.unacked:
            return
        verdict, deadline_ns = peer.unacked[seq]
        if self._events.now_ns >= deadline_ns:
            del peer.unacked[seq]
            return
        self._send(host, verdict)
        self._soon(20, self._resend, host, seq)

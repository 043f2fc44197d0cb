"""The `gateway` endpoint: registered gateways, their triggers, acknowledgements, resends and replays.

Runs in the publish thread; nothing here waits. What cannot be sent now is counted, and sent again while it is of use.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codec import Mismatch
from .doorkeeper import Doorkeeper, NoDoor
from .station import Station
from .wire import Clock, decode_from_gateway, encode, sent_again

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

RESEND_NS = 20_000_000
RECEIVE_AT_MOST = 64  # messages in one turn, so that a flood cannot hold up a verdict
REPLAY_AT_MOST = 64  # verdicts of replays in one turn, for the same reason
READERS_AT_MOST = 1000  # who may wait for a replay at the same time

Key = tuple[str, int]


@dataclass(slots=True)
class Unacked:
    """A verdict that a gateway has not acknowledged yet."""

    payload: bytes
    deadline_ns: int
    resend_ns: int


@dataclass(slots=True)
class Gateway:
    """One registered gateway. unacked: (station, seq) -> what it still owes us an answer for. key: "" without keys."""

    name: str
    key: str
    unacked: dict[Key, Unacked] = field(default_factory=dict)


class Gateways:
    """Everything that goes over the ROUTER socket."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        stations: dict[str, Station],
        histories: dict[str, deque[bytes]],
        *,
        door: Doorkeeper | NoDoor,
        line: str,
        epoch: str,
        clock: Clock,
    ) -> None:
        self._socket = socket
        self._door = door
        self._stations = stations
        self._histories = histories
        self._line = line
        self._epoch = epoch
        self._clock = clock
        self._peers: dict[bytes, Gateway] = {}
        self._replays: dict[tuple[bytes, str], int] = {}  # (reader, station) -> the next seq to send again
        self.counters = {"malformed": 0, "unsent": 0, "missed_acks": 0}

    @property
    def names(self) -> list[str]:
        """The gateways registered now."""
        return [gateway.name for gateway in self._peers.values()]

    @property
    def waiting(self) -> int:
        """How many verdicts may still be acknowledged in time."""
        return sum(len(gateway.unacked) for gateway in self._peers.values())

    def receive(self, on_trigger: Callable[[Station, dict[str, Any], int], str]) -> bool:
        """Answer what has arrived, some at a time; True where there may be more.

        on_trigger(station, message, now_ns) opens the part, and returns "" or why it did not.
        """
        import zmq

        for _ in range(RECEIVE_AT_MOST):
            try:
                key, received = self._door.receive(self._socket)
            except zmq.Again:
                return False
            if not received:
                continue
            identity, *frames = received
            try:
                if len(frames) != 1:
                    raise Mismatch(f"{len(frames)} frames, expected one", "")
                message = decode_from_gateway(frames[0])
                if message["type"] != "hello":
                    self._station(message)
            except Mismatch as error:
                self.counters["malformed"] += 1
                where = f" ({error.path})" if error.path else ""
                self._send(identity, {"v": 1, "type": "error", "reason": f"{error}{where}"})
                continue
            self._answer(identity, key, message, on_trigger)
        return True

    def publish(self, station: str, seq: int, payload: bytes, deadline_ns: int, now_ns: int) -> None:
        """Send a verdict to every registered gateway, and expect it to be acknowledged."""
        for identity, gateway in list(self._peers.items()):
            gateway.unacked[station, seq] = Unacked(payload, deadline_ns, now_ns + RESEND_NS)
            self._send_raw(identity, payload)

    def broadcast(self, payload: bytes) -> None:
        """Send a heartbeat to every registered gateway."""
        for identity in list(self._peers):
            self._send_raw(identity, payload)

    def turn_out(self) -> None:
        """Send nothing more to those whose key was revoked. Replays stop: who may still have one asks again."""
        self._replays.clear()
        for identity, gateway in list(self._peers.items()):
            if not self._door.admits("gateway", gateway.key):
                self._forget(identity)

    def turn(self, now_ns: int) -> int | None:
        """Resend and replay what is due. Returns when to be called next (monotonic), or None where nothing waits."""
        soonest = self._replay_some(now_ns)
        for identity, gateway in list(self._peers.items()):
            for key, entry in list(gateway.unacked.items()):
                if now_ns >= entry.deadline_ns:
                    del gateway.unacked[key]
                    self.counters["missed_acks"] += 1
                    continue
                if now_ns >= entry.resend_ns:
                    entry.resend_ns = now_ns + RESEND_NS
                    self._send_raw(identity, entry.payload)
                due_ns = min(entry.resend_ns, entry.deadline_ns)
                soonest = due_ns if soonest is None else min(soonest, due_ns)
        return soonest

    def _answer(
        self,
        identity: bytes,
        key: str,
        message: dict[str, Any],
        on_trigger: Callable[[Station, dict[str, Any], int], str],
    ) -> None:
        """One well-formed message."""
        kind = message["type"]
        if kind == "hello":
            self._register(identity, key, message)
        elif kind == "trigger":
            reason = "not_registered: say hello first, or no verdict could reach you"
            if identity in self._peers:
                reason = on_trigger(self._station(message), message, time.monotonic_ns())
            ack = {"v": 1, "type": "trigger_ack", "station": message["station"], "epoch": self._epoch}
            trigger_id = message["trigger_id"]
            self._send(identity, {**ack, "trigger_id": trigger_id, "accepted": not reason, "reason": reason})
        elif kind == "ack":
            gateway = self._peers.get(identity)
            if gateway is not None and message["epoch"] == self._epoch:
                gateway.unacked.pop((message["station"], message["seq"]), None)
        else:
            self._replay(identity, message)

    def _register(self, identity: bytes, key: str, hello: dict[str, Any]) -> None:
        """A gateway that says hello again, from a new connection, takes the place of its former self."""
        name = hello["gateway"]
        for other, gateway in list(self._peers.items()):
            if gateway.name == name and other != identity:
                del self._peers[other]
        if identity not in self._peers:
            log.info("gateway registered", extra={"gateway": name})
            self._peers[identity] = Gateway(name, key)
        now_ns = time.monotonic_ns()
        welcomes = [
            {
                "station": station.name,
                "last_seq": station.ledger.last_seq,
                "oldest_seq": self._oldest(station.name),
                "deadline_us": station.config.deadline_ns // 1000,
                "ready": station.state(now_ns)[0] in ("ready", "degraded"),
                "last_trigger_id": station.ledger.last_trigger_id,
            }
            for station in self._stations.values()
        ]
        message = {"v": 1, "type": "welcome", "line": self._line, "epoch": self._epoch, "stations": welcomes}
        self._send(identity, {**message, "t_us": self._clock.utc_us(now_ns), "echo_us": hello.get("t_us")})

    def _replay(self, identity: bytes, message: dict[str, Any]) -> None:
        """Note what to send again; or answer `gap` where some of it is gone."""
        station, from_seq = message["station"], message["from_seq"]
        if message["epoch"] != self._epoch or from_seq < self._oldest(station):
            self._gap(identity, station)
        elif len(self._replays) < READERS_AT_MOST:
            self._replays[identity, station] = from_seq

    def _replay_some(self, now_ns: int) -> int | None:
        """A few verdicts again, in order, marked as such; a reader that does not take them is asked again later."""
        soonest: int | None = None
        for (identity, station), from_seq in list(self._replays.items()):
            oldest, history = self._oldest(station), self._histories[station]
            if from_seq < oldest:  # it went while we were sending
                self._gap(identity, station)
                del self._replays[identity, station]
                continue
            start = from_seq - oldest
            batch = list(itertools.islice(history, start, start + REPLAY_AT_MOST // len(self._replays) + 1))
            sent = 0
            while sent < len(batch) and self._send_raw(identity, sent_again(batch[sent])):
                sent += 1
            if from_seq + sent > self._stations[station].ledger.last_seq:
                self._replays.pop((identity, station), None)
                continue
            if (identity, station) not in self._replays:  # gone while we were sending
                continue
            self._replays[identity, station] = from_seq + sent
            due_ns = now_ns if sent == len(batch) else now_ns + RESEND_NS
            soonest = due_ns if soonest is None else min(soonest, due_ns)
        return soonest

    def _gap(self, identity: bytes, station: str) -> None:
        gap = {"v": 1, "type": "gap", "station": station, "epoch": self._epoch, "oldest_seq": self._oldest(station)}
        self._send(identity, gap)

    def _station(self, message: dict[str, Any]) -> Station:
        """The station a message speaks of. Raises Mismatch."""
        station = self._stations.get(message["station"])
        if station is None:
            raise Mismatch(f"no station {message['station'][:80]!r}; there is {', '.join(self._stations)}", "station")
        return station

    def _oldest(self, station: str) -> int:
        """The first seq that a replay can still give; the next one to come where nothing is kept."""
        return self._stations[station].ledger.last_seq + 1 - len(self._histories[station])

    def _send(self, identity: bytes, message: object) -> bool:
        return self._send_raw(identity, encode(message))

    def _send_raw(self, identity: bytes, payload: bytes) -> bool:
        """Send, or count. A peer that is gone is forgotten: it says hello when it comes back."""
        import zmq

        try:
            self._socket.send_multipart([identity, payload], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self.counters["unsent"] += 1
            if error.errno == zmq.EHOSTUNREACH:
                self._forget(identity)
            return False
        return True

    def _forget(self, identity: bytes) -> None:
        """A peer has gone."""
        for station in self._stations:
            self._replays.pop((identity, station), None)
        gateway = self._peers.pop(identity, None)
        if gateway is not None:
            self.counters["missed_acks"] += len(gateway.unacked)
            log.warning("gateway gone", extra={"gateway": gateway.name})

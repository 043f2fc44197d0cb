"""The reader's side of the protocol: subscribe, notice what is missing, ask for it again; and speak as a gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import InspectorError
from .handshake import Handshake
from .keys import ClientKeys, secure_client
from .wire import decode, encode

if TYPE_CHECKING:
    import zmq

Message = dict[str, Any]
PATIENCE_S = 1.0  # for a replay; then what is missing counts as lost


class Subscriber:
    """Reads the `verdicts` endpoint. prefix: which topics, such as `ei1/line1/`; end it with a slash."""

    def __init__(self, address: str, prefix: str = "ei1/", *, keys: ClientKeys | None = None) -> None:
        import zmq

        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, 100_000)
        self._socket.set(zmq.LINGER, 0)
        self._socket.subscribe(prefix)
        self._handshake = _connect(self._socket, address, keys)

    @property
    def refusal(self) -> str:
        """Why the daemon does not let us in, as far as we can see; "" where it does, or where nobody is there."""
        return self._handshake.refusal

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None where none came in time."""
        if not self._socket.poll(round(timeout_s * 1000)):
            self._handshake.look()
            return None
        return decode(self._socket.recv_multipart()[-1])

    def close(self) -> None:
        """Disconnect."""
        self._handshake.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


class GatewayClient:
    """Speaks with the `gateway` endpoint. One thread, and nothing is answered by itself: `receive`, then `ack`."""

    def __init__(self, address: str, *, keys: ClientKeys | None = None) -> None:
        import zmq

        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 200)
        self._handshake = _connect(self._socket, address, keys)

    @property
    def refusal(self) -> str:
        """Why the daemon does not let us in, as far as we can see; "" where it does, or where nobody is there."""
        return self._handshake.refusal

    def send(self, **message: object) -> None:
        """Send one message, such as `send(type="hello", gateway="g1", epoch=None, last_seq=0)`."""
        self._socket.send(encode(message))

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None where none came in time."""
        if not self._socket.poll(round(timeout_s * 1000)):
            self._handshake.look()
            return None
        return decode(self._socket.recv())

    def ack(self, verdict: Message) -> None:
        """Say that the verdict has arrived where it should."""
        what = {key: verdict[key] for key in ("station", "epoch", "seq")}
        self.send(type="ack", **what, t_written_us=time.time_ns() // 1000)

    def close(self) -> None:
        """Disconnect, after what was sent has left."""
        self._handshake.close()
        self._socket.close()
        self._context.term()

    def __enter__(self) -> GatewayClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def _connect(socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> Handshake:
    """Raises MissingError or ConfigError for keys that cannot be used."""
    if keys is not None:
        try:
            secure_client(socket, keys.secret, keys.server)
        except InspectorError:
            socket.close()
            raise
    handshake = Handshake(socket, has_key=keys is not None)
    socket.connect(address)
    return handshake


@dataclass(slots=True)
class InOrder:
    """One station's verdicts in the order of their seq, each once. What is missing is to be asked for from `wanted`.

    lost: how many never came, however often they were asked for. Pure: the time is an argument.
    """

    epoch: str = ""
    next_seq: int = 0
    lost: int = 0
    _early: dict[int, Message] = field(default_factory=dict)
    _known: int = 0
    _since_s: float = 0.0
    _former: set[str] = field(default_factory=set)

    def take(self, message: Message, now_s: float) -> Iterator[Message]:
        """A verdict or a heartbeat; gives the verdicts that are next. A new epoch begins with seq 1."""
        is_verdict = message["type"] == "verdict"
        seq = message["seq"] if is_verdict else message["last_seq"]
        if message["epoch"] in self._former:  # a late replay of a daemon that is gone
            return
        if message["epoch"] != self.epoch:
            first = seq if is_verdict else seq + 1  # we have come in the middle
            if self.epoch:
                yield from self._end_epoch()
                self._former.add(self.epoch)
                first = 1
            self.epoch, self.next_seq, self._known = message["epoch"], first, first - 1
        was_whole = self.wanted is None
        if is_verdict and seq >= self.next_seq:
            self._early[seq] = message
        self._known = max(self._known, seq)
        if was_whole:
            self._since_s = now_s
        yield from self._ready(now_s)

    def give_up_before(self, seq: int, now_s: float) -> Iterator[Message]:
        """What lies before seq cannot be had any more."""
        while self.next_seq < seq and self.next_seq not in self._early:
            self.next_seq += 1
            self.lost += 1
        yield from self._ready(now_s)

    def impatient(self, now_s: float) -> Iterator[Message]:
        """Called now and then: what has been missing for too long counts as lost."""
        if self.wanted is not None and now_s - self._since_s > PATIENCE_S:
            yield from self.give_up_before(min(self._early, default=self._known + 1), now_s)

    @property
    def wanted(self) -> int | None:
        """The first seq that is known to exist and has not come, or None."""
        if not self.epoch or self.next_seq > self._known or self.next_seq in self._early:
            return None
        return self.next_seq

    def _end_epoch(self) -> Iterator[Message]:
        """What waits behind a gap comes out; the gap is lost with the daemon that could have filled it."""
        self.lost += max(0, self._known + 1 - self.next_seq) - len(self._early)
        for seq in sorted(self._early):
            yield self._early.pop(seq)

    def _ready(self, now_s: float) -> Iterator[Message]:
        while self.next_seq in self._early:
            message = self._early.pop(self.next_seq)
            self.next_seq += 1
            self._since_s = now_s
            yield message

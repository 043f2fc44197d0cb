"""The gateway's side of the daemon's `gateway` endpoint: a DEALER that never waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..codec import Mismatch
from ..wire import decode, encode
from .daemon_side import Message

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

RECEIVE_AT_MOST = 64


class Link:
    """Connects at once and for ever. secure: makes the socket a CURVE client, before it connects."""

    def __init__(self, address: str, *, secure: Callable[[zmq.Socket[bytes]], None] | None = None) -> None:
        import zmq

        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),  # nothing waits for a daemon that is not there: a trigger sent later is of no use
            (zmq.SNDHWM, 1000),
            (zmq.RCVHWM, 10_000),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 500),
            (zmq.HEARTBEAT_IVL, 1000),  # only to notice a dead connection
            (zmq.HEARTBEAT_TIMEOUT, 3000),
            (zmq.MAXMSGSIZE, 16 * 1024 * 1024),
        ):
            self._socket.set(option, value)
        if secure is not None:
            secure(self._socket)
        self._socket.connect(address)
        self._poller: zmq.Poller | None = None
        self.unsent = self.malformed = 0

    def wait(self, bell: int, timeout_ms: int) -> None:
        """Until something has arrived, or the descriptor `bell` can be read, or so long."""
        import zmq

        if self._poller is None:
            self._poller = zmq.Poller()
            self._poller.register(self._socket, zmq.POLLIN)
            self._poller.register(bell, zmq.POLLIN)
        self._poller.poll(timeout_ms)

    def send(self, message: Message) -> None:
        """Send, or count: who is not there is asked again later."""
        import zmq

        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self.unsent += 1

    def receive(self) -> Iterator[Message]:
        """What has arrived, some at a time. What is no message is counted, and logged once."""
        import zmq

        for _ in range(RECEIVE_AT_MOST):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                yield decode(frames[-1])
            except Mismatch as error:
                self.malformed += 1
                if self.malformed == 1:
                    log.warning("the daemon sends what is no message", extra={"reason": str(error)})

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

"""What becomes of connections before their first message, read from a socket's events: at either end of them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zmq

CLOSED = "closed"
NO_KEY = "it shows no key"
WRONG_DAEMON = "it expects a daemon with another key"


class Handshake:
    """The client's side: why it is not let in. Made before the socket connects, closed before the socket is."""

    def __init__(self, connecting: zmq.Socket[bytes], *, has_key: bool) -> None:
        import zmq

        self.refusal = ""
        self._socket = connecting
        self._has_key = has_key
        self._events: zmq.Socket[bytes] = connecting.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )

    def look(self) -> str:
        """What became of the last attempt: the refusal; "" where we were let in, or nobody was there.

        To be called now and then while nothing comes: events that nobody takes hold up ZeroMQ in the end.
        """
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        while self._events.poll(0):
            event: Any = parse_monitor_message(self._events.recv_multipart())
            mismatch = event["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.refusal = ""
            elif not self._has_key:
                self.refusal = "it asks for a key: --key NAME.secret, which edge-inspector keys new NAME makes"
            elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and mismatch:
                self.refusal = "it uses no keys: come without one"
            else:
                self.refusal = "it does not let this key in, or has another key than we expect: its log says which"
        return self.refusal

    def close(self) -> None:
        """Look no more."""
        self._socket.disable_monitor()  # first: an event that nobody can take holds up ZeroMQ
        self._events.close(linger=0)


class Arrivals:
    """The daemon's side: who failed before a key was shown, of whom nobody asks. Made before the endpoint binds.

    address: of the one who failed last, "" where it had gone before it could be looked at.
    """

    def __init__(self, endpoint: zmq.Socket[bytes]) -> None:
        import zmq

        self.address = ""
        self._endpoint = endpoint
        self._addresses: dict[int, str] = {}  # of open connections, by file descriptor
        self._failed = ""
        self.events: zmq.Socket[bytes] = endpoint.get_monitor_socket(
            zmq.EVENT_ACCEPTED
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
        )

    def next(self) -> str | None:
        """Why a connection failed, CLOSED where nobody listens any more, "" for other events, None for no event."""
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        try:
            event: Any = parse_monitor_message(self.events.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return None
        kind, value = event["event"], event["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._addresses[value] = _peer(value, event["endpoint"].decode())
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._failed = NO_KEY if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH else WRONG_DAEMON
        elif kind == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._failed = NO_KEY
        elif kind == zmq.EVENT_DISCONNECTED:  # of a connection that failed it is the next event
            self.address = self._addresses.pop(value, "")
            failed, self._failed = self._failed, ""
            return failed
        elif kind == zmq.EVENT_CLOSED:
            return CLOSED
        return ""

    def close(self) -> None:
        """Look no more; before the endpoint is closed."""
        self._endpoint.disable_monitor()  # first: an event that nobody can take holds up ZeroMQ
        self.events.close(linger=0)


def _peer(descriptor: int, endpoint: str) -> str:
    """Who is at the other end. The connection may have ended by now, and its number may be another file's."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            here, there = connection.getsockname(), connection.getpeername()
    except OSError:
        return ""
    ours = isinstance(here, tuple) and endpoint.endswith(f":{here[1]}")
    return str(there[0]) if ours else ""

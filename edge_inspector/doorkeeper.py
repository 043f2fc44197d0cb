"""Who may enter an endpoint: answers ZeroMQ's question about each key (ZAP, RFC 27), and logs whom it refuses, once.

Runs in the publish thread. Where it does not run nobody enters: the endpoints demand an answer before they let one in.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError
from .handshake import CLOSED, Arrivals
from .keys import CLIENTS, SERVER, Client, public_of, read_clients, server_secret

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

# A refused client is told nothing, and its connection ends when this time is over; then it tries again by itself. Were
# it told (400 in place of 300), libzmq would never try again, and a key that is allowed later would not be noticed.
HANDSHAKE_MS = 2000
AT_ONCE = 64  # questions and events in one turn, so that a flood cannot hold up a verdict
TOLD_AT_MOST = 1000  # refusals that are remembered, and so logged


class NoDoor:
    """Where no keys are used: everyone enters."""

    refused = 0
    sockets: tuple[zmq.Socket[bytes], ...] = ()

    def guard(self, endpoint: zmq.Socket[bytes], name: str) -> None:
        """As it is."""

    def turn(self) -> bool:
        """Nobody asks."""
        return False

    def closed(self, name: str) -> bool:
        """Nothing has to be."""
        return False

    def unguard(self, name: str) -> None:
        """As it is."""

    def turned_out(self) -> tuple[str, ...]:
        """Nobody."""
        return ()

    def admits(self, name: str, key: str) -> bool:
        """Everyone."""
        return True

    def receive(self, router: zmq.Socket[bytes]) -> tuple[str, list[bytes]]:
        """The next message. Raises zmq.Again."""
        import zmq

        return "", router.recv_multipart(zmq.NOBLOCK)

    def refresh(self) -> None:
        """There is no list."""

    def close(self) -> None:
        """There is nothing to close."""


class Doorkeeper:
    """Made before the endpoints are. Raises MissingError or ConfigError for what is wrong in the key folder."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path) -> None:
        import zmq

        self._secret = server_secret(folder)
        self._path = folder / CLIENTS
        self._seen = _signature(self._path)
        self._read = self._taken = read_clients(self._path)
        own = public_of(self._secret)
        self._own = {own: Client(name=SERVER, key=own, role="gateway")}
        self._former: dict[str, str] = {}  # keys that were revoked since the start, and whose they were
        self._inside: dict[str, set[str]] = {}  # endpoint -> keys that were let in
        self._closed: set[str] = set()
        self._told: set[tuple[str, str, str]] = set()
        self.refused = 0
        self._zap: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._arrivals: dict[str, Arrivals] = {}
        log.info("clients need a key", extra={"allowed": len(self._taken), "list": str(self._path)})

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], ...]:
        """What to poll."""
        return (self._zap, *(arrivals.events for arrivals in self._arrivals.values()))

    def guard(self, endpoint: zmq.Socket[bytes], name: str) -> None:
        """Before it binds: only who is asked for and answered for enters."""
        import zmq

        endpoint.curve_server = True
        endpoint.curve_secretkey = self._secret.encode()
        endpoint.zap_domain = name.encode()
        endpoint.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without it everyone enters where nobody answers
        endpoint.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._arrivals[name] = Arrivals(endpoint)
        self._inside[name] = set()

    def unguard(self, name: str) -> None:
        """Before it is closed."""
        del self._inside[name]
        self._arrivals.pop(name).close()

    def turn(self) -> bool:
        """Answer who asks, and look who failed; True where there may be more."""
        more = self._answer()
        for name, arrivals in self._arrivals.items():
            for _ in range(AT_ONCE):
                event = arrivals.next()
                if event is None:
                    break
                if event == CLOSED:
                    self._closed.add(name)
                elif event:
                    self._refuse(name, arrivals.address, event)
            else:
                more = True
        return more

    def closed(self, name: str) -> bool:
        """Whether an endpoint that was unbound is free by now; said once."""
        if name not in self._closed:
            return False
        self._closed.remove(name)
        return True

    def turned_out(self) -> tuple[str, ...]:
        """The endpoints where somebody is inside who, by a list that was read since, may not be there any more."""
        if self._read is self._taken:
            return ()
        former, self._taken = self._taken, self._read
        revoked = {key: client.name for key, client in former.items() if key not in self._taken}
        self._former.update(revoked)
        added = [client.name for key, client in self._taken.items() if key not in former]
        log.info(
            "who may enter has changed",
            extra={"allowed": len(self._taken), "added": ",".join(added), "revoked": ",".join(revoked.values())},
        )
        return tuple(name for name, keys in self._inside.items() if not all(self.admits(name, key) for key in keys))

    def admits(self, name: str, key: str) -> bool:
        """Whether, by the list of now, a key may use an endpoint."""
        return not self._why_not(name, key)

    def receive(self, router: zmq.Socket[bytes]) -> tuple[str, list[bytes]]:
        """The next message and the key of its sender; no frames where he may not send any more. Raises zmq.Again."""
        import zmq

        frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
        key = _noted(frames[-1], "User-Id")
        reason = self._why_not("gateway", key)
        if reason:
            self._refuse("gateway", _noted(frames[-1], "Peer-Address"), reason, key)
            return key, []
        return key, [frame.bytes for frame in frames]

    def refresh(self) -> None:
        """Read the list again where it has changed; a wrong one is logged, and the old one stays. The main thread's."""
        now = _signature(self._path)
        if now == self._seen:
            return
        self._seen = now
        try:
            self._read = read_clients(self._path)
        except ConfigError as error:
            log.error("who may enter was not read again, the old list stays: %s", error)

    def close(self) -> None:
        """After the endpoints, before the context ends."""
        self._zap.close(linger=0)

    def _answer(self) -> bool:
        """A question: version, number, endpoint, address, routing id, mechanism, and for CURVE the key."""
        import zmq
        from zmq.utils import z85

        for _ in range(AT_ONCE):
            try:
                version, number, name, address, _, mechanism, *rest = self._zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            endpoint, key = name.decode(errors="replace"), ""
            if mechanism == b"CURVE" and len(rest) == 1:
                key = z85.encode(rest[0]).decode()
            reason = self._why_not(endpoint, key)
            if reason:
                self._refuse(endpoint, address.decode(errors="replace"), reason, key)
            else:
                self._inside[endpoint].add(key)
                self._told -= {told for told in self._told if told[:2] == (endpoint, key)}
            status = (b"300", b"not allowed", b"") if reason else (b"200", b"OK", key.encode())
            self._zap.send_multipart([version, number, *status, b""], zmq.NOBLOCK)
        return True

    def _why_not(self, name: str, key: str) -> str:
        """Nothing where a key may use an endpoint; else the reason, in plain words."""
        client = self._taken.get(key) or self._own.get(key)
        if name not in self._inside:
            return "it asks for an endpoint that is not there"
        if client is None:
            return f"its key was revoked ({self._former[key]})" if key in self._former else "its key is not allowed"
        if name == "gateway" and client.role != "gateway":
            return f'its role is "{client.role}" ({client.name})'
        return ""

    def _refuse(self, name: str, address: str, reason: str, key: str = "") -> None:
        """Counted every time, logged once for each key, or for each address where there is no key."""
        self.refused += 1
        told = (name, key or address, reason)
        if told in self._told or len(self._told) > TOLD_AT_MOST:
            return
        self._told.add(told)
        if len(self._told) > TOLD_AT_MOST:
            log.warning("so many clients are refused that from now on they are only counted")
            return
        log.warning("client refused: %s", reason, extra={"endpoint": name, "address": address or "?", "key": key})


def _noted(frame: zmq.Frame, what: str) -> str:
    """What ZeroMQ noted about a message's connection; "" where there is no such note, which is nobody's key."""
    import zmq

    try:
        return str(frame.get(what))
    except zmq.ZMQError:
        return ""


def _signature(path: Path) -> tuple[int, int, int] | str:
    """Changes whenever the file does; looks at its entry alone."""
    try:
        entry = path.stat()
    except OSError as error:
        return str(error)
    return entry.st_mtime_ns, entry.st_ino, entry.st_size

"""Binding the daemon's two endpoints: socket options, ipc:// paths and their modes, and who is let in."""

from __future__ import annotations

import logging
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .doorkeeper import Doorkeeper, NoDoor
from .errors import MissingError

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)


def bind(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    address: str,
    *,
    name: str,
    door: Doorkeeper | NoDoor,
    insecure: bool = False,
) -> zmq.Socket[bytes]:
    """A bound socket. Raises MissingError, which says how to choose another address."""
    import zmq

    endpoint: zmq.Socket[bytes] = context.socket(kind)
    endpoint.set(zmq.LINGER, 500)
    endpoint.set(zmq.SNDHWM, 10_000)
    endpoint.set(zmq.HEARTBEAT_IVL, 1000)  # only to notice a dead TCP connection
    endpoint.set(zmq.HEARTBEAT_TIMEOUT, 5000)
    if kind == zmq.ROUTER:
        endpoint.set(zmq.ROUTER_MANDATORY, 1)  # a peer that is gone is an error, not silence
        endpoint.set(zmq.RCVHWM, 64)
        endpoint.set(zmq.MAXMSGSIZE, 64 * 1024 * 1024)
    if insecure and address.startswith("tcp://"):
        log.warning("anyone who reaches this address may use it: publish.insecure", extra={"address": address})
    door.guard(endpoint, name)
    try:
        if address.startswith("ipc://"):
            _prepare(Path(address.removeprefix("ipc://")))
        endpoint.bind(address)
        if address.startswith("ipc://"):
            os.chmod(address.removeprefix("ipc://"), 0o660)
    except (OSError, zmq.ZMQError) as error:
        door.unguard(name)
        endpoint.close()
        raise MissingError(
            f"publish.{name}: cannot bind {address}: {error.strerror or error}; "
            f"is this line running already? Else choose another address for {name} in [publish]"
        ) from None
    return endpoint


def _prepare(path: Path) -> None:
    """Make the folder; refuse a path where another process listens (ZeroMQ would take it away without a word)."""
    if path.is_relative_to("/run/edge-inspector"):  # elsewhere a folder that is not there is a slip of the pen
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise OSError(0, f"there is no folder {path.parent}")
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return
        raise OSError(0, "another process is listening there")

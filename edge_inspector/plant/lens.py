"""The plant's end of the camera: says which part is under the lens, when asked or when the strobe fires.

Served by the thread that moves the belt, so that an answer is about this very moment. Owns the socket.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from ..cameras.plant import Exposure
from ..errors import MissingError

CAMERAS_AT_MOST = 8


class Lens:
    """Listens at `address`. Two faults: dark, it never answers; frozen, every picture is the one before.

    lost: pictures that a camera did not fetch in time.
    """

    def __init__(self, address: Path) -> None:
        self.dark = self.frozen = False
        self.lost = 0
        self._address = address
        self._cameras: dict[bytes | str, None] = {}
        self._last: Exposure | None = None
        self._picture = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._bind()
        except OSError as error:
            self.socket.close()
            raise MissingError(f"lens.address: cannot listen at {address}: {error.strerror}") from None
        self.socket.setblocking(False)

    def serve(self, under_lens: Callable[[], int], now_ns: Callable[[], int]) -> None:
        """Answer everything that was asked. now_ns: the monotonic clock."""
        while True:
            try:
                datagram, sender = self.socket.recvfrom(256)
            except OSError:  # nothing more
                return
            word, *rest = datagram.split() or [b""]
            if word in (b"hello", b"strobe"):
                if word == b"strobe" and len(self._cameras) < CAMERAS_AT_MOST:
                    self._cameras[sender] = None
                self._send(b"hello", sender)
            elif word == b"expose" and rest and rest[0].isdigit():
                self._send(self._expose(int(rest[0]), under_lens(), now_ns()).datagram(), sender)

    def strobe(self, number: int, exposed_ns: int) -> None:
        """A part is exactly under the lens: send its picture to every camera that wants it."""
        if self._cameras:
            datagram = self._expose(0, number, exposed_ns).datagram()
            for camera in list(self._cameras):
                self._send(datagram, camera)

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()
        self._address.unlink(missing_ok=True)

    def _bind(self) -> None:
        """Take the place of a socket that nobody listens at any more, but of no other."""
        if self._address.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                try:
                    other.connect(str(self._address))
                except ConnectionRefusedError:
                    self._address.unlink()
        self.socket.bind(str(self._address))

    def _expose(self, token: int, number: int, exposed_ns: int) -> Exposure:
        if self._last is not None and self.frozen:
            return Exposure(token, self._last.picture, self._last.number, exposed_ns)
        self._picture += 1
        self._last = Exposure(token, self._picture, number, exposed_ns)
        return self._last

    def _send(self, datagram: bytes, camera: bytes | str) -> None:
        if self.dark:
            return
        try:
            self.socket.sendto(datagram, camera)
        except BlockingIOError:
            self.lost += 1
        except OSError:  # it has gone; one that comes back says so
            with contextlib.suppress(KeyError):
                del self._cameras[camera]

"""A camera in the simulated plant: asks which board is under its lens at this moment, and draws that one.

Owns what camera and plant say to each other: datagrams of words over a Unix socket. The camera says `hello` (is
anybody there?), `strobe` (send me every part) or `expose TOKEN`; the plant answers `hello` or
`picture TOKEN PICTURE NUMBER EXPOSED_NS`, with the token 0 where the strobe has fired.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CameraFault, CameraMissing
from ..types import Pixels, Shot
from .boards import Boards

SIZE_PX = 640
MARK_PX = 48  # side of the square in the corner that tells the truth, where it is wanted
GOOD, DEFECTIVE, EMPTY = 0, 1, 2  # what it tells, as grey levels: 48, 112, 176

TIMEOUT_S = 0.15  # for an answer; the plant's ticks are 2.5 ms
SLICE_S = 0.2
REGISTER_S = 0.5  # how often a strobed camera says that it is still there
SILENT_S = 2.0
_BARE, _NOISE_ROWS, _NOISES = 255, 8, 1 << 16


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the plant says. picture: counts exposures; the same again is the same picture. number: 0, an empty belt."""

    token: int
    picture: int
    number: int
    exposed_ns: int

    def datagram(self) -> bytes:
        """As it travels."""
        return f"picture {self.token} {self.picture} {self.number} {self.exposed_ns}".encode()


def read_exposure(datagram: bytes) -> Exposure | None:
    """None for anything else."""
    word, *numbers = datagram.split()
    return Exposure(*map(int, numbers)) if word == b"picture" and len(numbers) == 4 else None


class PlantCamera:
    """Draws the boards of `seed` and `defect_rate`, as numbered by the plant that listens at `address`.

    strobe: every part is a picture, taken when it is exactly under the lens; otherwise each read takes one, of
    whatever is there. marked: tell the truth about it in the corner, for a scripted engine that goes by it.
    """

    simulated = True

    def __init__(
        self, *, address: Path, strobe: bool = False, seed: int = 1, defect_rate: float = 0.2, marked: bool = False
    ) -> None:
        self.waits = not strobe
        self._address, self._strobe, self._marked = address, strobe, marked
        self._boards = Boards(seed, defect_rate)
        noise = np.random.default_rng((seed, 4)).integers(0, 4, _NOISES + _NOISE_ROWS * SIZE_PX * 3)
        self._noise: Pixels = noise.astype(np.uint8)
        self._socket: socket.socket | None = None
        self._token = 0
        self._registered_s = self._heard_s = 0.0

    def open(self) -> tuple[int, int]:
        """Find the plant. Raises CameraMissing where it does not answer."""
        self.close()
        self._boards.warm_up()
        link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            link.bind("")  # Linux gives it an address of its own, so that the plant can answer
            link.connect(str(self._address))
            link.settimeout(TIMEOUT_S)
            link.send(b"strobe" if self._strobe else b"hello")
            link.recv(256)
        except OSError as error:
            link.close()
            mend = f"start it with lens.address = {str(self._address)!r}"
            raise CameraMissing(f"{self._address}: the simulated plant does not answer ({error}); {mend}") from None
        self._socket = link
        self._registered_s = self._heard_s = time.monotonic()
        return SIZE_PX, SIZE_PX

    def read(self, into: Pixels) -> Shot | None:
        """A picture now, or the next one of the strobe. Raises CameraFault where the plant does not answer."""
        if self._socket is None:
            raise CameraFault("the plant's camera was read while it was closed")
        try:
            exposure = self._wait_for_strobe(self._socket) if self._strobe else self._expose(self._socket)
        except OSError as error:
            raise CameraFault(f"{self._address}: the simulated plant does not answer: {error}") from None
        if exposure is None:
            return None
        now_ns = time.monotonic_ns()
        self._draw(exposure, into)
        name = f"board-{exposure.number:06d}" if exposure.number else "empty"
        return Shot(now_ns, name, max(0, now_ns - exposure.exposed_ns))

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _expose(self, link: socket.socket) -> Exposure:
        """Ask, and wait for the answer to this very question."""
        self._token += 1
        link.send(b"expose %d" % self._token)
        until_s = time.monotonic() + TIMEOUT_S
        while (left_s := until_s - time.monotonic()) > 0:
            link.settimeout(left_s)
            exposure = read_exposure(link.recv(256))
            if exposure is not None and exposure.token == self._token:
                return exposure
        raise TimeoutError("timed out")

    def _wait_for_strobe(self, link: socket.socket) -> Exposure | None:
        """The next picture, None where none comes for a while."""
        now_s = time.monotonic()
        if now_s - self._registered_s > REGISTER_S:
            link.send(b"strobe")
            self._registered_s = now_s
        link.settimeout(SLICE_S)
        try:
            exposure = read_exposure(link.recv(256))
        except TimeoutError:
            if time.monotonic() - self._heard_s > SILENT_S:
                raise
            return None
        self._heard_s = time.monotonic()
        return exposure

    def _draw(self, exposure: Exposure, into: Pixels) -> None:
        """The board, some noise at its lower edge (no sensor gives the same twice), and perhaps the truth."""
        if exposure.number:
            truth = DEFECTIVE if self._boards.draw(exposure.number, into) else GOOD
        else:
            into[:], truth = _BARE, EMPTY
        edge = into[-_NOISE_ROWS:]
        start = exposure.picture * 7919 % _NOISES
        edge ^= self._noise[start : start + edge.size].reshape(edge.shape)
        if self._marked:
            into[:MARK_PX, :MARK_PX] = 48 + 64 * truth

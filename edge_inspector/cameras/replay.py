"""A folder of pictures or a video file as a camera, at a given rate or as fast as its frames are taken.

Owns the order, the rhythm and the repetition. A picture that cannot be had is a part that needs a verdict: it is
reported (FrameFault), never skipped.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ..config import OpenCVConfig
from ..errors import CameraFault, CameraMissing, EndOfStream, FrameFault
from ..types import Pixels, Shot
from .base import Camera
from .opencv import OpenCVCamera, load_cv2

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"  # ITU-T T.81, table B.1: SOI, SOS, EOI
_SLICE_S = 0.2  # base.Camera: the longest that read() may rest


class ReplayCamera:
    """Frames of `path`, in order. rate: frames per second; 0 gives each as soon as it is asked for.

    With a rate, the next frame is decoded before its moment comes, and a reader that stayed away for longer than a
    period gets no burst: the rhythm begins anew. With `loop`, it begins again at the end, for ever.
    """

    simulated = True

    def __init__(self, path: Path, *, rate: float = 0.0, loop: bool = False) -> None:
        self.waits = rate == 0.0
        self._period_ns = round(1e9 / rate) if rate else 0
        self._loop = loop
        self._inner: Camera = OpenCVCamera(OpenCVConfig(source=str(path.resolve()))) if path.is_file() else Folder(path)
        self._size = (0, 0)
        self._decoded: Pixels | None = None
        self._next: Shot | FrameFault | None = None  # what stands in _decoded, or why nothing does
        self._due_ns: int | None = None

    def open(self) -> tuple[int, int]:
        """Go on behind the last frame given, or begin. Raises CameraMissing where there is nothing to show."""
        self._size = self._inner.open()
        if not self.waits and (self._decoded is None or self._decoded.shape[:2] != self._size):
            self._decoded, self._next = np.empty((*self._size, 3), np.uint8), None
        self._due_ns = None
        return self._size

    def read(self, into: Pixels) -> Shot | None:
        """The next frame at its moment, None where that is more than 0.2 s away; see base.Camera."""
        if self.waits:
            return self._take(into)
        if self._decoded is None:
            raise CameraFault("the replay is not open")
        if self._next is None:
            try:
                self._next = self._take(self._decoded)
            except FrameFault as error:  # it has its moment like any other
                self._next = error
        if self._next is None or not self._is_due():
            return None
        now_ns, held, self._next = time.monotonic_ns(), self._next, None
        if isinstance(held, FrameFault):
            raise FrameFault(str(held), Shot(now_ns, held.shot.part_id))
        np.copyto(into, self._decoded)
        return Shot(now_ns, held.part_id)

    def close(self) -> None:
        """Close the file. A frame that was decoded but not given yet comes first when it is opened again."""
        self._inner.close()

    def _take(self, into: Pixels) -> Shot | None:
        try:
            return self._inner.read(into)
        except EndOfStream:
            if not self._loop:
                raise
        self._inner.close()
        if self._inner.open() != self._size:
            raise CameraFault(f"the pictures are no longer {self._size[1]} x {self._size[0]} pixels")
        return self._inner.read(into)

    def _is_due(self) -> bool:
        """Wait for the next frame's moment, for a slice of time at the most."""
        now_ns = time.monotonic_ns()
        if self._due_ns is None or now_ns - self._due_ns > self._period_ns:
            self._due_ns = now_ns
        rest_s = (self._due_ns - now_ns) / 1e9
        if rest_s > 0:
            time.sleep(min(rest_s, _SLICE_S))
        if rest_s > _SLICE_S:
            return False
        self._due_ns += self._period_ns
        return True


class Folder:
    """The pictures of one folder in the order of their names, each once. They all must have the size of the first."""

    simulated = True
    waits = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[Path] = []
        self._given = 0
        self._ended = False
        self._size = (0, 0)
        self._cv2: Any = None

    def open(self) -> tuple[int, int]:
        """List the folder, or go on in the list. Returns the size of the first picture that can be read."""
        self._cv2 = load_cv2()
        if self._given and not self._ended:
            return self._size
        if not self._path.is_dir():
            raise CameraMissing(f"{self._path}: is neither a folder nor a file")
        self._files = sorted(path for path in self._path.iterdir() if path.suffix.lower() in SUFFIXES)
        self._given, self._ended = 0, False
        if not self._files:
            raise CameraMissing(f"{self._path}: holds no pictures; looked for {' '.join(SUFFIXES)}")
        for file in self._files:
            picture = self._load(file)
            if not isinstance(picture, str):
                height, width = picture.shape[:2]
                self._size = (height, width)
                return self._size
        raise CameraMissing(f"{self._path}: none of its {len(self._files)} pictures can be read")

    def read(self, into: Pixels) -> Shot:
        """The next picture. Raises FrameFault for one that is broken or of another size, then goes on behind it."""
        if self._cv2 is None:
            raise CameraFault(f"{self._path}: is not open")
        if self._given == len(self._files):
            self._ended = True
            raise EndOfStream(f"{self._path}: all {len(self._files)} pictures are delivered")
        file = self._files[self._given]
        self._given += 1
        picture = self._load(file)
        shot = Shot(time.monotonic_ns(), file.stem)
        if isinstance(picture, str):
            raise FrameFault(f"{file}: {picture}", shot)
        if picture.shape != into.shape:
            found, expected = (f"{shape[1]} x {shape[0]}" for shape in (picture.shape, into.shape))
            raise FrameFault(f"{file}: is {found} pixels, expected {expected} like the first", shot)
        np.copyto(into, picture)
        return shot

    def close(self) -> None:
        """Nothing is held open between two pictures."""
        self._cv2 = None

    def _load(self, file: Path) -> Pixels | str:
        """The picture, or why there is none."""
        try:
            raw = file.read_bytes()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if not raw:
            return "is empty"
        if cut_off(raw):
            return "is truncated"
        try:
            picture = decoded(raw, self._cv2)
        except self._cv2.error as error:
            return f"cannot be decoded: {error.err}"
        return "is no picture, or it is damaged" if picture is None else picture


def decoded(raw: bytes, cv2: Any) -> Pixels | None:
    """A file's bytes as uint8 [h, w, 3] BGR; None where they are no picture. A grey file is decoded as a grey one and
    widened afterwards: a PNG of black and white takes a quarter of the time. Raises cv2.error.
    """
    picture: Pixels | None = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_ANYCOLOR)
    return picture if picture is None or picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)


def cut_off(raw: bytes) -> bool:
    """Whether this is a JPEG without its end, or nothing: OpenCV fills the rest with grey and says nothing."""
    return not raw or (raw.startswith(_JPEG) and raw.rfind(_JPEG_END) < raw.rfind(_JPEG_SCAN))

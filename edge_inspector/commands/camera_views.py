"""Where the views of a pattern come from: a folder of pictures, or a station's camera, with hints along the way."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from .. import cameras
from ..cameras.base import Camera
from ..cameras.replay import SUFFIXES
from ..config import load
from ..errors import CameraMissing, ConfigError, EndOfStream, FrameFault, ModelRefused
from ..types import Pixels
from .camera_coverage import Coverage
from .camera_pattern import Finder, Pattern, likely_size
from .looking import read_picture

SILENT_S = 2.0  # the same trouble is told again only after so long
KEPT = 2  # pictures in which nothing was found, to find out why


def from_folder(folder: Path, finder: Finder) -> Coverage:
    """Every picture once. Raises ModelRefused where the pattern is in none."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise CameraMissing(f"{folder}: found no pictures there ({', '.join(SUFFIXES)})")
    coverage = Coverage(read_picture(files[0]).shape[:2])
    without: list[Pixels] = []
    for n, file in enumerate(files):
        pixels = read_picture(file)
        why = _offer(coverage, finder, file.name, pixels)
        said = f"not used: {why}" if why else f"{len(coverage.views[-1].px)} corners; {_still(coverage)}"
        print(f"{n + 1}/{len(files)} {file.name}: {said}", flush=True)
        if why and len(without) < KEPT:
            without.append(pixels)
    if not coverage.views:
        raise ModelRefused(_why_none(finder.pattern, without))
    return coverage


class Live:
    """A station's camera, looked through without the daemon, which must not run meanwhile."""

    def __init__(self, path: Path, name: str | None) -> None:
        config = load(path)
        found = [station for station in config.station if name in (None, station.name)]
        if len(found) != 1:
            names = ", ".join(station.name for station in config.station)
            raise ConfigError(f"{path}: --station: found {name or 'nothing'}, expected one of {names}")
        self._camera: Camera = cameras.make(found[0].camera, base=path.parent)
        self._told, self._told_s = "", 0.0

    def views(self, finder: Finder) -> Coverage:
        """Until they are enough, the camera ends, or Ctrl-C."""
        coverage = Coverage(self._camera.open())
        print("show the pattern, and hold it still for a moment in each pose; Ctrl-C: that was all", flush=True)
        last: Pixels | None = None
        try:
            while not coverage.enough:
                last = self._frame(coverage.size)
                why = _offer(coverage, finder, f"view {len(coverage.views) + 1}", last)
                self._tell(why or f"{coverage.views[-1].name}: {len(coverage.views[-1].px)} corners; "
                           f"{_still(coverage)}", again=not why)  # fmt: skip
        except (KeyboardInterrupt, EndOfStream):
            pass
        finally:
            self._camera.close()
        if not coverage.views:
            raise ModelRefused(_why_none(finder.pattern, [] if last is None else [last]))
        return coverage

    def plane(self, size: tuple[int, int]) -> Pixels:
        """One picture, once Enter is pressed. Raises ModelRefused where there is nobody to press it."""
        print("now lay the pattern where the parts lie, at the height of the inspected surface, and press Enter: ",
              end="", flush=True)  # fmt: skip
        if not sys.stdin.readline():
            raise ModelRefused("no view of the plane, and nobody at the terminal: name a picture with --plane")
        if self._camera.open() != size:
            raise ModelRefused("the camera delivers frames of another size now")
        try:
            return self._frame(size)
        except EndOfStream:
            raise ModelRefused("no view of the plane: the camera has ended; name a picture with --plane") from None
        finally:
            self._camera.close()

    def _frame(self, size: tuple[int, int]) -> Pixels:
        """A frame that was taken after this was called: what waited while the last one was looked at is left out."""
        pixels = np.empty((*size, 3), np.uint8)
        since_ns = 0 if self._camera.waits else time.monotonic_ns()
        while True:
            try:
                shot = self._camera.read(pixels)
            except FrameFault:
                continue
            if shot is not None and shot.t_grab_ns - shot.lag_ns >= since_ns:
                return pixels

    def _tell(self, what: str, *, again: bool) -> None:
        if again or what != self._told or time.monotonic() - self._told_s > SILENT_S:
            print(what, flush=True)
            self._told, self._told_s = what, time.monotonic()


def _offer(coverage: Coverage, finder: Finder, name: str, pixels: Pixels) -> str:
    """Look for the pattern and keep the view; returns why not, or ""."""
    if pixels.shape[:2] != coverage.size:
        return f"{pixels.shape[1]} x {pixels.shape[0]} pixels, the first has {coverage.size[1]} x {coverage.size[0]}"
    view = finder.find(name, pixels)
    return view if isinstance(view, str) else coverage.take(view)


def _still(coverage: Coverage) -> str:
    return coverage.hint() if coverage.enough else f"missing: {coverage.hint()}"


def _why_none(pattern: Pattern, pictures: list[Pixels]) -> str:
    """The likely reason why the pattern is nowhere."""
    columns, rows = pattern.squares
    size = likely_size(pattern, pictures)
    if size:
        more = sorted(size) == sorted((columns + 1, rows + 1))
        counted = ", which counts squares: there is one more each way than inner corners" if more else ""
        return f"no usable view, but a board of {size[0]}x{size[1]} squares: say --squares {size[0]}x{size[1]}{counted}"
    other, whole = "chessboard", "large enough"
    if pattern.kind == "chessboard":
        other, whole = "charuco board", "whole, with a white margin around it"
    return (
        f"no usable view, the reasons are above; likely --squares {columns}x{rows} (columns x rows of squares, not of "
        f"inner corners) is not what was printed, or it is a {other}, or it is not {whole}, sharp and without glare"
    )

"""The picture of a calibration: where points were seen and how far the lens misses them, and a grid in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lens import Lens, project
from ..types import Pixels
from .camera_coverage import Coverage
from .camera_solve import Solved

WIDTH = 900  # of each half
ENLARGED = (500, 200, 100, 50, 20, 10)  # residuals are drawn so many times as long as they are
LONGEST = 25.0  # pixels of the drawing for a residual of three times the RMS
INK, PALE, FAINT, RED, BLUE = (40, 40, 40), (150, 150, 150), (225, 225, 225), (40, 40, 220), (190, 110, 20)


def draw(coverage: Coverage, solved: Solved, lens: Lens, plane: Pixels) -> Pixels:
    """Two halves side by side, uint8 [h, 2 * WIDTH + gap, 3] BGR. plane: the picture that the plane comes from."""
    scale = WIDTH / lens.width
    halves = [_points(coverage, solved, scale), _grid(lens, plane, scale)]
    return np.hstack([halves[0], np.full((len(halves[0]), 20, 3), 255, np.uint8), halves[1]])


def _points(coverage: Coverage, solved: Solved, scale: float) -> Pixels:
    """All corners used, their residuals enlarged, and the ninths with their counts."""
    import cv2

    height = round(coverage.size[0] * scale)
    into = np.full((height, WIDTH, 3), 255, np.uint8)
    for row, counts in enumerate(coverage.cells):
        for column, count in enumerate(counts):
            x, y = column * WIDTH // 3, row * height // 3
            cv2.rectangle(into, (x, y), ((column + 1) * WIDTH // 3, (row + 1) * height // 3), FAINT, 1)
            _write(into, f"{count} points" if count else "no points", (x + 8, y + 20), INK if count else RED)
    longest = 3 * solved.rms_px * scale
    times = next((each for each in ENLARGED if each * longest <= LONGEST), ENLARGED[-1])
    for view, residual in zip(solved.used, solved.residuals, strict=True):
        for point, missed in zip(view.px * scale, residual * scale * times, strict=True):
            cv2.line(into, _at(point), _at(point + missed), RED, 1, cv2.LINE_AA, 4)
            cv2.circle(into, _at(point), 2 * 16, BLUE, -1, cv2.LINE_AA, 4)
    words = f"{len(solved.used)} views, {sum(map(len, solved.residuals))} points, error {solved.rms_px:.3f} px RMS"
    return _titled(into, words, f"red: what the lens misses, {times} times as long")


def _grid(lens: Lens, plane: Pixels, scale: float) -> Pixels:
    """The plane's picture, paled, and over it lines of equal mm as the lens shows them."""
    import cv2

    paled = cv2.resize(plane, (WIDTH, round(lens.height * scale)), interpolation=cv2.INTER_AREA) * 0.35 + 165
    into = paled.astype(np.uint8)
    border = lens.to_mm(lens.grid())
    low, high = border.min(axis=0), border.max(axis=0)
    step = _round_step(float((high - low).max()) / 12)
    for axis in (0, 1):
        for value in np.arange(np.ceil(low[axis] / step), high[axis] / step) * step:
            line = np.full((200, 2), value)
            line[:, 1 - axis] = np.linspace(low[1 - axis], high[1 - axis], 200)
            seen = _seen(lens, line) * scale
            if len(seen) < 2:
                continue
            cv2.polylines(into, [np.round(seen * 16).astype(np.int32)], False, BLUE, 1, cv2.LINE_AA, 4)
            first = seen[np.argmin(seen[:, 1 - axis])]
            _write(into, f"{value:g}", (int(first[0]) + 4, int(first[1]) + (14 if axis == 0 else -4)), INK, size=0.4)
    middle = f"{lens.px_per_mm:.3f} px/mm in the middle, {lens.px_per_mm_lowest:.3f} to {lens.px_per_mm_highest:.3f}"
    return _titled(into, f"the plane, a line every {step:g} mm", middle)


def _seen(lens: Lens, mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of points on the plane those that lie in the frame, in its pixels: beyond it the lens's formula says nothing."""
    rim = lens.undistort(lens.grid())
    ideal = project(np.linalg.inv(lens.plane), mm)
    near = ((ideal >= rim.min(axis=0)) & (ideal <= rim.max(axis=0))).all(axis=1)
    seen = lens.distort(ideal[near])
    inside = ((seen >= -2) & (seen <= (lens.width + 2, lens.height + 2))).all(axis=1)
    return np.asarray(seen[inside])


def _round_step(least: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * each for each in (1, 2, 5, 10) if power * each >= least))


def _at(point: Any) -> tuple[int, int]:
    """For OpenCV's sixteenths of a pixel."""
    return round(float(point[0]) * 16), round(float(point[1]) * 16)


def _titled(drawing: Pixels, *lines: str) -> Pixels:
    """White above, with a title and a line below it."""
    head = np.full((58, drawing.shape[1], 3), 255, np.uint8)
    _write(head, lines[0], (8, 22), INK, size=0.6)
    _write(head, lines[1], (8, 46), INK)
    return np.vstack([head, drawing])


def _write(into: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int], *, size: float = 0.5) -> None:
    import cv2

    cv2.putText(into, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

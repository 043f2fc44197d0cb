"""The calibration pattern: finding its corners in a picture, and saying why it could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lens import project
from ..types import Pixels

DICTIONARIES = ("DICT_4X4_1000", "DICT_5X5_1000", "DICT_6X6_1000", "DICT_7X7_1000", "DICT_ARUCO_ORIGINAL")
FEWEST_CORNERS = 8
FEWEST_MARKERS = 4
BLUR_PX = 3.5  # an edge may be so wide, or
BLUR_SHARE = 0.07  # this share of a square
MISPLACED = 0.3  # of a square: a corner so far from where the others say it is shows that it is another board


@dataclass(frozen=True, slots=True)
class View:
    """One picture of the pattern: corners in mm on the pattern [n, 2] and in the picture's pixels [n, 2].

    lean: how far the pattern's near side leans to the camera, as the sine of the angle, along x and y of the picture.
    """

    name: str
    mm: NDArray[np.float32]
    px: NDArray[np.float32]
    lean: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pattern:
    """What was printed. squares: columns and rows of squares, not of inner corners."""

    kind: str
    squares: tuple[int, int]
    square_mm: float
    marker_mm: float

    def __str__(self) -> str:
        markers = f", markers {self.marker_mm:g} mm" if self.kind == "charuco" else ""
        return f"{self.kind} {self.squares[0]}x{self.squares[1]}, squares {self.square_mm:g} mm{markers}"

    @property
    def corners_mm(self) -> NDArray[np.float32]:
        """All inner corners [n, 2], row by row, from the outer corner of the pattern."""
        x, y = np.meshgrid(np.arange(1, self.squares[0]), np.arange(1, self.squares[1]))
        return (np.stack([x.ravel(), y.ravel()], axis=1) * self.square_mm).astype(np.float32)


class Finder:
    """Finds one pattern. Of a charuco board it learns the dictionary and the layout from the first view that fits."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self._detectors: list[Any] = []

    def find(self, name: str, pixels: Pixels) -> View | str:
        """A view of the pattern in uint8 [h, w, 3] BGR, or why there is none."""
        import cv2

        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        found = self._charuco(grey) if self.pattern.kind == "charuco" else self._chessboard(grey)
        if isinstance(found, str):
            return found
        mm, px = found
        matrix, _ = cv2.findHomography(mm, px)
        if matrix is None or np.linalg.svd(mm - mm.mean(axis=0))[1][1] < self.pattern.square_mm:
            return "the corners found lie on one line"
        slope, lean = _lean(np.asarray(matrix, np.float64), mm.mean(axis=0))
        square_px = self.pattern.square_mm * float(np.sqrt(abs(np.linalg.det(slope))))
        if np.abs(project(matrix, mm.astype(np.float64)) - px).max() > MISPLACED * square_px:
            return (
                f"corners lie otherwise than on a board of {self.pattern.squares[0]}x{self.pattern.squares[1]} squares"
            )
        edge_px = _edge_px(grey, px)
        if edge_px > max(BLUR_PX, BLUR_SHARE * square_px):
            return f"blurred: edges are {edge_px:.0f} px wide; hold it still, focus, or shorten the exposure"
        return View(name, mm, px, lean)

    def _chessboard(self, grey: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | str:
        import cv2

        columns, rows = self.pattern.squares
        flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY
        seen, corners = cv2.findChessboardCornersSB(grey, (columns - 1, rows - 1), flags=flags)
        if not seen:
            return f"no chessboard of {columns}x{rows} squares (not inner corners) is seen as a whole"
        return self.pattern.corners_mm, corners.reshape(-1, 2).astype(np.float32)

    def _charuco(self, grey: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | str:
        best, most, markers = None, 0, 0
        if not self._detectors:
            words, markers = _dictionary(grey, self.pattern)
            if markers < FEWEST_MARKERS:
                return f"{markers} markers are seen, {FEWEST_MARKERS} are needed"
            self._detectors = list(_charuco_detectors(self.pattern, words))
        for detector in self._detectors:
            corners, ids, _, marker_ids = detector.detectBoard(grey)
            markers = max(markers, 0 if marker_ids is None else len(marker_ids))
            if ids is not None and len(ids) > most:
                best, most = (detector, corners, ids), len(ids)
        if best is None or most < FEWEST_CORNERS:
            return f"{markers} markers and {most} corners are seen, {FEWEST_CORNERS} corners are needed"
        detector, corners, ids = best
        self._detectors = [detector]
        return self.pattern.corners_mm[ids.ravel()], corners.reshape(-1, 2).astype(np.float32)


def likely_size(pattern: Pattern, pictures: list[Pixels]) -> tuple[int, int] | None:
    """Columns and rows of squares with which the pattern would have been found in one of these, or None."""
    columns, rows = pattern.squares
    sizes = [(columns + 1, rows + 1), (rows, columns), (rows + 1, columns + 1)]
    sizes += [(columns + 1, rows), (columns, rows + 1), (columns - 1, rows), (columns, rows - 1)]
    for size in sizes:
        if min(size) < 3 or size == pattern.squares:
            continue
        finder = Finder(Pattern(pattern.kind, size, pattern.square_mm, pattern.marker_mm))
        for pixels in pictures:
            view = finder.find("", pixels)
            # of a board that is larger than the guess a part would fit as well: it must be seen as a whole
            if isinstance(view, View) and len(view.px) >= 0.9 * len(finder.pattern.corners_mm):
                return size
    return None


def _dictionary(grey: NDArray[Any], pattern: Pattern) -> tuple[Any, int]:
    """Of the usual dictionaries the one with the most markers in a picture, and how many those are.

    Of each only the first words, which are those of such a board: comparing with all of them would take most of the
    time.
    """
    import cv2

    best, most = None, -1
    for name in DICTIONARIES:
        whole = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
        first = whole.bytesList[: pattern.squares[0] * pattern.squares[1] // 2 + 1]
        words = cv2.aruco.Dictionary(first, whole.markerSize, whole.maxCorrectionBits)
        _, ids, _ = cv2.aruco.ArucoDetector(words).detectMarkers(grey)
        count = 0 if ids is None else len(ids)
        if count > most:
            best, most = words, count
    return best, most


def _charuco_detectors(pattern: Pattern, words: Any) -> Iterator[Any]:
    """For boards as they are, and as OpenCV drew them before 4.6: with an even number of rows they differ."""
    import cv2

    for legacy in (False, True) if pattern.squares[1] % 2 == 0 else (False,):
        board = cv2.aruco.CharucoBoard(pattern.squares, pattern.square_mm, pattern.marker_mm, words)
        board.setLegacyPattern(legacy)
        yield cv2.aruco.CharucoDetector(board)


def _lean(matrix: NDArray[np.float64], at: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The slope of a homography at a point [2, 2], and the pattern's lean there.

    Foreshortening tells the angle (the ratio of the slope's singular values is its cosine), whatever the lens; which
    side is nearer is told by where the picture of a square grows.
    """
    there = matrix @ (*at, 1.0)
    slope = (matrix[:2, :2] - np.outer(there[:2] / there[2], matrix[2, :2])) / there[2]
    turned, (long, short), _ = np.linalg.svd(slope)
    axis = turned[:, 1]
    growth = np.linalg.inv(slope).T @ (-matrix[2, :2] / there[2])
    size = float(np.sqrt(max(0.0, 1 - (short / long) ** 2))) * (1.0 if growth @ axis >= 0 else -1.0)
    return slope, (size * float(axis[0]), size * float(axis[1]))


def _edge_px(grey: NDArray[Any], px: NDArray[np.float32]) -> float:
    """How wide the edges within the pattern are: its contrast by its steepest slope, in the worse direction."""
    import cv2

    left, top = np.maximum(px.min(axis=0), 0).astype(int)
    right, bottom = np.ceil(px.max(axis=0)).astype(int) + 1
    inside = grey[top:bottom, left:right]
    contrast = float(np.percentile(inside, 95) - np.percentile(inside, 5))
    steep = [float(np.percentile(np.abs(cv2.Sobel(inside, cv2.CV_32F, *way)), 99)) / 8 for way in ((1, 0), (0, 1))]
    return contrast / max(1e-6, min(steep))

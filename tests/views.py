"""Rendered views of calibration patterns: a camera whose lens and poses are known to the last digit."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TEXTURE = 16  # pixels per mm of the printed pattern
MARGIN_MM = 12.0


@dataclass(frozen=True)
class Truth:
    """A camera. focal_px, centre_px; distortion: k1, k2, p1, p2, k3."""

    size: tuple[int, int] = (600, 800)
    focal_px: tuple[float, float] = (900.0, 905.0)
    centre_px: tuple[float, float] = (410.0, 290.0)
    distortion: tuple[float, ...] = (-0.18, 0.06, 0.001, -0.0008, 0.0)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def ideal(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Pixels [n, 2] to the plane at distance 1, by OpenCV's fixed-point formula, repeated until it stands."""
        k1, k2, p1, p2, k3 = self.distortion
        x0, y0 = ((np.asarray(points, float) - self.centre_px) / self.focal_px).T
        x, y = x0, y0
        for _ in range(25):
            r2 = x * x + y * y
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            x, y = (
                (x0 - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial,
                (y0 - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / radial,
            )
        return np.stack([x, y], axis=1)

    def show(self, mm: NDArray[Any], turn: NDArray[Any], shift: NDArray[Any]) -> NDArray[np.float64]:
        """Points on the pattern [n, 2] as the camera sees them [n, 2]."""
        flat = np.pad(np.asarray(mm, float), ((0, 0), (0, 1)))
        return cv2.projectPoints(flat, turn, shift, self.matrix, np.array(self.distortion))[0].reshape(-1, 2)

    def render(self, texture: NDArray[Any], turn: NDArray[Any], shift: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture of a texture that begins MARGIN_MM outside the pattern's corner, on a grey table."""
        height, width = self.size
        axes = cv2.Rodrigues(turn)[0]
        axes[:, 2] = shift
        there = _rays(self) @ np.linalg.inv(axes).T.astype(np.float32)
        at = (there[:, :2] / there[:, 2:] + MARGIN_MM) * TEXTURE - 0.5
        at = at.reshape(2 * height, 2 * width, 2)
        large = cv2.remap(texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=130)
        return cv2.cvtColor(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)

    def pose(self, middle_mm: tuple[float, float], tilt: tuple[float, float, float], at: tuple[float, float, float]
             ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
        """Turned by three angles in degrees around its middle, which then lies at `at` in mm before the camera."""
        turn = np.radians(np.array(tilt))
        turns = [cv2.Rodrigues(np.eye(3)[n] * turn[n])[0] for n in range(3)]
        axes = turns[0] @ turns[1] @ turns[2]
        return cv2.Rodrigues(axes)[0].ravel(), np.array(at) - axes @ (*middle_mm, 0.0)


@functools.cache
def _rays(truth: Truth) -> NDArray[np.float32]:
    """What each quarter of a pixel looks at."""
    height, width = truth.size
    twice = np.stack(np.meshgrid(np.arange(2 * width), np.arange(2 * height)), axis=-1).reshape(-1, 2)
    return np.pad(truth.ideal((twice - 0.5) / 2), ((0, 0), (0, 1)), constant_values=1.0).astype(np.float32)


def chessboard(columns: int, rows: int, square_mm: float) -> NDArray[np.uint8]:
    """The printed pattern with its white margin, TEXTURE pixels per mm."""
    side = round(square_mm * TEXTURE)
    squares = np.indices((rows, columns)).sum(axis=0) % 2 * 255
    return _framed(np.kron(squares, np.ones((side, side))).astype(np.uint8))


def charuco(columns: int, rows: int, square_mm: float, *, marker_mm: float, legacy: bool = False) -> NDArray[np.uint8]:
    """A charuco board of the dictionary 5x5."""
    words = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    board = cv2.aruco.CharucoBoard((columns, rows), square_mm, marker_mm, words)
    board.setLegacyPattern(legacy)
    side = round(square_mm * TEXTURE)
    return _framed(board.generateImage((columns * side, rows * side)))


def _framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With its margin, and as soft as printed edges are to a camera."""
    framed = np.pad(picture, round(MARGIN_MM * TEXTURE), constant_values=255)
    return np.asarray(cv2.GaussianBlur(framed, (0, 0), 2.0), np.uint8)


# tilts in degrees and places in mm before the camera of Truth(), for a pattern of 120 x 90 mm
POSES = (
    ((0, 0, 0), (0, 0, 190)), ((28, 0, 3), (-38, -28, 210)), ((-28, 0, 8), (38, -25, 210)),
    ((0, 30, -5), (-36, 28, 205)), ((0, -30, 12), (40, 28, 205)), ((22, 22, 90), (0, 0, 230)),
    ((-22, 20, -20), (20, 5, 190)),
    ((20, -24, 170), (-20, 5, 190)), ((-18, -24, 30), (-5, -20, 200)), ((35, 5, -30), (5, 15, 215)),
    ((5, 36, 15), (-30, 0, 215)), ((-30, -20, 60), (25, -10, 220)),
)  # fmt: skip
FLAT = ((7.0, -5.0, 4.0), (-3.0, 2.0, 240.0))

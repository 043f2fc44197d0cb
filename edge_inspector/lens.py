"""Lens: from pixels to millimetres on the plane where the parts lie. Owns the keys of a camera file; NumPy only.

The formulas are those of OpenCV's pinhole model with five coefficients (k1, k2, p1, p2, k3): its `undistortPoints`
with P = matrix, followed by `perspectiveTransform` with plane, gives the same millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .tables import read_table, read_toml

Points = NDArray[np.float64]  # [n, 2], x and y
Row = tuple[float, float, float]
STEPS = 20  # of Newton's method; for a lens that can be inverted, four are enough
EXACT = 1e-9  # it ends with a residual of so many focal lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """A calibrated view of width x height pixels. matrix and distortion undo the lens, plane turns pixels into mm.

    The keys after `plane` are for people. Raises ValueError where a pixel of the frame has no place on the plane:
    a size there would be no number, and what is no number is above no limit.
    """

    width: int
    height: int
    matrix: tuple[Row, Row, Row]
    distortion: tuple[float, float, float, float, float]
    plane: tuple[Row, Row, Row]
    px_per_mm: float = 0.0
    px_per_mm_lowest: float = 0.0
    px_per_mm_highest: float = 0.0
    rms_px: float = 0.0
    plane_rms_px: float = 0.0
    pattern: str = ""
    made: str = ""
    views: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"width: found {self.width} x {self.height}, expected the size of the frames")
        for name in ("matrix", "distortion", "plane"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name}: found a value that is no number")
        if self.matrix[0][0] <= 0 or self.matrix[1][1] <= 0:
            raise ValueError("matrix: found a focal length of 0 or less, expected more")
        grid = self.grid()
        ideal = self.undistort(grid)
        xx, xy, yy = self._slope(self._normal(ideal))
        if (
            not np.allclose(self.distort(ideal), grid, rtol=0, atol=0.01)
            or (xx * yy <= xy * xy).any()
            or (xx <= 0).any()
        ):
            raise ValueError("distortion: found a lens that folds over within the frame; calibrate again, with points "
                             "in every corner")  # fmt: skip
        depth = ideal @ self.plane[2][:2] + self.plane[2][2]
        if np.linalg.det(self.plane) == 0 or depth.min() * depth.max() <= 0:
            raise ValueError("plane: found one whose horizon lies within the frame; calibrate again")

    def grid(self, steps: int = 24) -> Points:
        """Points all over the frame, row by row, its border among them."""
        x, y = np.meshgrid(np.linspace(0, self.width, steps + 1), np.linspace(0, self.height, steps + 1))
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def undistort(self, points: Points) -> Points:
        """Where a lens without distortion would show what is seen at `points`."""
        wanted = self._normal(points)
        at = wanted.copy()
        for _ in range(STEPS):
            error = self._bend(at) - wanted
            if not error.size or np.abs(error).max() < EXACT:
                break
            xx, xy, yy = self._slope(at)
            turn = xx * yy - xy * xy
            turn[np.abs(turn) < 1e-6] = 1e-6  # folded over: it will not end well, and __post_init__ says so
            step = np.stack([yy * error[:, 0] - xy * error[:, 1], xx * error[:, 1] - xy * error[:, 0]], axis=1)
            at -= np.clip(step / turn[:, None], -0.5, 0.5)
        return self._pixels(at)

    def distort(self, points: Points) -> Points:
        """The inverse of `undistort`."""
        return self._pixels(self._bend(self._normal(points)))

    def to_mm(self, points: Points) -> Points:
        """Frame pixels to mm on the plane."""
        return project(self.plane, self.undistort(points))

    def from_mm(self, points: Points) -> Points:
        """Mm on the plane to frame pixels."""
        return self.distort(project(np.linalg.inv(self.plane), points))

    def sizes_mm(self, xyxy: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of boxes [n, 4] in frame pixels: the longer side in mm [n], between the middles of opposite sides, and the
        area in mm2 [n] of the four-sided figure that the corners make on the plane.
        """
        x1, y1, x2, y2 = xyxy.astype(np.float64).T
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        ring = [(x1, y1), (x, y1), (x2, y1), (x2, y), (x2, y2), (x, y2), (x1, y2), (x1, y)]
        at = self.to_mm(np.stack([np.stack(point, axis=1) for point in ring], axis=1).reshape(-1, 2)).reshape(-1, 8, 2)
        across = np.linalg.norm(at[:, 3] - at[:, 7], axis=1)
        down = np.linalg.norm(at[:, 5] - at[:, 1], axis=1)
        one, two = at[:, 4] - at[:, 0], at[:, 6] - at[:, 2]  # the diagonals
        return np.maximum(across, down), np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2

    def scale_at(self, points: Points) -> NDArray[np.float64]:
        """Pixels per mm around each of `points` [n]: the square root of how much larger an area is in the frame."""
        step = np.concatenate([points - 0.5, points + 0.5], axis=1)
        return np.asarray(1.0 / np.sqrt(self.sizes_mm(step)[1]))

    def _normal(self, points: Points) -> Points:
        """Pixels to the plane at distance 1 before the camera."""
        (fx, _, cx), (_, fy, cy), _ = self.matrix  # OpenCV knows no skew
        return (points - (cx, cy)) / (fx, fy)

    def _pixels(self, at: Points) -> Points:
        (fx, _, cx), (_, fy, cy), _ = self.matrix
        return at * (fx, fy) + (cx, cy)

    def _bend(self, at: Points) -> Points:
        """What the lens does to it."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = at.T
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                         y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], axis=1)  # fmt: skip

    def _slope(self, at: Points) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The derivatives of `_bend`, dx/dx, dx/dy = dy/dx, dy/dy."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = at.T
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        growth = 2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
        xx = radial + x * x * growth + 2 * p1 * y + 6 * p2 * x
        yy = radial + y * y * growth + 6 * p1 * y + 2 * p2 * x
        return xx, x * y * growth + 2 * p1 * x + 2 * p2 * y, yy


def project(homography: object, points: Points) -> Points:
    """Points [n, 2] through a 3 x 3 homography."""
    there = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ np.asarray(homography, np.float64).T
    return np.asarray(there[:, :2] / there[:, 2:])


def parse_lens(path: Path, raw: bytes) -> Lens:
    """The lens of a camera file's bytes; `path` is for the messages. Raises ConfigError."""
    lens: Lens = read_table(path, read_toml(path, raw), Lens, "")
    return lens

"""Zone: a polygon on the frame in which a recipe counts or ignores defects. Owns the geometry of boxes and polygons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A polygon in frame pixels. Where there are include zones, a defect counts if any part of its box lies in one.

    An exclude zone takes a detection out only if its whole box lies inside: a defect on the border counts. Without
    `classes` a zone is for all of them.
    """

    name: str
    polygon: tuple[Point, ...]
    mode: str = "include"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in ("include", "exclude"):
            raise ValueError(f'mode: found "{self.mode}", expected "include" or "exclude"')
        if len(self.polygon) < 3:
            raise ValueError(f"polygon: found {len(self.polygon)} points, expected three or more")
        if not all(math.isfinite(value) for point in self.polygon for value in point):
            raise ValueError("polygon: found a point that is no number, expected pixels")
        if area(self.polygon) == 0.0:
            raise ValueError("polygon: found points on one line, expected an area")
        sides = list(zip(self.polygon, (*self.polygon[1:], self.polygon[0]), strict=True))
        if any(_cross(*a, *b) for a, b in itertools.combinations(sides, 2)):
            raise ValueError("polygon: found sides that cross, expected an outline that can be walked around")

    def touches(self, box: Box) -> bool:
        """Whether any part of the box lies in the polygon."""
        box = _with_area(box)
        return area(clip(self.polygon, box)) > 0.0

    def contains(self, box: Box) -> bool:
        """Whether all of the box lies in the polygon."""
        box = _with_area(box)
        whole = (box[2] - box[0]) * (box[3] - box[1])
        return area(clip(self.polygon, box)) > whole * (1.0 - 1e-6)


def area(polygon: Sequence[Point]) -> float:
    """The area of a polygon, by the shoelace formula."""
    if not polygon:
        return 0.0
    following = (*polygon[1:], polygon[0])
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, following, strict=True))) / 2.0


def clip(polygon: Sequence[Point], box: Box) -> list[Point]:
    """What of a polygon lies in a box (Sutherland and Hodgman, 1974).

    Of a concave polygon the pieces stay joined along the box's border by edges without area.
    """
    points = list(polygon)
    for axis, limit, sign in ((0, box[0], 1.0), (1, box[1], 1.0), (0, box[2], -1.0), (1, box[3], -1.0)):
        kept: list[Point] = []
        for before, point in zip((points[-1:] + points)[: len(points)], points, strict=True):
            inside, was_inside = sign * (point[axis] - limit) >= 0, sign * (before[axis] - limit) >= 0
            if inside != was_inside:
                share = (limit - before[axis]) / (point[axis] - before[axis])
                kept.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
            if inside:
                kept.append(point)
        points = kept
        if not points:
            break
    return points


def _with_area(box: Box) -> Box:
    """A box clipped at the frame's border may be a line; then it is what lies a hair around it."""
    hair = 1e-3
    return (
        box if box[2] - box[0] > hair and box[3] - box[1] > hair
        else (box[0] - hair, box[1] - hair, box[2] + hair, box[3] + hair)
    )  # fmt: skip


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments ab and cd properly cross, by the signs of four triangle areas."""

    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0

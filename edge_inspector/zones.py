"""Zone: a polygon on the frame in which a recipe counts or ignores defects. Owns the geometry of boxes and polygons."""

from __future__ import annotations

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

    def touches(self, box: Box) -> bool:
        """Whether any part of the box lies in the polygon."""
        x1, y1, x2, y2 = box
        corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
        return (
            any(_inside(corner, self.polygon) for corner in corners)
            or any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in self.polygon)
            or self._crosses(corners)
        )

    def contains(self, box: Box) -> bool:
        """Whether all of the box lies in the polygon."""
        x1, y1, x2, y2 = box
        corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
        return (
            all(_inside(corner, self.polygon) for corner in corners)
            and not any(x1 < x < x2 and y1 < y < y2 for x, y in self.polygon)
            and not self._crosses(corners)
        )

    def _crosses(self, corners: Sequence[Point]) -> bool:
        edges = list(zip(self.polygon, (*self.polygon[1:], self.polygon[0]), strict=True))
        sides = list(zip(corners, (*corners[1:], corners[0]), strict=True))
        return any(_cross(a, b, c, d) for a, b in edges for c, d in sides)


def _inside(point: Point, polygon: Sequence[Point]) -> bool:
    """Even-odd rule: a ray to the right crosses the border an odd number of times."""
    x, y = point
    inside = False
    x0, y0 = polygon[-1]
    for x1, y1 in polygon:
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            inside = not inside
        x0, y0 = x1, y1
    return inside


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments ab and cd properly cross, by the signs of four triangle areas."""

    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0

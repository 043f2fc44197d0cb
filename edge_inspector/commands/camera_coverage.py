"""Which parts of the picture and which tilts the views of a pattern cover, and what is still missing. Pure."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .camera_pattern import View

FEWEST_VIEWS = 5  # three would do in theory; with five an outlier can still be told
GOOD_VIEWS = 10
CELL_POINTS = 4  # so many corners, and a ninth of the picture counts as covered
TILT_DEG = 15.0  # from here on a view counts as tilted
PARALLEL_DEG = 8.0  # views that differ by less tell nothing of the focal length
SAME_SHARE = 0.02  # of the picture's diagonal: corners that moved by less on average are the same view again
PLACES = ("upper left", "upper middle", "upper right", "left", "middle", "right", "lower left", "lower middle",
          "lower right")  # fmt: skip
SIDES = {"left": (-1, 0), "right": (1, 0), "upper": (0, -1), "lower": (0, 1)}


@dataclass(slots=True)
class Coverage:
    """What has been seen in frames of `size` (height, width), and which pictures were of no use, and why."""

    size: tuple[int, int]
    views: list[View] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, view: View) -> str:
        """Keep a view; returns "", or the reason why it is of no use."""
        for former in self.views:
            if _moved_px(former, view) < SAME_SHARE * math.hypot(*self.size):
                return f"nearly the same as {former.name}"
        self.views.append(view)
        return ""

    @property
    def cells(self) -> NDArray[np.int64]:
        """Corners seen in each ninth of the picture, int64 [3, 3]."""
        points = np.concatenate([np.zeros((0, 2), np.float32), *(view.px for view in self.views)])
        height, width = self.size
        counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=3, range=((0, height), (0, width)))
        return np.asarray(counts, np.int64)

    @property
    def missing_places(self) -> list[str]:
        """The ninths that hold too few corners."""
        return [place for place, count in zip(PLACES, self.cells.ravel(), strict=True) if count < CELL_POINTS]

    @property
    def missing_sides(self) -> list[str]:
        """The sides that no view has tilted towards the camera."""
        least = math.sin(math.radians(TILT_DEG))
        return [side for side, (x, y) in SIDES.items()
                if not any(view.lean[0] * x + view.lean[1] * y >= least for view in self.views)]  # fmt: skip

    @property
    def enough(self) -> bool:
        """Whether another view would add little."""
        return len(self.views) >= GOOD_VIEWS and not self.missing_places and not self.missing_sides

    @property
    def largest_turn_deg(self) -> float:
        """The largest angle between any two views' planes."""
        normals = [np.array([*v.lean, math.sqrt(max(0.0, 1 - v.lean[0] ** 2 - v.lean[1] ** 2))]) for v in self.views]
        turns = (math.degrees(math.acos(min(1.0, float(a @ b)))) for a, b in itertools.combinations(normals, 2))
        return max(turns, default=0.0)

    def hint(self) -> str:
        """What is still missing, in one line."""
        wishes = [f"points {', '.join(self.missing_places)}"] if self.missing_places else []
        if self.missing_sides:
            wishes.append(f"tilts with the {' / '.join(self.missing_sides)} side {TILT_DEG:g} degrees nearer")
        if len(self.views) < GOOD_VIEWS:
            wishes.append(f"{GOOD_VIEWS - len(self.views)} more")
        return "; ".join(wishes) or "enough"


def _moved_px(one: View, other: View) -> float:
    """How far the corners that both have lie apart, on average; infinite where they have none in common."""
    places = {tuple(mm): px for mm, px in zip(one.mm.tolist(), one.px, strict=True)}
    pairs = [(places[tuple(mm)], px) for mm, px in zip(other.mm.tolist(), other.px, strict=True) if tuple(mm) in places]
    return float(np.mean([np.linalg.norm(a - b) for a, b in pairs])) if pairs else math.inf

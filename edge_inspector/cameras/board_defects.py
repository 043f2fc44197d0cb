"""How a defect is drawn into a board, and proved: an open must part copper, a short must join it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Pixels

LABELS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")

_COPPER, _BARE = 0, 255
_STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))  # eight directions, 45 degrees apart
_REACH_PX = 72  # how far a ray looks for the other colour
_STEP_PX = np.array((1.0, 2**0.5) * 4)
_UNITS = np.array(_STEPS) / _STEP_PX[:, None]
_Vector = NDArray[np.float64]
_Box = tuple[int, int, int, int]
_Way = Callable[[str, int, _Vector, _Vector], bool]


@dataclass(frozen=True, slots=True)
class Planted:
    """A defect that was drawn. box_px: x1, y1, x2, y2 with the few pixels of margin an annotator leaves."""

    label: str
    box_px: tuple[int, int, int, int]


class Brush:
    """Draws defects into one board by hand, so to speak, and proves each before it stays.

    Every class has a twin of the other colour: an open cuts copper as a short cuts substrate, a mousebite bites
    copper as a spur bites substrate, a pin-hole dots copper as a spot of copper dots substrate.
    """

    def __init__(self, cv: Any, rng: np.random.Generator, grey: Pixels) -> None:
        self._cv, self._rng, self._grey = cv, rng, grey
        self._planted: list[Planted] = []
        reach = np.arange(1, _REACH_PX + 1)
        self._rays = np.array(_STEPS)[:, None, :] * reach[:, None]

    def plant(self, count: int) -> tuple[Planted, ...]:
        """Plant `count` defects of random classes, or fewer where the board has no more places for them."""
        ways: dict[str, tuple[_Way, int]] = {
            "open": (self._cut, _COPPER),
            "short": (self._cut, _BARE),
            "mousebite": (self._bite, _COPPER),
            "spur": (self._bite, _BARE),
            "pin-hole": (self._dot, _COPPER),
            "copper": (self._dot, _BARE),
        }
        for _ in range(count):
            for k in self._rng.permutation(len(LABELS)):
                way, colour = ways[LABELS[k]]
                if self._place(LABELS[k], way, colour):
                    break
        return tuple(self._planted)

    def _place(self, label: str, way: _Way, colour: int) -> bool:
        """Look at some random pixels of the colour, and how far it reaches from each, until one takes the defect."""
        edge = self._grey.shape[0] - 1
        points = self._rng.integers(3, edge - 3, (64, 2))
        points = points[self._grey[points[:, 1], points[:, 0]] == colour][:24]
        seen = np.clip(points[:, None, None, :] + self._rays, 0, edge)
        other = self._grey[seen[..., 1], seen[..., 0]] != colour
        reach = np.where(other.any(axis=2), other.argmax(axis=2), _REACH_PX) * _STEP_PX
        return any(way(label, colour, p.astype(np.float64), r) for p, r in zip(points, reach, strict=True))

    def _cut(self, label: str, colour: int, p: _Vector, reach: _Vector) -> bool:
        """Cut a strip of `colour` across: what was two regions beside it in this window is one afterwards."""
        k = int(np.argmin(reach[:4] + reach[4:]))
        span, along = float(reach[k] + reach[k + 4]), float(min(reach[k + 2], reach[(k + 6) % 8]))
        if (
            not 3 < span < min(110, 10 + self._rng.exponential(32))
            or max(reach[k], reach[k + 4]) >= _REACH_PX
            or along < 9 + 0.15 * span
        ):
            return False
        rng, across, side = self._rng, _UNITS[k], _UNITS[k + 2]
        lean = side * rng.normal(0, 0.15 * span)
        start, end = (
            p + across * (reach[k] + rng.uniform(2, 5)) + lean,
            p - across * (reach[k + 4] + rng.uniform(2, 5)) - lean,
        )
        width = int(rng.integers(4, 11)) if rng.random() < 0.8 else int(min(span, float(rng.integers(8, 20))))
        box, own, mask = self._stroke(colour, self._wobble(start, end), width, pad_px=width + 26)
        mask = self._texture(mask)
        after = self._cv.subtract(own, mask)
        before_of, after_of = self._parts(255 - own, 8), self._parts(255 - after, 4)
        beside = [_at(before_of, box, q) for q in (start + across * 2, end - across * 2)]
        joined = [_at(after_of, box, q) for q in (start + across * 2, end - across * 2)]
        if 0 in beside or beside[0] == beside[1] or 0 in joined or joined[0] != joined[1]:
            return False
        rim = np.concatenate((before_of[0], before_of[-1], before_of[:, 0], before_of[:, -1]))
        if colour == _COPPER and not np.isin(beside, rim).all():
            return False  # from a drill hole to the outside: the ring around the hole still conducts
        return self._keep(label, colour, box, own, mask)

    def _bite(self, label: str, colour: int, p: _Vector, reach: _Vector) -> bool:
        """Take a bite out of an edge of `colour`: no region is parted, none is joined."""
        k = int(np.argmin(reach))
        span = float(reach[k] + reach[(k + 4) % 8])
        if reach[k] > 20 or span < 6:
            return False
        rng, out = self._rng, _UNITS[k]
        width = int(min(float(rng.integers(5, 12)), max(3.0, 0.5 * span)))
        depth = min(rng.uniform(2, 15), max(1.0, 0.68 * span - width / 2))
        edge, turn = p + out * reach[k], rng.uniform(-0.9, 0.9)
        inward = -np.array(
            (out[0] * np.cos(turn) - out[1] * np.sin(turn), out[0] * np.sin(turn) + out[1] * np.cos(turn))
        )
        box, own, mask = self._stroke(colour, self._wobble(edge + out, edge + inward * depth), width, pad_px=12)
        calm = self._cv.medianBlur(own, 3)  # loose pixels of a ragged edge are no regions
        after = self._cv.subtract(calm, mask)
        for before, then in ((calm, after), (255 - calm, 255 - after)):
            if self._parts(before, 8).max() != self._parts(then, 8).max():
                return False
        return self._keep(label, colour, box, own, self._texture(mask))

    def _dot(self, label: str, colour: int, p: _Vector, reach: _Vector) -> bool:
        """Put a spot into the middle of `colour`, touching nothing."""
        if reach.min() < 6:
            return False
        width = int(min(float(self._rng.integers(5, 12)), 2 * float(reach.min()) - 7))
        path = self._curl(p, self._rng.uniform(0, 2 * np.pi))
        box, own, mask = self._stroke(colour, path, width, pad_px=12)
        if self._cv.countNonZero(self._cv.subtract(self._cv.dilate(mask, np.ones((5, 5), np.uint8)), own)):
            return False
        return self._keep(label, colour, box, own, self._texture(mask))

    def _curl(self, p: _Vector, heading: float) -> _Vector:
        """A short hand-drawn way around p: dot, dash, hook or zigzag, float [n, 2]."""
        turns = heading + np.cumsum(self._rng.normal(0, 1.0, int(self._rng.integers(1, 5))))
        steps = np.stack((np.cos(turns), np.sin(turns)), axis=1) * self._rng.uniform(2, 8, (len(turns), 1))
        path = np.vstack((np.zeros((1, 2)), np.cumsum(steps, axis=0)))
        return np.asarray(path - path.mean(axis=0) + p)

    def _wobble(self, start: _Vector, end: _Vector) -> _Vector:
        """A hand-drawn way from start to end, float [n, 2]."""
        length = float(np.hypot(*(end - start)))
        n = 2 + int(length / self._rng.uniform(5, 14))
        path = start + (end - start) * np.linspace(0, 1, n)[:, None]
        path[1:-1] += self._rng.normal(0, self._rng.choice((0.2, 0.8, 1.2)) + 0.025 * length, (n - 2, 2))
        return np.asarray(path)

    def _stroke(self, colour: int, path: _Vector, width: int, *, pad_px: int) -> tuple[_Box, Pixels, Pixels]:
        """The window around a path, 255 where it has `colour`, and 255 where a brush of uneven width goes over it."""
        edge, rng = self._grey.shape[0], self._rng
        x1, y1 = (max(0, int(v) - width // 2 - pad_px) for v in path.min(axis=0))
        x2, y2 = (min(edge, int(v) + width // 2 + pad_px + 1) for v in path.max(axis=0))
        own = self._cv.compare(self._grey[y1:y2, x1:x2], colour, self._cv.CMP_EQ)
        mask = np.zeros_like(own)
        points = np.rint(path - (x1, y1)).astype(np.int32)
        for a, b in itertools.pairwise(points):
            wide = max(2, round(width * rng.uniform(0.7, 1.15)))
            self._cv.line(mask, a.tolist(), b.tolist(), 255, wide)
        return (x1, y1, x2, y2), own, mask

    def _texture(self, mask: Pixels) -> Pixels:
        """Most strokes are solid; some are a dry brush, some an outline or scribble with gaps."""
        cv, rng, kind = self._cv, self._rng, self._rng.random()
        if kind < 0.72:
            return mask
        grain = rng.integers(0, 256, mask.shape, dtype=np.uint8)
        if kind < 0.82:
            holes = cv.compare(grain, 190, cv.CMP_GT)
        elif kind < 0.91:
            holes = cv.compare(cv.blur(grain, (3, 3)), 145, cv.CMP_GT)
        else:
            core = cv.erode(mask, np.ones((3, 3), np.uint8))
            holes = cv.bitwise_and(core, cv.compare(cv.blur(grain, (3, 3)), 118, cv.CMP_GT))
        return np.asarray(cv.subtract(mask, holes), np.uint8)

    def _parts(self, region: Pixels, connectivity: int) -> NDArray[np.int32]:
        return np.asarray(self._cv.connectedComponents(region, connectivity=connectivity)[1], np.int32)

    def _keep(self, label: str, colour: int, window: _Box, own: Pixels, mask: Pixels) -> bool:
        """Draw it, unless it would change too little or come into another defect's box."""
        changed = self._cv.bitwise_and(own, mask)
        if self._cv.countNonZero(changed) < 18:
            return False
        x, y, w, h = self._cv.boundingRect(changed)
        left, top, right, bottom = (int(v) for v in self._rng.integers(7, 13, 4))
        x1, y1, edge = window[0] + x, window[1] + y, self._grey.shape[0]
        box = (max(0, x1 - left), max(0, y1 - top), min(edge, x1 + w + right), min(edge, y1 + h + bottom))
        for other in self._planted:
            if (
                box[0] < other.box_px[2]
                and other.box_px[0] < box[2]
                and box[1] < other.box_px[3]
                and other.box_px[1] < box[3]
            ):
                return False
        view = self._grey[window[1] : window[3], window[0] : window[2]]
        view[changed > 0] = _BARE - colour
        self._planted.append(Planted(label, box))
        return True


def _at(labels: NDArray[np.int32], window: _Box, point: _Vector) -> int:
    """The label at a point of the board, 0 outside of the window."""
    x, y = round(float(point[0])) - window[0], round(float(point[1])) - window[1]
    inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
    return int(labels[y, x]) if inside else 0

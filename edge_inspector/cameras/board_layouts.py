"""How a flawless board looks: traces, pads, planes, vias and text in several styles, drawn large and once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Pixels

_STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))  # eight directions, 45 degrees apart
Points = NDArray[np.int32]
_Vector = NDArray[np.float64]


class Layout:
    """One large circuit: pads, planes, bundles of traces and single traces that keep clear of each other."""

    def __init__(self, cv: Any, rng: np.random.Generator, side: int, *, full: float) -> None:
        self._cv, self._rng, self._side, self._full = cv, rng, side, full
        self._ink: Pixels = np.zeros((side, side), np.uint8)  # 255 where there is copper
        self._try: Pixels = np.zeros((side, side), np.uint8)
        self._drills: list[tuple[Points, int]] = []

    def finish(self, index: int, side: int) -> Pixels:
        """Draw style number `index`, scaled to `side`, and return soft edges: 0 copper to 160 substrate."""
        cv, rng = self._cv, self._rng
        styles = [self._signal, self._mixed, self._power, self._bars, self._slots]
        styles += [self._signal, self._mixed, self._nests, self._plates, self._power]
        styles[index % len(styles)]()
        for centre, radius in self._drills:
            self._drill(centre, radius)
        bare = cv.resize(255 - self._ink, (side, side), interpolation=cv.INTER_LINEAR)
        if rng.random() < 0.6:  # a scan is never quite straight
            wave = cv.resize(rng.normal(0, rng.uniform(0.2, 1.2), (side // 24, side // 24, 2)), (side, side))
            wave[..., 0] += np.arange(side)
            wave[..., 1] += np.arange(side)[:, None]
            bare = cv.remap(bare, wave.astype(np.float32), None, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
        soft = cv.GaussianBlur(bare, (0, 0), rng.uniform(0.9, 1.5))
        soft = cv.convertScaleAbs(soft, alpha=160 / 255)
        return np.asarray(soft, np.uint8)

    # --- styles -------------------------------------------------------------------------------------------------

    def _signal(self) -> None:
        pitch = int(self._rng.integers(19, 30))
        self._pad_rows(int(self._rng.integers(1, 6)), pitch)
        self._bundles(int(self._rng.integers(2, 9)), pitch)
        self._texts(4)
        self._traces(pitch, self._between(0.3, 0.42) * pitch, int(self._rng.integers(20, 160)), drilled=0.3)
        self._vias(int(self._rng.integers(0, 8)), holes=False)

    def _mixed(self) -> None:
        self._planes(int(self._rng.integers(1, 6)), 330)
        self._pad_rows(int(self._rng.integers(1, 4)), int(self._rng.integers(30, 50)))
        self._bundles(int(self._rng.integers(2, 6)), int(self._rng.integers(20, 46)))
        pitch = int(self._rng.integers(40, 64))
        self._traces(pitch, self._between(0.3, 0.45) * pitch, int(self._rng.integers(8, 30)), drilled=0.8)
        self._traces(28, self._between(8, 12), int(self._rng.integers(10, 60)), drilled=0.5)

    def _power(self) -> None:
        pitch = int(self._rng.integers(90, 150))
        self._traces(pitch, self._between(0.25, 0.42) * pitch, int(self._rng.integers(6, 30)), drilled=0.9)
        self._planes(4, 330)
        self._traces(36, self._between(9, 14), int(self._rng.integers(5, 30)), drilled=0.5)
        self._texts(4)

    def _plates(self) -> None:
        self._planes(30, int(self._rng.integers(300, 800)))
        self._traces(60, self._between(14, 28), int(self._rng.integers(4, 20)), drilled=0.7)
        self._traces(34, self._between(8, 13), int(self._rng.integers(0, 40)), drilled=0.4)

    def _bars(self) -> None:
        """Upright bars with chamfered heads and shoulders."""
        x = 0
        while x < self._side:
            wide, gap = (int(v) for v in self._rng.integers((24, 14), (110, 70)))
            y = int(self._rng.integers(-600, 0))
            while y < self._side:
                tall = int(self._rng.integers(160, 1400))
                cut = int(self._rng.integers(0, wide // 2))
                bar = [
                    (x + cut, y),
                    (x + wide, y),
                    (x + wide, y + tall - cut),
                    (x + wide - cut, y + tall),
                    (x, y + tall),
                ]
                self._put([(np.array([*bar, (x, y + cut)], np.int32), 0)], 6)
                if self._rng.random() < 0.5:
                    step = int(self._rng.integers(40, 90))
                    drill = int(self._rng.integers(4, 9))
                    for d in range(y + step, y + tall - 20, step * int(self._rng.integers(1, 4))):
                        self._drills.append((np.array((x + wide // 2, d)), drill))
                y += tall + int(self._rng.integers(20, 120))
            x += wide + gap
        self._traces(34, self._between(8, 12), 20, drilled=0.2)

    def _slots(self) -> None:
        """Nearly all copper: clearances are what is drawn, and the copper is the rest."""
        pitch = int(self._rng.integers(44, 90))
        for _ in range(int(self._rng.integers(2, 9))):
            centre = self._rng.integers(0, self._side, 2).astype(np.int32)
            self._put([(centre[None], int(self._rng.integers(60, 300)))], 20)
        self._traces(pitch, self._between(10, 26), int(self._rng.integers(16, 50)), drilled=0.0, pads=0.3)
        self._invert()
        self._vias(int(self._rng.integers(0, 12)), holes=True)

    def _nests(self) -> None:
        """Bands and frames within frames, and meandering slots between them."""
        wide, y = int(self._between(9, 20)), 0
        while y < self._side:
            tall = int(self._rng.integers(50, 300))
            rule = int(self._rng.integers(8, 34))
            self._put([(np.array([(0, y), (self._side, y)], np.int32), rule)], 0)
            x = int(self._rng.integers(20, 160))
            while x < self._side - 120 and tall > 110:
                right = x + int(self._rng.integers(100, 500))
                for inset in range(0, min(tall // 2 - 30, 100), int(self._rng.integers(34, 60))):
                    x1, y1, x2, y2 = x + inset, y + 26 + inset, right - inset, y + tall - 26 - inset
                    if min(x2 - x1, y2 - y1) > 30:
                        self._put([(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)], np.int32), wide)], 8)
                x = right + int(self._rng.integers(40, 140))
            y += tall
        self._traces(52, self._between(7, 13), 14, drilled=0.0, pads=0.1)
        self._invert()
        self._vias(int(self._rng.integers(0, 6)), holes=True)

    # --- parts of a layout --------------------------------------------------------------------------------------

    def _between(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _invert(self) -> None:
        self._ink = 255 - self._ink

    def _put(self, pieces: list[tuple[Points, int]], clear_px: int) -> bool:
        """Draw pieces if nothing lies within `clear_px`. A piece: points and width; width 0 is a filled outline."""
        cv = self._cv
        if clear_px:
            self._try[:] = 0
            for points, width in pieces:
                _stroke(cv, self._try, points, width, 2 * clear_px)
            if cv.countNonZero(cv.bitwise_and(self._try, self._ink)):
                return False
        for points, width in pieces:
            _stroke(cv, self._ink, points, width, 0)
        return True

    def _drill(self, centre: Points, radius: int) -> None:
        """Drill a hole, but only where copper is all around it: elsewhere it would look like a mousebite."""
        self._try[:] = 0
        self._cv.circle(self._try, centre.tolist(), radius + 5, 255, -1)
        if not self._cv.countNonZero(self._cv.subtract(self._try, self._ink)):
            self._cv.circle(self._ink, centre.tolist(), radius, 0, -1, self._cv.LINE_AA)

    def _planes(self, count: int, largest_px: int) -> None:
        """Chamfered outlines, some with a slot or with holes."""
        for _ in range(int(count * 3 * self._full)):
            w, h = (int(v) for v in self._rng.integers(60, largest_px, 2))
            x, y = (int(v) for v in self._rng.integers(-80, self._side, 2))
            c = [int(v) for v in self._rng.integers(0, min(w, h) // 2, 4) * (self._rng.random(4) < 0.6)]
            outline = [(x + c[0], y), (x + w - c[1], y), (x + w, y + c[1]), (x + w, y + h - c[2])]
            outline += [(x + w - c[2], y + h), (x + c[3], y + h), (x, y + h - c[3]), (x, y + c[0])]
            if not self._put([(np.array(outline, np.int32), 0)], int(self._rng.integers(5, 24))):
                continue
            radius, step = int(self._rng.integers(6, 15)), int(self._rng.integers(50, 120))
            if self._rng.random() < 0.6:
                for i in range(x + 40, x + w - 30, step):
                    for j in range(y + 40, y + h - 30, step):
                        self._drills.append((np.array((i, j)), radius))

    def _vias(self, count: int, *, holes: bool) -> None:
        radius = int(self._rng.integers(8, 14))  # a smaller one might as well be a spot of copper
        for _ in range(count):
            start = self._rng.integers(0, self._side, 2)
            stride = self._rng.integers(40, 110, 2) * np.eye(2, dtype=int)[int(self._rng.integers(2))]
            for k in range(int(self._rng.integers(1, 6))):
                if holes:
                    self._drills.append((start + k * stride, radius))
                else:
                    self._put([((start + k * stride)[None].astype(np.int32), 2 * radius)], 6)

    def _pad_rows(self, count: int, pitch: int) -> None:
        """Footprints: two facing rows of pads, square or rounded; or a connector of drilled round pads."""
        for _ in range(int(count * self._full)):
            x, y = (int(v) for v in self._rng.integers(0, self._side - 100, 2))
            kind, n, apart = (
                int(self._rng.integers(3)),
                int(self._rng.integers(2, 14)),
                int(self._rng.integers(70, 260)),
            )
            wide, tall = max(6, int(pitch * self._between(0.4, 0.62))), int(self._between(1.0, 2.6) * pitch)
            step = pitch if kind < 2 else int(pitch * self._between(1.7, 3.0))
            for k in range(n):
                for row in (0, apart):
                    px, py = x + k * step, y + row
                    if kind == 0:
                        corners = [(px, py), (px + wide, py), (px + wide, py + tall), (px, py + tall)]
                        self._put([(np.array(corners, np.int32), 0)], 4)
                    elif kind == 1:
                        self._put([(np.array([(px, py), (px, py + tall)], np.int32), wide)], 4)
                    elif self._put([(np.array([(px, py)], np.int32), int(pitch * 1.2))], 4):
                        self._drills.append((np.array((px, py)), max(4, int(pitch * 0.28))))

    def _texts(self, count: int) -> None:
        for _ in range(count):
            text = "".join(chr(int(c)) for c in self._rng.choice([*range(48, 58), *range(65, 91)], 5))
            at = [int(v) for v in self._rng.integers(0, self._side - 100, 2)]
            scale, thick = self._between(0.8, 1.8), int(self._rng.integers(2, 5))
            around = self._ink[max(0, at[1] - 60) : at[1] + 20, max(0, at[0] - 10) : at[0] + 200]
            if not self._cv.countNonZero(around):
                self._cv.putText(self._ink, text, at, self._cv.FONT_HERSHEY_SIMPLEX, scale, 255, thick)

    def _bundles(self, count: int, pitch: int) -> None:
        """Parallel traces that bend by 45 degrees together, as far as they keep clear of what is there."""
        for _ in range(int(count * 2 * self._full)):
            n, width = int(self._rng.integers(3, 10)), max(6, int(pitch * self._between(0.3, 0.5)))
            heading = int(self._rng.integers(0, 4)) * 2
            at = self._rng.uniform(0, self._side, 2)
            spine = [at]
            for _ in range(int(self._rng.integers(2, 6))):
                at = at + np.array(_STEPS[heading]) * self._between(0.5, 3.0) * (n * pitch / 2 + 60)
                spine.append(at)
                heading = (heading + int(self._rng.choice((-1, 1)))) % 8
            path = np.array(spine)
            if self._put([(path.astype(np.int32), n * pitch)], 2):
                _stroke(self._cv, self._ink, path.astype(np.int32), n * pitch, 20, 0)
                for k in range(n):
                    line = _beside(path, (k - (n - 1) / 2) * pitch)
                    lead = int(self._between(0, 60)) * (self._rng.random() < 0.5)
                    toward = line[1] - line[0]
                    line[0] += toward / max(1.0, float(np.hypot(*toward))) * lead
                    _stroke(self._cv, self._ink, np.rint(line).astype(np.int32), width, 0)
                    if lead:
                        _stroke(self._cv, self._ink, np.rint(line[:1]).astype(np.int32), min(pitch - 5, width + 7), 0)

    def _traces(self, pitch: int, width: float, count: int, *, drilled: float, pads: float = 0.8) -> None:
        """Single traces: walks over a grid in eight directions, each node used once, with pads at their ends."""
        cv, rng, n = self._cv, self._rng, self._side // pitch + 1
        wide = max(5, min(int(width), int(pitch * 0.7) - 5))
        room = cv.dilate(self._ink, np.ones((3, 3), np.uint8), iterations=wide // 2 + 5)
        at = np.minimum(np.arange(n) * pitch + int(rng.integers(pitch)), self._side - 1)
        taken = room[np.ix_(at, at)] > 0
        small, large = 2 * int(pitch * 0.7 - wide / 2 - 5), int(min(1.5 * pitch, wide + 40))
        for _ in range(int(count * self._full)):
            walk = _walk(rng, taken, int(rng.integers(2, max(4, 1200 // pitch))))
            line = np.array([(at[i], at[j]) for i, j in walk], np.int32)
            ends = [(walk[0], line[0]), (walk[-1], line[-1])]
            reach = large // 2 + 4
            clear = [
                not self._ink[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach].any()
                for x, y in line[[0, -1]]
            ]
            if len(line) < 2 or not self._put([(line, wide)], 4):
                continue
            for (i, j), end in itertools.compress(ends, clear):
                if rng.random() >= pads:
                    continue
                around = taken[max(0, j - 1) : j + 2, max(0, i - 1) : i + 2]
                alone = int(around.sum()) <= 2
                across = large if alone else max(wide, small)
                around |= alone
                if rng.random() < 0.7:
                    _stroke(cv, self._ink, end[None], across, 0)
                    if across > 22 and rng.random() < drilled:
                        self._drills.append((end, int(rng.integers(4, max(5, across // 3)))))
                else:
                    half = across // 2
                    cv.rectangle(self._ink, (end - half).tolist(), (end + half).tolist(), 255, -1)


def _stroke(cv: Any, image: Pixels, points: Points, width: int, grow: int, value: int = 255) -> None:
    """A disc (one point), a line (width > 0) or a filled outline (width 0), larger by `grow` px in all."""
    if len(points) == 1:
        cv.circle(image, points[0].tolist(), max(1, (width + grow) // 2), value, -1)
    elif width:
        cv.polylines(image, [points], False, value, width + grow)
    else:
        cv.fillPoly(image, [points], value)
        if grow:
            cv.polylines(image, [points], True, value, grow)


def _beside(path: _Vector, offset: float) -> _Vector:
    """The polyline `offset` px to the left of another, mitred at its bends; float [n, 2]."""
    along = np.diff(path, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    normals = np.stack((-along[:, 1], along[:, 0]), axis=1)
    before, after = np.vstack((normals[:1], normals)), np.vstack((normals, normals[-1:]))
    mitre = before + after
    mitre /= np.maximum((mitre * before).sum(axis=1), 1e-6)[:, None]
    return np.asarray(path + mitre * offset)


def _walk(rng: np.random.Generator, taken: NDArray[np.bool_], most: int) -> list[tuple[int, int]]:
    """Walk over free nodes (column, row), turning by 45 degrees at most, and take them."""
    rows, columns = taken.shape
    i, j, heading = int(rng.integers(columns)), int(rng.integers(rows)), int(rng.integers(8))
    walk = [(i, j)]
    if taken[j, i]:
        return walk
    taken[j, i] = True
    for wish in rng.random(most):
        turn = 0 if wish < 0.88 else 1 if wish < 0.94 else -1
        for heading_now in (heading + turn, heading + 1, heading - 1):
            di, dj = _STEPS[heading_now % 8]
            a, b = i + di, j + dj
            # Two diagonals must not cross: they would between two nodes that are taken.
            if (
                0 <= a < columns
                and 0 <= b < rows
                and not taken[b, a]
                and not (di and dj and taken[j, a] and taken[b, i])
            ):
                break
        else:
            return walk
        heading, i, j = heading_now % 8, a, b
        taken[j, i] = True
        walk.append((i, j))
    return walk

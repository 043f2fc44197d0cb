"""The operating curve as a picture: escapes against false rejects, of all classes together and of each alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .operating_point import Evidence, Thresholds, at_least, at_most

BLACK, GREY, PALE, CHOSEN, BOX = (40, 40, 40), (110, 110, 110), (225, 225, 225), (40, 40, 215), (215, 215, 250)
COLOURS = ((180, 119, 31), (14, 127, 255), (44, 160, 44), (189, 103, 148), (75, 86, 140), (207, 190, 23),
           (34, 189, 188), (194, 119, 227))  # fmt: skip
NEVER = 2.0  # a threshold that no score reaches
ZERO = 0.55  # an axis of decades has no 0: it gets a band so many decades wide

Point = tuple[float, float]  # rates of false rejects and escapes


@dataclass(frozen=True, slots=True)
class Axes:
    """A square of the picture in which both rates run from 0, then in decades from `lowest` to 1."""

    left: int
    top: int
    side: int
    lowest: float

    def at(self, point: Point) -> tuple[int, int]:
        """The pixel of (false rejects, escapes)."""
        x, y = (self._share(rate) for rate in point)
        return round(self.left + x * self.side), round(self.top + (1 - y) * self.side)

    def _share(self, rate: float) -> float:
        decades = -math.log10(self.lowest)
        if rate < self.lowest:  # in the band it is even
            return ZERO * rate / self.lowest / (decades + ZERO)
        return (ZERO + decades + math.log10(rate)) / (decades + ZERO)


@dataclass(frozen=True, slots=True)
class Curve:
    """What is drawn. having: bool [classes, parts], which defective parts have which class."""

    evidence: Evidence
    thresholds: Thresholds
    labels: Sequence[str]
    having: NDArray[np.bool_]
    max_escape: float
    title: str


def draw_curve(curve: Curve, into: Path) -> None:
    """Write the PNG."""
    import cv2

    canvas = np.full((910, 1500, 3), 255, np.uint8)
    defective = curve.evidence.defective
    rates = (0.01, curve.max_escape or 1.0, 1 / int(defective.sum()), 1 / int((~defective).sum()))
    lowest = 10.0 ** math.floor(math.log10(min(rates)) + 1e-9)
    left, right = Axes(105, 90, 600, lowest), Axes(850, 90, 600, lowest)
    _text(canvas, curve.title, (20, 30), BLACK, size=0.62)
    _all_together(canvas, left, curve)
    _each_alone(canvas, right, curve)
    into.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(into), canvas):
        raise OSError(f"{into}: could not be written")


def _all_together(canvas: Pixels, axes: Axes, curve: Curve) -> None:
    import cv2

    evidence, thresholds, max_escape = curve.evidence, curve.thresholds, curve.max_escape
    escapes, rejects = evidence.counts(thresholds)
    bad, good = int(evidence.defective.sum()), int((~evidence.defective).sum())
    low = axes.at((at_least(rejects, good), at_least(escapes, bad)))
    high = axes.at((at_most(rejects, good), at_most(escapes, bad)))
    cv2.rectangle(canvas, low, high, BOX, -1)
    _frame(canvas, axes, "all classes: the parts", "defective parts that escape (slip)")
    limit = axes.at((1.0, max_escape))
    cv2.line(canvas, (axes.left, limit[1]), limit, CHOSEN, 1, cv2.LINE_AA)
    same = [evidence.counts((value,) * len(thresholds)) for value in np.linspace(0.01, 1.0, 400).tolist()]
    shifted = [evidence.counts(_shifted(thresholds, shift)) for shift in np.linspace(-6, 6, 401).tolist()]
    for counts, colour, width in ((same, GREY, 1), (shifted, BLACK, 2)):
        _line(canvas, axes, [(rejected / good, escaped / bad) for escaped, rejected in counts], colour, width)
    _mark(canvas, axes, (rejects / good, escapes / bad), CHOSEN)
    _legend(canvas, axes, [
        (CHOSEN, f"chosen: {escapes} of {bad} escape, {rejects} of {good} false rejects"),
        (BOX, "where its true rates lie: each side 95 % sure"),
        (BLACK, "its thresholds moved together"),
        (GREY, "one threshold for all classes"),
        (CHOSEN, f"line: at most {max_escape:.3%} may escape"),
    ])  # fmt: skip


def _each_alone(canvas: Pixels, axes: Axes, curve: Curve) -> None:
    evidence, thresholds = curve.evidence, curve.thresholds
    _frame(
        canvas, axes, "each class alone: the parts that have it", "parts with the class that it alone does not reject"
    )
    entries = []
    for label, name in enumerate(curve.labels):
        colour = COLOURS[label % len(COLOURS)]
        mine = evidence.only(curve.having[label] | ~evidence.defective)
        bad, good = int(mine.defective.sum()), int((~mine.defective).sum())
        if not bad:
            continue

        def alone(value: float, label: int = label, mine: Evidence = mine, bad: int = bad, good: int = good) -> Point:
            escaped, rejected = mine.counts(tuple(value if n == label else NEVER for n in range(len(thresholds))))
            return rejected / good, escaped / bad

        _line(canvas, axes, [alone(value) for value in np.linspace(0.01, 1.0, 300).tolist()], colour, 2)
        point = alone(thresholds[label])
        _mark(canvas, axes, point, colour)
        entries.append(
            (colour, f"{name} from {thresholds[label]:g}: {bad} parts, {point[1]:.1%} left to other classes")
        )
    _legend(canvas, axes, entries)


def _shifted(thresholds: Thresholds, by: float) -> Thresholds:
    """All by the same step of log-odds, so that they stay within 0..1."""
    odds = (math.log(max(value, 1e-6) / max(1 - value, 1e-6)) + by for value in thresholds)
    return tuple(1 / (1 + math.exp(-value)) for value in odds)


def _frame(canvas: Pixels, axes: Axes, title: str, upwards: str) -> None:
    """Axes with a line for each decade, and finer ones between."""
    import cv2

    for exponent in range(round(math.log10(axes.lowest)), 1):
        for digit in range(1, 10 if exponent < 0 else 2):
            rate = digit * 10.0**exponent
            colour = (195, 195, 195) if digit == 1 else PALE
            cv2.line(canvas, axes.at((rate, 0)), axes.at((rate, 1)), colour, 1)
            cv2.line(canvas, axes.at((0, rate)), axes.at((1, rate)), colour, 1)
    rates = [0.0, *(10.0**exponent for exponent in range(round(math.log10(axes.lowest)), 1))]
    for rate in rates:
        text = f"{100 * rate:g} %"
        _text(canvas, text, (axes.at((rate, 0))[0] - 4 * len(text), axes.top + axes.side + 22), BLACK)
        _text(canvas, text, (axes.left - 9 * len(text) - 8, axes.at((0, rate))[1] + 5), BLACK)
    cv2.rectangle(canvas, axes.at((0, 1)), axes.at((1, 0)), BLACK, 1)
    _text(canvas, title, (axes.left, axes.top - 14), BLACK, size=0.55)
    _text(canvas, "good parts that are rejected (false rejects)", (axes.left + 130, axes.top + axes.side + 50), BLACK)
    strip = np.full((22, axes.side, 3), 255, np.uint8)
    _text(strip, upwards, ((axes.side - 8 * len(upwards)) // 2, 15), BLACK)
    edge = axes.left - 92
    canvas[axes.top : axes.top + axes.side, edge : edge + 22] = cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE)


def _line(canvas: Pixels, axes: Axes, points: list[Point], colour: tuple[int, int, int], width: int) -> None:
    import cv2

    pixels = np.array([axes.at(point) for point in points], np.int32)
    cv2.polylines(canvas, [pixels.reshape(-1, 1, 2)], False, colour, width, cv2.LINE_AA)


def _mark(canvas: Pixels, axes: Axes, point: Point, colour: tuple[int, int, int]) -> None:
    import cv2

    cv2.circle(canvas, axes.at(point), 7, colour, -1, cv2.LINE_AA)
    cv2.circle(canvas, axes.at(point), 7, (255, 255, 255), 1, cv2.LINE_AA)


def _legend(canvas: Pixels, axes: Axes, entries: list[tuple[tuple[int, int, int], str]]) -> None:
    """Below the axes, in two columns where it is long."""
    import cv2

    rows = 6
    for n, (colour, text) in enumerate(entries[: 2 * rows]):
        left, foot = axes.left + n // rows * axes.side // 2, axes.top + axes.side + 82 + 21 * (n % rows)
        cv2.rectangle(canvas, (left, foot - 10), (left + 11, foot + 1), colour, -1)
        _text(canvas, text, (left + 19, foot), BLACK, size=0.42)


def _text(canvas: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int], *, size: float = 0.45) -> None:
    import cv2

    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

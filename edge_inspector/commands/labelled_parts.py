"""Labelled parts through an engine: what is found on each, and what of it would count in a recipe."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..judge import ORDER, judge
from ..recipe import Recipe
from ..types import Defect, Detections, Severity
from .dataset import Box, Sample
from .looking import Looker, read_picture
from .operating_point import Evidence, Hit

FOLDS = 5
OVERLAP = 0.5  # of the smaller box: a find in a label that covers the whole part lies in it


@dataclass(frozen=True, slots=True)
class LabelledPart:
    """A part with what is known of it and what was found on it. boxes: () for a good one."""

    image: Path
    boxes: tuple[Box, ...]
    detections: Detections

    def found(self, defects: Sequence[Defect]) -> list[Box]:
        """Which labelled defects these meet, whatever class they are said to be."""
        return [box for box in self.boxes if any(meet(box.xyxy, defect.box_px) for defect in defects)]


def look_at(
    samples: list[Sample], looker: Looker, *, floor: float, seen: Callable[[int, tuple[int, int]], None]
) -> list[LabelledPart]:
    """Every picture through the engine. seen: told how many are done and the picture's (height, width)."""
    parts = []
    for n, sample in enumerate(samples, start=1):
        pixels = read_picture(sample.image)
        parts.append(LabelledPart(sample.image, sample.boxes or (), looker.look(pixels, floor=floor)))
        seen(n, pixels.shape[:2])
    return parts


def evidence_of(parts: list[LabelledPart], recipe: Recipe, *, floor: float) -> Evidence:
    """What the recipe's zones and sizes let count of all that was found, whatever its thresholds."""
    rules = tuple(dataclasses.replace(rule, threshold=floor, floor=floor) for rule in recipe.rules)
    lowest = dataclasses.replace(recipe, rules=rules)
    number = {label: n for n, label in enumerate(recipe.labels)}
    found = [judge(part.detections, lowest).defects for part in parts]
    hits = [[Hit(number[each.label], ORDER[each.severity], each.score) for each in defects] for defects in found]
    limits = [getattr(recipe.tables.reject, severity.value) for severity in Severity]
    return Evidence(hits, [bool(part.boxes) for part in parts], limits=limits)


def folds_of(parts: list[LabelledPart]) -> NDArray[np.int_]:
    """Which of five folds each part belongs to, by file name alone.

    Neighbours in the order of the names come into one fold, as do good and defective parts of one name: pictures of one
    part or batch would tell each other's result. Kinds of defect are dealt out one by one, so that none is missing.
    """
    fold = np.zeros(len(parts), int)
    kind = [_kind(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda n: (kind[n], parts[n].image.stem, str(parts[n].image)))
    for _, group in itertools.groupby(order, key=lambda n: kind[n]):
        members = list(group)
        for place, n in enumerate(members):
            fold[n] = place * FOLDS // len(members)
    return fold


def _kind(part: LabelledPart) -> str:
    labels = {box.label for box in part.boxes}
    return labels.pop() if len(labels) == 1 else ("several" if labels else "")


def meet(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether half of the smaller box lies in the other."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return wide >= 0 and high >= 0 and wide * high >= OVERLAP * smaller

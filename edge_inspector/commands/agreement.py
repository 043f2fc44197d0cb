"""How alike two answers are: agreement of two precisions on the same pictures, and average precision. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..judge import judge
from ..recipe import Recipe
from ..types import Detections

Rows = NDArray[np.float32]  # [n, 6]: x1, y1, x2, y2, score, class; the best first
Truth = NDArray[np.float32]  # [n, 5]: x1, y1, x2, y2, class
LEAST_IOU = 0.5
COCO_IOUS = tuple(0.5 + 0.05 * n for n in range(10))


@dataclass(frozen=True, slots=True)
class Agreement:
    """boxes: 2 m / (n + k); n and k detections in the two sets, m pairs of them. verdicts: share of alike pictures.

    wanted: n, how many detections the reference has; found: k.
    """

    boxes: float
    verdicts: float
    wanted: int
    found: int
    pictures: int

    @property
    def least(self) -> float:
        """The lower of the two, which is what an engine is held to."""
        return min(self.boxes, self.verdicts)

    @property
    def surely(self) -> float:
        """What `least` is with 95 % confidence, other pictures of the same line given: a share p of n loses
        1.645 sqrt(p (1 - p) / n) (normal approximation, one-sided), n the detections of one set or the pictures.
        """
        counts = ((self.boxes, max(1.0, (self.wanted + self.found) / 2)), (self.verdicts, self.pictures))
        return min(p - 1.645 * math.sqrt(p * (1 - p) / n) for p, n in counts)


def agree(reference: Sequence[Detections], other: Sequence[Detections], recipe: Recipe) -> Agreement | None:
    """How far `other` says what `reference` says of the same pictures, at the thresholds of the recipe.

    boxes: detections that reach their class's threshold are paired, one to one, within a picture, where class is the
    same and IoU >= 0.5; then 2 * pairs / (detections in one + detections in the other). This is F1 with the reference
    as the truth: 1 where every box is in both, 0 for an engine that finds nothing, and a missed box and an invented
    one count alike. verdicts: the share of pictures with the same outcome of `judge()`.

    None where the reference finds nothing at all: agreement on nothing would say nothing.
    """
    pairs = wanted = found = same = 0
    for a, b in zip(reference, other, strict=True):
        mine, theirs = _counted(a, recipe), _counted(b, recipe)
        wanted, found, pairs = wanted + len(mine), found + len(theirs), pairs + _pairs(mine, theirs)
        same += judge(a, recipe).outcome is judge(b, recipe).outcome
    if not wanted:
        return None
    return Agreement(2 * pairs / (wanted + found), same / len(reference), wanted, found, len(reference))


def rows_of(detections: Detections) -> Rows:
    """float32 [n, 6]."""
    return np.column_stack((detections.xyxy, detections.score, detections.label)).astype(np.float32)


def iou(box: Rows, others: Rows) -> NDArray[np.float32]:
    """Overlap of one box [4] with others [n, 4]; float [n]."""
    side = np.minimum(box[2:], others[:, 2:4]) - np.maximum(box[:2], others[:, :2])
    inner = np.prod(np.clip(side, 0, None), axis=1)
    area = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    return np.asarray(inner / (np.prod(box[2:] - box[:2]) + area - inner + 1e-9), np.float32)


def average_precision(found: Iterable[tuple[Rows, Truth]], label: int, least_iou: float = LEAST_IOU) -> float:
    """Area under the precision-recall curve of one class, precision made monotonous (as in VOC 2010 and COCO)."""
    scores, hits, wanted = [], [], 0
    for rows, truth in found:
        mine, theirs = rows[rows[:, 5] == label], truth[truth[:, 4] == label]
        wanted, used = wanted + len(theirs), np.zeros(len(theirs), bool)
        for row in mine:
            overlap = np.where(used, 0, iou(row[:4], theirs[:, :4])) if len(theirs) else np.zeros(1)
            hit = bool(overlap.max() >= least_iou)
            if hit:
                used[overlap.argmax()] = True
            scores.append(row[4])
            hits.append(hit)
    if not wanted or not hits:
        return 0.0
    hit_now = np.array(hits)[np.argsort(-np.array(scores), kind="stable")]
    recall, precision = np.cumsum(hit_now) / wanted, np.cumsum(hit_now) / np.arange(1, len(hit_now) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


def mean_average_precision(found: Sequence[tuple[Rows, Truth]]) -> tuple[float, float] | None:
    """AP50 and AP50:95 (the mean over IoU 0.50, 0.55 .. 0.95), means over the classes that the truth has.

    None where the truth has no box.
    """
    labels = sorted({int(label) for _, truth in found for label in truth[:, 4]})
    if not labels:
        return None
    each = [[average_precision(found, label, least) for label in labels] for least in COCO_IOUS]
    return float(np.mean(each[0])), float(np.mean(each))


def _counted(detections: Detections, recipe: Recipe) -> Rows:
    """Those that reach the threshold of their class."""
    thresholds = np.array([rule.threshold for rule in recipe.rules], np.float32)
    return rows_of(detections)[detections.score >= thresholds[detections.label]]


def _pairs(mine: Rows, theirs: Rows) -> int:
    """How many can be paired, each taking the best that is left."""
    free, count = np.ones(len(theirs), bool), 0
    for row in mine:
        overlap = np.where(free & (theirs[:, 5] == row[5]), iou(row[:4], theirs[:, :4]), 0.0)
        if overlap.size and overlap.max() >= LEAST_IOU:
            free[overlap.argmax()] = False
            count += 1
    return count

"""Detections against labelled boxes: who is whose, precision and recall, confusion, the protocol of DeepPCB. Pure.

Of a picture there are rows, float32 [n, 6] x1, y1, x2, y2, score, class, best first; and its truth, float32 [m, 5].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import LEAST_IOU, Rows, Truth

DEEPPCB_IOU = 0.33  # "larger than 0.33", so 0.33 itself is not enough
Hits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scored:
    """All detections of all pictures, best first: score, whether it is right; and how many labels there are."""

    score: NDArray[np.float32]
    right: Hits
    wanted: int

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and precision after each detection."""
        rights = np.cumsum(self.right)
        return rights / max(1, self.wanted), rights / np.arange(1, len(rights) + 1)

    def average_precision(self) -> float | None:
        """The area under the curve, precision made monotonous. None where nothing is labelled."""
        if not self.wanted:
            return None
        recall, precision = self.curve()
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(recall, prepend=0.0) * best))


@dataclass(frozen=True, slots=True)
class Counts:
    """Right detections, wrong ones, and labels that nothing found. A share of nothing is None."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Of the detections, those that are right."""
        return _share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        """Of the labels, those that were found."""
        return _share(self.right, self.right + self.missed)

    @property
    def f1(self) -> float | None:
        """2 P R / (P + R)."""
        return _share(2 * self.right, 2 * self.right + self.wrong + self.missed)

    def as_json(self) -> dict[str, float | None]:
        """The three."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}


def pair(rows: Rows, truth: Truth, *, beyond: float | None = None, classes: bool = True) -> NDArray[np.int_]:
    """Which label each row has found, -1 for none. The best row chooses first: of those free, what it overlaps most.

    Overlap must be 0.5 or more; or more than `beyond`. classes: it must be of the same class.
    """
    found = np.full(len(rows), -1)
    if not len(rows) or not len(truth):
        return found
    overlap = _overlap(rows, truth)
    fits = overlap >= LEAST_IOU if beyond is None else overlap > beyond
    if classes:
        fits &= rows[:, 5:6] == truth[:, 4]
    overlap = np.where(fits, overlap, 0.0)
    for n in np.flatnonzero(fits.any(axis=1)):
        best = overlap[n].argmax()
        if overlap[n, best] > 0:
            found[n] = best
            overlap[:, best] = 0.0
    return found


def scored(pictures: Sequence[tuple[Rows, Truth]], *, beyond: float | None = None) -> dict[int | None, Scored]:
    """For each class that is labelled or found, and for None: all of them together."""
    rows = np.concatenate([rows for rows, _ in pictures] or [np.zeros((0, 6), np.float32)])
    right = np.concatenate([pair(*picture, beyond=beyond) >= 0 for picture in pictures] or [np.zeros(0, bool)])
    truth = np.concatenate([truth[:, 4] for _, truth in pictures] or [np.zeros(0, np.float32)])
    order = np.argsort(-rows[:, 4], kind="stable")
    score, label, right = rows[order, 4], rows[order, 5], right[order]
    made: dict[int | None, Scored] = {None: Scored(score, right, len(truth))}
    for each in np.union1d(label, truth).astype(int).tolist():
        mine = label == each
        made[each] = Scored(score[mine], right[mine], int((truth == each).sum()))
    return made


def counted(rows: Rows, thresholds: Sequence[float]) -> Rows:
    """Those that reach the threshold of their class, compared as judge() does."""
    least = np.array(thresholds, float)[rows[:, 5].astype(int)]
    return np.asarray(rows[rows[:, 4].astype(float) >= least])


def counts(pictures: Sequence[tuple[Rows, Truth]], *, beyond: float | None = None) -> dict[int | None, Counts]:
    """Of rows that count: for each class that is labelled or found, and for None: in all."""
    return {
        label: Counts(int(each.right.sum()), int((~each.right).sum()), each.wanted - int(each.right.sum()))
        for label, each in scored(pictures, beyond=beyond).items()
    }


def confusion(pictures: Sequence[tuple[Rows, Truth]], classes: int) -> NDArray[np.int_]:
    """Of rows that count: int [classes + 1, classes + 1], labelled by found; last row false alarms, last column missed.

    First those of the same class are paired, then what is left, of whatever class.
    """
    table = np.zeros((classes + 1, classes + 1), int)
    for rows, truth in pictures:
        left, open_ = np.ones(len(rows), bool), np.ones(len(truth), bool)
        for same in (True, False):
            here, there = np.flatnonzero(left), np.flatnonzero(open_)
            for n, m in enumerate(pair(rows[here], truth[there], classes=same)):
                if m >= 0:
                    left[here[n]] = open_[there[m]] = False
                    table[int(truth[there[m], 4]), int(rows[here[n], 5])] += 1
        np.add.at(table, (classes, rows[left, 5].astype(int)), 1)
        np.add.at(table, (truth[open_, 4].astype(int), classes), 1)
    return table


def deeppcb(pictures: Sequence[tuple[Rows, Truth]], thresholds: Sequence[float]) -> dict[str, Any]:
    """The protocol of DeepPCB (Tang et al. 2019, arXiv 1902.06197, and the data set's README).

    A detection is right where its IoU with a label of its class is larger than 0.33; each label is found once. map: one
    AP of all detections of all classes and pictures, by score. f: 2 P R / (P + R) at the recipe's thresholds, which
    were there before. best_f: at the one score that suits these pictures best, which flatters; the authors let it be
    adjusted so. map_steps: as the script of ICDAR 2015 adds it up, which theirs is made of: the mean over the labels of
    the precision where each was found, not made monotonous, so never higher.
    """
    every = scored(pictures, beyond=DEEPPCB_IOU)[None]
    if not every.wanted:
        return {"map": None, "map_steps": None, "f": None, "best_f": None, "best_f_score": None}
    recall, precision = every.curve()
    f = 2 * np.cumsum(every.right) / (np.arange(1, len(recall) + 1) + every.wanted)
    last = np.append(every.score[1:] != every.score[:-1], True)[: len(f)]  # a score is a threshold for all that have it
    best = int(np.where(last, f, 0.0).argmax()) if len(f) else None
    chosen = counts([(counted(rows, thresholds), truth) for rows, truth in pictures], beyond=DEEPPCB_IOU)[None]
    return {
        "map": every.average_precision(),
        "map_steps": float(precision[every.right].sum() / every.wanted),
        "f": chosen.f1,
        "best_f": 0.0 if best is None else float(f[best]),
        "best_f_score": None if best is None else float(every.score[best]),
    }


def _overlap(rows: Rows, truth: Truth) -> NDArray[np.float64]:
    """IoU of each with each, [n, m]."""
    a, b = rows[:, None, :4].astype(float), truth[None, :, :4].astype(float)
    inner = np.prod((np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0), axis=2)
    area = np.prod(a[..., 2:] - a[..., :2], axis=2) + np.prod(b[..., 2:] - b[..., :2], axis=2)
    return np.asarray(inner / (area - inner).clip(1e-9))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

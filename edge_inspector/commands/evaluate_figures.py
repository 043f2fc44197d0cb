"""The figures of an evaluation: of parts for every task, of boxes for detectors, of classes for classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.folder import ModelTables
from ..recipe import Recipe
from . import evaluate_boxes as boxes
from . import evaluate_coco as coco
from .dataset_layout import GOOD
from .evaluate_boxes import Counts, Scored
from .evaluate_run import Seen
from .operating_point import at_least, at_most

MISSED, FALSE_ALARM = "missed", "false alarm"
KEYS = ("images", "ap", "ap50", "precision", "recall", "f1", "deeppcb_map", "deeppcb_f", "accuracy", "escapes",
        "false_rejects", "images_per_second")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Confusion:
    """counts: int [labelled, found]."""

    labelled: tuple[str, ...]
    found: tuple[str, ...]
    counts: NDArray[np.int_]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"labelled": self.labelled, "found": self.found, "counts": self.counts.tolist()}


@dataclass(frozen=True, slots=True)
class Figures:
    """values: what report.json says. curves: of each class, for charts; empty but for detectors."""

    values: dict[str, Any]
    confusion: Confusion | None
    curves: dict[str, Scored]


def figures_of(seen: Sequence[Seen], tables: ModelTables, recipe: Recipe) -> Figures:
    """Everything."""
    of_parts = parts(seen)
    values: dict[str, Any] = {**dict.fromkeys(KEYS), **_of_parts(of_parts, seen)}
    confusion: Confusion | None = None
    curves: dict[str, Scored] = {}
    if tables.task == "detect":
        more, confusion, curves = _of_boxes(seen, recipe)
        values.update(more)
    else:
        values.update(of_parts.as_json())
    if tables.task == "classify":
        confusion = classes(seen, tables)
        values["accuracy"] = accuracy(confusion)
        values["classes"] = [_of_class(name, confusion) for name in confusion.labelled]
    values["confusion"] = confusion.as_json() if confusion else None
    return Figures(values, confusion, curves)


def headline(seen: Sequence[Seen], tables: ModelTables) -> dict[str, Any]:
    """The few figures that robustness is told in."""
    of_parts = parts(seen)
    values: dict[str, Any] = {"ap50": None, "deeppcb_map": None, "accuracy": None}
    if tables.task == "detect":
        pictures = [each.rows(tables.labels) for each in seen]
        values["ap50"] = coco.average_precision(pictures).ap50
        values["deeppcb_map"] = boxes.scored(pictures, beyond=boxes.DEEPPCB_IOU)[None].average_precision()
    elif tables.task == "classify":
        values["accuracy"] = accuracy(classes(seen, tables))
    return {**values, "escapes": of_parts.missed, "false_rejects": of_parts.wrong}


def parts(seen: Sequence[Seen]) -> Counts:
    """Of whole parts, as judge() has it: defective ones rejected, false rejects, escapes."""
    wrong = [each for each in seen if each.wrong]
    escapes = sum(not each.rejected for each in wrong)
    return Counts(sum(each.rejected for each in seen) - (len(wrong) - escapes), len(wrong) - escapes, escapes)


def classes(seen: Sequence[Seen], tables: ModelTables) -> Confusion:
    """A classifier's labels against what it says. All that a good part may be is one class."""
    pairs = [class_of(each, tables) for each in seen]
    fine = _fine(tables)
    bad = tuple(name for name in tables.labels if name not in tables.good)
    names = (fine, *bad) if tables.good or any(fine in pair for pair in pairs) else bad
    table = np.zeros((len(names), len(names)), int)
    for label, said in pairs:
        table[names.index(label), names.index(said)] += 1
    return Confusion(names, names, table)


def class_of(seen: Seen, tables: ModelTables) -> tuple[str, str]:
    """The label of a part (that of its largest box), and what a classifier says: the likeliest class.

    Of two classes of which one is good it says that one where its probability is more than 0.5.
    """
    areas = [((box.xyxy[2] - box.xyxy[0]) * (box.xyxy[3] - box.xyxy[1]), box.label) for box in seen.part.boxes]
    label = max(areas)[1] if areas else _fine(tables)
    assert seen.scores is not None
    said = tables.labels[int(seen.scores.argmax())]
    if len(tables.labels) == 2 and len(tables.good) == 1:
        good = tables.labels.index(tables.good[0])
        said = tables.labels[good if seen.scores[good] > 0.5 else 1 - good]
    return label, _fine(tables) if said in tables.good else said


def _fine(tables: ModelTables) -> str:
    return tables.good[0] if len(tables.good) == 1 else GOOD


def accuracy(confusion: Confusion) -> float | None:
    """The share that is on the diagonal."""
    total = int(confusion.counts.sum())
    return float(np.trace(confusion.counts)) / total if total else None


def _of_parts(of_parts: Counts, seen: Sequence[Seen]) -> dict[str, Any]:
    defective = of_parts.right + of_parts.missed
    inference = np.array([each.inference_ms for each in seen])
    return {
        "images": len(seen),
        "parts": {"defective": defective, "good": len(seen) - defective},
        "escapes": of_parts.missed,
        "escape_rate": rate(of_parts.missed, defective),
        "false_rejects": of_parts.wrong,
        "false_reject_rate": rate(of_parts.wrong, len(seen) - defective),
        "images_per_second": 1000 * len(seen) / sum(each.verdict_ms for each in seen),
        "images_per_second_is": "one at a time, from a picture in memory to its verdict",
        "inference_ms": {
            **{f"p{share}": float(np.percentile(inference, share)) for share in (50, 90, 99)},
            "max": float(inference.max()),
        },
        "precision_recall_f1_of": "parts: a defective part that is rejected is right",
    }


def rate(events: int, of: int) -> dict[str, float] | None:
    """With the bounds between which it lies with 95 % on either side (Clopper and Pearson 1934); None of nothing."""
    return {"seen": events / of, "at_least_95": at_least(events, of), "at_most_95": at_most(events, of)} if of else None


def _of_boxes(seen: Sequence[Seen], recipe: Recipe) -> tuple[dict[str, Any], Confusion, dict[str, Scored]]:
    labels, thresholds = recipe.labels, [rule.threshold for rule in recipe.rules]
    pictures = [each.rows(labels) for each in seen]
    chosen = [(boxes.counted(rows, thresholds), truth) for rows, truth in pictures]
    every, counts = boxes.scored(pictures), boxes.counts(chosen)
    precision, protocol = coco.average_precision(pictures), boxes.deeppcb(pictures, thresholds)
    table = boxes.confusion(chosen, len(labels))
    values = {
        "ap": precision.ap,
        "ap50": precision.ap50,
        **counts[None].as_json(),
        "precision_recall_f1_of": "boxes that reach their threshold: same class, IoU 0.5 or more",
        "deeppcb_map": protocol["map"],
        "deeppcb_f": protocol["f"],
        "deeppcb": protocol,
        "classes": [
            {
                "name": name,
                "labelled": int(table[n].sum()),
                "threshold": thresholds[n],
                **dict(zip(("ap", "ap50"), precision.classes.get(n, (None, None)), strict=True)),
                **counts.get(n, Counts(0, 0, 0)).as_json(),
            }
            for n, name in enumerate(labels)
        ],
    }
    curves = {name: every[n] for n, name in enumerate(labels) if n in every and every[n].wanted}
    return values, Confusion((*labels, FALSE_ALARM), (*labels, MISSED), table), curves


def _of_class(name: str, confusion: Confusion) -> dict[str, Any]:
    """Of one class of a classifier."""
    n, table = confusion.labelled.index(name), confusion.counts
    right = int(table[n, n])
    counts = Counts(right, int(table[:, n].sum()) - right, int(table[n].sum()) - right)
    return {"name": name, "labelled": int(table[n].sum()), **counts.as_json()}

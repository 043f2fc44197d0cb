"""Average precision as COCO counts it, by faster-coco-eval: over IoU 0.50, 0.55 .. 0.95, and at 0.50, of each class."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MissingError
from .agreement import Rows, Truth
from .finding import pip


@dataclass(frozen=True, slots=True)
class Precision:
    """AP and AP50 of each class that is labelled, by its number, and their means; None where nothing is labelled."""

    classes: dict[int, tuple[float, float]]
    ap: float | None
    ap50: float | None


def require() -> None:
    """Raise MissingError, with the command that mends it, where the library is not installed."""
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError:
        raise MissingError(
            f"faster-coco-eval is not installed, which counts average precision; run: "
            f"{pip()} install 'edge-inspector[evaluate]'"
        ) from None


def average_precision(pictures: Sequence[tuple[Rows, Truth]]) -> Precision:
    """Of rows best first, and truth; the best 100 of a picture count, as COCO has it."""
    labels = sorted({int(label) for _, truth in pictures for label in truth[:, 4]})
    rows: list[dict[str, Any]] = [
        {"image_id": n, "category_id": int(row[5]), "bbox": _xywh(row), "score": float(row[4])}
        for n, (found, _) in enumerate(pictures, start=1)
        for row in found
        if int(row[5]) in labels
    ]
    if not labels or not rows:
        nothing = 0.0 if labels else None
        return Precision(dict.fromkeys(labels, (0.0, 0.0)), nothing, nothing)
    table = _evaluated(pictures, labels, rows)  # [IoU, recall, class, area, most a picture], -1: none
    classes = {label: (_mean(table[:, :, n, 0, -1]), _mean(table[0, :, n, 0, -1])) for n, label in enumerate(labels)}
    ap, ap50 = (float(np.mean([each[n] for each in classes.values()])) for n in (0, 1))
    return Precision(classes, ap, ap50)


def _evaluated(pictures: Sequence[tuple[Rows, Truth]], labels: list[int], rows: list[dict[str, Any]]) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    boxes: list[dict[str, Any]] = [
        {"image_id": n, "category_id": int(box[4]), "bbox": _xywh(box), "iscrowd": 0}
        for n, (_, truth) in enumerate(pictures, start=1)
        for box in truth
    ]
    truths = [{**box, "id": n, "area": box["bbox"][2] * box["bbox"][3]} for n, box in enumerate(boxes, start=1)]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress there
        labelled = COCO()
        labelled.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(1, len(pictures) + 1)],
            "annotations": truths,
            "categories": [{"id": label, "name": str(label)} for label in labels],
        }
        labelled.createIndex()
        run = COCOeval_faster(labelled, labelled.loadRes(rows), iouType="bbox")
        run.evaluate()
        run.accumulate()
    return np.asarray(run.eval["precision"])


def _xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box[:4])
    return [x1, y1, x2 - x1, y2 - y1]


def _mean(values: Any) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else 0.0

"""What is left to do after the engine: drop weak rows, suppress double boxes, scale back to the frame."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .preprocess import Letterbox
from .types import Detections

FEW = 16  # boxes that are compared one by one: after an inference each of NumPy's steps is cold, and takes 10 us


def to_detections(
    rows: NDArray[np.float32], letterbox: Letterbox, frame: tuple[int, int], *, floor: float, iou: float, classes: int
) -> Detections:
    """An engine's rows, float32 [K, 6] (x1, y1, x2, y2 in input pixels, score, class), as Detections in frame pixels.

    Rows may have a seventh value, an area in input pixels: that of what the box was drawn around.
    Rows below `floor` are no detections. Of boxes of one class that overlap by more than `iou` the best stays. Boxes
    are clipped to `frame`, (height, width). Raises ValueError for anything that is no answer: another shape, values
    that are not finite, scores outside 0..1, a class that is not there.
    """
    if rows.ndim != 2 or rows.shape[1] not in (6, 7):
        raise ValueError(f"engine output: expected float32 [K, 6 or 7], got {rows.dtype} {list(rows.shape)}")
    if not math.isfinite(rows.sum()):  # one value that is no number makes a sum that is none
        raise ValueError("engine output holds values that are not finite numbers")
    if not len(rows):
        return Detections.none()
    score = rows[:, 4]
    least, most = score.min(), score.max()
    if least < 0.0 or most > 1.0:  # logits, say: none would reach the floor
        raise ValueError(f"engine output: scores must lie in 0..1, got {least:g}..{most:g}")
    if most < floor:
        return Detections.none()
    rows = rows[score >= floor]
    if (rows[:, :2] > rows[:, 2:4]).any():
        raise ValueError("engine output: boxes must be x1, y1, x2, y2; some are inside out")
    if not all(0 <= label < classes and label.is_integer() for label in rows[:, 5].tolist()):
        raise ValueError(f"engine output names a class outside 0..{classes - 1}")
    scores = rows[:, 4].tolist()
    if scores != sorted(scores, reverse=True):
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    if len(rows) > 1:
        rows = rows[suppress(rows[:, :4], rows[:, 5], iou)]
    xyxy = letterbox.to_frame(rows[:, :4])
    np.minimum(np.maximum(xyxy, 0, out=xyxy), (frame[1], frame[0]) * 2, out=xyxy, casting="same_kind")
    area = rows[:, 6] / (letterbox.scale[0] * letterbox.scale[1]) if rows.shape[1] == 7 else None
    return Detections(xyxy, rows[:, 4].copy(), rows[:, 5].astype(np.int16), area)


def suppress(xyxy: NDArray[np.float32], label: NDArray[np.float32], iou: float) -> list[int]:
    """Greedy non-maximum suppression within each class; boxes come best first. Returns the indices that stay."""
    double = _doubles_of_few(xyxy, label, iou) if len(xyxy) <= FEW else _doubles(xyxy, label, iou)
    gone: set[int] = set()
    for first, second in double:
        if first not in gone:
            gone.add(second)
    return [n for n in range(len(xyxy)) if n not in gone]


def _doubles_of_few(xyxy: NDArray[np.float32], label: NDArray[np.float32], iou: float) -> Iterator[tuple[int, int]]:
    """The pairs of one class that overlap by more than `iou`, in order."""
    boxes = [(*box, kind) for box, kind in zip(xyxy.tolist(), label.tolist(), strict=True)]
    for (n, (x1, y1, x2, y2, kind)), (m, (a1, b1, a2, b2, other)) in itertools.combinations(enumerate(boxes), 2):
        wide, high = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
        if kind != other or wide <= 0 or high <= 0:
            continue
        shared = wide * high
        if shared > iou * ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared):
            yield n, m


def _doubles(xyxy: NDArray[np.float32], label: NDArray[np.float32], iou: float) -> list[tuple[int, int]]:
    """The same, of all pairs in one step."""
    box = xyxy.astype(np.float64)
    extent = np.minimum(box[:, None, 2:], box[:, 2:]) - np.maximum(box[:, None, :2], box[:, :2])
    shared = extent.clip(0).prod(axis=2)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    double = (shared > iou * (area[:, None] + area - shared)) & (label[:, None] == label)
    return [(int(n), int(m)) for n, m in np.argwhere(np.triu(double, 1))]

"""What is left to do after the engine: drop weak rows, suppress double boxes, scale back to the frame."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .preprocess import Letterbox
from .types import Detections


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
    least, most = rows[:, 4].min(), rows[:, 4].max()
    if least < 0.0 or most > 1.0:  # logits, say: none would reach the floor
        raise ValueError(f"engine output: scores must lie in 0..1, got {least:g}..{most:g}")
    if most < floor:
        return Detections.none()
    rows = rows[rows[:, 4] >= floor]
    if (rows[:, :2] > rows[:, 2:4]).any():
        raise ValueError("engine output: boxes must be x1, y1, x2, y2; some are inside out")
    label = rows[:, 5]
    if label.min() < 0 or label.max() >= classes or (label != np.floor(label)).any():
        raise ValueError(f"engine output names a class outside 0..{classes - 1}")
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    rows = rows[suppress(rows[:, :4], rows[:, 5], iou)]
    xyxy = letterbox.to_frame(rows[:, :4])
    xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, frame[1])
    xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, frame[0])
    area = rows[:, 6] / (letterbox.scale[0] * letterbox.scale[1]) if rows.shape[1] == 7 else None
    return Detections(xyxy, rows[:, 4].copy(), rows[:, 5].astype(np.int16), area)


def suppress(xyxy: NDArray[np.float32], label: NDArray[np.float32], iou: float) -> list[int]:
    """Greedy non-maximum suppression within each class; boxes come best first. Returns the indices that stay."""
    count = len(xyxy)
    if count < 2:
        return list(range(count))
    corner = np.maximum(xyxy[:, None, :2], xyxy[:, :2])  # of each pair: steps cost, not numbers
    extent = (np.minimum(xyxy[:, None, 2:], xyxy[:, 2:]) - corner).clip(0)
    shared = extent[..., 0] * extent[..., 1]
    area = (xyxy[:, 2] - xyxy[:, 0]).clip(0) * (xyxy[:, 3] - xyxy[:, 1]).clip(0)
    union = area[:, None] + area - shared
    double = np.triu((shared > iou * union) & (label[:, None] == label), 1)
    if not double.any():
        return list(range(count))
    alive = np.ones(count, bool)
    for n in range(count):
        if alive[n]:
            alive &= ~double[n]
    return [int(n) for n in np.flatnonzero(alive)]

"""What an engine's outputs mean, task by task: all become Detections, so that one judge serves every kind of model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blobs import rows_of
from ..contract import Answer
from ..nms import to_detections
from ..preprocess import Letterbox
from ..types import Detections
from .folder import ModelTables

Rows = NDArray[np.float32]
SLACK = 1e-3  # a softmax in half precision may end so far beyond 1


def detections_of(
    tables: ModelTables,
    answer: Answer,
    letterbox: Letterbox,
    size: tuple[int, int],
    *,
    floor: float,
    frame: tuple[int, int],
) -> Detections:
    """The detections of one picture, in the pixels of a frame of (height, width), best first.

    size: (height, width) of the engine's input. Raises ValueError for anything that is no answer of the task.
    """
    rows = rows_of_answer(tables, answer, size, floor=floor)
    iou = tables.nms_iou if tables.task == "detect" else 1.0
    return to_detections(rows, letterbox, frame, floor=floor, iou=iou, classes=len(tables.labels))


def rows_of_answer(tables: ModelTables, answer: Answer, size: tuple[int, int], *, floor: float) -> Rows:
    """float32 [n, 6 or 7] in input pixels, as a detector gives them, whatever the task."""
    if tables.task == "detect":
        return answer[0]
    for output in answer:
        least, most = output.min(), output.max()
        if not (least >= -SLACK and most <= 1 + SLACK):  # also where it is not a number
            raise ValueError(f"engine output: expected values in 0..1, got {least:g}..{most:g}")
    clipped = [output.clip(0.0, 1.0) for output in answer]
    if tables.task == "classify":
        return _classes(clipped[0], tables, size)
    if tables.task == "segment":
        return _patches(clipped[0], tables, size, floor)
    return _anomalies(clipped[0], float(clipped[1]), size, floor)


def _classes(scores: NDArray[np.float32], tables: ModelTables, size: tuple[int, int]) -> Rows:
    """Each class that is not good, over the whole picture. What is not surely good is not good: the likeliest of them
    gets at least 1 - score(good), so that a classifier in doubt between many defects cannot pass the part.
    """
    if scores.shape != (len(tables.labels),):
        raise ValueError(f"engine output: expected {len(tables.labels)} scores, got {list(scores.shape)}")
    good = [tables.labels.index(name) for name in tables.good]
    bad = [n for n in range(len(scores)) if n not in good]
    rows = np.array([(0, 0, size[1], size[0], scores[n], n) for n in bad], np.float32).reshape(-1, 6)
    if good and bad:
        worst = int(rows[:, 4].argmax())
        rows[worst, 4] = max(rows[worst, 4], 1.0 - min(1.0, float(scores[good].sum())))
    return rows


def _patches(heatmap: NDArray[np.float32], tables: ModelTables, size: tuple[int, int], floor: float) -> Rows:
    """Every connected patch of every class that is not background."""
    if heatmap.ndim != 3 or len(heatmap) != len(tables.labels):
        raise ValueError(f"engine output: expected [{len(tables.labels)}, h, w], got {list(heatmap.shape)}")
    found = [
        rows_of(heatmap[n], n, floor=floor, size=size)
        for n, name in enumerate(tables.labels)
        if name not in tables.good
    ]
    return np.concatenate(found) if found else np.zeros((0, 7), np.float32)


def _anomalies(heatmap: NDArray[np.float32], score: float, size: tuple[int, int], floor: float) -> Rows:
    """Every connected patch; the strongest has at least the score of the whole picture, and where no patch reaches the
    floor, the whole picture is the box: what the model says of the part is never lost in its map.
    """
    rows = rows_of(heatmap, 0, floor=floor, size=size)
    if not len(rows):
        return np.array([(0, 0, size[1], size[0], score, 0, size[0] * size[1])], np.float32)
    rows[0, 4] = max(rows[0, 4], score)
    return rows

"""Heatmaps -> rows as a detector gives them: each connected patch that reaches the floor is a box with an area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 300  # of a map's patches the strongest so many are kept


def rows_of(heatmap: NDArray[np.float32], label: int, *, floor: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [n, 7]: x1, y1, x2, y2 in pixels of an input of (height, width) `size`, highest value, label, area.

    heatmap: float32 [h, w], 0 to 1. Patches touch by sides or corners.
    """
    import cv2

    count, patches, stats, _ = cv2.connectedComponentsWithStats((heatmap >= floor).astype(np.uint8), connectivity=8)
    if count == 1:  # the first is what lies below the floor
        return np.zeros((0, 7), np.float32)
    highest = np.zeros(count, np.float32)
    np.maximum.at(highest, np.asarray(patches, np.intp).ravel(), heatmap.ravel())
    left, top, width, height, area = (stats[1:, n].astype(np.float32) for n in range(5))
    x, y = size[1] / heatmap.shape[1], size[0] / heatmap.shape[0]
    columns = (left * x, top * y, (left + width) * x, (top + height) * y, highest[1:], np.full(count - 1, label))
    rows = np.stack([*columns, area * x * y], axis=1).astype(np.float32)
    return rows[np.argsort(-rows[:, 4], kind="stable")[:MOST]]

"""What the maps of the detector should say of a picture with known defects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .model import STRIDE_PX

Target = dict[str, NDArray[np.float32]]
LEAST_SEEN = 0.45  # of a defect's area: of what is mostly outside the picture nothing is asked


def target_of(boxes: NDArray[np.float32], *, classes: int, size: tuple[int, int]) -> Target:
    """boxes: float [n, 5], x1, y1, x2, y2 in px and class, which may reach out of the picture of (height, width).

    `heat` [classes, h, w] is 1 at a defect's middle and falls off like a bell; `box` [4, h, w] px and `near` [h, w],
    how much a cell's box counts; `ignore` [h, w].
    """
    height, width = size[0] // STRIDE_PX, size[1] // STRIDE_PX
    maps = {
        "heat": np.zeros((classes, height, width), np.float32),
        "box": np.zeros((4, height, width), np.float32),
        "near": np.zeros((height, width), np.float32),
        "ignore": np.zeros((height, width), np.float32),
    }
    across, down, spread = np.arange(width), np.arange(height), 0.13 / STRIDE_PX
    for whole in boxes:
        box = whole[:4].clip(0, (size[1], size[0], size[1], size[0]))
        w, h = box[2] - box[0], box[3] - box[1]
        if w * h < LEAST_SEEN * (whole[2] - whole[0]) * (whole[3] - whole[1]):
            x1, y1, x2, y2 = (box // STRIDE_PX).astype(int)
            if w * h > 0:
                maps["ignore"][y1 : y2 + 1, x1 : x2 + 1] = 1.0
            continue
        column = min(int((box[0] + box[2]) / 2 / STRIDE_PX), width - 1)
        row = min(int((box[1] + box[3]) / 2 / STRIDE_PX), height - 1)
        bell_x = np.exp(-0.5 * ((across - column) / max(0.55, spread * w)) ** 2)
        bell_y = np.exp(-0.5 * ((down - row) / max(0.55, spread * h)) ** 2)
        bell = (bell_y[:, None] * bell_x).astype(np.float32)
        heat = maps["heat"][int(whole[4])]
        np.maximum(heat, bell, out=heat)
        mine = (bell > 0.15) & (bell > maps["near"])
        maps["near"][mine] = bell[mine]
        maps["box"][:, mine] = box[:, None]
    return maps


def visible(boxes: NDArray[np.float32], size: tuple[int, int], least: float = LEAST_SEEN) -> NDArray[np.float32]:
    """The boxes, cut off at the edges of a picture of (height, width); `least` of a box's area must be inside."""
    cut = boxes.copy()
    cut[:, :4] = cut[:, :4].clip(0, (size[1], size[0], size[1], size[0]))
    area, whole = (np.prod(each[:, 2:4] - each[:, :2], axis=1) for each in (cut, boxes))
    return np.asarray(cut[area >= least * whole.clip(1e-6)], np.float32)

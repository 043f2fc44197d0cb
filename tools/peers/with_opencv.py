"""OpenCV's DNN module in a plain loop, as its users write it: blobFromImage, forward, NMSBoxes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

PACKAGES = ("opencv-python-headless", "numpy")
CONFIDENCE, IOU = 0.25, 0.5


def threads() -> str:
    """What it computes with."""
    return f"OpenCV's default: {cv2.getNumThreads()} threads"


def load(model: str, size: tuple[int, int]) -> Callable[[Any], tuple[list[list[float]], int]]:
    """A net for pictures of `size`, and what takes a frame, uint8 [h, w, 3] BGR, to boxes."""
    net = cv2.dnn.readNetFromONNX(model)

    def detect(frame: Any) -> tuple[list[list[float]], int]:
        scale = min(size[0] / frame.shape[0], size[1] / frame.shape[1])
        height, width = round(frame.shape[0] * scale), round(frame.shape[1] * scale)
        left, top = (size[1] - width) // 2, (size[0] - height) // 2
        resized = cv2.resize(frame, (width, height))
        below, right = size[0] - height - top, size[1] - width - left
        picture = cv2.copyMakeBorder(resized, top, below, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        net.setInput(cv2.dnn.blobFromImage(picture, 1 / 255.0, swapRB=True))
        started_ns = time.monotonic_ns()
        output = net.forward()
        infer_ns = time.monotonic_ns() - started_ns
        rows = output[0].T  # [places, 4 + classes]
        label = rows[:, 4:].argmax(1)
        score = rows[np.arange(len(rows)), 4 + label]
        chosen = score > CONFIDENCE
        rows, score, label = rows[chosen], score[chosen], label[chosen]
        xywh = np.concatenate([(rows[:, :2] - rows[:, 2:4] / 2 - [left, top]) / scale, rows[:, 2:4] / scale], 1)
        kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), score.tolist(), label.tolist(), CONFIDENCE, IOU)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).clip(0, [frame.shape[1], frame.shape[0]] * 2)
        return [[*xyxy[n].tolist(), float(score[n]), int(label[n])] for n in np.ravel(kept).astype(int)], infer_ns

    return detect

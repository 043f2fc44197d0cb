"""ONNX Runtime in a plain loop, as its users write it: NumPy before and after, one session with its defaults."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnxruntime

PACKAGES = ("onnxruntime", "numpy", "opencv-python-headless")
CONFIDENCE, IOU = 0.25, 0.5


def threads() -> str:
    """What it computes with."""
    return "ONNX Runtime's default: a thread for every core"


def load(model: str, size: tuple[int, int]) -> Callable[[Any], tuple[list[list[float]], int]]:
    """A session for pictures of `size`, and what takes a frame, uint8 [h, w, 3] BGR, to boxes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def detect(frame: Any) -> tuple[list[list[float]], int]:
        picture, scale, left, top = letterbox(frame, size)
        blob = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255.0
        started_ns = time.monotonic_ns()
        output = session.run(None, {name: blob})[0]
        infer_ns = time.monotonic_ns() - started_ns
        rows = output[0].T  # [places, 4 + classes]
        label = rows[:, 4:].argmax(1)
        score = rows[np.arange(len(rows)), 4 + label]
        chosen = score > CONFIDENCE
        rows, score, label = rows[chosen], score[chosen], label[chosen]
        half = rows[:, 2:4] / 2
        xyxy = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1)
        kept = [n for each in np.unique(label) for n in suppress(xyxy, score, np.flatnonzero(label == each))]
        xyxy = ((xyxy - [left, top] * 2) / scale).clip(0, [frame.shape[1], frame.shape[0]] * 2)
        return [[*xyxy[n].tolist(), float(score[n]), int(label[n])] for n in kept], infer_ns

    return detect


def letterbox(frame: Any, size: tuple[int, int]) -> tuple[Any, float, int, int]:
    """The frame in the middle of a grey picture of `size`, and how to come back: scale, left, top."""
    scale = min(size[0] / frame.shape[0], size[1] / frame.shape[1])
    height, width = round(frame.shape[0] * scale), round(frame.shape[1] * scale)
    left, top = (size[1] - width) // 2, (size[0] - height) // 2
    picture = np.full((*size, 3), 114, np.uint8)
    picture[top : top + height, left : left + width] = cv2.resize(frame, (width, height))
    return picture, scale, left, top


def suppress(xyxy: Any, score: Any, places: Any) -> list[int]:
    """Of the places of one class, those that no better one overlaps by more than IOU."""
    order, kept = places[np.argsort(-score[places])], []
    area = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    while len(order):
        best, others = order[0], order[1:]
        kept.append(int(best))
        corner = np.maximum(xyxy[best, :2], xyxy[others, :2])
        sides = np.maximum(0, np.minimum(xyxy[best, 2:], xyxy[others, 2:]) - corner)
        shared = sides[:, 0] * sides[:, 1]
        order = others[shared <= IOU * (area[best] + area[others] - shared)]
    return kept

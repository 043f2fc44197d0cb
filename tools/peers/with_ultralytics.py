"""Ultralytics' `predict`, as its users call it; the runtime is what its file was exported for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import torch
from ultralytics import YOLO

PACKAGES = ("ultralytics", "onnxruntime", "openvino", "torch", "opencv-python", "numpy")
CONFIDENCE, IOU = 0.25, 0.5


def threads() -> str:
    """What it computes with."""
    return f"the defaults of Ultralytics: {torch.get_num_threads()} of PyTorch, {cv2.getNumThreads()} of OpenCV"


def load(model: str, size: tuple[int, int]) -> Callable[[Any], tuple[list[list[float]], int]]:
    """The model (its file tells the size), and what takes a frame, uint8 [h, w, 3] BGR, to boxes."""
    yolo = YOLO(model, task="detect")

    def detect(frame: Any) -> tuple[list[list[float]], int]:
        result = yolo.predict(frame, conf=CONFIDENCE, iou=IOU, verbose=False)[0]
        return result.boxes.data.tolist(), round(result.speed["inference"] * 1e6)

    return detect

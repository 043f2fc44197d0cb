"""Roboflow's `inference`, with a model from a folder of this machine: no account, no network.

`get_model` reads a folder of `inference_models` where an environment variable allows it; without one it asks for a key.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCAL = {
    "ALLOW_INFERENCE_MODELS_DIRECTLY_ACCESS_LOCAL_PACKAGES": "True",
    "TELEMETRY_OPT_OUT": "True",
    "MODEL_CACHE_DIR": ".",
}
PACKAGES = ("inference", "inference-models", "onnxruntime", "torch", "numpy")
CONFIDENCE, IOU = 0.25, 0.5
CLASSES = 80


def threads() -> str:
    """What it computes with."""
    import torch

    return f"the defaults of `inference`: ONNX Runtime on every core, {torch.get_num_threads()} of PyTorch"


def load(model: str, size: tuple[int, int]) -> Callable[[Any], tuple[list[list[float]], int]]:
    """The model, for pictures of `size`, and what takes a frame, uint8 [h, w, 3] BGR, to boxes."""
    os.environ.update(LOCAL)
    from inference import get_model  # type: ignore[import-not-found]

    network, infer_ns = get_model(package(model, size)), [0]
    forward = network.predict

    def timed(*args: Any, **more: Any) -> Any:
        started_ns = time.monotonic_ns()
        answer = forward(*args, **more)
        infer_ns[0] = time.monotonic_ns() - started_ns
        return answer

    network.predict = timed

    def detect(frame: Any) -> tuple[list[list[float]], int]:
        answer = network.infer(frame, confidence=CONFIDENCE, iou_threshold=IOU)[0]
        found = answer.predictions
        corners = [[p.x - p.width / 2, p.y - p.height / 2, p.x + p.width / 2, p.y + p.height / 2] for p in found]
        return [[*xyxy, p.confidence, p.class_id] for xyxy, p in zip(corners, found, strict=True)], infer_ns[0]

    return detect


def package(model: str, size: tuple[int, int]) -> str:
    """A folder as `inference` wants it: the ONNX, how to prepare pictures for it, and the names of the classes."""
    folder = Path(tempfile.mkdtemp(dir="."))
    (folder / "weights.onnx").symlink_to(Path(model).resolve())
    (folder / "class_names.txt").write_text("".join(f"{n}\n" for n in range(CLASSES)))
    files = {
        "model_config.json": {
            "model_architecture": "yolov8",
            "task_type": "object-detection",
            "backend_type": "onnx",
        },
        "inference_config.json": {
            "image_pre_processing": {},
            "network_input": {
                "training_input_size": {"height": size[0], "width": size[1]},
                "dynamic_spatial_size_supported": False,
                "color_mode": "rgb",
                "resize_mode": "letterbox",
                "padding_value": 114,
                "input_channels": 3,
                "scaling_factor": 255,
            },
            "forward_pass": {"static_batch_size": 1},
            "post_processing": {"type": "nms", "fused": False},
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return str(folder.resolve())

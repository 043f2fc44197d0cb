"""A YOLOv8n as ONNX and for OpenVINO, with Ultralytics' own export, in the environment of Ultralytics.

python -I export_yolov8n.py FRAMES.npy FOLDER
The weights are random (none can be had without a download), with the scores shifted so that some dozens of boxes of the
first frame reach the threshold and have to be suppressed. Imports nothing of edge-inspector.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics import YOLO

CONFIDENCE = 0.25
FEWEST, MOST = 24, 40  # so many of the 8,400 places reach the threshold: where the scores leave the widest gap


def main() -> None:
    """Make both in FOLDER."""
    frame = np.load(sys.argv[1])[0]
    os.chdir(sys.argv[2])
    torch.manual_seed(1)
    network = YOLO("yolov8n.yaml")
    shift_scores(network, frame)
    network.export(format="onnx", opset=17)
    network.export(format="openvino")


def shift_scores(network: Any, frame: Any) -> None:
    """Spread the scores, which random weights leave nearly equal, and put the threshold into a gap between them."""
    head, picture = network.model.model[-1], letterboxed(frame)

    def logits() -> Any:
        return torch.logit(network.model.eval()(picture)[0][0, 4:].double())

    with torch.no_grad():
        settle(network.model, picture)
        spread = float(logits().std(dim=1).mean())
        for layer in head.cv3:
            layer[-1].weight.mul_(1.5 / spread)
        best = logits().amax(0).sort(descending=True).values[FEWEST - 1 : MOST]
        widest = int((best[:-1] - best[1:]).argmax())
        middle = float(best[widest] + best[widest + 1]) / 2
        for layer in head.cv3:
            layer[-1].bias.add_(float(np.log(CONFIDENCE / (1 - CONFIDENCE))) - middle)


def settle(network: Any, picture: Any) -> None:
    """Let batch normalisation see some pictures: without, half precision cannot tell one place from another."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.5
    network.train()
    for n in range(8):
        network(picture.roll(40 * n, dims=3))
    network.eval()


def letterboxed(frame: Any) -> Any:
    """float32 [1, 3, 640, 640], RGB, 0 to 1, of uint8 [h, w, 3] BGR."""
    scale = 640 / max(frame.shape[:2])
    height, width = round(frame.shape[0] * scale), round(frame.shape[1] * scale)
    top, left = (640 - height) // 2, (640 - width) // 2
    picture = np.full((640, 640, 3), 114, np.uint8)
    picture[top : top + height, left : left + width] = cv2.resize(frame, (width, height))
    return torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)[None])) / 255.0


if __name__ == "__main__":
    main()

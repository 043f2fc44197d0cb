"""A YOLOv8n layout from uint8 picture to final boxes: this project's engine beside Ultralytics' own `predict`.

In an environment with both: `pip install ultralytics onnxruntime openvino onnx -e .`, then
python -m tools.peers.ultralytics --rounds 15 --out benchmarks/peers.json

The weights are random (none can be had without a download), with the scores shifted so that some dozens of boxes reach
the threshold and have to be suppressed. All three take turns, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_inspector import runners
from edge_inspector.commands.looking import Looker
from edge_inspector.models.folder import find
from edge_inspector.models.golden import drawn
from edge_inspector.preprocess import Letterbox, use_one_thread

FRAME = (1024, 1280)
CONFIDENCE = 0.25
ABOVE = 30  # so many of the 8,400 places reach the threshold


def main() -> None:
    """Export, import, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=10, help="frames for each of them in each round")
    parser.add_argument("--out", type=Path, help="write the result there, as JSON")
    args = parser.parse_args()
    frames = list(drawn(FRAME))
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(Path(folder), frames[0])
        found = {name: run(frames[0]) for name, run in runs.items()}
        print("boxes found in the first picture:", found)
        took: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, run in runs.items():
                run(frames[0])
                started = time.perf_counter()
                for n in range(args.frames):
                    run(frames[n % len(frames)])
                took[name].append((time.perf_counter() - started) * 1e3 / args.frames)
    result = report(took, found)
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


def contestants(folder: Path, frame: Any) -> dict[str, Callable[[Any], int]]:
    """Name -> what turns a frame, uint8 [h, w, 3] BGR, into final boxes and says how many."""
    from ultralytics import YOLO

    os.chdir(folder)
    network = YOLO("yolov8n.yaml")
    shift_scores(network, frame)
    onnx, openvino = network.export(format="onnx", opset=17), network.export(format="openvino")
    command = [sys.executable, "-m", "edge_inspector", "import", str(onnx), "--name", "yolov8n"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    engine = find("yolov8n", folder / "engines")
    use_one_thread()
    looker = Looker(engine.tables, runners.make(engine))
    runs: dict[str, Callable[[Any], int]] = {
        "edge-inspector": lambda pixels: len(looker.look(pixels, floor=CONFIDENCE))
    }
    for name, path in (("Ultralytics, OpenVINO", openvino), ("Ultralytics, ONNX Runtime", onnx)):
        runs[name] = functools.partial(predict, YOLO(path, task="detect"))
    return runs


def predict(model: Any, pixels: Any) -> int:
    """As its users call it."""
    return len(model.predict(pixels, conf=CONFIDENCE, iou=0.5, verbose=False)[0])


def shift_scores(network: Any, frame: Any) -> None:
    """Spread the scores, which random weights leave nearly equal, so that about ABOVE places reach the threshold."""
    import torch

    head = network.model.model[-1]
    pixels, fit = np.empty((640, 640, 3), np.uint8), Letterbox.fit(frame.shape[:2], (640, 640))
    fit.clear(pixels)
    fit.apply(frame, pixels)
    picture = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))[None]) / 255.0

    def logits() -> Any:
        return torch.logit(network.model.eval()(picture)[0][0, 4:].double())

    with torch.no_grad():
        settle(network.model, picture)
        spread = float(logits().std(dim=1).mean())
        for layer in head.cv3:
            layer[-1].weight.mul_(1.5 / spread)
        least = float(logits().amax(0).sort(descending=True).values[ABOVE])
        for layer in head.cv3:
            layer[-1].bias.add_(float(np.log(CONFIDENCE / (1 - CONFIDENCE))) - least)


def settle(network: Any, picture: Any) -> None:
    """Let batch normalisation see some pictures: without, half precision cannot tell one place from another."""
    from torch.nn import BatchNorm2d

    for layer in network.modules():
        if isinstance(layer, BatchNorm2d):
            layer.momentum = 0.5
    network.train()
    for n in range(8):
        network(picture.roll(40 * n, dims=3))
    network.eval()


def report(took: dict[str, list[float]], found: dict[str, int]) -> dict[str, Any]:
    """Medians in ms, and each of theirs over ours: median, least and most over the rounds."""
    ours = took["edge-inspector"]
    ratios = {
        name: [theirs / mine for theirs, mine in zip(times, ours, strict=True)]
        for name, times in took.items()
        if times is not ours
    }
    packages = ("ultralytics", "openvino", "onnxruntime", "torch", "numpy")
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in packages},
        "frame": list(FRAME),
        "boxes": found,
        "ms": {name: round(median(times), 2) for name, times in took.items()},
        "over_ours": {name: [round(f(each), 3) for f in (median, min, max)] for name, each in ratios.items()},
    }


if __name__ == "__main__":
    main()

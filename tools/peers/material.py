"""What all contestants are given: frames, a YOLOv8n as ONNX and for OpenVINO, and our engine of the same ONNX."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_inspector.models.golden import drawn

from .environments import NotRun, prepare, say
from .ours import ENGINE, RECIPE

HERE = Path(__file__).parent
FRAME = (1024, 1280)  # height, width
STEP_PX = 160  # every frame is the one before, moved to the right: all have about as many boxes
CONFIDENCE = 0.25  # as it stands in every peer
QUIET = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}


@dataclass(frozen=True, slots=True)
class Material:
    """Paths. ours: engines/ and recipe.toml. size: (height, width) of the network's input."""

    frames: Path
    onnx: Path
    openvino: Path
    ours: Path
    size: tuple[int, int] = (640, 640)


def make(folder: Path, environments: Path) -> Material:
    """Into `folder`; the networks are exported once, into `environments`. Raises NotRun where they cannot be."""
    frames = folder / "frames.npy"
    picture = next(drawn(FRAME))
    np.save(frames, np.stack([np.roll(picture, STEP_PX * n, axis=1) for n in range(FRAME[1] // STEP_PX)]))
    exported = environments.resolve() / "yolov8n"
    if not exported.is_dir():
        _export(frames, exported, prepare("ultralytics", environments))
    onnx = exported / "yolov8n.onnx"
    import_engine(onnx, folder)
    return Material(frames, onnx, exported / "yolov8n_openvino_model", folder)


def import_engine(onnx: Path, folder: Path) -> None:
    """Our engine, by our own command; the recipe lets through what the others let through."""
    say(f"importing {onnx.name}")
    command = [sys.executable, "-m", "edge_inspector", "import", str(onnx), "--name", ENGINE]
    done = subprocess.run([*command, "--engines", str(folder / "engines")], capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"edge-inspector import: {done.stderr.strip()}")
    (folder / "recipe.toml").write_text(RECIPE.format(confidence=CONFIDENCE))


def _export(frames: Path, exported: Path, programs: Path) -> None:
    say("exporting a YOLOv8n as ONNX and for OpenVINO")
    making = exported.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    command = [str(programs / "python"), "-I", str(HERE / "export_yolov8n.py"), str(frames), str(making)]
    environment = {**os.environ, **QUIET, "YOLO_CONFIG_DIR": str(making)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise NotRun(f"the export failed: {done.stderr.strip().splitlines()[-1:]}")
    making.rename(exported)

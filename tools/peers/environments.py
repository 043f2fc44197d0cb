"""A virtual environment for every peer: made once from the public registries, used again afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "ultralytics": ("ultralytics", "onnxruntime", "openvino", "onnx", "onnxslim", "pyzmq"),
    "opencv": ("opencv-python-headless", "numpy", "pyzmq"),
    "onnxruntime": ("onnxruntime", "opencv-python-headless", "numpy", "pyzmq"),
    "openvino": ("openvino",),
    "roboflow": ("inference", "pyzmq"),
}
PATIENCE_S = 1800  # PyTorch comes with gigabytes of CUDA


class NotRun(Exception):
    """Why a peer cannot take part, in words for the report."""


def prepare(name: str, folder: Path) -> Path:
    """The `bin` of the environment `name` in `folder`. Raises NotRun where it cannot be made."""
    place = folder.resolve() / name
    wanted, made = "\n".join(REQUIREMENTS[name]) + "\n", place / "made-of.txt"
    if made.is_file() and made.read_text() == wanted:
        return place / "bin"
    say(f"{name}: installing {' '.join(REQUIREMENTS[name])} into {place}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _run([sys.executable, "-m", "venv", str(place)], place / "install.log")
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *REQUIREMENTS[name]], place / "install.log")
    made.write_text(wanted)
    return place / "bin"


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _run(command: list[str], log: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    with log.open("a") as file:
        try:
            done = subprocess.run(command, stdout=file, stderr=file, timeout=PATIENCE_S, env=environment)
        except subprocess.TimeoutExpired:
            raise NotRun(f"could not be installed within {PATIENCE_S // 60} minutes") from None
    if done.returncode:
        errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise NotRun(f"could not be installed: {errors[-1] if errors else f'see {log}'}")

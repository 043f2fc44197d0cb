"""OpenVINO's own `benchmark_app`: how many frames a second the bare network can do, with nothing around it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from .environments import NotRun

NAME = "the bare network (`benchmark_app`)"


def make(programs: Path, onnx: Path) -> Callable[[float], float]:
    """What measures it for so many seconds. A stream for every core gives the most."""
    options = ["-d", "CPU", "-hint", "none", "-nstreams", str(os.cpu_count()), "-api", "async"]

    def measure(seconds: float) -> float:
        command = [str(programs / "benchmark_app"), "-m", str(onnx), *options, "-t", str(max(1, round(seconds)))]
        done = subprocess.run(command, capture_output=True, text=True)
        found = re.search(r"Throughput:\s*([\d.]+) FPS", done.stdout)
        if found is None:
            raise NotRun(f"benchmark_app: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
        return float(found[1])

    return measure

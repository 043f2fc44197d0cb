r"""Check the GPU path on a machine with an NVIDIA GPU, a driver for CUDA 13, and no network: one command, one JSON.

    python -m tools.gpu_check --wheels DIR --out benchmarks/gpu.json

DIR brings what the machine lacks, for its Python (3.12, say); what it has already (NumPy, OpenCV, pytest) may stay out.
Made where there is a network:

    pip download -d DIR --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 \
        tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings onnx protobuf ml-dtypes \
        mako markupsafe pytools platformdirs typing-extensions siphash24 \
        numpy opencv-python-headless msgspec pytest iniconfig packaging pluggy pygments pytest-timeout
    python3.12 -m pip wheel -w DIR --no-deps pycuda    # docs/jetson.md: on a machine without a driver
    python -m tools.gpu_check --pack DIR               # big wheels become small pieces, DIR/*.xz.000

A step that fails is written down with its words, and the next one runs. Exit 1 where any failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import wheels

ROOT = Path(__file__).parents[2]
PLANS = ("fp32", "fp16", "current")  # current: built for the GPU that is here, should it be none of the known ones
STEPS = ("machine", *(f"{what} {each}" for each in PLANS for what in ("build", "load", "suite", "measure")))
LIMIT_S = 240.0
TAIL = 4000  # characters of what a failed step said


def main() -> int:
    """Run every step, each in a process of its own, as a driver may crash or hang it."""
    args = _arguments()
    if args.pack:
        print("\n".join(str(path) for path in wheels.pack(args.pack)))
        return 0
    report: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "nvidia_smi": _nvidia_smi(),
        },
        "steps": {},
    }
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        for number, name in enumerate(("install", *STEPS)):
            print(f"[{number + 1}/{len(STEPS) + 1}] {name} ... ", end="", file=sys.stderr, flush=True)
            started = time.monotonic()
            found = _install(args.wheels, Path(work)) if name == "install" else _step(name, Path(work))
            found["took_s"] = round(time.monotonic() - started, 1)
            report["steps"][name] = found
            print("ok" if found["ok"] else f"FAILED: {found['error'].strip().splitlines()[-1]}", file=sys.stderr)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=1) + "\n")  # after each: a later one may take the machine
    return 0 if all(step["ok"] for step in report["steps"].values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheels", type=Path, metavar="DIR", help="what was brought along")
    what.add_argument("--pack", type=Path, metavar="DIR", help="make the big wheels in a folder small, and end")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu.json"), help="the report")
    return parser.parse_args()


def _nvidia_smi() -> str:
    """What the driver's own tool says; known even where TensorRT does not load."""
    try:
        return subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"


def _install(folder: Path, work: Path) -> dict[str, Any]:
    try:
        return {"ok": True, "result": {"wheels": wheels.unpack(folder, work / "site")}}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def _step(name: str, work: Path) -> dict[str, Any]:
    """A step in another process: its result, or how it ended and the last of what it said."""
    answer = work / "answer.json"
    answer.unlink(missing_ok=True)
    path = os.pathsep.join([str(work / "site"), str(ROOT)])
    command = [sys.executable, "-m", "tools.gpu_check.steps", name, str(work), str(answer)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, timeout=LIMIT_S, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = error.output or b""
        words = said if isinstance(said, str) else said.decode(errors="replace")
        return {"ok": False, "error": f"{words[-TAIL:]}\nno end after {LIMIT_S:g} s"}
    if done.returncode or not answer.is_file():
        words = done.stdout.strip() or "without a word"
        return {"ok": False, "exit": done.returncode, "error": words[-TAIL:]}
    return {"ok": True, "result": json.loads(answer.read_text())}


if __name__ == "__main__":
    sys.exit(main())

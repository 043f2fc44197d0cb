"""The steps of the GPU check, each run in a process of its own: `steps NAME WORK ANSWER`, the answer as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_inspector import runners
from edge_inspector.models.folder import Engine, find
from edge_inspector.runners.tensorrt import TensorRTRunner

from .measure import measure

ROOT = Path(__file__).parents[2]
TARGET = "tensorrt-rtx"
CAPABILITIES = ("80", "86", "89", "120")  # what TensorRT-RTX knows of GPUs in use; a Hopper is none of them
PLAN = "EDGE_INSPECTOR_GPU_PLAN"  # tells tests/gpu which plan to take, as target:path


def main() -> None:
    """Run one step; whatever it raises ends the process with its words."""
    name, work, answer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    what, _, precision = name.partition(" ")
    steps: dict[str, Callable[[Path, str], dict[str, Any]]] = {
        "machine": _machine, "build": _build, "load": _load, "suite": _suite, "measure": _measure,
    }  # fmt: skip
    answer.write_text(json.dumps(steps[what](work, precision)))


def _boards() -> Engine:
    return find("boards", ROOT / "engines")


def _plan(work: Path, precision: str) -> Path:
    plan = work / f"{precision}.plan"
    if not plan.is_file():
        raise SystemExit(f"there is no plan in {precision}: its build failed")
    return plan


def _machine(work: Path, precision: str) -> dict[str, Any]:
    """The GPU, the driver, the versions."""
    import numpy

    return {**dataclasses.asdict(runners.machine(TARGET)), "numpy": numpy.__version__}


def _build(work: Path, precision: str) -> dict[str, Any]:
    """Compile engines/boards. This needs no GPU, but for `current`: in fp32 for the one that is here, known or not."""
    from edge_inspector.models.compile import compile_plan
    from edge_inspector.models.halve import to_fp16

    model, kept = _boards().model, list[str]()
    if precision == "fp16":
        model = work / "fp16.onnx"
        kept += to_fp16(_boards().model, model)
    capabilities: tuple[str, ...] = () if precision == "current" else CAPABILITIES
    plan, started = work / f"{precision}.plan", time.monotonic()
    tensors = compile_plan(
        model, plan, target=TARGET, capabilities=capabilities, timing_cache=None, progress=lambda what, share: None
    )
    return {
        "build_s": round(time.monotonic() - started, 2),
        "bytes": plan.stat().st_size,
        "capabilities": capabilities,
        "tensors": tensors,
        "kept_fp32": kept,
    }


def _load(work: Path, precision: str) -> dict[str, Any]:
    """How long a start takes (TensorRT-RTX compiles its kernels then), graphs, and whether the rows are the golden."""
    from edge_inspector.models import gate

    took = []
    for _ in range(2):
        started = time.monotonic()
        runner = TensorRTRunner(_plan(work, precision), "detect", TARGET)
        took.append(round(time.monotonic() - started, 2))
        graphs = runner.graphs
        off = gate.prove(_boards(), runner)
        runner.close()
    return {"start_s": took, "cuda_graphs": graphs, "scores_off_by": round(off, 5)}


def _suite(work: Path, precision: str) -> dict[str, Any]:
    """tests/gpu with the plan: the contract of every runner, lanes, overlap, lost and hung GPUs."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-rs", "-p", "no:cacheprovider", "--tb=short"]
    env = {**os.environ, PLAN: f"{TARGET}:{_plan(work, precision)}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    if done.returncode or "passed" not in lines[-1]:
        raise SystemExit("\n".join([*lines[-60:], done.stderr.strip()[-500:]]))
    return {"pytest": lines[-1], "skipped": [line for line in lines if line.startswith("SKIPPED")]}


def _measure(work: Path, precision: str) -> dict[str, Any]:
    """Overlap, latency, pauses, throughput."""
    runner = TensorRTRunner(_plan(work, precision), "detect", TARGET)
    try:
        return {
            "cuda_graphs": runner.graphs,
            "load_before": round(statistics.mean(os.getloadavg()), 2),
            **measure(runner),
        }
    finally:
        runner.close()


if __name__ == "__main__":
    main()

"""Figures of a TensorRT runner: whether lanes overlap, how long a part takes, also after a pause, parts per second."""

from __future__ import annotations

import statistics
import time
from typing import Any

from edge_inspector.metrics import Histogram
from edge_inspector.models.golden import drawn
from edge_inspector.runners.cuda import BEGUN, COMPUTED, COPIED_IN, DONE
from edge_inspector.runners.tensorrt import TensorRTRunner

PARTS, ROUNDS = 2000, 7
PAUSE_S, PAUSES, WARM_S = 5.0, 4, 0.1


def measure(runner: TensorRTRunner) -> dict[str, Any]:
    """Everything, in half a minute and eight pauses."""
    for into, pixels in zip(runner.inputs, drawn(runner.inputs[0].shape[:2], count=2), strict=True):
        into[:] = pixels
    _sequence(runner, 200)
    return {**_overlap(runner), **_latency(runner), **_pauses(runner), **_throughput(runner)}


def _overlap(runner: TensorRTRunner) -> dict[str, Any]:
    """By the device's own time stamps: whether lane 1's part was copied in before lane 0 had computed its own."""
    ahead, copied_in, computed, copied_out = [], [], [], []
    for _ in range(200):
        for lane in (0, 1):
            runner.submit(lane)
        for lane in (0, 1):
            runner.collect(lane)
        ahead.append(runner.elapsed_ms((1, COPIED_IN), (0, COMPUTED)))
        copied_in.append(runner.elapsed_ms((0, BEGUN), (0, COPIED_IN)))
        computed.append(runner.elapsed_ms((0, COPIED_IN), (0, COMPUTED)))
        copied_out.append(runner.elapsed_ms((0, COMPUTED), (0, DONE)))
    return {
        "overlap_share": sum(each > 0 for each in ahead) / len(ahead),
        "device_ms": {
            "copy_in": _spread(copied_in), "compute": _spread(computed), "copy_out": _spread(copied_out),
        },
    }  # fmt: skip


def _latency(runner: TensorRTRunner) -> dict[str, Any]:
    """Submit to collected, one part after another."""
    took = Histogram()
    for _ in range(PARTS):
        took.add(round(_part(runner) * 1e6))
    return {"latency_us": took.summary_us()}


def _pauses(runner: TensorRTRunner) -> dict[str, Any]:
    """The first part after a pause, in ms: when nothing ran meanwhile, and when a grey part ran now and then."""
    idle, warm = [], []
    for _ in range(PAUSES):
        time.sleep(PAUSE_S)
        idle.append(round(_part(runner) * 1e3, 3))
        until = time.monotonic() + PAUSE_S
        while time.monotonic() < until:
            time.sleep(WARM_S)
            _part(runner)
        time.sleep(WARM_S)
        warm.append(round(_part(runner) * 1e3, 3))
    return {"first_after_pause_ms": {"pause_s": PAUSE_S, "idle": idle, "kept_warm": warm}}


def _throughput(runner: TensorRTRunner) -> dict[str, Any]:
    """Parts per second in turns: the bare plan in a loop without copies or waiting, one lane, two lanes."""
    found: dict[str, list[float]] = {"bare": [], "one_lane": [], "two_lanes": []}
    for _ in range(ROUNDS):
        for name, run in (("bare", _bare), ("one_lane", _sequence), ("two_lanes", _pair)):
            started = time.perf_counter()
            run(runner, PARTS // 4)
            found[name].append(PARTS // 4 / (time.perf_counter() - started))
    ratios = {
        f"{first}_to_{second}": [a / b for a, b in zip(found[first], found[second], strict=True)]
        for first, second in (("two_lanes", "bare"), ("two_lanes", "one_lane"))
    }
    return {name: _spread(values) for name, values in {**found, **ratios}.items()}


def _part(runner: TensorRTRunner) -> float:
    started = time.perf_counter()
    runner.submit(0)
    runner.collect(0)
    return time.perf_counter() - started


def _bare(runner: TensorRTRunner, parts: int) -> None:
    """TensorRT's own call, back to back in the lane's stream; reaches into the runner, as no line needs this."""
    lane = runner._lanes[0]
    with runner._current():
        for _ in range(parts):
            runner._compute(0)
        lane.marks[DONE].record(lane._stream)
        lane.wait()


def _sequence(runner: TensorRTRunner, parts: int) -> None:
    for _ in range(parts):
        _part(runner)


def _pair(runner: TensorRTRunner, parts: int) -> None:
    runner.submit(0)
    for n in range(1, parts):
        runner.submit(n % 2)
        runner.collect((n - 1) % 2)
    runner.collect((parts - 1) % 2)


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4),
    }  # fmt: skip

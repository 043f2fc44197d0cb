"""What the benchmark has found, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WORDS = {
    "bare_one_lane_fps": "bare engine, one part after the other, fps",
    "bare_fps": "bare engine, two in flight, fps",
    "preprocessed_fps": "the same with letterbox, fps",
    "pipeline_fps": "whole pipeline to a subscriber, fps",
    "noise": "noise: the bare engine's fastest turn over its slowest, less 1",
    "pipeline_to_bare": "pipeline / bare engine",
    "pipeline_to_preprocessed": "pipeline / bare engine with letterbox",
    "latency_to_bare": "median latency, pipeline / bare engine",
    "latency_ms": "frame to received message, ms",
    "bare_latency_ms": "bare engine's own, ms",
    "added_ms": "added to the engine's time, ms",
    "first_after_rest": "first part after so many seconds of rest / median",
    "null_engine_fps": "an engine that costs nothing, fps",
    "rss_slope_mb": "resident memory's growth, MB",
    "publish_to_register_ms": "published to readable by the PLC, ms",
}
SPREAD, LATENCY = ("median", "min", "max"), ("p50", "p90", "p99", "p999", "max")
HIDDEN = ("curves", "rss_mb", "ok")


def table(result: dict[str, Any]) -> str:
    """One line a figure."""
    lines = list(_rows(result))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


def _rows(found: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = before + WORDS.get(key, key.replace("_", " "))
        if key in HIDDEN:
            continue
        if isinstance(value, dict) and tuple(value) == SPREAD:
            yield name, f"{value['median']:g}  ({value['min']:g} to {value['max']:g})"
        elif isinstance(value, dict) and set(value) <= set(LATENCY):
            yield name, "  ".join(f"{share} {value[share]:.3g}" for share in LATENCY if share in value)
        elif isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            yield from _rows(value, f"{name}: ")
        elif isinstance(value, dict):
            yield name, ", ".join(f"{each}: {of}" for each, of in value.items())
        elif isinstance(value, list):
            yield name, "; ".join(map(str, value)) or "nothing"
        else:
            yield name, str(value)

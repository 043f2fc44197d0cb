"""From turns to figures, as JSON, and from those to a table in Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .bare import NAME as BARE
from .contest import Result, Turns

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")  # what decides how fast a CPU multiplies


def figures(result: Result, about: dict[str, dict[str, Any]], *, ours: str, seconds: float) -> dict[str, Any]:
    """Everything that is written down. about: versions and threads, by contestant."""
    first = result.turns[ours]
    told = {name: about[name] | _of(turns) for name, turns in result.turns.items()}
    for name in told.keys() - {ours}:
        told[name]["over_ours"] = _over(result.turns[name], first)
    fps = [heard.per_second for heard in first.full]
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "rounds": len(fps),
        "seconds_a_turn": seconds,
        "pace_hz": result.pace_hz,
        "ours": ours,
        "contestants": told,
        "boxes_agree": len({each["boxes"] for each in told.values()}) == 1,
        "bare": {"name": BARE, "fps": _spread(result.bare_fps), "ours_over_it": _spread(_ratios(fps, result.bare_fps))}
        if result.bare_fps
        else None,
        "not_run": result.not_run,
    }


def _of(turns: Turns) -> dict[str, Any]:
    """Times are of all rounds together; a speed is the median of the rounds, with the least and the most."""
    image_ms = list(chain.from_iterable(turns.image_ms))
    return {
        "boxes": turns.full[0].boxes,
        "image_to_boxes": {"ms": _times([image_ms]), "fps": round(1e3 / float(np.mean(image_ms)), 2)},
        "full_speed": {
            "ms": _times(heard.total_ms for heard in turns.full),
            "fps": _spread(heard.per_second for heard in turns.full),
        },
        "paced": {
            "ms": _times(heard.total_ms for heard in turns.paced),
            "added_ms": _times(heard.added_ms for heard in turns.paced),
        },
    }


def _over(turns: Turns, ours: Turns) -> dict[str, dict[str, float]]:
    """Theirs over ours, round by round: of a time, more than 1 is slower; of fps, less than 1."""

    def of(each: Turns) -> dict[str, list[float]]:
        return {
            "image_to_boxes_ms": [median(ms) for ms in each.image_ms],
            "full_speed_fps": [heard.per_second for heard in each.full],
            "paced_ms": [median(heard.total_ms) for heard in each.paced],
            "added_ms": [median(heard.added_ms) for heard in each.paced],
        }

    mine = of(ours)
    return {what: _spread(_ratios(values, mine[what])) for what, values in of(turns).items()}


def _ratios(these: list[float], those: list[float]) -> list[float]:
    return [one / other for one, other in zip(these, those, strict=True)]


def _times(rounds: Iterable[list[float]]) -> dict[str, float]:
    """p50 and p99 of all, and how many there are."""
    values = list(chain.from_iterable(rounds))
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "n": len(values)}


def _spread(values: Iterable[float]) -> dict[str, float]:
    each = list(values)
    return {"median": round(median(each), 3), "min": round(min(each), 3), "max": round(max(each), 3)}


def machine() -> dict[str, Any]:
    """Processor, cores, what it can multiply with."""
    text = Path("/proc/cpuinfo").read_text()
    lines = (line.partition(":") for line in text.splitlines())
    named = {key.strip(): value.strip() for key, _, value in lines}
    return {
        "processor": named.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in named.get("flags", "").split()],
        "python": platform.python_version(),
    }


def table(told: dict[str, Any]) -> str:
    """The figures in Markdown: all of them, and theirs over ours."""
    pace, everybody = f"{told['pace_hz']:g}/s", told["contestants"]
    figure_rows = [
        ["", "picture to boxes", "full speed", "frame to message then", f"at {pace}", f"added at {pace}", "boxes"],
        *(_row(name, each) for name, each in everybody.items()),
    ]
    if told["bare"]:
        figure_rows.append([told["bare"]["name"], "", f"{told['bare']['fps']['median']:.1f} fps", "", "", "", ""])
    ratio_rows = [
        ["over ours", "picture to boxes", "full speed", f"frame to message at {pace}", f"added at {pace}"],
        *(
            [name, *(f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})" for r in each["over_ours"].values())]
            for name, each in everybody.items()
            if name != told["ours"]
        ),
    ]
    notes = [f"- {name}: {_names(each['versions'])}; threads: {each['threads']}" for name, each in everybody.items()]
    notes += [f"- {name} did not run: {why}" for name, why in told["not_run"].items()]
    if not told["boxes_agree"]:
        notes.append("- Not everybody finds the same number of boxes in the first frame.")
    about = (
        "Times are p50 / p99 in ms. Added: from the frame to the received message, less the network alone. "
        "Over ours: theirs by ours, the median of the rounds with the least and the most."
    )
    return "\n".join([*_markdown(figure_rows), "", *_markdown(ratio_rows), "", about, "", *notes])


def _names(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _row(name: str, each: dict[str, Any]) -> list[str]:
    full, paced = each["full_speed"], each["paced"]
    times = [each["image_to_boxes"]["ms"], full["ms"], paced["ms"], paced["added_ms"]]
    first, *others = [f"{ms['p50']:.1f} / {ms['p99']:.1f}" for ms in times]
    return [name, first, f"{full['fps']['median']:.1f} fps", *others, str(each["boxes"])]


def _markdown(rows: list[list[str]]) -> list[str]:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]

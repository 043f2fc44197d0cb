"""The engine's card: what it learned from, how, and what came of it; everything needed to do it again."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from edge_inspector import __version__

from .data import PARTS, DataSet
from .loop import measure
from .model import Inspector


def card_of(
    args: argparse.Namespace, data: DataSet, inspector: Inspector, log: list[dict[str, float]], run: Path
) -> str:
    """Markdown. The data's owner and terms are for whoever trains to say: the place is marked."""
    task = "accuracy" if data.good else "AP50"
    best = log[-1] if len(log) == args.epochs else max(log, key=lambda entry: entry["figure"])
    height, width = data.size
    parameters = sum(each.numel() for each in inspector.parameters()) / 1e6
    gives = f"`scores` float32 [1, {len(data.labels)}]" if data.good else "`detections` float32 [1, 100, 6]"
    test = data.part("test")
    held = measure(data, test, inspector) if test else float("nan")
    rows = {
        "classes": ", ".join(data.labels) + (f" (good: {data.good[0]})" if data.good else ""),
        "input": f"`image` uint8 [1, {height}, {width}, 3], BGR"
        + (", made grey in the graph" if data.channels == 1 else ""),
        "filters in the graph": ", ".join(args.filters) or "none",
        "views": "eight, mirrored and turned; the mean of their probabilities" if args.mirrored else "one",
        "output": gives,
        "network": f"{args.size} {args.task}or, {parameters:.2f} M parameters".replace("classifyor", "classifier"),
        "command": f"`python -m tools.train {shlex.join(_command())}`",
        "seed": str(args.seed),
        "time": f"{sum(entry['seconds'] for entry in log) / 60:.0f} minutes, {len(log)} epochs, on {_machine()}",
        "made with": f"edge-inspector {__version__}, PyTorch {torch.__version__}, {time.strftime('%Y-%m-%d')}",
    }
    table = "".join(f"| {key} | {value} |\n" for key, value in rows.items())
    counts = "".join(_counts(data, part) for part in PARTS)
    return (
        f"# {args.engine.name}\n\n"
        "Data: *say here whose pictures these are, and their terms of use.*\n\n"
        f"| | |\n|---|---|\n{table}\n"
        f"## Data\n\nSplit by hash of what `{args.group}` finds in file names; every file is in split.csv of the "
        f"run.\n\n| part | pictures | good | labels |\n|---|---|---|---|\n{counts}\n"
        f"## Measured\n\n{_chosen(data, task, best)}**{task} {held:.3f} on the part held back**. "
        f"More: `edge-inspector evaluate {args.engine.name} --data {run.name}/{next(run.glob('test.*')).name}`.\n\n"
        "## golden/\n\nPainted by the network itself until it was sure of each class: nothing of the data is in them.\n"
    )


def _chosen(data: DataSet, task: str, best: dict[str, float]) -> str:
    if not data.part("validate"):
        return ""
    return (
        f"{task} {best['figure']:.3f} on the validation part in epoch {int(best['epoch'])}, whose weights these are. "
    )


def _counts(data: DataSet, part: str) -> str:
    examples = data.part(part)
    labels = Counter(data.labels[int(label)] for each in examples for label in each.boxes[:, 4])
    good = sum(not len(each.boxes) for each in examples)
    return f"| {part} | {len(examples)} | {good} | {', '.join(f'{n} {name}' for name, n in sorted(labels.items()))} |\n"


def _command() -> list[str]:
    """As it was typed, without what is only of this machine."""
    here = str(Path.cwd())
    return [os.path.relpath(word, here) if word.startswith("/") else word for word in sys.argv[1:]]


def _machine() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    named = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{torch.get_num_threads()} thread(s) of {named[0] if named else platform.processor()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []

"""`python -m tools.peers [--out FILE.json] [--chart FILE.svg]`: this project beside what a user would pick instead.

The same frames and the same YOLOv8n (random weights, scores shifted so that there is something to suppress) go through
all, each in a virtual environment of its own. Progress goes to standard error, a table to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bare, material
from .chart import chart
from .contest import Contest
from .contestant import Contestant
from .environments import NotRun, prepare
from .report import figures, table

OURS = "edge-inspector"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """Who else. openvino: it is given the export for OpenVINO in place of the ONNX."""

    name: str
    environment: str
    script: str
    openvino: bool = False


PEERS = (
    Peer("Ultralytics `predict`, OpenVINO", "ultralytics", "with_ultralytics.py", openvino=True),
    Peer("Ultralytics `predict`, ONNX Runtime", "ultralytics", "with_ultralytics.py"),
    Peer("Roboflow `inference`", "roboflow", "with_roboflow.py"),
    Peer("ONNX Runtime in a loop", "onnxruntime", "with_onnxruntime.py"),
    Peer("OpenCV DNN in a loop", "opencv", "with_opencv.py"),
)


def main() -> int:
    """Make what is missing, measure, tell; exit 1 where not everybody could take part."""
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help="only those peers whose names hold one of these")
    parser.add_argument("--rounds", type=int, default=10, help="so often everybody takes a turn of each kind (10)")
    parser.add_argument("--seconds", type=float, default=3.0, help="a turn (3)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "edge-inspector-peers")
    parser.add_argument("--environments", type=Path, default=cache, help=f"where they are kept ({cache})")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures there")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw speeds and times there")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with tempfile.TemporaryDirectory(prefix="peers-") as place, contextlib.ExitStack() as stack:
        try:
            told = measure(args, Path(place), stack)
        except NotRun as error:
            parser.exit(1, f"{error}\n")
    print(table(told))
    if args.out:
        args.out.write_text(json.dumps(told, indent=1) + "\n")
    if args.chart:
        args.chart.write_text(chart(told))
    return 1 if told["not_run"] else 0


def measure(args: argparse.Namespace, place: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """All figures. `stack` ends the contestants. Raises NotRun where there is nothing to run, or ours does not."""
    made, load = material.make(place, args.environments), os.getloadavg()[0]
    contestants = [start(OURS, [sys.executable, "-m", "tools.peers.ours", str(made.ours)], made, place, stack)]
    not_run, alone = {}, None
    for peer in PEERS:
        if args.names and not any(name.lower() in peer.name.lower() for name in args.names):
            continue
        try:
            python = str(prepare(peer.environment, args.environments) / "python")
        except NotRun as error:
            not_run[peer.name] = str(error)
            continue
        model = made.openvino if peer.openvino else made.onnx
        command = [python, "-I", str(HERE / "turns.py"), str(HERE / peer.script), str(model), *map(str, made.size)]
        contestants.append(start(peer.name, command, made, place, stack))
    try:
        alone = bare.make(prepare("openvino", args.environments), made.onnx)
    except NotRun as error:
        not_run[bare.NAME] = str(error)
    contest = Contest(contestants, seconds=args.seconds)
    contest.result.not_run |= not_run
    result = contest.hold(args.rounds, alone)
    if OURS not in result.turns:
        raise NotRun(f"{OURS}: {result.not_run[OURS]}")
    about = {each.name: each.about for each in contestants}
    return figures(result, about, ours=OURS, seconds=args.seconds) | {"load_before": round(load, 2)}


def start(
    name: str, command: list[str], made: material.Material, place: Path, stack: contextlib.ExitStack
) -> Contestant:
    """A process of its own, which gets the frames; its endpoint and its log lie in `place`."""
    number = len(list(place.glob("*.log")))
    environment = {**material.QUIET, "YOLO_CONFIG_DIR": str(place), "PYTHONPATH": str(HERE.parents[1])}
    one = Contestant(
        name, [*command, str(made.frames)], f"ipc://{place}/{number}", place / f"{number}.log", environment
    )
    stack.callback(one.close)
    return one


if __name__ == "__main__":
    sys.exit(main())

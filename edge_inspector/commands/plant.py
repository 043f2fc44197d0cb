"""Run a simulated conveyor with a PLC, for a gateway to serve: parts, photo-eye, camera, diverter and two bins.

Disturbances come from [[event]] in PLANT.toml, or as lines on standard input where that is a pipe: `KIND [FOR_S [VALUE
[NAME]]]`, `end KIND`, or `status`, which prints the summary so far on standard error. Ends when all parts have fallen.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from ..cameras.boards import Boards
from ..codec import Mismatch, convert
from ..plant import ports
from ..plant.config import EventTable, PlantConfig, changed, load
from ..plant.lens import Lens
from ..plant.simulation import Simulation
from .conveyor import conveyor
from .terminal import Block, one_or_more

AHEAD = 8  # truths known before they are needed
IDLE_S = 0.0012  # enough time for one, before the next tick


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to simulate, and how to report."""
    parser.add_argument("plant", nargs="?", type=Path, metavar="PLANT.toml", help="default: all defaults")
    parser.add_argument("--parts", type=one_or_more, metavar="N", help="so many parts (plant.parts)")
    parser.add_argument("--rate", type=_above_zero, metavar="R", help="parts a second (belt.speed_mm_s)")
    parser.add_argument("--seed", type=int, metavar="S", help="which boards (boards.seed)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and the live line on stderr")


def main(args: argparse.Namespace) -> int:
    """Run to the end, or until told to stop; then the summary. Exit 1 where a defective part is in the good bin."""
    config = load(args.plant) if args.plant else PlantConfig()
    config = changed(config, parts=args.parts, rate=args.rate, seed=args.seed)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    truth = Truth(config)
    lens = Lens(config.folder / config.lens.address) if config.lens.address else None
    port = ports.make(config.modbus)
    try:
        simulation = Simulation(config, port, lens, truth)
        _run(simulation, port, lens, truth, stopped, Block(sys.stderr if args.json else sys.stdout))
    finally:
        port.close()
        if lens is not None:
            lens.close()
    told = simulation.told()
    print(json.dumps(told) if args.json else "\n".join(_tell(told)))
    return 1 if simulation.score.escaped else 0


class Truth:
    """Which parts are defective: drawn once each, a little ahead of when it matters."""

    def __init__(self, config: PlantConfig) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._boards = Boards(config.boards.seed, config.boards.defect_rate)
        self._boards.warm_up()
        self._parts = config.plant.parts
        self._known: dict[int, bool] = {}

    def __call__(self, number: int) -> bool:
        """Whether the part with this number is defective."""
        if number not in self._known:
            self._known[number] = bool(self._boards.truth(number))
        return self._known[number]

    def look_ahead(self, laid: int) -> None:
        """Draw one more, unless enough is known."""
        number = len(self._known) + 1
        if number <= min(laid + AHEAD, self._parts):
            self(number)


def _run(
    simulation: Simulation, port: ports.Port, lens: Lens | None, truth: Truth, stopped: threading.Event, block: Block
) -> None:
    """The loop: one tick after the other, and between two of them whatever the camera or somebody wants."""
    words = _listen()
    waits_for = [lens.socket] if lens is not None else []
    colour = sys.stdout.isatty()
    while not simulation.done and not stopped.is_set():
        left_s = simulation.turn()
        if left_s > IDLE_S:
            parts = simulation.belt.parts
            truth.look_ahead(parts[-1][0] if parts else 0)
        while not words.empty():
            _obey(simulation, words.get(), truth, port.problem)
        if block.due:
            block.show(conveyor(simulation, truth, port.problem, colour=colour))
        ready, _, _ = select.select(waits_for, [], [], max(0.0, left_s))
        if ready:
            simulation.expose()
    block.final(conveyor(simulation, truth, port.problem, colour=colour))


def _listen() -> queue.SimpleQueue[str]:
    """Lines from standard input; a terminal is not read, for a job in the background would be stopped by that."""
    words: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            words.put(line)

    if sys.stdin is not None and not sys.stdin.isatty():
        threading.Thread(target=read, name="stdin", daemon=True).start()
    return words


def _obey(simulation: Simulation, line: str, truth: Truth, problem: str) -> None:
    """One line. What is wrong with it is said on standard error."""
    words = line.split()
    if not words:
        return
    try:
        if words[0] == "status":
            drawing = conveyor(simulation, truth, problem, colour=False)
            print(json.dumps({**simulation.told(), "drawing": drawing}), file=sys.stderr, flush=True)
        elif words[0] == "end" and len(words) == 2:
            simulation.end(words[1])
        else:
            simulation.begin(_event(words))
    except (ValueError, Mismatch) as error:
        print(f"edge-inspector: {line.strip()!r}: {error}", file=sys.stderr, flush=True)


def _event(words: list[str]) -> EventTable:
    """`KIND [FOR_S [VALUE [NAME]]]`, beginning now."""
    table: dict[str, Any] = {"kind": words[0], "at_s": 0.0, "name": " ".join(words[3:])}
    for key, word in zip(("for_s", "value"), words[1:3], strict=False):
        table[key] = float(word)
    return convert(table, EventTable)


def _tell(told: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"{told['parts']} parts: {told['good_bin']} in the good bin, {told['reject_bin']} in the reject bin; "
        f"{told['line_stops']} line stops in {told['seconds']:.1f} s",
        f"{told['escapes']} defective parts in the good bin" + (f": {told['escaped']}" if told["escapes"] else ""),
        f"{told['good_rejected']} good parts in the reject bin, {told['unexplained']} of them while all was well",
    ]
    if told["stood_still_ms"]:
        lines.append(f"the simulation stood still for {told['stood_still_ms']} ms: this machine was busy")
    for event in told["events"]:
        again = "not again" if event["passes_ms"] is None else f"after {event['passes_ms']} ms"
        name = event["name"] or event["kind"]
        lines.append(f"  {event['at_s']:8.1f} s  {name:20} cost {event['cost']} good parts; parts pass: {again}")
    return lines


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value

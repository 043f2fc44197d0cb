"""Inspect a folder of pictures with the daemon's own threads, at full speed and without a network.

Verdicts go to standard output as JSON lines, in the order of the file names; two runs differ in nothing but times.
The first picture gives the size. Exit 1 where any picture ended in a fault: damaged, or of another size.
"""

from __future__ import annotations

import argparse
import logging
import select
import sys
import time
from pathlib import Path

from .. import cameras, runners
from ..cameras.replay import SUFFIXES
from ..config import ReplayConfig, StationConfig
from ..errors import CameraMissing, ConfigError
from ..grab import CAPACITY, Grabber
from ..infer import Inferrer
from ..line import Worker
from ..mailbox import Intake, Outbox
from ..models.folder import find
from ..preprocess import use_one_thread
from ..recipe import load_recipe, refuse_for_frame
from ..service import log_to
from ..station import EngineHealth, Event, Job, Opened, Station
from ..wire import Clock, Origin, encode, verdict_message
from .terminal import Block, bar

HOUR_MS = 3_600_000.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to inspect, with what."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="pictures, in the order of their names; or a video")
    parser.add_argument("--engine", default="boards", help="an engine's name (boards)")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--recipe", type=Path, help="a recipe file; the engine's own where not given")


def main(args: argparse.Namespace) -> int:
    """Inspect everything; exit 1 where any picture ended in a fault."""
    log_to(least=logging.WARNING)
    if not args.folder.exists():
        raise CameraMissing(f"{args.folder}: found nothing there, expected a folder of pictures or a video")
    engine = find(args.engine, args.engines)
    recipe_path = args.recipe or engine.recipe
    if not recipe_path.is_file():
        raise ConfigError(f"{recipe_path}: found nothing there, expected a recipe file")
    camera = ReplayConfig(path=str(args.folder.resolve()))
    config = StationConfig(name="replay", engine=args.engine, camera=camera, deadline_ms=HOUR_MS)
    origin = Origin("replay", "replay", "0" * 16, engine.identity, simulated=True)
    station = Station(config, origin, load_recipe(recipe_path, engine.tables.labels), EngineHealth(), phase="serving")
    use_one_thread()
    outbox: Outbox[Event] = Outbox()
    intake: Intake[Job] = Intake(("replay",), capacity=CAPACITY)
    inferrer = Inferrer(engine, runners.make(engine, backlog=True), station.engine, intake, outbox)
    inferrer.warm_up(backlog=True)
    grabber = Grabber(
        station, cameras.make(camera, base=Path()), intake, outbox, stood_still_since=lambda since_ns: False
    )
    workers = [Worker("infer", inferrer, allowed_ns=0), Worker("grab", grabber, allowed_ns=0)]
    for worker in workers:
        worker.start()
    while not grabber.opened.wait(0.1) and workers[1].is_alive():
        pass
    if grabber.missing is None:
        refuse_for_frame(station.recipe, recipe_path, station.frame_size)
    grabber.go.set()
    _drain(station, outbox, workers, _count(args.folder))
    intake.close()
    inferrer.stop()
    if grabber.missing is not None:
        raise grabber.missing
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    return 1 if station.ledger.counts.faulted else 0


def _drain(station: Station, outbox: Outbox[Event], workers: list[Worker], total: int) -> None:
    """The publisher's part without its sockets: open, settle, print."""
    clock, block, started_s = Clock(), Block(sys.stderr), time.monotonic()
    counts = station.ledger.counts
    while True:
        select.select([outbox], [], [], 0.1)
        ended = not workers[1].is_alive() or not workers[0].is_alive()
        for event in outbox.drain():
            if isinstance(event, Opened):
                station.ledger.open(event.part)
                continue
            settled = station.ledger.settle(event.part, event.verdict, time.monotonic_ns())
            assert settled is not None
            message = verdict_message(settled, station.origin, event.recipe, clock)
            sys.stdout.write(encode(message).decode() + "\n")
        done = station.ledger.last_seq
        rate = done / max(1e-9, time.monotonic() - started_s)
        tail = f"{done}  {rate:.1f}/s  pass {counts.passed} reject {counts.rejected} fault {counts.faulted}"
        if ended and not counts.open:
            block.final([f"{bar(done, done)} {tail}"])
            sys.stdout.flush()
            return
        if workers[0].error is not None:
            return
        block.show([f"{bar(done, total or done)} {tail}"])


def _count(folder: Path) -> int:
    """How many pictures a folder holds; 0 for a video, whose length is only known at its end."""
    return sum(file.suffix.lower() in SUFFIXES for file in folder.iterdir()) if folder.is_dir() else 0

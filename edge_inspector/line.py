"""A line put together: its stations, engines and threads; and how they are started, watched and stopped."""

from __future__ import annotations

import gc
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import cameras, runners
from .cameras.base import Camera
from .config import LineConfig, OpenCVConfig, StationConfig
from .errors import ConfigError, EngineLost, FailedError
from .grab import CAPACITY, Grabber
from .infer import Inferrer
from .keeper import Keeper
from .ledger import guard_for
from .mailbox import Intake, Outbox, Shelf
from .models.folder import Engine, find
from .preprocess import use_one_thread
from .publisher import Publisher
from .realtime import Realtime
from .recipe import Recipe, load_recipe, refuse_for_frame
from .runners.base import Runner
from .station import EngineHealth, Event, Job, Station, ToKeep
from .wire import Clock, Origin

log = logging.getLogger(__name__)

PLACES = 8  # pictures that may wait to be written
COLLECT_NS = 60_000_000_000  # between two runs of the garbage collector, which hold up every thread
KEEP_S = 1.0  # so long the last of them may take when the line stops


class Loop(Protocol):
    """What a thread runs; progress_ns: when it last came round."""

    progress_ns: int

    def run(self) -> None:
        """The loop."""
        ...


class Worker(threading.Thread):
    """A thread that keeps the error it died of. allowed_ns: so long it may go without coming round. enter: what it does
    first, with its name.
    """

    def __init__(
        self, name: str, loop: Loop, *, allowed_ns: int, enter: Callable[[str], None] = lambda name: None
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.loop = loop
        self.error: BaseException | None = None
        self._allowed_ns = allowed_ns
        self._enter = enter

    def run(self) -> None:
        """Run the loop, and keep what ends it."""
        try:
            self._enter(self.name)
            self.loop.run()
        except BaseException as error:
            log.exception("thread died", extra={"thread": self.name})
            self.error = error

    def makes_progress(self, now_ns: int) -> bool:
        """Whether the loop came round lately, or has ended as it should."""
        return not self.is_alive() or now_ns - self.loop.progress_ns < self._allowed_ns


@dataclass(frozen=True, slots=True)
class Assignment:
    """A station with the engine and the recipe that its configuration names."""

    config: StationConfig
    engine: Engine
    recipe_path: Path
    recipe: Recipe


def assign(config: LineConfig) -> list[Assignment]:
    """Find every station's engine and recipe. Raises EngineMissing or ConfigError."""
    found = []
    for n, station in enumerate(config.station):
        engine = find(station.engine, config.resolve(config.line.engines))
        path = config.resolve(station.recipe) if station.recipe else engine.recipe
        if not path.is_file():
            raise ConfigError(f"{config.path}: station[{n}].recipe: found nothing at {path}, expected a recipe file")
        found.append(Assignment(station, engine, path, load_recipe(path, engine.tables.labels)))
    return found


class Line:
    """Everything one daemon runs. Built and bound at once (raises ConfigError, MissingError); `start` makes it live."""

    def __init__(self, config: LineConfig, *, given: dict[str, Camera] | None = None) -> None:
        """given: cameras to use in place of those that the configuration describes, by station."""
        self._config = config
        self._assignments = assign(config)
        self._realtime = Realtime(config)
        self._realtime.pin()
        self.epoch = secrets.token_hex(8)
        healths = {a.engine.folder: EngineHealth() for a in self._assignments}
        base = config.path.parent
        self._cameras = given or {s.name: cameras.make(s.camera, base=base) for s in config.station}
        self.stations: list[Station] = []
        for a in self._assignments:
            simulated = self._cameras[a.config.name].simulated or bool(a.engine.tables.script)
            origin = Origin(config.line.name, a.config.name, self.epoch, a.engine.identity, simulated)
            self.stations.append(Station(a.config, origin, a.recipe, healths[a.engine.folder]))
        self._healths = healths
        self._collected_ns = 0
        self._outbox: Outbox[Event] = Outbox()
        with self._realtime.first():
            self._publisher = Publisher(config, self.stations, self._outbox, clock=Clock(), epoch=self.epoch)
        self._publish = self._worker("publish", self._publisher, allowed_ns=2_000_000_000)
        self._intakes: dict[Path, Intake[Job]] = {}
        self._runners: list[Runner] = []
        self._inferrers: list[Inferrer] = []
        self._grabbers: list[Grabber] = []
        self._workers = [self._publish]
        keeping = {station.name: station for station in self.stations if station.config.keep}
        shelf: Shelf[ToKeep] = Shelf(PLACES)
        for station in keeping.values():
            station.shelf = shelf
        self._keeper = Keeper(config.keep_folder, config.line.keep_mb * 1_000_000, shelf, keeping)
        # not among the workers: nobody waits for it, and a disk that hangs must not end the line
        self._keep = self._worker("keep", self._keeper, allowed_ns=0) if keeping else None

    def start(self, cancelled: Callable[[], bool]) -> None:
        """Heartbeats first, then engines, warm-up and cameras; returns when parts are inspected, or when cancelled.

        Raises EngineMissing, CameraMissing, or ConfigError for a deadline that the engine cannot keep.
        """
        self._publish.start()
        use_one_thread()
        if self._keep is not None:
            self._keep.start()
        for engine in {a.engine.folder: a.engine for a in self._assignments}.values():
            if not cancelled():
                self._start_engine(engine)
        for assignment, station in zip(self._assignments, self.stations, strict=True):
            if not cancelled():
                self._start_camera(assignment, station)
        for grabber in self._grabbers:
            while not grabber.opened.wait(0.1) and not cancelled():
                pass
            if grabber.missing is not None:
                raise grabber.missing
        if not cancelled():
            for a, station in zip(self._assignments, self.stations, strict=True):
                refuse_for_frame(station.recipe, a.recipe_path, station.frame_size)
            gc.collect()
            gc.freeze()  # what has been made by now stays: a later collection need not look at it
            gc.disable()  # nor comes one in the midst of a part: `check` asks for it
            self._realtime.lock()
            self._realtime.rest(but=self._keep.native_id if self._keep else None)
            for station in self.stations:
                station.phase = "serving"
            for grabber in self._grabbers:
                grabber.go.set()

    def reload_recipes(self) -> None:
        """Read every recipe again, and use them from the next verdict on; where one is wrong, none changes."""
        fresh = [load_recipe(a.recipe_path, a.engine.tables.labels) for a in self._assignments]
        for a, station, recipe in zip(self._assignments, self.stations, fresh, strict=True):
            refuse_for_frame(recipe, a.recipe_path, station.frame_size)
        for station, recipe in zip(self.stations, fresh, strict=True):
            station.recipe = recipe

    def refresh_keys(self) -> None:
        """Look whether the list of who may enter has changed: a stat() of its file, and the file where it has."""
        self._publisher.refresh()

    @property
    def finished(self) -> bool:
        """Whether every camera has delivered its last frame and every part has its verdict."""
        return all(station.ended and not station.ledger.counts.open for station in self.stations)

    def check(self) -> bool:
        """Whether every thread makes progress. Raises FailedError where one died, EngineLost for a lost engine."""
        for worker in self._workers:
            if worker.error is not None:
                raise FailedError(f"thread {worker.name} died: {worker.error!r}")
        for health in self._healths.values():
            if health.lost:
                raise EngineLost(health.lost)
        now_ns = time.monotonic_ns()
        if now_ns - self._collected_ns > COLLECT_NS:
            gc.collect()
            self._collected_ns = now_ns
        return all(worker.makes_progress(now_ns) for worker in self._workers)

    def stop(self, within_s: float) -> bool:
        """Drain: no more frames, finish what computes, flush, close. False where a thread did not end in time."""
        until = time.monotonic() + within_s
        for station in self.stations:
            station.phase = "stopping"
        for grabber in self._grabbers:
            grabber.stop()
        self._join("grab", until - within_s / 2)
        for intake in self._intakes.values():
            intake.close()
        for inferrer in self._inferrers:
            inferrer.stop()
        self._join("infer", until)
        self._publisher.stop(time.monotonic_ns() + max(0, round((until - time.monotonic()) * 1e9)))
        if self._publish.is_alive():
            self._publish.join(within_s + 1.0)
        self._keeper.stop()
        if self._keep is not None and self._keep.is_alive():
            self._keep.join(KEEP_S)
        for runner in self._runners:
            runner.close()
        gc.enable()
        return not any(worker.is_alive() for worker in self._workers)

    def _worker(self, name: str, loop: Loop, *, allowed_ns: int) -> Worker:
        return Worker(name, loop, allowed_ns=allowed_ns, enter=self._realtime.enter)

    def _join(self, kind: str, until: float) -> None:
        for worker in self._workers:
            if worker.name.startswith(kind):
                worker.join(max(0.0, until - time.monotonic()))

    def _start_engine(self, engine: Engine) -> None:
        users = [a for a in self._assignments if a.engine.folder == engine.folder]
        started = time.monotonic()
        backlog = all(self._cameras[a.config.name].waits for a in users)
        runner = runners.make(engine, backlog=backlog)
        intake: Intake[Job] = Intake(tuple(a.config.name for a in users), capacity=CAPACITY)
        warm_s = self._config.line.keep_warm_ms / 1e3 or math.inf
        inferrer = Inferrer(engine, runner, self._healths[engine.folder], intake, self._outbox, keep_warm_s=warm_s)
        self._runners.append(runner)
        for station in self.stations:
            if station.shelf is not None and station.name in [a.config.name for a in users]:
                station.spare_frames = len(runner.inputs) + PLACES
        self._inferrers.append(inferrer)
        self._intakes[engine.folder] = intake
        best_ns = inferrer.warm_up(backlog=backlog)
        log.info(
            "engine is ready",
            extra={"engine": engine.identity["name"], "best_ms": f"{best_ns / 1e6:.1f}",
                   "took_s": f"{time.monotonic() - started:.1f}"},
        )  # fmt: skip
        for a in users:
            refuse_deadline(self._config, a.config, best_ns)
        allowed_ns = max(5_000_000_000, 20 * max(a.config.deadline_ns for a in users))
        worker = self._worker(f"infer-{engine.identity['name']}", inferrer, allowed_ns=allowed_ns)
        self._workers.append(worker)
        worker.start()

    def _start_camera(self, assignment: Assignment, station: Station) -> None:
        config = assignment.config
        grabber = Grabber(
            station,
            self._cameras[config.name],
            self._intakes[assignment.engine.folder],
            self._outbox,
            stood_still_since=self._publisher.stood_still_since,
        )
        camera = config.camera
        waits_ms = camera.open_timeout_ms + camera.read_timeout_ms if isinstance(camera, OpenCVConfig) else 1000
        worker = self._worker(f"grab-{config.name}", grabber, allowed_ns=(waits_ms + 4000) * 1_000_000)
        self._grabbers.append(grabber)
        self._workers.append(worker)
        worker.start()


def refuse_deadline(config: LineConfig, station: StationConfig, best_ns: float) -> None:
    """Raise ConfigError where the engine's best time on this machine does not fit into the deadline."""
    if best_ns > station.deadline_ns - guard_for(station.deadline_ns):
        n = config.station.index(station)
        least_ms = best_ns / 1e6 / 0.9 + 1
        raise ConfigError(
            f"{config.path}: station[{n}].deadline_ms: found {station.deadline_ms:g}, expected {least_ms:.0f} or more: "
            f'engine "{station.engine}" alone takes {best_ns / 1e6:.1f} ms on this machine'
        )

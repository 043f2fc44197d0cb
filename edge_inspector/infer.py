"""The infer thread: owns an accelerator's runner, keeps its two lanes filled, and has every answer judged.

Whatever goes wrong between taking a part and judging it is that part's fault verdict, and never an empty result.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque

from .errors import EngineLost, EngineMissing, FailedError
from .judge import judge
from .ledger import Part, Stage
from .mailbox import Intake, Outbox
from .models import gate, speed
from .models.answers import detections_of
from .models.folder import Engine
from .preprocess import GREY, Letterbox
from .runners.base import Runner
from .station import FAULTS_IN_A_ROW, Decided, EngineHealth, Event, Job, Opened, Picture, Station, identity
from .types import Pixels, Reason, Shot, Verdict

log = logging.getLogger(__name__)

SLICE_S = 0.2  # it looks so often whether it should stop
WARM_UPS = 5
PROBE_S = 1.0  # so often an engine that failed is tried while no part comes


class Inferrer:
    """The infer thread of one engine: two lanes, so that part n+1 is prepared while part n computes."""

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        health: EngineHealth,
        intake: Intake[Job],
        outbox: Outbox[Event],
        *,
        keep_warm_s: float = math.inf,
    ) -> None:
        """keep_warm_s: an engine that has rested so long infers a grey picture, as clocks and caches fall asleep."""
        self.progress_ns = time.monotonic_ns()
        self._engine = engine
        self._runner = runner
        self._health = health
        self._intake = intake
        self._outbox = outbox
        self._free = deque(range(len(runner.inputs)))
        self._flying: deque[tuple[int, Job, Part, Letterbox]] = deque()
        self._fits: dict[tuple[int, ...], Letterbox] = {}
        self._painted: list[Letterbox | None] = [None] * len(runner.inputs)
        self._collected_ns = 0
        self._free_run_id: dict[str, int] = {}
        self._keep_warm_s = keep_warm_s
        self._stop = threading.Event()

    def stop(self) -> None:
        """End as soon as nothing waits and nothing computes. Close the intake first."""
        self._stop.set()

    def warm_up(self, *, backlog: bool = False) -> float:
        """Infer grey pictures, then let the engine prove itself (models/gate.py); returns the shortest time in ns.

        Raises EngineMissing where it cannot, does not do what its original did, or has become slow. backlog: its runner
        was made for one, where an inference takes longer than those that were timed when it was built.
        """
        best_ns = min(self._time_one(n) for n in range(WARM_UPS))
        if not self._engine.tables.script:
            gate.prove(self._engine, self._runner)
        if not backlog:
            best_ns = speed.refuse_slower(self._engine, best_ns, lambda: self._time_one(0))
        self._health.service_ns = float(best_ns)
        return self._health.service_ns

    def _time_one(self, n: int) -> int:
        """Infer a grey picture; how long it took."""
        lane = n % len(self._runner.inputs)
        self._runner.inputs[lane][:] = GREY
        started_ns = time.monotonic_ns()
        try:
            self._runner.submit(lane)
            self._runner.collect(lane)
        except FailedError as error:
            raise EngineMissing(f'engine "{self._engine.identity["name"]}" fails on this machine: {error}') from error
        return time.monotonic_ns() - started_ns

    def run(self) -> None:
        """Fill the lanes with what waits; where nothing waits, collect at once and hold no finished part back."""
        idle_since, slice_s = time.monotonic(), min(SLICE_S, self._keep_warm_s)
        while not (self._stop.is_set() and not self._flying and not len(self._intake)):
            self.progress_ns = time.monotonic_ns()
            job = self._intake.get(0.0 if self._flying else slice_s) if self._free else None
            if job is not None:
                self._submit(job)
            elif self._flying:
                self._collect()
            elif time.monotonic() - idle_since >= (PROBE_S if self._health.faults_in_a_row else self._keep_warm_s):
                self._probe()
            else:
                continue
            idle_since = time.monotonic()

    def _submit(self, job: Job) -> None:
        """Letterbox the frame straight into the lane's input and start it; or say why not."""
        with job.frame as frame:
            now_ns = time.monotonic_ns()
            part = job.part if job.part is not None else self._open_free_run(job)
            if part.closed:
                return
            verdict = job.verdict or self._not_worth_it(job.station, part, frame.shot, now_ns)
            if verdict is not None:
                while self._flying:  # those before it are said first
                    self._collect()
                self._fault(job, part, verdict)
                return
            part.stage, part.t_taken_ns = Stage.RUNNING, now_ns
            lane = self._free.popleft()
            try:
                fit = self._fit(frame.pixels)
                if self._painted[lane] != fit:
                    fit.clear(self._runner.inputs[lane])
                    self._painted[lane] = fit
                fit.apply(frame.pixels, self._runner.inputs[lane])
                part.t_submit_ns = self._health.busy_since_ns = time.monotonic_ns()
                self._runner.submit(lane)
            except Exception as error:  # whatever it is, it must become this part's fault and nothing else
                self._free.append(lane)
                self._failed(job, part, error)
                return
            finally:
                self._health.busy_since_ns = 0
            if job.station.shelf is not None:
                job.frame = frame.handed_on()  # held until it is known whether its picture is kept
        self._flying.append((lane, job, part, fit))

    def _collect(self) -> None:
        """Wait for the oldest lane, and judge what it found."""
        lane, job, part, fit = self._flying.popleft()
        with job.frame:
            self._judge(lane, job, part, fit)

    def _judge(self, lane: int, job: Job, part: Part, fit: Letterbox) -> None:
        try:
            self._health.busy_since_ns = time.monotonic_ns()
            answer = self._runner.collect(lane)
            part.t_collect_ns = time.monotonic_ns()
            self._health.busy_since_ns = 0
            recipe, size = job.station.recipe, self._runner.inputs[lane].shape[:2]
            frame = job.frame.pixels.shape[:2]
            detections = detections_of(self._engine.tables, answer, fit, size, floor=recipe.floor, frame=frame)
            verdict = judge(detections, recipe)
        except Exception as error:
            self._failed(job, part, error)
            return
        finally:
            self._health.busy_since_ns = 0
            self._free.append(lane)
        self._measure(part)
        self._count_success()
        part.t_decided_ns = time.monotonic_ns()
        picture = job.station.picture(job.frame, verdict, recipe)
        self._outbox.put(Decided(part, verdict, identity(recipe), picture))

    def _not_worth_it(self, station: Station, part: Part, shot: Shot, now_ns: int) -> Verdict | None:
        """A fault for a part that must not or need not go to the engine."""
        if self._health.lost:
            return Verdict.fault(Reason.ENGINE_FAULT)
        if now_ns - shot.t_grab_ns + shot.lag_ns > station.config.max_age_ns:
            return Verdict.fault(Reason.STALE_FRAME)
        free_ns = self._collected_ns + len(self._flying) * self._health.service_ns
        ready_ns = max(now_ns, free_ns) + self._health.service_ns
        if len(self._intake) and ready_ns > part.deadline_ns - station.ledger.guard_ns:
            return Verdict.fault(Reason.OVERLOAD)  # it would be too late, and others wait
        return None

    def _open_free_run(self, job: Job) -> Part:
        """In free-run a frame becomes a part by being taken."""
        name = job.station.name
        self._free_run_id[name] = self._free_run_id.get(name, 0) + 1
        part = job.station.part(self._free_run_id[name], job.frame.shot.t_grab_ns)
        part.shot, part.part_id = job.frame.shot, job.frame.shot.part_id
        self._outbox.put(Opened(part), ring=False)  # the publisher comes round long before the deadline
        return part

    def _fault(self, job: Job, part: Part, verdict: Verdict, picture: Picture | None = None) -> None:
        part.t_decided_ns = time.monotonic_ns()
        self._outbox.put(Decided(part, verdict, identity(job.station.recipe), picture))

    def _failed(self, job: Job, part: Part, error: Exception) -> None:
        """An error is this part's fault verdict; the first of a row is logged. Where an engine fails on and on, its
        pictures have nothing to tell, and would drive all others out of the folder.
        """
        self._count_fault(error)
        verdict, picture = Verdict.fault(Reason.ENGINE_FAULT), None
        if self._health.faults_in_a_row <= FAULTS_IN_A_ROW:
            picture = job.station.picture(job.frame, verdict, job.station.recipe)
        self._fault(job, part, verdict, picture)

    def _count_fault(self, error: Exception) -> None:
        if isinstance(error, EngineLost):
            self._health.lost = str(error) or repr(error)  # an error without words is one all the same
        if not self._health.faults_in_a_row:
            log.error("engine failed", extra={"engine": self._engine.identity["name"], "reason": repr(error)})
        self._health.faults_in_a_row += 1

    def _count_success(self) -> None:
        if self._health.faults_in_a_row:
            log.info("engine answers again", extra={"engine": self._engine.identity["name"]})
            self._health.faults_in_a_row = 0

    def _probe(self) -> None:
        """Infer a grey picture: to keep an idle engine warm, or to see whether a failed one answers again, as nobody
        sends parts to a station that is not ready. An engine that fails while idle is noticed before the next part.
        """
        self._health.probes += 1
        if not self._health.faults_in_a_row:  # one that failed is shown what it failed on
            self._runner.inputs[0][:], self._painted[0] = GREY, None
        try:
            self._health.busy_since_ns = time.monotonic_ns()
            self._runner.submit(0)
            self._runner.collect(0)
        except Exception as error:
            self._count_fault(error)
        else:
            self._count_success()
        finally:
            self._health.busy_since_ns = 0

    def _measure(self, part: Part) -> None:
        """What one part costs the engine, smoothed; one long part must not make every later one look hopeless."""
        took_ns = part.t_collect_ns - max(part.t_submit_ns, self._collected_ns)
        self._collected_ns = part.t_collect_ns
        known_ns = self._health.service_ns or took_ns
        self._health.service_ns = known_ns + 0.1 * (min(took_ns, 4 * known_ns) - known_ns)

    def _fit(self, pixels: Pixels) -> Letterbox:
        shape = pixels.shape
        if shape not in self._fits:
            target = self._runner.inputs[0].shape[:2]
            keep = self._engine.tables.resize == "letterbox"
            self._fits[shape] = Letterbox.fit(shape[:2], target, keep_aspect=keep)
        return self._fits[shape]

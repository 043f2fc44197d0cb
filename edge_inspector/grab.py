"""The grab thread: owns a camera, reads it without pause, and makes parts of frames as the station's trigger says.

A frame that must not be judged (stale, frozen, of nobody knows which part) becomes a fault here, never a skipped part.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from .cameras.base import Camera
from .errors import CameraFault, CameraMissing, EndOfStream, FrameFault, OutboxFull
from .ledger import Part, Stage
from .mailbox import FramePool, Intake, Outbox
from .station import Decided, Event, Job, Opened, Station, identity
from .types import Frame, Pixels, Reason, Shot, Verdict

log = logging.getLogger(__name__)

CAPACITY = 8  # parts of one station that may wait for the engine; more would only be late
SLICE_S = 0.2  # nothing here waits longer without looking whether it should stop
BACKOFF_S = (0.25, 1.5)  # before a camera is opened again: at first, and at the most


class Sameness:
    """Recognises a camera that repeats itself, by a row in 16: a real sensor never gives the same noise twice.

    run: how many frames in a row have been identical, this one included.
    """

    ROWS = 16

    def __init__(self, size: tuple[int, int]) -> None:
        """For frames of (height, width)."""
        self.run = 1
        # of this frame, the one before, and the last part; made once, as new memory for each frame costs more than both
        self._samples = [np.empty((-(-size[0] // self.ROWS), size[1], 3), np.uint8) for _ in range(3)]
        self._last: Pixels | None = None
        self._last_part: Pixels | None = None

    def look(self, pixels: Pixels) -> None:
        """Compare with the frame before."""
        sample = next(each for each in self._samples if each is not self._last and each is not self._last_part)
        np.copyto(sample, pixels[:: -self.ROWS])  # from the last row up
        self.run = self.run + 1 if _same(sample, self._last) else 1
        self._last = sample

    def same_as_last_part(self) -> bool:
        """Whether the part now looked at has the very picture of the part before; then remember this one."""
        same = _same(self._last, self._last_part)
        self._last_part = self._last
        return same


def _same(sample: Pixels | None, other: Pixels | None) -> bool:
    """The middle row tells most pictures apart, and spares the others."""
    if sample is None or other is None:
        return False
    middle = len(sample) // 2
    return np.array_equal(sample[middle], other[middle]) and np.array_equal(sample, other)


class Grabber:
    """The grab thread of one station: opens the camera, reads without pause, makes parts of frames."""

    def __init__(
        self,
        station: Station,
        camera: Camera,
        intake: Intake[Job],
        outbox: Outbox[Event],
        *,
        stood_still_since: Callable[[int], bool],
    ) -> None:
        self.progress_ns = time.monotonic_ns()
        self.opened = threading.Event()  # set after the first attempt; `missing` says how it ended
        self.missing: CameraMissing | None = None
        self.go = threading.Event()
        self._stop = threading.Event()
        self._station = station
        self._camera = camera
        self._intake = intake
        self._outbox = outbox
        self._stood_still_since = stood_still_since
        self._trigger_id = 0
        self._pool = FramePool(0, (0, 0))
        self._sameness = Sameness((0, 0))
        self._delivered = False

    def stop(self) -> None:
        """End after the frame at hand."""
        self._stop.set()
        self.go.set()

    def run(self) -> None:
        """Open, deliver, and open again after a fault, with growing pauses."""
        pause_s = BACKOFF_S[0]
        while not self._stop.is_set():
            self._delivered = False
            try:
                self._open()
                self.go.wait()
                self._deliver()
            except EndOfStream:
                self._station.ended = True
                log.info("camera has delivered its last frame", extra={"station": self._station.name})
            except OutboxFull:
                raise
            except CameraMissing as error:
                if not self.opened.is_set():
                    self.missing = error
                    return
                self._lost(str(error))
            except CameraFault as error:
                self._lost(str(error))
            except Exception as error:  # a library's own: this camera fails, the others and the verdicts go on
                self._lost(repr(error))
            finally:
                self.opened.set()
                self._camera.close()
            if self._station.ended:
                return
            pause_s = BACKOFF_S[0] if self._delivered else min(2 * pause_s, BACKOFF_S[1])
            self._rest(pause_s)

    def _open(self) -> None:
        self.progress_ns = time.monotonic_ns()
        size = self._station.frame_size = self._camera.open()
        if size != self._pool.size:
            # beside those that wait: one here, one with infer, one spare; and those that may be kept
            self._pool = FramePool(CAPACITY + 3 + self._station.spare_frames, size)
            self._sameness = Sameness(size)
        self._say("")
        self.opened.set()

    def _lost(self, reason: str) -> None:
        self._say(reason)
        counters = self._station.counters
        counters["reconnects"] = counters.get("reconnects", 0) + 1

    def _say(self, problem: str) -> None:
        """Note what is wrong with the camera ("" for nothing), and log it where it has begun or ended."""
        before, self._station.camera_problem = self._station.camera_problem, problem
        if bool(before) != bool(problem) and self.opened.is_set():
            level, word = (logging.WARNING, "lost") if problem else (logging.INFO, "back")
            log.log(level, "camera is %s", word, extra={"station": self._station.name, "reason": problem})

    def _deliver(self) -> None:
        """Read frame after frame until the camera fails or the line stops."""
        camera, checked_ns = self._camera, time.monotonic_ns()
        while not self._stop.is_set():
            self.progress_ns = time.monotonic_ns()
            if camera.waits and not self._wanted():
                continue
            pixels = self._pool.take()
            assert pixels is not None, "the pool has a buffer for every place where a frame can be"
            try:
                shot = camera.read(pixels)
            except FrameFault as fault:
                self._bad_frame(fault, self._pool.frame(pixels, fault.shot))
                continue
            except BaseException:
                self._pool.give(pixels)
                raise
            if shot is None:
                self._pool.give(pixels)
                continue
            frame = self._pool.frame(pixels, shot)
            since_ns, checked_ns = checked_ns, time.monotonic_ns()  # wherever in its turn this thread was stopped
            if not camera.simulated and self._stood_still_since(since_ns):
                frame.release()
                raise CameraFault("this process stood still: what the camera has queued since is old")
            if self._stop.is_set():
                frame.release()
                return
            self._frame(frame)

    def _wanted(self) -> bool:
        """For a source that can stand still: whether to take a frame now. With trigger `gateway`, one for a trigger.

        And one now and then while the camera is not well, or nobody would see when it is: no triggers come meanwhile.
        """
        if self._station.config.trigger != "gateway":
            return self._intake.wait_for_room(self._station.name, SLICE_S)
        asked = self._station.triggered.wait(SLICE_S)
        self._station.triggered.clear()
        return (asked and bool(self._station.pending)) or bool(self._station.camera_problem)

    def _frame(self, frame: Frame) -> None:
        """What a frame means depends on the station's trigger."""
        station, shot = self._station, frame.shot
        limit = station.config.frozen_frames
        if limit:
            self._sameness.look(frame.pixels)
        frozen = limit > 0 and self._sameness.run >= limit
        self._say(f"frozen: the last {limit} frames are identical" if frozen else "")
        self._delivered = True
        if station.config.trigger == "free-run":
            verdict = Verdict.fault(Reason.FROZEN_FRAME) if frozen else None
            skipped = self._intake.put_latest(station.name, Job(station, frame, None, verdict))
            if skipped is not None:
                skipped.frame.release()
                station.counters["skipped"] = self._intake.skipped[station.name]
            return
        part = self._new_part(shot) if station.config.trigger == "camera" else self._awaited_part(shot)
        if part is None:
            frame.release()
            return
        part.shot = shot
        if part.part_id is None:
            part.part_id = shot.part_id
        if limit and (self._sameness.same_as_last_part() or frozen):
            self._fault(part, Reason.FROZEN_FRAME)
            frame.release()
        elif not self._enqueue(part, frame):
            overload = not station.engine.stuck(time.monotonic_ns(), station.config.deadline_ns)
            self._fault(part, Reason.OVERLOAD if overload else Reason.TIMEOUT)
            frame.release()

    def _new_part(self, shot: Shot) -> Part:
        """Trigger `camera`: this frame is a part."""
        self._trigger_id += 1
        part = self._station.part(self._trigger_id, shot.t_grab_ns)
        self._outbox.put(Opened(part), ring=False)  # the publisher comes round long before the deadline
        return part

    def _awaited_part(self, shot: Shot) -> Part | None:
        """Trigger `gateway`: the part whose trigger came before this frame was exposed.

        A frame shows one part. Where two triggers came between two frames, nobody can say that it shows the former
        one, so that is a fault: parts come faster than pictures.
        """
        station = self._station
        exposed_ns = shot.t_grab_ns - shot.lag_ns - round(station.config.transfer_ms * 1e6)
        newest: Part | None = None
        while station.pending:
            try:
                part = station.pending.popleft()
            except IndexError:  # the publisher has just taken out the last one, as its time was up
                break
            if part.t_trigger_ns > exposed_ns:
                station.pending.appendleft(part)
                break
            if part.closed:
                continue
            if exposed_ns - part.t_trigger_ns > station.config.max_age_ns:
                self._fault(part, Reason.NO_FRAME)
                continue
            if newest is not None:
                self._fault(newest, Reason.OVERLOAD)
            newest = part
        return newest

    def _enqueue(self, part: Part, frame: Frame) -> bool:
        """Let the part wait for the engine, unless it would wait in vain."""
        engine = self._station.engine
        waiting = self._intake.ahead_of(self._station.name)
        if waiting and not self._camera.waits:
            ready_ns = time.monotonic_ns() + (waiting + 3) * engine.service_ns  # two are in flight, and itself
            if ready_ns > part.deadline_ns - self._station.ledger.guard_ns:
                return False
        part.stage = Stage.QUEUED
        return self._intake.put(self._station.name, Job(self._station, frame, part))

    def _bad_frame(self, fault: FrameFault, frame: Frame) -> None:
        """One picture of a folder is bad: with trigger `camera` it is a part nonetheless."""
        log.warning("bad frame", extra={"station": self._station.name, "reason": str(fault)})
        if self._station.config.trigger == "camera":
            part = self._new_part(fault.shot)
            part.shot, part.part_id = fault.shot, fault.shot.part_id
            job = Job(self._station, frame, part, Verdict.fault(Reason.CAMERA_FAULT))
            if self._intake.put(self._station.name, job):  # behind the parts before it, so that the order stays
                return
            self._fault(part, Reason.CAMERA_FAULT)
        frame.release()

    def _fault(self, part: Part, reason: Reason) -> None:
        self._outbox.put(Decided(part, Verdict.fault(reason), identity(self._station.recipe)))

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            self.progress_ns = time.monotonic_ns()
            self._stop.wait(min(left, SLICE_S))

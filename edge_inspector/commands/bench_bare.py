"""The engine alone, on the benchmark's frames, through the line's own runner: what the pipeline is held against."""

from __future__ import annotations

import time

from .. import runners
from ..metrics import Histogram
from ..models.folder import Engine
from ..preprocess import Letterbox
from .bench_frames import SIZE, frames


class Bare:
    """One process, one thread, nothing published. backlog: compiled for one, as a pipeline at full speed is."""

    def __init__(self, engine: Engine, *, backlog: bool) -> None:
        self._runner = runners.make(engine, backlog=backlog)
        self._frames = frames()
        self._fit = Letterbox.fit(SIZE, self._runner.inputs[0].shape[:2])
        for lane, buffer in enumerate(self._runner.inputs):
            self._fit.clear(buffer)
            self._fit.apply(self._frames[lane], buffer)
            self._runner.submit(lane)
            self._runner.collect(lane)

    def full_speed(self, parts: int, *, lanes: int = 2, preprocess: bool = False) -> float:
        """Inferences per second with so many in flight; with preprocess, each frame is letterboxed before."""
        started = time.perf_counter()
        for n in range(parts + lanes):
            lane = n % lanes
            if n >= lanes:
                self._runner.collect(lane)
            if n < parts:
                if preprocess:
                    self._fit.apply(self._frames[n % len(self._frames)], self._runner.inputs[lane])
                self._runner.submit(lane)
        return parts / (time.perf_counter() - started)

    def paced(self, parts: int, rate: float, took: Histogram) -> None:
        """The engine's own time, without letterbox, at so many a second; from the moment at which a picture was due, so
        that one that waits for a slow one before it counts its waiting, as the pipeline's do.
        """
        due = time.perf_counter()
        for _ in range(parts):
            due += 1 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            self._runner.submit(0)
            self._runner.collect(0)
            took.add(round(1e6 * (time.perf_counter() - due)))

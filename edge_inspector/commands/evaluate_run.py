"""Labelled pictures through engine, judge and recipe, one at a time as on the line, with the time each takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import Answer
from ..errors import EngineFault
from ..judge import judge
from ..models.answers import detections_of
from ..models.folder import ModelTables
from ..preprocess import GREY
from ..recipe import Recipe
from ..runners.base import Runner
from ..types import Outcome, Pixels, Verdict
from .agreement import Rows, Truth, rows_of
from .dataset import Box, Sample
from .labelled_parts import LabelledPart
from .looking import Looker

LOWEST = 0.001  # so far down go the curves of precision and recall in published tables (val of Ultralytics, for one)


@dataclass(frozen=True, slots=True)
class Seen:
    """A labelled part, what was found on it and what is said of it. scores: float32 [C], a classifier's; else None.

    inference_ms: from submit to collect. verdict_ms: from the picture in memory to the verdict.
    """

    part: LabelledPart
    verdict: Verdict
    scores: NDArray[np.float32] | None
    inference_ms: float
    verdict_ms: float

    @property
    def rejected(self) -> bool:
        """What a gateway would do."""
        return self.verdict.outcome is not Outcome.PASS

    @property
    def wrong(self) -> bool:
        """An escape or a false reject."""
        return self.rejected is not bool(self.part.boxes)

    def rows(self, labels: tuple[str, ...]) -> tuple[Rows, Truth]:
        """For figures of boxes: what was found, and what is there."""
        truth = [(*box.xyxy, labels.index(box.label)) for box in self.part.boxes]
        return rows_of(self.part.detections), np.array(truth, np.float32).reshape(-1, 5)


class Inspection:
    """An engine and a recipe. Warm after construction."""

    def __init__(self, tables: ModelTables, recipe: Recipe, runner: Runner) -> None:
        self._tables, self._recipe = tables, recipe
        self._watch = _Stopwatch(runner)
        self._looker = Looker(tables, self._watch)
        # where boxes are drawn around patches of a map, another floor draws other boxes: keep the one that will run
        self._floor = LOWEST if tables.task in ("detect", "classify") else recipe.floor
        runner.inputs[0][:] = GREY
        runner.submit(0)
        runner.collect(0)

    def inspect(self, sample: Sample, boxes: tuple[Box, ...], pixels: Pixels) -> Seen:
        """One part. boxes: where its labels lie in these pixels. Raises EngineFault, with the picture's name."""
        frame, size = pixels.shape[:2], self._watch.inputs[0].shape[:2]
        began = time.perf_counter()
        try:
            answer, fit = self._looker.answer(pixels)
            found = detections_of(self._tables, answer, fit, size, floor=self._floor, frame=frame)
        except (EngineFault, ValueError) as error:
            raise EngineFault(f"{sample.image}: {error}") from error
        verdict = judge(found, self._recipe)
        taken_ms = 1000 * (time.perf_counter() - began)
        scores = answer[0] if self._tables.task == "classify" else None
        return Seen(LabelledPart(sample.image, boxes, found), verdict, scores, self._watch.last_ms, taken_ms)


class _Stopwatch:
    """A runner that knows how long its last inference took."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._began = 0.0
        self.inputs = runner.inputs
        self.simulated = runner.simulated
        self.last_ms = 0.0

    def submit(self, lane: int) -> None:
        self._began = time.perf_counter()
        self._runner.submit(lane)

    def collect(self, lane: int) -> Answer:
        answer = self._runner.collect(lane)
        self.last_ms = 1000 * (time.perf_counter() - self._began)
        return answer

    def close(self) -> None:
        self._runner.close()

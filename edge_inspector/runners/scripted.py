"""A runner that answers by a script: given boxes, delays, errors, hangs. The virtual twin of the real ones.

For tests, and for trying out what lies behind the daemon (gateway, PLC, dashboard) with known verdicts. It can also go
by the mark that the simulated plant's camera puts into a picture, and so find neither more nor less than there is.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..contract import Answer
from ..errors import EngineFault, EngineLost
from ..models.folder import ScriptStep
from ..preprocess import GREY
from ..types import Pixels

MARK_AT_PX = 24  # the middle of the mark, in an input as large as the picture (cameras/plant.py draws it)


class ScriptedRunner:
    """One worker, as an accelerator has: lanes queue before it. A step without delay is answered without it.

    by_mark: the picture says which of three steps: a grey level of 48, 112 or 176 at [24, 24] the first to the third.
    Anything else there is an EngineFault. Of a longer script the next three are for the next picture.
    """

    simulated = True

    def __init__(
        self, script: Sequence[ScriptStep], input_size: tuple[int, int], *, lanes: int = 2, by_mark: bool = False
    ) -> None:
        self.inputs: Sequence[Pixels] = [np.zeros((*input_size, 3), np.uint8) for _ in range(lanes)]
        self._grey_row = bytes([GREY]) * (3 * input_size[1])
        self._first = script[0]
        self._steps = itertools.cycle(script)
        self._marked = itertools.cycle([script[n : n + 3] for n in range(0, len(script), 3)]) if by_mark else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="scripted")
        self._answers: list[Future[Answer] | ScriptStep | None] = [None] * lanes

    def submit(self, lane: int) -> None:
        """Take the next step of the script; the grey picture of a warm-up is no part, and takes the first without."""
        row = self.inputs[lane][len(self.inputs[lane]) // 2].tobytes()
        step = ScriptStep(delay_ms=self._first.delay_ms) if row == self._grey_row else self._step(lane)
        self._answers[lane] = self._worker.submit(_compute, step) if step.delay_ms else step

    def collect(self, lane: int) -> Answer:
        """The step's rows, after its delay. Raises EngineFault or EngineLost where the step says so."""
        answer, self._answers[lane] = self._answers[lane], None
        if answer is None:
            raise EngineFault(f"lane {lane} was collected without being submitted")
        return _compute(answer) if isinstance(answer, ScriptStep) else answer.result()

    def _step(self, lane: int) -> ScriptStep:
        if self._marked is None:
            return next(self._steps)
        steps = next(self._marked)
        grey = int(self.inputs[lane][MARK_AT_PX, MARK_AT_PX, 0])
        level, off = divmod(grey - 32, 64)
        if not 0 <= level < 3 or off >= 32:
            return ScriptStep(error=f"the picture has no mark that is a step of the script: a grey level of {grey}")
        return steps[level]

    def close(self) -> None:
        """End the worker, without waiting for a step that hangs."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def _compute(step: ScriptStep) -> Answer:
    if step.delay_ms:
        time.sleep(step.delay_ms / 1000)
    if step.lost:
        raise EngineLost(step.error or "scripted loss")
    if step.error:
        raise EngineFault(step.error)
    return (np.array(step.boxes, np.float32).reshape(-1, 6),)

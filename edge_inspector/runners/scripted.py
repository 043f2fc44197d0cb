"""A runner that answers by a script: given boxes, delays, errors, hangs. The virtual twin of the real ones.

For tests, and for trying out what lies behind the daemon (gateway, PLC, dashboard) with known verdicts.
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


class ScriptedRunner:
    """One worker, as an accelerator has: lanes queue before it. A step without delay is answered without it."""

    simulated = True

    def __init__(self, script: Sequence[ScriptStep], input_size: tuple[int, int], *, lanes: int = 2) -> None:
        self.inputs: Sequence[Pixels] = [np.zeros((*input_size, 3), np.uint8) for _ in range(lanes)]
        self._first = script[0]
        self._steps = itertools.cycle(script)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="scripted")
        self._answers: list[Future[Answer] | ScriptStep | None] = [None] * lanes

    def submit(self, lane: int) -> None:
        """Take the next step of the script; the grey picture of a warm-up is no part, and takes the first without."""
        grey = (self.inputs[lane][::64, ::64] == GREY).all()
        step = ScriptStep(delay_ms=self._first.delay_ms) if grey else next(self._steps)
        self._answers[lane] = self._worker.submit(_compute, step) if step.delay_ms else step

    def collect(self, lane: int) -> Answer:
        """The step's rows, after its delay. Raises EngineFault or EngineLost where the step says so."""
        answer, self._answers[lane] = self._answers[lane], None
        if answer is None:
            raise EngineFault(f"lane {lane} was collected without being submitted")
        return _compute(answer) if isinstance(answer, ScriptStep) else answer.result()

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

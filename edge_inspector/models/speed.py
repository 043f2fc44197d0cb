"""How fast an engine is, and whether it has become slow since it was built: slow by itself, not by a busy machine."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ..errors import EngineMissing
from ..runners.base import Runner
from .folder import Engine
from .manifest import command

log = logging.getLogger(__name__)

SLOWER = 1.5
AGAIN_S = 5.0  # so long an engine that seems slow is given other chances
CALM = 0.1  # an inference tells of the engine where its threads waited for a processor less than this share of its time
ENOUGH = 3  # so many of these make a judgement


def refuse_slower(engine: Engine, best_ns: int, again: Callable[[], int]) -> int:
    """The best time of an inference: the one given, or that of `again`, which runs one more and returns its ns.

    Raises EngineMissing where even the best takes half as long again as the median did when it was built.
    """
    built_ms, calm, until = engine.build.manifest.latency_ms if engine.build else 0.0, 0, time.monotonic() + AGAIN_S
    while 0.0 < SLOWER * built_ms < best_ns / 1e6:
        if time.monotonic() > until:
            _refuse(engine, best_ns / 1e6, calm=calm >= ENOUGH)
            break
        waited_ns = _waited_ns()
        took_ns = again()
        calm += _waited_ns() - waited_ns < CALM * took_ns
        best_ns = min(best_ns, took_ns)
    return best_ns


def _refuse(engine: Engine, best_ms: float, *, calm: bool) -> None:
    assert engine.build is not None
    made = engine.build.manifest
    what = f'engine "{engine.folder.name}" takes {best_ms:.3g} ms, and took {made.latency_ms:.3g} ms when it was built'
    if not calm:
        log.warning("%s; other programs keep the processors so busy that this says nothing of it", what)
        return
    raise EngineMissing(
        f"{what}: look for a lower power mode (nvpmodel -q), reduced clocks, another load; if it is to stay so, run: "
        f"{command(engine.folder, made.target, made.precision)}"
    )


def _waited_ns() -> int:
    """How long this process's threads have waited for a processor, all together; 0 where the kernel does not tell."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):  # a thread that has just ended
            total += int(path.read_text().split()[1])
    return total


def median_ms(runner: Runner, *, times: int = 50) -> float:
    """The median time of bare inferences, one after another; the first ten do not count."""
    took = []
    for n in range(times + 10):
        started = time.perf_counter()
        runner.submit(n % len(runner.inputs))
        runner.collect(n % len(runner.inputs))
        took.append((time.perf_counter() - started) * 1e3)
    return median(took[10:])

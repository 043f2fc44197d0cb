"""The gate: no engine goes on the line that does not give the rows again which its FP32 original gave. It runs after
every build and at every start, and takes as long as a handful of inferences.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ..contract import Answer
from ..errors import EngineMissing, FailedError
from ..runners.base import Runner
from .folder import Engine
from .golden import Golden, highest_of, infer, read, values_of

Array = NDArray[np.float32]
# Precision -> how far a score may be off, as a share of the highest in all golden pictures, and what share of the rows
# may have no twin: where two classes or two places score alike, rounding decides. `auto` may be bfloat16.
TOLERANCE = {"fp32": (0.02, 0.02), "fp16": (0.1, 0.05), "auto": (0.1, 0.05), "int8": (0.25, 0.2)}
LEAST_IOU = 0.9
SLOWER = 1.5


def prove(engine: Engine, runner: Runner) -> float:
    """Let an engine show that it is the one that was imported; returns how far its scores are off, 0 to 1 of the best.

    Raises EngineMissing where it is not: the caller must not use it.
    """
    golden = list(read(engine, runner))
    highest = max((highest_of(wanted) for _, wanted in golden), default=0.0)
    if not golden:
        raise EngineMissing(
            f'engine "{engine.folder.name}" has nothing to prove itself by: nothing in {engine.folder}/golden; put '
            "back what import left there, or import the engine again"
        )
    if highest <= 0.0:
        raise EngineMissing(
            f'engine "{engine.folder.name}" has nothing to prove itself by: {engine.folder}/golden has no picture '
            "in which its original found anything; import it again, with --golden FOLDER of pictures of the line"
        )
    off_share, lost_share = TOLERANCE[engine.build.manifest.precision if engine.build else "auto"]
    worst = 0.0
    for pixels, wanted in golden:
        try:
            answer = infer(runner, pixels)
            off, why = _compare(wanted, answer, within=off_share * highest, lost_share=lost_share)
        except (FailedError, ValueError) as error:
            off, why = 0.0, str(error)
        if why:
            name, built = engine.folder.name, engine.build
            mend = f"--engines {engine.folder.parent} " + (
                "--rollback, or build it anew" if built else "--target openvino --precision fp32"
            )
            raise EngineMissing(
                f'engine "{name}" does not do what it was imported to do: {built.file if built else engine.model} on '
                f"golden/{wanted['image']}: {why}; run: edge-inspector build {name} {mend}"
            )
        worst = max(worst, off / highest)
    return worst


def slower(engine: Engine, best_ms: float) -> bool:
    """Whether the best of some inferences takes half as long again as the median did when it was built."""
    built_ms = engine.build.manifest.latency_ms if engine.build else 0.0
    return 0.0 < SLOWER * built_ms < best_ms


def refuse_slower(engine: Engine, best_ms: float) -> None:
    """Raise EngineMissing where it became slow."""
    if slower(engine, best_ms):
        assert engine.build is not None
        made = engine.build.manifest
        raise EngineMissing(
            f'engine "{engine.folder.name}" takes {best_ms:.1f} ms here, and took {made.latency_ms:.1f} ms when it was '
            "built: look for a lower power mode (nvpmodel -q), reduced clocks, another load; if it is to stay so, run: "
            f"edge-inspector build {engine.folder.name} --engines {engine.folder.parent} --target {made.target} "
            f"--precision {made.precision}"
        )


def median_ms(runner: Runner, *, times: int = 50) -> float:
    """The median time of bare inferences, one after another; the first ten do not count."""
    took = []
    for n in range(times + 10):
        started = time.perf_counter()
        runner.submit(n % len(runner.inputs))
        runner.collect(n % len(runner.inputs))
        took.append((time.perf_counter() - started) * 1e3)
    return median(took[10:])


def _compare(wanted: Golden, answer: Answer, *, within: float, lost_share: float) -> tuple[float, str]:
    """How far scores are off at most, and what is wrong, "" for nothing."""
    for output in answer:
        if not np.isfinite(output).all():
            return 0.0, "gives values that are not finite numbers"
    if "rows" not in wanted:
        values, found = np.array(wanted["values"], np.float32), values_of(answer)
        if values.shape != found.shape:
            return 0.0, f"gives {len(found)} values, expected {len(values)}"
        off = float(np.abs(values - found).max())
        return off, "" if off <= within else f"a value is off by {off:.3f}, at most {within:.3f} is allowed"
    rows = np.array(wanted["rows"], np.float32).reshape(-1, 6)
    found = answer[0][:, :6]
    # whatever else can be compared: an engine that has become blind, or sees everywhere, must not get by
    wants, has = rows[:, 4].max(initial=0.0), found[:, 4].max(initial=0.0)
    if abs(wants - has) > within:
        return 0.0, f"has a highest score of {has:.3f}, expected {wants:.3f}"
    sure = wanted["floor"] + within  # what lies closer to the floor may be on either side of it
    worst = 0.0
    for what, mine, others in (("does not find", rows, found), ("finds, unlike its original,", found, rows)):
        mine = mine[mine[:, 4] >= sure]
        offs: Array = np.array([_off(row, others) for row in mine], np.float32)
        lost = offs > within
        if lost.sum() > lost_share * len(mine):
            first = mine[lost][0]
            place = ", ".join(f"{value:.0f}" for value in first[:4])
            return worst, (
                f"{what} class {first[5]:.0f} at {place} with score {first[4]:.3f} "
                f"({lost.sum()} of {len(mine)} rows, {lost_share:.0%} are allowed)"
            )
        worst = max(worst, float(offs[~lost].max(initial=0.0)))
    return worst, ""


def _off(row: Array, others: Array) -> float:
    """How far the nearest score is among rows of its class and place; infinite where there is none."""
    near = others[(others[:, 5] == row[5]) & (_iou(row, others) >= LEAST_IOU)]
    return float(np.abs(near[:, 4] - row[4]).min(initial=np.inf))


def _iou(row: Array, others: Array) -> Array:
    """Intersection over union of one box with many; boxes of no size match where they lie."""
    extent = np.minimum(row[2:4], others[:, 2:4]) - np.maximum(row[:2], others[:, :2])
    shared = extent.clip(0).prod(axis=1)
    union = (row[2:4] - row[:2]).prod() + (others[:, 2:4] - others[:, :2]).prod(axis=1) - shared
    same = (np.abs(row[:4] - others[:, :4]) < 0.5).all(axis=1)  # a row of a tiny box can shift by a fraction of a pixel
    return np.asarray(np.where(same, 1.0, shared / np.maximum(union, 1e-6)), np.float32)

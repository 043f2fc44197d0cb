"""The gate: no engine goes on the line that does not give the rows again which its FP32 original gave. It runs after
every build and at every start, and takes as long as a handful of inferences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..contract import Answer
from ..errors import EngineMissing, FailedError
from ..runners.base import Runner
from .folder import Engine
from .golden import Golden, answers, highest_of, infer, read, values_of
from .manifest import where

Array = NDArray[np.float32]
# Precision -> how far a score may be off, as a share of the highest in all golden pictures, and what share of the rows
# may have no twin: where two classes or two places score alike, rounding decides. `auto` may be bfloat16.
TOLERANCE = {"fp32": (0.02, 0.02), "fp16": (0.1, 0.05), "auto": (0.1, 0.05), "int8": (0.25, 0.2)}
LEAST_IOU = 0.9
TOP = 20  # so many rows of a picture are compared where scores are so alike that none stands out from the floor,
TOP_LOST = 0.5  # and so many of these may have no twin: what lies at the floor is a matter of rounding
HARDLY = 0.2  # where scores differ by less than this share of the highest, they prove little
TOLD = 12


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
    off_share, lost_share = _tolerance(engine)
    within = off_share * highest
    flat = not any(len(_sure(_rows(wanted), wanted, within)) for _, wanted in golden)
    lost_share = max(lost_share, TOP_LOST) if flat else lost_share
    worst, found = 0.0, list[tuple[Golden, Array]]()
    for pixels, wanted in golden:
        try:
            answer = infer(runner, pixels)
            off, why = _compare(wanted, answer, within=within, lost_share=lost_share, flat=flat)
            found.append((wanted, np.array(answer[0])))
        except (FailedError, ValueError) as error:
            off, why = 0.0, str(error)
        if why:
            raise _refusal(engine, f"on golden/{wanted['image']}: {why}")
        worst = max(worst, off / highest)
    blind = _blind(found, within=within)
    if blind:
        raise _refusal(engine, f"finds nothing of class {_names(engine, blind)} that its original finds")
    return worst


def doubts(engine: Engine) -> list[str]:
    """What golden/ cannot prove of this engine, in words, for `import` and `build` to say.

    Raises EngineMissing for a damaged folder.
    """
    golden = list(answers(engine))
    highest = max(map(highest_of, golden), default=0.0)
    if not any(highest_of(each) - each.get("floor", 0.0) > HARDLY * highest for each in golden):
        alike = "its scores hardly differ in the golden pictures (is it trained?), so they prove little"
        return [f"{alike}: import it again, with --golden FOLDER"]
    within, count = _tolerance(engine)[0] * highest, len(engine.tables.labels)
    shown = {int(row[5]) for each in golden for row in _sure(_rows(each), each, within)}
    if engine.tables.task in ("classify", "segment"):  # a number for each class, in each picture or each of its fields
        best = np.concatenate([np.reshape(each["values"], (-1, count)) for each in golden]).max(axis=0)
        shown = set(np.flatnonzero(best > within).tolist())
    missing = [n for n in range(count) if n not in shown and engine.tables.task != "anomaly"]
    if not missing:
        return []
    return [
        f"no golden picture surely shows {_names(engine, missing)}: what becomes blind to that alone gets through; "
        "import it again, with --golden FOLDER of pictures that show every class"
    ]


def _tolerance(engine: Engine) -> tuple[float, float]:
    return TOLERANCE[engine.build.manifest.precision if engine.build else "auto"]


def _names(engine: Engine, classes: Sequence[int]) -> str:
    """Class numbers as names, not too many."""
    labels = engine.tables.labels
    names = [labels[n] if 0 <= n < len(labels) else str(n) for n in classes[:TOLD]]
    return ", ".join(names) + (f" and {len(classes) - TOLD} more" if len(classes) > TOLD else "")


def _refusal(engine: Engine, why: str) -> EngineMissing:
    built = engine.build
    mend = "--rollback, or build it anew" if built else "--target openvino --precision fp32"
    return EngineMissing(
        f'engine "{engine.folder.name}" does not do what it was imported to do: '
        f"{built.file if built else engine.model} {why}; run: edge-inspector build {where(engine.folder)} {mend}"
    )


def _rows(wanted: Golden) -> Array:
    return np.array(wanted.get("rows", []), np.float32).reshape(-1, 6)


def _sure(rows: Array, wanted: Golden, within: float, *, flat: bool = False) -> Array:
    """The rows that must have a twin: what lies closer to the floor may be on either side of it. flat: the best few."""
    rows = rows[rows[:, 4] >= wanted.get("floor", 0.0) + (0.0 if flat else within)]
    return rows[np.argsort(-rows[:, 4], kind="stable")][:TOP] if flat else rows


def _blind(found: Sequence[tuple[Golden, Array]], *, within: float) -> list[int]:
    """The classes of which every sure row is lost: few rows of many, but all that there are of a kind of defect."""
    kept: dict[int, bool] = {}
    for wanted, rows in found:
        for row in _sure(_rows(wanted), wanted, within):
            kept[int(row[5])] = kept.get(int(row[5]), False) or _off(row, rows) <= within
    return sorted(label for label, any_kept in kept.items() if not any_kept)


def _compare(wanted: Golden, answer: Answer, *, within: float, lost_share: float, flat: bool) -> tuple[float, str]:
    """How far scores are off at most, and what is wrong, "" for nothing."""
    for output in answer:
        if not np.isfinite(output).all():
            return 0.0, "gives values that are not finite numbers"
    if "rows" not in wanted:
        values, found = np.array(wanted["values"], np.float32), values_of(answer)
        if values.shape != found.shape:
            return 0.0, f"gives {len(found)} values, expected {len(values)}"
        off = float(np.abs(values - found).max())
        return off, "" if off <= within else f"a value is off by {off:.4g}, at most {within:.4g} is allowed"
    rows = _rows(wanted)
    found = answer[0][:, :6]
    # whatever else can be compared: an engine that has become blind, or sees everywhere, must not get by
    wants, has = rows[:, 4].max(initial=0.0), found[:, 4].max(initial=0.0)
    if abs(wants - has) > within:
        return 0.0, f"has a highest score of {has:.4g}, expected {wants:.4g}"
    worst = 0.0
    for what, mine, others in (("does not find", rows, found), ("finds, unlike its original,", found, rows)):
        mine = _sure(mine, wanted, within, flat=flat)
        offs: Array = np.array([_off(row, others) for row in mine], np.float32)
        lost = offs > within
        if lost.sum() > lost_share * len(mine):
            first = mine[lost][0]
            place = ", ".join(f"{value:.0f}" for value in first[:4])
            return worst, (
                f"{what} class {first[5]:.0f} at {place} with score {first[4]:.4g} "
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

"""The table of `calibrate int8`: FP32, FP16 and INT8 on the same pictures, taking turns. Owns rows and advice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from ..errors import FailedError, ModelRefused
from ..judge import judge
from ..models.answers import detections_of
from ..models.folder import ModelTables
from ..models.int8 import Row
from ..recipe import Recipe
from ..runners.base import Runner
from ..types import Detections, Outcome, Pixels
from .agreement import Agreement, Rows, Truth, agree, mean_average_precision, rows_of
from .dataset import Sample
from .int8_pictures import truth_of
from .looking import Looker, read_picture

AP_FLOOR = 0.005  # a precision-recall curve needs the weak rows too
FASTER = 0.95  # of a higher precision's latency: less than that is noise, and no reason to round
AP_LOSS = 0.01


@dataclass(slots=True)
class Column:
    """What one precision said: `seen` at the recipe's floor, `rows` from AP_FLOOR on with the truth, times in ms."""

    seen: list[Detections] = field(default_factory=list)
    rows: list[tuple[Rows, Truth]] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)


def look(
    runners: Mapping[str, Runner],
    samples: Sequence[Sample],
    *,
    tables: ModelTables,
    recipe: Recipe,
    progress: Callable[[int], None],
) -> dict[str, Column]:
    """Every picture through every runner, one after the other; a time is from the picture in memory to the answer.

    Raises ModelRefused where one gives what is no answer.
    """
    columns = {name: Column() for name in runners}
    lookers = {name: Looker(tables, runner) for name, runner in runners.items()}
    for number, sample in enumerate(samples, 1):
        pixels = read_picture(sample.image)
        for name, looker in lookers.items():
            try:
                _see(looker, runners[name], columns[name], pixels, sample=sample, tables=tables, recipe=recipe)
            except (ValueError, FailedError) as error:
                raise ModelRefused(f"{name} on {sample.image.name}: {error}") from None
        progress(number)
    return columns


def agreement_of(reference: Sequence[Detections], other: Sequence[Detections], recipe: Recipe) -> Agreement:
    """As `agree`. Raises ModelRefused where FP32 finds nothing: agreement with it would say nothing."""
    alike = agree(reference, other, recipe)
    if alike is None:
        raise ModelRefused(
            f"FP32 finds nothing at the recipe's thresholds in any of {len(reference)} pictures: that INT8 "
            "agrees would say nothing, so it is not installed; give pictures of the line that show what it looks for"
        )
    return alike


def compare(columns: Mapping[str, Column], files: Mapping[str, Path], recipe: Recipe) -> tuple[Row, ...]:
    """A row for each precision."""
    rows = []
    for name, column in columns.items():
        ap50, ap50_95 = mean_average_precision(column.rows) or (None, None)
        alike = agreement_of(columns["fp32"].seen, column.seen, recipe)
        row = Row(
            precision=name,
            bytes=files[name].stat().st_size,
            latency_ms=round(median(column.times_ms), 3),
            agreement=alike.least,
            ap50=ap50,
            ap50_95=ap50_95,
        )
        rows.append(row)
    return tuple(rows)


def best_of(rows: Sequence[Row], least: float) -> str:
    """The precision to stay with: a lower one has to be as good and faster than what it would replace.

    As good: agreement of `least` or more, and AP50 at most 0.01 below FP32's. Faster: 5 % of the latency or more.
    """
    best = rows[0]
    for row in rows[1:]:
        lost = (rows[0].ap50 or 0.0) - (row.ap50 or 0.0)
        if row.agreement >= least and lost <= AP_LOSS and row.latency_ms <= FASTER * best.latency_ms:
            best = row
    return best.precision


def text(rows: Sequence[Row]) -> list[str]:
    """Lines to print."""
    lines = [f"{'':5}{'size':>10}{'latency':>11}{'AP50':>8}{'AP50:95':>9}{'agreement':>11}"]
    for row in rows:
        ap = [("-" if value is None else f"{value:.3f}") for value in (row.ap50, row.ap50_95)]
        size, time_ms = f"{row.bytes / 1e6:.2f} MB", f"{row.latency_ms:.1f} ms"
        lines.append(f"{row.precision:5}{size:>10}{time_ms:>11}{ap[0]:>8}{ap[1]:>9}{row.agreement:>11.4f}")
    return lines


def one_sided(seen: Sequence[Detections], recipe: Recipe) -> str:
    """A warning where FP32 has the same verdict for every picture: then alike verdicts say little. Else ""."""
    outcomes = {judge(each, recipe).outcome for each in seen}
    if len(outcomes) > 1:
        return ""
    does, add = ("rejects", "good parts") if outcomes == {Outcome.REJECT} else ("passes", "parts to reject")
    return f"FP32 {does} every picture that was measured, so alike verdicts say little: add {add}"


def _see(
    looker: Looker,
    runner: Runner,
    column: Column,
    pixels: Pixels,
    *,
    sample: Sample,
    tables: ModelTables,
    recipe: Recipe,
) -> None:
    begin = time.perf_counter()
    answer, fit = looker.answer(pixels)
    column.times_ms.append(1e3 * (time.perf_counter() - begin))
    frame, size = pixels.shape[:2], runner.inputs[0].shape[:2]
    column.seen.append(detections_of(tables, answer, fit, size, floor=recipe.floor, frame=frame))
    if tables.task == "detect" and sample.boxes is not None:
        weak = detections_of(tables, answer, fit, size, floor=AP_FLOOR, frame=frame)
        column.rows.append((rows_of(weak), truth_of(sample, tables.labels)))

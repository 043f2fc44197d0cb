"""Detections + Recipe -> Verdict: thresholds, zones, sizes, severities, counts. Pure: no clock, no I/O.

Whatever takes a detection out is counted in `suppressed`: a filter can turn a defect into a pass, so none is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .recipe import Recipe, Rule
from .types import Defect, Detections, Outcome, Reason, Severity, Verdict
from .zones import Box, Zone

ORDER = {severity: n for n, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Size:
    """Of a detection: the longer side of its box, and its area. The mm are None where no scale is known."""

    longer_px: float
    longer_mm: float | None
    area_mm2: float | None


def judge(detections: Detections, recipe: Recipe) -> Verdict:
    """Say what the detections, in frame pixels, mean for the part."""
    counted: list[Defect] = []
    near_misses: list[Defect] = []
    suppressed = 0
    rows = zip(detections.xyxy.tolist(), detections.score.tolist(), detections.label, _sizes(detections, recipe),
               strict=True)  # fmt: skip
    for row, score, label, size in rows:
        rule = recipe.rules[label]
        if score < rule.floor:
            continue
        box: Box = tuple(row)
        inside, zone = _zone(box, recipe.labels[label], recipe.tables.zones)
        defect = Defect(score=score, label=recipe.labels[label], box_px=box, severity=_severity(size, rule), zone=zone,
                        area_mm2=size.area_mm2)  # fmt: skip
        if inside and _size_allowed(size, rule):
            if score >= rule.threshold:
                counted.append(defect)
                continue
            near_misses.append(defect)
        suppressed += 1
    worst = max((ORDER[defect.severity] for defect in counted), default=-1)
    limits = recipe.tables.reject
    rejected = any(
        0 < getattr(limits, severity.value) <= sum(defect.severity is severity for defect in counted)
        for severity in Severity
    )
    return Verdict(
        Outcome.REJECT if rejected else Outcome.PASS,
        Reason.DEFECT if rejected else Reason.OK,
        tuple(counted),
        tuple(near_misses),
        suppressed,
        "ABCD"[worst + 1],
    )


def _sizes(detections: Detections, recipe: Recipe) -> list[Size]:
    """By the lens where there is one, else by the one scale for the whole frame, else in pixels only."""
    if not len(detections):
        return []
    scale = recipe.tables.px_per_mm
    if recipe.lens is None and scale is None:
        return [Size(max(x2 - x1, y2 - y1), None, None) for x1, y1, x2, y2 in detections.xyxy.tolist()]
    sides = detections.xyxy[:, 2:].astype(float) - detections.xyxy[:, :2]
    longer_px, box_px2 = sides.max(axis=1), sides[:, 0] * sides[:, 1]
    # where the model tells the area of what it found, the box is only what was drawn around that
    filled = 1.0 if detections.area is None else detections.area / box_px2.clip(1e-9)
    if recipe.lens is not None:
        longer_mm, box_mm2 = recipe.lens.sizes_mm(detections.xyxy)
    else:
        assert scale is not None
        longer_mm, box_mm2 = (longer_px / scale).astype(float), (box_px2 / scale**2).astype(float)
    columns = (longer_px.tolist(), longer_mm.tolist(), (box_mm2 * filled).tolist())
    return [Size(*row) for row in zip(*columns, strict=True)]


def _severity(size: Size, rule: Rule) -> Severity:
    """By class, and by size where that is worse."""
    severity = rule.severity
    for step in rule.severity_by_size:
        found, limit = (size.longer_px, step.from_px) if step.from_mm is None else (size.longer_mm, step.from_mm)
        if found is not None and limit is not None and found >= limit and ORDER[step.severity] > ORDER[severity]:
            severity = step.severity
    return severity


def _zone(box: Box, label: str, zones: Sequence[Zone]) -> tuple[bool, str | None]:
    """Whether the zones let this box count, and the include zone it lies in."""
    mine = [zone for zone in zones if not zone.classes or label in zone.classes]
    includes = [zone for zone in mine if zone.mode == "include"]
    touched = next((zone.name for zone in includes if zone.touches(box)), None)
    excluded = any(zone.mode == "exclude" and zone.contains(box) for zone in mine)
    return not excluded and (not includes or touched is not None), touched


def _size_allowed(size: Size, rule: Rule) -> bool:
    """Whether no limit takes it out. A limit in mm without a scale cannot be: the recipe was refused."""
    limits = ((size.longer_px, rule.min_px, rule.max_px), (size.longer_mm, rule.min_mm, rule.max_mm))
    return not any(
        found is not None and ((low is not None and found < low) or (high is not None and found > high))
        for found, low, high in limits
    )

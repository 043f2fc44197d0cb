"""Detections + Recipe -> Verdict: thresholds, zones, sizes, severities, counts. Pure: no clock, no I/O.

Whatever takes a detection out is counted in `suppressed`: a filter can turn a defect into a pass, so none is silent.
"""

from __future__ import annotations

from collections.abc import Sequence

from .recipe import Recipe, RecipeTables, Rule
from .types import Defect, Detections, Outcome, Reason, Severity, Verdict
from .zones import Box, Zone

ORDER = {severity: n for n, severity in enumerate(Severity)}


def judge(detections: Detections, recipe: Recipe) -> Verdict:
    """Say what the detections, in frame pixels, mean for the part."""
    counted: list[Defect] = []
    near_misses: list[Defect] = []
    suppressed = 0
    for row, score, label in zip(detections.xyxy.tolist(), detections.score.tolist(), detections.label, strict=True):
        rule = recipe.rules[label]
        if score < rule.floor:
            continue
        box: Box = tuple(row)
        inside, zone = _zone(box, recipe.labels[label], recipe.tables.zones)
        defect = _describe(box, score, recipe.labels[label], rule, recipe.tables, zone)
        if inside and _size_allowed(box, rule, recipe.tables.px_per_mm):
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


def _describe(box: Box, score: float, label: str, rule: Rule, tables: RecipeTables, zone: str | None) -> Defect:
    """The severity by class and size, and the area where the scale is known."""
    longer = max(box[2] - box[0], box[3] - box[1])
    severity = rule.severity
    for step in rule.severity_by_size:
        limit = step.from_px if step.from_mm is None else step.from_mm * (tables.px_per_mm or 0.0)
        if limit is not None and longer >= limit and ORDER[step.severity] > ORDER[severity]:
            severity = step.severity
    area = None if tables.px_per_mm is None else (box[2] - box[0]) * (box[3] - box[1]) / tables.px_per_mm**2
    return Defect(label, score, box, severity, zone, area)


def _zone(box: Box, label: str, zones: Sequence[Zone]) -> tuple[bool, str | None]:
    """Whether the zones let this box count, and the include zone it lies in."""
    mine = [zone for zone in zones if not zone.classes or label in zone.classes]
    includes = [zone for zone in mine if zone.mode == "include"]
    touched = next((zone.name for zone in includes if zone.touches(box)), None)
    excluded = any(zone.mode == "exclude" and zone.contains(box) for zone in mine)
    return not excluded and (not includes or touched is not None), touched


def _size_allowed(box: Box, rule: Rule, px_per_mm: float | None) -> bool:
    longer = max(box[2] - box[0], box[3] - box[1])
    scale = px_per_mm or 0.0
    lowest = max(rule.min_px or 0.0, (rule.min_mm or 0.0) * scale)
    highest = min(
        float("inf") if rule.max_px is None else rule.max_px,
        float("inf") if rule.max_mm is None else rule.max_mm * scale,
    )
    return lowest <= longer <= highest

"""What is said of chosen thresholds: in words, in JSON and as comments in the recipe, always with how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..types import Outcome, Verdict
from .labelled_parts import LabelledPart, meet
from .operating_point import Choice, at_most, parts_needed

FEW = 0.5  # a class of whose defects fewer than this share are found is as good as off


@dataclass(frozen=True, slots=True)
class Report:
    """The figures. data_sha256: over the pictures' names, contents and labels. crossed: escapes and false rejects."""

    engine: str
    engine_sha256: str
    data_sha256: str
    max_escape: float
    defective: int
    good: int
    choice: Choice
    crossed: tuple[int, int]
    thresholds: dict[str, float]
    classes: dict[str, dict[str, float]]

    def lines(self) -> list[str]:
        """For people."""
        choice, (escapes, rejects) = self.choice, self.crossed
        chosen = "chosen on these parts" + ("" if choice.best else " (the search was cut short: better ones may exist)")
        lines = [
            "",
            f"{chosen}:",
            f"  escapes (slip)                 {rate(choice.escapes, self.defective)}",
            f"  false rejects (pseudo-rejects) {rate(choice.false_rejects, self.good)}",
            "cross-validated (chosen on four fifths, measured on the rest): what to expect of new parts",
            f"  escapes (slip)                 {rate(escapes, self.defective)}",
            f"  false rejects (pseudo-rejects) {rate(rejects, self.good)}",
        ]
        if self.max_escape and at_most(choice.escapes, self.defective) > self.max_escape:
            lines.append(
                f"Not proven: to prove {self.max_escape * 100:g} % at 95 % with no escape takes "
                f"{parts_needed(self.max_escape):,} defective parts."
            )
        if self.defective and escapes > self.max_escape * self.defective:
            lines.append(
                f"Caution: cross-validated, {escapes / self.defective:.2%} of defective parts escape; "
                f"{self.max_escape:.2%} were asked for. Label more parts, or train on, before you count on them."
            )
        return lines + [
            f"Caution: most defects of class {label} stay below its threshold; their parts are rejected for other "
            f"defects. A part with nothing but {label} would often escape."
            for label, each in self.classes.items()
            if each["found"] < FEW * each["defects"]
        ]

    def comments(self) -> list[str]:
        """For the top of the recipe."""
        return [
            f"Thresholds by `edge-inspector calibrate threshold`, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC.",
            f"engine {self.engine}, sha256 {self.engine_sha256}",
            f"data sha256 {self.data_sha256}",
            f"asked for: at most {self.max_escape * 100:g} % of defective parts escape",
            *self.lines()[1:],
            "",
        ]

    def class_lines(self, wrong: int) -> list[str]:
        """For people, class by class."""
        classes = self.classes
        wide = max(map(len, classes))
        lines = ["", f"{'class':{wide}}  threshold  labelled defects  found  false rejects it has a part in"]
        for label, each in classes.items():
            share = f"{each['found'] / each['defects']:6.1%}" if each["defects"] else "   none"
            lines.append(
                f"{label:{wide}}  {each['threshold']:9g}  {each['defects']:16,}  {share}  {each['false_rejects']:6,}"
            )
        if wrong:
            lines.append(
                f"Right for the wrong reason: {wrong:,} defective parts, rejected only for what is no labelled defect."
            )
        return lines

    def as_json(self, wrong: int) -> dict[str, Any]:
        """For programs."""

        def both(escapes: int, rejects: int) -> dict[str, Any]:
            return {
                "escapes": escapes,
                "escape_rate_at_most_95": at_most(escapes, self.defective),
                "false_rejects": rejects,
                "false_reject_rate_at_most_95": at_most(rejects, self.good),
            }

        return {
            "engine": {"name": self.engine, "sha256": self.engine_sha256},
            "data_sha256": self.data_sha256,
            "max_escape": self.max_escape,
            "parts": {"defective": self.defective, "good": self.good},
            "chosen": both(self.choice.escapes, self.choice.false_rejects),
            "no_better_exists": self.choice.best,
            "cross_validated": both(*self.crossed),
            "parts_needed_for_proof": parts_needed(self.max_escape) if self.max_escape else None,
            "right_for_the_wrong_reason": wrong,
            "classes": self.classes,
            "cautions": [line for line in self.lines() if line.startswith("Caution")],
        }


def rate(events: int, parts: int) -> str:
    """`0 in 300 parts: at most 1.0 % at 95 %`."""
    return f"{events:,} in {parts:,} parts ({events / parts:.2%}): at most {at_most(events, parts):.2%} at 95 %"


def by_class(
    parts: list[LabelledPart], verdicts: list[Verdict], thresholds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Of each class: its threshold, labelled defects, how many of them were found as such, false rejects it is in."""
    classes = {
        label: {"threshold": value, "defects": 0, "found": 0, "false_rejects": 0} for label, value in thresholds.items()
    }
    for part, verdict in zip(parts, verdicts, strict=True):
        for box in part.boxes:
            mine = [defect for defect in verdict.defects if defect.label == box.label]
            classes[box.label]["defects"] += 1
            classes[box.label]["found"] += any(meet(box.xyxy, defect.box_px) for defect in mine)
        if not part.boxes and verdict.outcome is Outcome.REJECT:
            for label in {defect.label for defect in verdict.defects}:
                classes[label]["false_rejects"] += 1
    return classes


def wrong_reasons(parts: list[LabelledPart], verdicts: list[Verdict]) -> int:
    """How many defective parts are rejected, but for nothing that meets a labelled defect."""
    return sum(
        bool(part.boxes) and verdict.outcome is Outcome.REJECT and not part.found(verdict.defects)
        for part, verdict in zip(parts, verdicts, strict=True)
    )

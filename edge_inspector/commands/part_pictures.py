"""Pictures of parts on which the engine and the label disagree: labelled in blue, found in red with its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..types import Defect, Verdict
from .labelled_parts import LabelledPart
from .looking import read_picture

BLUE, RED, WHITE = (220, 120, 0), (30, 30, 230), (255, 255, 255)
Mark = tuple[tuple[float, float, float, float], tuple[int, int, int], int, str]  # box, colour, thickness, text
LEAST_PX = 640  # small pictures are enlarged to this, as text has a size of its own


def draw_part(part: LabelledPart, verdict: Verdict, into: Path) -> None:
    """Write the picture with boxes. Thin red: found, but below its threshold. Where texts would cover each other, the
    worst defect's is written, then what is labelled, then the likeliest of the rest.
    """
    import cv2

    pixels = read_picture(part.image)
    scale = max(1.0, LEAST_PX / max(pixels.shape[:2]))
    canvas = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    marks = [
        *(_mark(defect, 2) for defect in sorted(verdict.defects, key=lambda each: -each.score)),
        *((box.xyxy, BLUE, 2, box.label) for box in part.boxes),
        *(_mark(defect, 1) for defect in sorted(verdict.near_misses, key=lambda each: -each.score)),
    ]
    for xyxy, colour, thickness, _ in reversed(marks):
        x1, y1, x2, y2 = (round(value * scale) for value in xyxy)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
    taken = np.zeros(canvas.shape[:2], bool)
    for xyxy, colour, _, text in marks:
        x1, y1, y2 = (round(xyxy[n] * scale) for n in (0, 1, 3))
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        left = int(np.clip(x1, 0, max(0, canvas.shape[1] - wide)))
        foot = max(high + 2, y1 - 4) if colour == RED else min(canvas.shape[0] - 4, y2 + high + 4)
        place = taken[max(0, foot - high - 2) : foot + 4, max(0, left - 1) : left + wide + 2]
        if place.any():
            continue
        place[:] = True
        cv2.rectangle(canvas, (left - 1, foot - high - 2), (left + wide + 1, foot + 3), WHITE, -1)
        cv2.putText(canvas, text, (left, foot), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    into.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(into), canvas):
        raise OSError(f"{into}: could not be written")


def _mark(defect: Defect, thickness: int) -> Mark:
    return defect.box_px, RED, thickness, f"{defect.label} {defect.score:.2f}"

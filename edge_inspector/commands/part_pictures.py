"""Pictures of parts on which the engine and the label disagree: labelled in blue, found in red with its score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..types import Verdict
from .labelled_parts import LabelledPart
from .looking import read_picture

BLUE, RED, WHITE = (220, 120, 0), (30, 30, 230), (255, 255, 255)
LEAST_PX = 640  # small pictures are enlarged to this, as text has a size of its own


def draw_part(part: LabelledPart, verdict: Verdict, into: Path) -> None:
    """Write the picture with boxes. Thin red: found, but below its threshold."""
    import cv2

    pixels = read_picture(part.image)
    scale = max(1.0, LEAST_PX / max(pixels.shape[:2]))
    canvas = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    marks = [(box.xyxy, BLUE, 2, box.label, False) for box in part.boxes]
    for defects, thickness in ((verdict.near_misses, 1), (verdict.defects, 2)):
        marks += [(each.box_px, RED, thickness, f"{each.label} {each.score:.2f}", True) for each in defects]
    for xyxy, colour, thickness, text, above in marks:
        x1, y1, x2, y2 = (round(value * scale) for value in xyxy)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        left = int(np.clip(x1, 0, max(0, canvas.shape[1] - wide)))
        foot = max(high + 2, y1 - 4) if above else min(canvas.shape[0] - 4, y2 + high + 4)
        cv2.rectangle(canvas, (left - 1, foot - high - 2), (left + wide + 1, foot + 3), WHITE, -1)
        cv2.putText(canvas, text, (left, foot), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    into.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(into), canvas):
        raise OSError(f"{into}: could not be written")

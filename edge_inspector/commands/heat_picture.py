"""A HeatMap as a picture that can be read alone: the part, the heat over it, what was found, and what colours mean."""

from __future__ import annotations

import numpy as np

from ..types import Pixels, Verdict
from .heat import HeatMap

SHORTEST_PX, LONGEST_PX = 640, 1280  # of the picture's longer side: text has a size of its own
HEAD_PX, FOOT_PX, BAR_PX, EDGE_PX = 58, 60, 14, 12
DARK, WHITE, PALE, BLUE = (24, 24, 24), (255, 255, 255), (190, 190, 190), (255, 190, 80)  # blue is no colour of heat
MEANING = {  # of a method: its name, what is bright, and what the numbers are, in two lines
    "occlusion": (
        "occlusion",
        "the brighter, the more depends on this place",
        "score lost where a patch covers it; at a box: score, most lost",
    ),
    "eigen-cam": ("Eigen-CAM", "what stands out to the network, not what decided", "share of the strongest"),
    "map": ("its own map", "what the engine itself marks", "score"),
}


def draw_heat(pixels: Pixels, heat: HeatMap, *, name: str) -> Pixels:
    """uint8 BGR, larger than the picture by a head and a foot with text. name: of the engine."""
    import cv2

    scale = float(np.clip(max(pixels.shape[:2]), SHORTEST_PX, LONGEST_PX)) / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    values = cv2.resize(heat.values, size, interpolation=cv2.INTER_LINEAR) / heat.top
    colour = cv2.applyColorMap((values.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    opaque = (0.3 + 0.5 * values.clip(0, 1))[..., None]  # the hotter, the less the part changes the colour's meaning
    part = (opaque * colour + (1 - opaque) * 0.6 * grey[..., None]).astype(np.uint8)
    _draw_claims(part, heat, scale)
    canvas = np.full((HEAD_PX + size[1] + FOOT_PX, max(size[0], SHORTEST_PX), 3), DARK, np.uint8)
    left = (canvas.shape[1] - size[0]) // 2
    canvas[HEAD_PX : HEAD_PX + size[1], left : left + size[0]] = part
    method, bright, unit = MEANING[heat.method]
    _write(canvas, f"{name}: {said(heat.verdict)}", EDGE_PX, 24, size=0.6)
    _write(canvas, f"{method}: {bright}", EDGE_PX, 46, colour=PALE)
    _draw_scale(canvas, heat.top, unit)
    return canvas


def said(verdict: Verdict) -> str:
    """The verdict in words: its outcome, and the three surest defects."""
    best = sorted(verdict.defects, key=lambda defect: -defect.score)
    words = [f"{defect.label} {defect.score:.2f}" for defect in best[:3]]
    more = [f"{len(best) - 3} more"] if len(best) > 3 else []
    return f"{verdict.outcome.value} ({', '.join([*words, *more]) or 'no defect counts'})"


def _draw_claims(part: Pixels, heat: HeatMap, scale: float) -> None:
    """Boxes with what was found, and below them what they lose; a box that is all of the picture is left away."""
    import cv2

    for claim in sorted(heat.claims, key=lambda each: each.score):
        x1, y1, x2, y2 = (round(value * scale) for value in claim.box_px)
        if (x2 - x1) * (y2 - y1) >= 0.98 * part.shape[0] * part.shape[1]:
            continue
        cv2.rectangle(part, (x1, y1), (x2, y2), BLUE, 1)
        text = f"{claim.label} {claim.score:.2f}" + (f" -{claim.lost:.2f}" if heat.method == "occlusion" else "")
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
        foot = y1 - 4 if y1 >= high + 6 else min(part.shape[0] - 4, y2 + high + 4)
        _write(part, text, int(np.clip(x1, 2, max(2, part.shape[1] - wide - 2))), foot, size=0.42, colour=BLUE)


def _draw_scale(canvas: Pixels, top: float, unit: str) -> None:
    """From black to the brightest, with numbers, and what they are."""
    import cv2

    width, y = min(360, canvas.shape[1] - 2 * EDGE_PX), canvas.shape[0] - FOOT_PX + 10
    ramp = np.tile(np.linspace(0, 255, width).astype(np.uint8), (BAR_PX, 1))
    canvas[y : y + BAR_PX, EDGE_PX : EDGE_PX + width] = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)
    cv2.rectangle(canvas, (EDGE_PX, y), (EDGE_PX + width, y + BAR_PX), PALE, 1)
    for share in (0.0, 0.5, 1.0):
        text = f"{share * top:.2f}"
        wide = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
        _write(canvas, text, EDGE_PX + int(share * (width - wide)), y + BAR_PX + 18, size=0.45)
    for n, line in enumerate(unit.split("; ")):
        _write(canvas, line, EDGE_PX + width + EDGE_PX, y + BAR_PX - 2 + 18 * n, size=0.45, colour=PALE)


def _write(canvas: Pixels, text: str, x: int, y: int, *, size: float = 0.5, colour: tuple[int, ...] = WHITE) -> None:
    """On a dark ground, so that it can be read over anything."""
    import cv2

    (wide, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    cv2.rectangle(canvas, (x - 2, y - high - 2), (x + wide + 1, y + below // 2), DARK, -1)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

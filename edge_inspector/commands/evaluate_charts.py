"""Charts as SVG text for the page: no script, no fonts, no colours but those of its style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

Points = Sequence[tuple[float, float]]
Marks = Sequence[tuple[float, str]]  # where on an axis, 0 to 1, and what stands there
WIDE, HIGH = 520, 300
LEFT, RIGHT, TOP, FOOT = 48, 14, 12, 40
COLOURS = 8  # of the style sheet, c0 to c7
DECADE = 0.3  # on an axis of decades so many lie below 1, so that a single one can be seen


@dataclass(frozen=True, slots=True)
class Series:
    """A line, or a row of bars, with its name."""

    name: str
    points: Points


def line_chart(series: Sequence[Series], *, x: str, y: str, steps: Sequence[str] = ()) -> str:
    """Both axes from 0 to 1; or for x one place for each of `steps`."""
    right = float(len(steps) - 1) if steps else 1.0
    across = [(n / right, text) for n, text in enumerate(steps)] if steps else _quarters(1.0)
    body = _frame(x, y, across, _quarters(1.0))
    for n, each in enumerate(series):
        path = " ".join(f"{_x(a / right):.1f},{_y(b):.1f}" for a, b in each.points)
        dots = [f'<circle cx="{_x(a / right):.1f}" cy="{_y(b):.1f}" r="3"/>' for a, b in each.points if steps]
        kind = "line dashed" if n >= COLOURS else "line"
        body += f'<g class="c{n % COLOURS}"><title>{escape(each.name)}</title>'
        body += f'<polyline class="{kind}" points="{path}"/>{"".join(dots)}</g>'
    return _svg(body) + _legend([each.name for each in series])


def histogram(series: Sequence[Series], edges: Sequence[float], *, x: str, y: str, log: bool = False) -> str:
    """Bars beside each other; a point is (number of the bin, count). log: each line is ten times the one below."""
    most = max((count for each in series for _, count in each.points), default=0) or 1
    top = math.log10(most) + DECADE if log else nice(most)
    decades = [((n + DECADE) / top, f"{10**n:,}") for n in range(7) if n + DECADE <= top]
    body = _frame(x, y, _quarters(edges[-1]), decades if log else _quarters(top))
    wide = (WIDE - LEFT - RIGHT) / (len(edges) - 1) / max(1, len(series))
    for n, each in enumerate(series):
        bars = []
        for place, count in each.points:
            if count:
                share = (math.log10(count) + DECADE if log else count) / top
                at, head = _x(place / (len(edges) - 1)) + n * wide, _y(share)
                text = f"{each.name}: {count:g} from {edges[int(place)]:.3g} to {edges[int(place) + 1]:.3g}"
                size = f'width="{max(1.0, wide - 1):.1f}" height="{_y(0) - head:.1f}"'
                bars.append(f'<rect x="{at + 0.5:.1f}" y="{head:.1f}" {size}><title>{escape(text)}</title></rect>')
        body += f'<g class="c{n}">{"".join(bars)}</g>'
    return _svg(body) + (_legend([each.name for each in series]) if len(series) > 1 else "")


def bins(values: Sequence[float], edges: Sequence[float]) -> Points:
    """How many lie in each; what lies beyond the last is in the last."""
    counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
    return [(float(n), float(count)) for n, count in enumerate(counts)]


def thinned(points: Points, most: int = 240) -> Points:
    """A long curve with fewer points, first and last among them."""
    if len(points) <= most:
        return points
    return [points[n] for n in np.unique(np.linspace(0, len(points) - 1, most).round().astype(int))]


def nice(top: float) -> float:
    """The next number whose quarters are short."""
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 6, 8, 10) if step * power >= top * 0.9999)


def _quarters(top: float) -> Marks:
    return [(n / 4, f"{top * n / 4:.4g}") for n in range(5)]


def _frame(x: str, y: str, across: Marks, upwards: Marks) -> str:
    """Grid, numbers and names of the axes."""
    body = ""
    for share, text in upwards:
        at = _y(share)
        body += f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        body += f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    for share, text in across:
        at = _x(share)
        body += f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HIGH - FOOT}"/>'
        body += f'<text x="{at:.1f}" y="{HIGH - FOOT + 15}" text-anchor="middle">{escape(text)}</text>'
    turned = f"translate(11 {_y(0.5)}) rotate(-90)"
    body += f'<text class="name" x="{_x(0.5)}" y="{HIGH - 6}" text-anchor="middle">{escape(x)}</text>'
    return body + f'<text class="name" transform="{turned}" text-anchor="middle">{escape(y)}</text>'


def _svg(body: str) -> str:
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img">{body}</svg>'


def _legend(names: Sequence[str]) -> str:
    keys = "".join(
        f'<span class="c{n % COLOURS}"><i{" class=dashed" if n >= COLOURS else ""}></i>{escape(name)}</span>'
        for n, name in enumerate(names)
    )
    return f'<p class="legend">{keys}</p>'


def _x(share: float) -> float:
    return LEFT + share * (WIDE - LEFT - RIGHT)


def _y(share: float) -> float:
    return HIGH - FOOT - share * (HIGH - TOP - FOOT)

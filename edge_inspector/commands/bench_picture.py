"""The benchmark's picture, an SVG: how latencies are distributed, and where the time of some parts went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from .bench_heard import STAGES, Timed
from .evaluate_charts import nice
from .evaluate_style import DARK, LIGHT

WIDE, HIGH = 1000, 470
LEFT, RIGHT, TOP, FOOT, GAP = 60, 16, 70, 60, 76
HALF = (WIDE - LEFT - RIGHT - GAP) / 2
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
STYLE = f"""svg {{ {LIGHT} }} @media (prefers-color-scheme: dark) {{ svg {{ {DARK} }} }}
text {{ font: 12px system-ui, sans-serif; fill: var(--text) }}
.soft {{ fill: var(--soft) }} .page {{ fill: var(--page) }}
.title {{ font-size: 15px; font-weight: 600 }} .grid {{ stroke: var(--line) }} .line {{ fill: none; stroke-width: 2 }}
""" + "".join(f".c{n} {{ fill: var(--c{n}) }} .l{n} {{ stroke: var(--c{n}) }} " for n in range(len(STAGES)))
Curve = Sequence[tuple[float, int]]


def picture(result: dict[str, Any], timed: Sequence[Timed]) -> str:
    """Left: which share of all parts took how long at most, the axis stretched towards the slowest. Right: when."""
    curves: dict[str, Curve] = result["curves"]
    what = f"engine {result['engine']}, {result['frame']}, {result['rate']:g} parts per second"
    told = f"{what}; {result['machine']}, {result['date']}"
    body = "".join([
        f'<rect class="page" width="{WIDE}" height="{HIGH}"/>',
        _text(LEFT, 22, "edge-inspector bench: from frame to received message", "title"),
        _text(LEFT, 42, told, "soft"),
        *_distribution(curves),
        *_timeline(timed),
    ])  # fmt: skip
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}">'
    return f"{head}<style>{STYLE}</style>{body}</svg>\n"


def _distribution(curves: dict[str, Curve]) -> Iterator[str]:
    top = nice(max(us for curve in curves.values() for _, us in curve) / 1000)
    last = _stretched(SHARES[-1])

    def at(share: float, us: float) -> tuple[float, float]:
        return LEFT + HALF * min(1.0, _stretched(share) / last), HIGH - FOOT - (HIGH - FOOT - TOP) * us / 1000 / top

    for n in range(5):
        y = at(0, 250 * n * top)[1]
        yield f'<line class="grid" x1="{LEFT}" x2="{LEFT + HALF}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, f"{top * n / 4:.4g}", "soft", "end")
    for share in SHARES:
        x = at(share, 0)[0]
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HIGH - FOOT}"/>'
        yield _text(x, HIGH - FOOT + 18, f"{100 * share:g} %", "soft", "middle")
    yield _text(LEFT + HALF / 2, HIGH - 14, "share of parts that took at most so long", "soft", "middle")
    yield _text(LEFT - 8, TOP - 10, "ms", "soft", "end")
    for n, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _steps(curve, at))
        yield f'<polyline class="line l{n}" points="{points}"/>'
        yield _key(LEFT + 14 + 110 * n, TOP + 8, n, name)


def _steps(curve: Curve, at: Any) -> Iterator[tuple[float, float]]:
    before = 0.0
    for share, us in curve:
        yield at(before, us)
        yield at(share, us)
        before = share


def _timeline(timed: Sequence[Timed]) -> Iterator[str]:
    left = LEFT + HALF + GAP
    if not timed:
        return
    top_us = 1000 * nice(max(sum(part.took_us) for part in timed) / 1000)
    row = (HIGH - FOOT - TOP - 26) / len(timed)
    for n in range(5):
        x = left + HALF * n / 4
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + 22}" y2="{HIGH - FOOT}"/>'
        yield _text(x, HIGH - FOOT + 18, f"{top_us / 1000 * n / 4:.4g}", "soft", "middle")
    yield _text(left + HALF / 2, HIGH - 14, "ms since the frame, part by part", "soft", "middle")
    for n, part in enumerate(timed):
        x, y = float(left), TOP + 26 + n * row
        yield _text(left - 6, y + row / 2 + 3, str(n + 1), "soft", "end")
        for stage, took_us in enumerate(part.took_us):
            wide = HALF * took_us / top_us
            told = f"{STAGES[stage]}: {took_us / 1000:.2f} ms"
            yield (f'<rect class="c{stage}" x="{x:.1f}" y="{y:.1f}" width="{wide:.2f}" height="{row - 3:.1f}">'
                   f"<title>{told}</title></rect>")  # fmt: skip
            x += wide
    at = left - 20
    for stage, name in enumerate(STAGES):
        yield _key(at, TOP + 8, stage, name)
        at += 30 + 6.6 * len(name)


def _key(x: float, y: float, colour: int, name: str) -> str:
    return f'<rect class="c{colour}" x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10"/>' + _text(x + 14, y, name)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _stretched(share: float) -> float:
    """0 % is 0, 90 % is 1, 99 % is 2, and so on."""
    return -math.log10(max(1e-6, 1 - share))

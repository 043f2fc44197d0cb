"""The figures as a picture: an SVG of its own, which follows the reader's light or dark scheme."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 760, 270, 70  # of the picture; of the names; of the figures behind the bars
ROW, BAR, TITLE = 26, 16, 44
STYLE = """
  svg { color-scheme: light dark }
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2733 }
  .title { font-weight: 600; font-size: 14px } .note { font-size: 11px; fill: #5c6b7a }
  .name { text-anchor: end } .theirs { fill: #9fb3c8 } .ours { fill: #1f7a4d }
  .limit { fill: none; stroke: #5c6b7a; stroke-dasharray: 4 3 } .bold { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note { fill: #9aa7b4 } .theirs { fill: #5a6f86 } .ours { fill: #3fb97c }
    .limit { stroke: #9aa7b4 }
  }
"""
Row = tuple[str, float, str]  # name, value, class


def chart(told: dict[str, Any]) -> str:
    """Two groups of bars: frames per second, and p99 from frame to message."""
    ours = told["ours"]
    kinds = {name: "ours" if name == ours else "theirs" for name in told["contestants"]}
    speeds: list[Row] = [(n, e["full_speed"]["fps"]["median"], kinds[n]) for n, e in told["contestants"].items()]
    if told["bare"]:
        speeds.append((told["bare"]["name"], told["bare"]["fps"]["median"], "limit"))
    times: list[Row] = [(n, e["paced"]["ms"]["p99"], kinds[n]) for n, e in told["contestants"].items()]
    groups = (
        ("Frames per second, at full speed", "more is better; boxes received as JSON by another process", speeds, True),
        (f"From frame to received message at {told['pace_hz']:g} frames/s: p99, ms", "less is better", times, False),
    )
    parts, top = [], 8
    for title, note, rows, best_first in groups:
        part, top = _group(title, note, sorted(rows, key=lambda row: -row[1] if best_first else row[1]), top)
        parts += part
    machine = told["machine"]
    foot = f"{machine['cores']} cores of {machine['processor']}, {told['date']}; YOLOv8n, frames of 1280 x 1024"
    parts.append(f'<text class="note" x="8" y="{top + 12}">{escape(foot)}</text>')
    size = f'viewBox="0 0 {WIDTH} {top + 24}" width="{WIDTH}" height="{top + 24}"'
    label = 'role="img" aria-label="Frames per second and p99 latency of edge-inspector and its peers"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def _group(title: str, note: str, rows: list[Row], top: int) -> tuple[list[str], int]:
    """A title and its bars from `top` on, and where they end."""
    scale = (WIDTH - LEFT - RIGHT) / max(value for _, value, _ in rows)
    parts = [
        f'<text class="title" x="8" y="{top + 16}">{escape(title)}</text>',
        f'<text class="note" x="8" y="{top + 32}">{escape(note)}</text>',
    ]
    top += TITLE
    for name, value, kind in rows:
        bold = " bold" if kind == "ours" else ""
        middle, wide = top + BAR - 3.5, value * scale
        parts += [
            f'<text class="name{bold}" x="{LEFT - 8}" y="{middle}">{escape(name.replace("`", ""))}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{wide:.1f}" height="{BAR}" rx="2"/>',
            f'<text class="{bold.strip()}" x="{LEFT + wide + 6:.1f}" y="{middle}">{value:.1f}</text>',
        ]
        top += ROW
    return parts, top + 12

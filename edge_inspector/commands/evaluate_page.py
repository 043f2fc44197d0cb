"""The page of an evaluation: one HTML file that needs nothing else, without a script, for a screen of any size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from . import evaluate_sections as sections
from .evaluate_figures import Figures
from .evaluate_run import Seen
from .evaluate_sections import Report
from .evaluate_style import STYLE
from .evaluate_worst import Worst

# nothing is fetched, whatever a name in it may look like
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PICTURES = {
    "leaked": "known from training",
    "missing": "missing",
    "broken": "that cannot be read",
    "unlabelled": "without a label",
    "duplicates": "the same as another",
    "alike": "nearly the same as another",
    "wrong_size": "of another size",
}
WORDS = {
    "IoU": "How far two boxes overlap: what both cover, of what either covers.",
    "AP, AP50": "COCO's average precision: the area under the curve of precision over recall, a mean over the classes; "
    "AP50 at an IoU of 0.50, AP the mean over 0.50, 0.55 to 0.95.",
    "F1": "2 P R / (P + R), of precision P and recall R.",
    "escape, false reject": "VDI/VDE/VDMA 2632-3 calls them slip and pseudo-reject.",
    "at least, at most": "Clopper and Pearson 1934, one-sided, each 95 % sure.",
}


def page_of(report: Report, figures: Figures, seen: Sequence[Seen], worst: Sequence[Worst]) -> str:
    """The file's text. report: what report.json says."""
    title = f"{report['engine']['name']} on {Path(report['data']).name}"
    body = [
        _head(report, title),
        sections.tiles(report),
        _warnings(report),
        sections.parts(report, seen),
        sections.classes(report, figures),
        sections.confusion(figures.confusion),
        sections.deeppcb(report),
        sections.robustness(report),
        sections.speed(report, seen),
        _worst(worst),
        _pictures(report),
        f"<h2>Words</h2><dl>{''.join(f'<dt>{name}</dt><dd>{text}</dd>' for name, text in WORDS.items())}</dl>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _head(report: Report, title: str) -> str:
    parts = report["parts"]
    return (
        f"<h1>{escape(title)}</h1><p class='soft'>{report['images']:,} pictures: {parts['defective']:,} defective "
        f"parts, {parts['good']:,} good ones. Recipe {escape(report['recipe']['name'])}. Made {report['made']} by "
        f"edge-inspector {report['version']}; engine sha256 {report['engine']['sha256'][:12]}.</p>"
    )


def _warnings(report: Report) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in report["warnings"])
    return f"<div class='warn'><ul>{told}</ul></div>" if told else ""


def _worst(worst: Sequence[Worst]) -> str:
    shown = ""
    for each in worst:
        images = "".join(f'<img alt="{escape(each.title)}" src="{url}">' for url in each.pictures)
        told = f"<b>{escape(each.title)}</b>{escape(each.text)}<small>{escape(each.name)}</small>"
        shown += f"<figure class='card'>{images}<figcaption>{told}</figcaption></figure>"
    key = (
        "<span class='key' style='border-color: #0078dc'>labelled</span> "
        "<span class='key' style='border-color: #e61e1e'>found</span> and, thin, what stayed below its threshold. "
        "Escapes first, then false rejects, then what has most wrong in it."
    )
    told = key if worst else "In none is anything wrong."
    return f"<h2>The worst pictures</h2><p>{told}</p><div class='worst'>{shown}</div>"


def _pictures(report: Report) -> str:
    """All names of what was left out, or is not as it should be."""
    lists = ""
    for key, text in PICTURES.items():
        found = report["pictures"][key]
        names = [f"{name}: {found[name]}" if isinstance(found, dict) else name for name in found]
        told = "".join(f"<li>{escape(name)}</li>" for name in names)
        lists += f"<details><summary>{len(names):,} {text}</summary><ul>{told}</ul></details>" if names else ""
    return f"<h2>Pictures</h2>{lists or '<p>All can be read, are labelled, of one size, and there once.</p>'}"

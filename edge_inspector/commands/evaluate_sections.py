"""What the page of an evaluation tells, part by part: each from figures to HTML; "" where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .evaluate_changes import CHANGES, STRENGTHS
from .evaluate_charts import Series, bins, histogram, line_chart, nice, thinned
from .evaluate_figures import Confusion, Figures
from .evaluate_run import Seen

NONE = "-"
SHARES = np.linspace(0, 1, 26).tolist()  # the bins of scores
Report = dict[str, Any]


def tiles(report: Report) -> str:
    """What one looks for first."""
    parts, speed = report["parts"], report["images_per_second"]
    shown = [
        _counted("escapes", report["escapes"], parts["defective"], report["escape_rate"], "defective"),
        _counted("false rejects", report["false_rejects"], parts["good"], report["false_reject_rate"], "good"),
    ]
    for key, name, told in (
        ("ap50", "AP50", "mean over classes, IoU 0.50"),
        ("ap", "AP", "mean over IoU 0.50 to 0.95"),
        ("accuracy", "accuracy", "said to be what they are"),
        ("precision", "precision", "of what is found, right"),
        ("recall", "recall", "of what is there, found"),
        ("f1", "F1", "of precision and recall"),
    ):
        if report[key] is not None:
            shown.append(_tile(name, three(report[key]), told))
    shown.append(_tile("pictures a second", f"{speed:.3g}", f"half infer in {report['inference_ms']['p50']:.3g} ms"))
    return f"<div class='tiles'>{''.join(shown)}</div>"


def parts(report: Report, seen: Sequence[Seen]) -> str:
    """Escapes and false rejects, and how far good and defective parts are apart."""
    groups: dict[str, list[float]] = {"good parts": [], "defective parts": []}
    for each in seen:
        best = float(each.part.detections.score.max()) if len(each.part.detections) else 0.0
        groups["defective parts" if each.part.boxes else "good parts"].append(best)
    series = [Series(name, bins(scores, SHARES)) for name, scores in groups.items() if scores]
    chart = histogram(series, SHARES, x="surest find on a part", y="parts (log)", log=True)
    rows = [
        ["escapes", report["escapes"], report["parts"]["defective"], *_bounds(report["escape_rate"])],
        ["false rejects", report["false_rejects"], report["parts"]["good"], *_bounds(report["false_reject_rate"])],
    ]
    return (
        "<h2>Parts</h2><p>What the recipe makes of each part, as on the line: a defective one that passes is an escape,"
        " a good one that does not a false reject. With 95 % confidence on either side, the true rate lies between the "
        f"bounds.</p><div class='two'>{_card(_table(['', 'seen', 'of', 'rate', 'at least', 'at most'], rows))}"
        f"{_card(chart)}</div>"
    )


def classes(report: Report, figures: Figures) -> str:
    """A line for each, and for detectors the curves."""
    if "classes" not in report:
        return ""
    columns = [key for key in report["classes"][0] if key != "name"]
    rows = [[each["name"], *(_cell(each[key]) for key in columns)] for each in report["classes"]]
    total = {**report, "labelled": sum(each["labelled"] for each in report["classes"]), "threshold": None}
    rows.append(["all", *(_cell(total[key]) for key in columns)])
    title = ["class", *(key.upper() if key in ("ap", "ap50", "f1") else key for key in columns)]
    charts = f"<div class='two'>{_card(_curves(figures))}{_card(_scores(figures))}</div>" if figures.curves else ""
    told = "" if figures.curves else "A picture is taken for its likeliest class. "
    return (
        f"<h2>Classes</h2><p>{told}{'Precision' if figures.curves else 'In all: precision'}, recall and F1 are of "
        f"{escape(report['precision_recall_f1_of'])}.</p>{_card(_table(title, rows, last='all'))}{charts}"
    )


def confusion(table: Confusion | None) -> str:
    """Darker is more."""
    if table is None:
        return ""
    most, neither = max(1, int(table.counts.max())), table.labelled != table.found
    head = "".join(f"<th>{escape(name)}</th>" for name in table.found)
    body = ""
    for n, name in enumerate(table.labelled):
        cells = [
            f"<td style='background: rgb(var(--heat) / {0.55 * (count / most) ** 0.5:.2f})'>{count or ''}</td>"
            for count in table.counts[n].tolist()
        ]
        if neither and n == len(table.labelled) - 1:
            cells[-1] = "<td></td>"
        body += f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>"
    return (
        "<h2>Confusion</h2><p>A row for what is labelled, a column for what was found.</p>"
        + _card(f"<table class='heat'><tr><th></th>{head}</tr>{body}</table>")
    )  # fmt: skip


def deeppcb(report: Report) -> str:
    """Its figures have a protocol of their own."""
    found = report.get("deeppcb")
    if not found or found["map"] is None:
        return ""
    rows = [
        ["mAP", three(found["map"]), "one curve of all classes, precision made monotonous"],
        ["mAP, in steps", three(found["map_steps"]), "the same as the script of ICDAR 2015 adds it up"],
        ["F", three(found["f"]), "at the recipe's thresholds"],
        [
            "best F",
            three(found["best_f"]),
            f"from {three(found['best_f_score'])} on, chosen on these pictures: flatters",
        ],
    ]
    return (
        "<h2>As DeepPCB counts</h2><p>A detection is right where it overlaps a label of its class by more than 0.33 "
        f"(IoU); Tang et al. 2019, arXiv 1902.06197.</p>{_card(_table(['', '', ''], rows, kind='told'))}"
    )


def robustness(report: Report) -> str:
    """The main figure and what becomes of parts, change by change."""
    changed = report["robustness"]
    if not changed:
        return ""
    names = {"ap50": "AP50", "deeppcb_map": "DeepPCB mAP", "accuracy": "accuracy"}
    columns = [key for key in names if report[key] is not None]

    def chart(key: str, name: str) -> str:
        """A line for each change, from the picture as it is."""

        def of(values: Report) -> float:
            wrong = values["escapes"] + values["false_rejects"]
            return float((values[key] or 0.0) if key else wrong / report["images"])

        series = [
            Series(change.name, [(0.0, of(report)), *((float(each["strength"]), of(each)) for each in changed
                                                     if each["change"] == change.name)])
            for change in CHANGES
        ]  # fmt: skip
        return _card(line_chart(series, x="strength", y=name, steps=["as it is", *map(str, STRENGTHS)]))

    charts = "".join(chart(key, names[key]) for key in columns[:1]) + chart("", "share of parts judged wrong")
    rows = [
        [each.get("change", "as it is"), each.get("amount", ""), *(three(each[key]) for key in columns),
         each["escapes"], each["false_rejects"]]
        for each in (report, *changed)
    ]  # fmt: skip
    title = ["change", "", *(names[key] for key in columns), "escapes", "false rejects"]
    return (
        "<h2>Robustness</h2><p>The same pictures, changed as a line may change them. Where a curve falls early, hold "
        f"that steady, or train with it.</p><div class='two'>{charts}</div>"
        f"<details><summary>All figures</summary>{_card(_table(title, rows))}</details>"
    )


def speed(report: Report, seen: Sequence[Seen]) -> str:
    """How long inferences took."""
    told, values = report["inference_ms"], [each.inference_ms for each in seen]
    edges = np.linspace(0, nice(max(1e-3, told["p99"], told["p50"] * 1.5)), 31).tolist()
    chart = histogram(
        [Series("pictures", bins(values, edges))], edges, x="ms; longer ones at the right end", y="pictures"
    )
    rows = [[name, f"{value:.2f} ms"] for name, value in told.items()]
    return (
        "<h2>Time</h2><p>An inference from submit to collect, one at a time. In all "
        f"{report['images_per_second']:.3g} pictures a second, {escape(report['images_per_second_is'])}; on "
        f"{escape(report['machine'])}.</p>"
        f"<div class='two'>{_card(chart)}{_card(_table(['share of inferences', 'within'], rows))}</div>"
    )


def three(value: float | None) -> str:
    """`0.867`."""
    return NONE if value is None else f"{value:.3f}"


def _curves(figures: Figures) -> str:
    series = []
    for name, scored in figures.curves.items():
        recall, precision = (values.tolist() for values in scored.curve())
        series.append(Series(name, thinned(list(zip([0.0, *recall], [1.0, *precision], strict=True)))))
    return line_chart(series, x="recall", y="precision (IoU 0.5)")


def _scores(figures: Figures) -> str:
    """Right and wrong detections."""
    score = np.concatenate([scored.score for scored in figures.curves.values()])
    right = np.concatenate([scored.right for scored in figures.curves.values()])
    series = [Series(name, bins(score[mask].tolist(), SHARES)) for name, mask in (("right", right), ("wrong", ~right))]
    return histogram(series, SHARES, x="score", y="detections (log)", log=True)


def _counted(name: str, events: int, of: int, rate: dict[str, float] | None, kind: str) -> str:
    if rate is None:
        return _tile(name, NONE, f"there is no {kind} part")
    return _tile(
        name, f"{events:,}", f"of {of:,} {kind} parts; at most {rate['at_most_95']:.2%}", "bad" if events else "good"
    )


def _tile(name: str, value: str, told: str, kind: str = "") -> str:
    return f"<div class='tile {kind}'>{name}<b>{value}</b><small>{told}</small></div>"


def _card(content: str) -> str:
    return f"<div class='card scroll'>{content}</div>"


def _bounds(rate: dict[str, float] | None) -> list[str]:
    return [f"{value:.2%}" for value in rate.values()] if rate else [NONE] * 3


def _table(title: Sequence[str], rows: Sequence[Sequence[object]], *, last: str = "", kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in title) if any(title) else ""
    body = ""
    for row in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in row)
        body += f"<tr class='{'all' if last and row is rows[-1] else ''}'>{cells}</tr>"
    return f"<table class='{kind}'><tr>{head}</tr>{body}</table>"


def _cell(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else three(value)

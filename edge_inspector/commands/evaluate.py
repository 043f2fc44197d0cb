"""Measure an engine on labelled pictures it has not seen: COCO's figures, escapes, speed, and what it gets wrong.

Everything runs as on the line: the same runner, recipe and judge. Writes a page (report.html) and report.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__, runners
from ..errors import ConfigError
from ..models.folder import Engine, ModelTables, find
from ..preprocess import use_one_thread
from ..recipe import Recipe, RecipeTables, fit_recipe, load_recipe, refuse_for_frame
from ..types import Pixels
from . import evaluate_coco
from .dataset import Box, Sample, fingerprint, read_dataset
from .evaluate_changes import CHANGES, STRENGTHS
from .evaluate_figures import Figures, figures_of, headline
from .evaluate_page import page_of
from .evaluate_pictures import Findings, inspect, leaks
from .evaluate_run import Inspection, Seen
from .evaluate_worst import worst_of
from .heat import heat_of, refuse_script
from .heat_picture import draw_heat
from .looking import read_picture
from .terminal import Block, bar
from .threshold_report import rate


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, which pictures, how much."""
    parser.add_argument("engine", metavar="NAME", help="an engine's name")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="labelled: COCO, VOC, YOLO, CSV or folders"
    )
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="a COCO or CSV file elsewhere")
    parser.add_argument("--train", type=Path, metavar="PATH", help="what it was trained on: warns of pictures in both")
    parser.add_argument("--robustness", action="store_true", help="also under changed light, focus, noise and position")
    parser.add_argument("--explain", action="store_true", help="with a heat map beside each of the worst pictures")
    parser.add_argument("--recipe", type=Path, help="thresholds, zones, sizes; the engine's own where not given")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="what is written (runs/evaluate-NAME/)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Look, count, write."""
    engine = find(args.engine, args.engines)
    tables = engine.tables
    if tables.task == "detect":
        evaluate_coco.require()
    path = args.recipe or (engine.recipe if engine.recipe.is_file() else None)
    recipe = (
        load_recipe(path, tables.labels) if path else fit_recipe(engine.folder.name, "", RecipeTables(), tables.labels)
    )
    if args.explain:
        refuse_script(engine)
    out = args.out or Path("runs") / f"evaluate-{args.engine}"
    use_one_thread()
    samples, findings = _samples(args, tables, recipe, path)
    seen, changed = _look(engine, recipe, samples, robustness=args.robustness)
    figures = figures_of(seen, tables, recipe)
    report: dict[str, Any] = {
        "engine": engine.identity,
        "task": tables.task,
        "data": str(args.data),
        "data_sha256": fingerprint(samples, args.data),
        "recipe": {"name": recipe.name, "sha256": recipe.sha256},
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "machine": _machine(engine),
        **figures.values,
        "robustness": [
            {"change": change, "strength": strength, "amount": amount, **headline(each, tables)}
            for (change, strength, amount), each in changed.items()
        ],
        "pictures": findings.as_json(),
        "warnings": findings.warnings(),
    }
    _write(report, figures, seen, engine, recipe, out, explain=args.explain)
    for text in report["warnings"]:
        print(f"warning: {text}", file=sys.stderr)
    print(
        json.dumps(report)
        if args.json
        else "\n".join([*_lines(report), "", f"written: {out}/report.html, report.json"])
    )
    return 0


def _samples(
    args: argparse.Namespace, tables: ModelTables, recipe: Recipe, path: Path | None
) -> tuple[list[Sample], Findings]:
    """The pictures that count, and what is to be said of all. Raises ConfigError where none is left."""
    skipped: dict[Path, str] = {}
    only = tables.labels[0] if tables.task == "anomaly" else None  # whatever a defect is called, it finds that
    known = None if only else tables.labels
    read = read_dataset(args.data, known, annotations=args.annotations, good=tables.good, skipped=skipped)
    labelled = [
        replace(
            sample,
            boxes=None
            if sample.boxes is None
            else tuple(Box(only or box.label, box.xyxy) for box in sample.boxes if box.label not in tables.good),
        )
        for sample in read
    ]
    one_size = bool(recipe.tables.zones) or recipe.lens is not None
    samples, prints, findings = inspect(labelled, _progress("reading", len(labelled)), one_size=one_size)
    for image, why in sorted(skipped.items()):
        (findings.missing if why == "is missing" else findings.broken).append(str(image))
    if not samples:
        raise ConfigError(
            f"{args.data}: found no picture that can be read and has a label: {'; '.join(findings.warnings())}"
        )
    if path is not None:
        refuse_for_frame(recipe, path, prints[0].size)
    if args.train is not None:
        findings.leaked = leaks(prints, args.train, _progress("reading what it was trained on", None))
    return samples, findings


def _look(
    engine: Engine, recipe: Recipe, samples: list[Sample], *, robustness: bool
) -> tuple[list[Seen], dict[tuple[str, int, str], list[Seen]]]:
    """Every picture as it is; and, by (change, strength, amount), as it would be otherwise."""
    runner = runners.make(engine)
    changes = [(change, strength) for change in CHANGES for strength in STRENGTHS] if robustness else []
    tell, done = _progress("looking", len(samples) * (1 + len(changes))), 0
    seen: list[Seen] = []
    changed: dict[tuple[str, int, str], list[Seen]] = {}
    try:
        inspection = Inspection(engine.tables, recipe, runner)
        for sample in samples:
            pixels, boxes = read_picture(sample.image), sample.boxes or ()
            seen.append(inspection.inspect(sample, boxes, pixels))
            for change, strength in changes:
                other, moved = change.apply(pixels, boxes, strength, sample.image.name)
                key = (change.name, strength, change.text(strength))
                changed.setdefault(key, []).append(inspection.inspect(sample, moved, other))
            done += 1 + len(changes)
            tell(done)
    finally:
        runner.close()
    return seen, changed


def _machine(engine: Engine) -> str:
    """What computes."""
    if engine.tables.script:
        return "a script"
    found = runners.machine(engine.build.manifest.target if engine.build else "openvino")
    return f"{found.device}, {found.runtime} {found.version}"


def _write(
    report: dict[str, Any], figures: Figures, seen: list[Seen], engine: Engine, recipe: Recipe, out: Path, *,
    explain: bool,
) -> None:  # fmt: skip
    """report.json, report.html, and worst/ with the pictures that are in it."""
    heat = _explainer(engine, recipe) if explain else None
    worst = worst_of(seen, engine.tables, recipe, out / "worst", heat=heat)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page_of(report, figures, seen, worst), encoding="utf-8")


def _explainer(engine: Engine, recipe: Recipe) -> Callable[[Path], Pixels]:
    """What draws the heat map of a picture."""
    tell, done = _progress("explaining", None), itertools.count(1)

    def draw(image: Path) -> Pixels:
        pixels = read_picture(image)
        drawn = draw_heat(pixels, heat_of(engine, pixels, recipe=recipe), name=engine.folder.name)
        tell(next(done))
        return drawn

    return draw


def _lines(report: dict[str, Any]) -> list[str]:
    """For people."""
    parts = report["parts"]
    lines = [f"{report['images']:,} pictures: {parts['defective']:,} defective parts, {parts['good']:,} good ones", ""]
    for key, of in (("escapes", "defective"), ("false_rejects", "good")):
        lines.append(f"{key.replace('_', ' '):18} {rate(report[key], parts[of]) if parts[of] else 'no such parts'}")
    names = {"ap": "AP 0.50:0.95", "ap50": "AP50", "deeppcb_map": "DeepPCB mAP", "deeppcb_f": "DeepPCB F", "f1": "F1"}
    for key in ("accuracy", "ap", "ap50", "precision", "recall", "f1", "deeppcb_map", "deeppcb_f"):
        if report[key] is not None:
            lines.append(f"{names.get(key, key):18} {report[key]:.4f}")
    told = report["inference_ms"]
    lines.append(f"{'inference':18} {', '.join(f'{name} {value:.2f} ms' for name, value in told.items())}")
    lines.append(f"{'pictures a second':18} {report['images_per_second']:.1f}, {report['images_per_second_is']}")
    return lines


def _progress(title: str, total: int | None) -> Callable[[int], None]:
    """Show how many are done."""
    block, started_s = Block(sys.stderr), time.monotonic()

    def tell(done: int) -> None:
        pace = f"{done / max(1e-9, time.monotonic() - started_s):.1f}/s"
        share = f"{bar(done, total)} " if total else ""
        block.show([f"{share}{title} {done:,}{f' of {total:,}' if total else ''}  {pace}"])

    return tell

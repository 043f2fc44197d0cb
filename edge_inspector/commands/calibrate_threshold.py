"""Choose each class's threshold from labelled parts: the fewest false rejects that hold a rate of escapes.

Writes a recipe with the choice, what proves it, the operating curve, and a picture of every part it gets wrong. Words
as in VDI/VDE/VDMA 2632-3: escape (slip), false reject (pseudo-reject).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import runners
from ..errors import ConfigError
from ..judge import judge
from ..models.folder import Engine, find
from ..preprocess import use_one_thread
from ..recipe import Recipe, RecipeTables, fit_recipe, load_recipe, refuse_for_frame
from ..tables import read_file, read_toml
from ..types import Outcome, Verdict
from .curve import Curve, draw_curve
from .dataset import Sample, fingerprint, good_parts, read_dataset
from .dataset_layout import form_of
from .labelled_parts import LabelledPart, evidence_of, folds_of, look_at
from .looking import Looker
from .operating_point import Choice, allowed_escapes, choose, cross_validate
from .part_pictures import draw_part
from .recipe_text import to_toml, with_thresholds
from .terminal import Block, bar
from .threshold_report import Report, by_class, wrong_reasons

LOWEST = 0.05  # what an engine finds below this is noise


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, which parts, which bound."""
    parser.add_argument("engine", metavar="NAME", help="an engine's name")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="labelled: COCO, VOC, YOLO or folders")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="a COCO file elsewhere (DIR/annotations.json)")
    parser.add_argument("--good", type=Path, metavar="DIR", help="more pictures, of good parts")
    parser.add_argument(
        "--max-escape", type=_rate, default=0.001, metavar="RATE", help="of the defective parts, at most (0.001)"
    )
    parser.add_argument("--recipe", type=Path, help="zones, sizes, severities; the engine's own where not given")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="what is written (runs/threshold-NAME/)")


def main(args: argparse.Namespace) -> int:
    """Choose, prove, write; exit 1 where no thresholds hold the rate."""
    engine = find(args.engine, args.engines)
    recipe_path, recipe = _present_recipe(engine, args.recipe)
    samples = _samples(args, engine)
    out = args.out or Path("runs") / f"threshold-{args.engine}"
    # where boxes are drawn around patches of a map, another floor draws other boxes: keep the one that will run
    floor = min(LOWEST, recipe.floor) if engine.tables.task in ("detect", "classify") else recipe.floor
    use_one_thread()
    parts = _look(engine, samples, recipe, floor=floor, path=recipe_path)
    evidence, classes = evidence_of(parts, recipe, floor=floor), len(recipe.labels)
    defective = int(evidence.defective.sum())
    allowed, tell = allowed_escapes(defective, args.max_escape), _progress("choosing thresholds")
    choice = choose(evidence, allowed, classes=classes, floor=floor, tell=tell)
    if choice is None:
        return _refuse(parts, evidence.escaped((floor,) * classes).tolist(), recipe, out, floor=floor)
    tell, folds = _progress("cross-validating"), folds_of(parts)
    crossed = cross_validate(evidence, folds, rate=args.max_escape, classes=classes, floor=floor, tell=tell)
    counts, identity = (defective, len(parts) - defective), engine.identity
    thresholds = dict(zip(recipe.labels, choice.thresholds, strict=True))
    report = Report(identity["name"], identity["sha256"], fingerprint(samples, args.data), args.max_escape, *counts,
                    choice, crossed, thresholds, {})  # fmt: skip
    made = _write_recipe(report, recipe_path, engine, out)
    verdicts = [judge(part.detections, made) for part in parts]
    _check(choice, parts, verdicts)
    _draw_wrong(parts, verdicts, out)
    title = f"{args.engine}: {counts[0]:,} defective and {counts[1]:,} good parts"
    having = np.array([[label in {box.label for box in part.boxes} for part in parts] for label in recipe.labels])
    draw_curve(Curve(evidence, choice.thresholds, recipe.labels, having, args.max_escape, title), out / "curve.png")
    report, wrong = replace(report, classes=by_class(parts, verdicts, thresholds)), wrong_reasons(parts, verdicts)
    _write_recipe(report, recipe_path, engine, out)  # again, with what it does to each class
    (out / "report.json").write_text(json.dumps(report.as_json(wrong), indent=1) + "\n")
    print("\n".join([*report.class_lines(wrong), *report.lines()]))
    print(f"\nwritten: {out}/ ({', '.join(sorted(path.name for path in out.iterdir()))})")
    print(f'in line.toml: recipe = "{(out / "recipe.toml").resolve()}"')
    return 0


def _present_recipe(engine: Engine, path: Path | None) -> tuple[Path | None, Recipe]:
    """The recipe whose zones, sizes and severities stay; one with nothing but defaults where the engine has none."""
    if path is None and not engine.recipe.is_file():
        return None, fit_recipe(engine.folder.name, "", RecipeTables(), engine.tables.labels)
    found = path or engine.recipe
    return found, load_recipe(found, engine.tables.labels)


def _samples(args: argparse.Namespace, engine: Engine) -> list[Sample]:
    """The labelled parts. What a classifier calls good is no defect."""
    tables = engine.tables
    read = read_dataset(args.data, tables.labels, annotations=args.annotations, good=tables.good)
    labelled = [
        Sample(sample.image, tuple(box for box in sample.boxes if box.label not in tables.good))
        for sample in read
        if sample.boxes is not None
    ]
    if args.good is not None:
        labelled += good_parts(args.good)
    bad = sum(bool(sample.boxes) for sample in labelled)
    good, skipped = len(labelled) - bad, sum(sample.boxes is None for sample in read)
    left = f", {skipped:,} without a label left out" if skipped else ""
    print(f"{args.data}: {form_of(args.data, args.annotations)}: {bad:,} defective parts, {good:,} good ones{left}")
    if not bad or not good:
        which = "defective" if not bad else "good"
        hint = "" if bad == 0 else "; --good DIR adds a folder of them"
        raise ConfigError(f"{args.data}: found no {which} parts, expected both defective and good ones{hint}")
    return labelled


def _look(
    engine: Engine, samples: list[Sample], recipe: Recipe, *, floor: float, path: Path | None
) -> list[LabelledPart]:
    """What the engine finds on every part, with progress."""
    block, started_s, total = Block(sys.stderr), time.monotonic(), len(samples)
    runner = runners.make(engine)

    def seen(done: int, size: tuple[int, int]) -> None:
        if done == 1 and path is not None:
            refuse_for_frame(recipe, path, size)
        line = f"{bar(done, total)} {done:,} of {total:,}  {done / max(1e-9, time.monotonic() - started_s):.1f}/s"
        (block.final if done == total else block.show)([line])

    try:
        return look_at(samples, Looker(engine.tables, runner), floor=floor, seen=seen)
    finally:
        runner.close()


def _progress(title: str) -> Callable[[float], None]:
    """Show a share that is done, 0 to 1, and at once that it begins."""
    block = Block(sys.stderr)
    block.show([f"{bar(0, 100)} {title}"])
    return lambda share: block.show([f"{bar(round(100 * share), 100)} {title}"])


def _write_recipe(report: Report, present: Path | None, engine: Engine, out: Path) -> Recipe:
    """recipe.toml: the present one with other thresholds, read back as the daemon reads it."""
    tables: dict[str, Any] = {} if present is None else read_toml(present, read_file(present))
    if present is not None and "camera" in tables:  # relative to its recipe, which now lies elsewhere
        tables["camera"] = os.path.relpath(present.parent / tables["camera"], out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.toml"
    path.write_text(to_toml(with_thresholds(tables, report.thresholds), report.comments()), encoding="utf-8")
    return load_recipe(path, engine.tables.labels)


def _check(choice: Choice, parts: list[LabelledPart], verdicts: list[Verdict]) -> None:
    """The recipe as it was written does to the parts what is said of it."""
    rejected = [verdict.outcome is Outcome.REJECT for verdict in verdicts]
    escapes = sum(bool(part.boxes) and not out for part, out in zip(parts, rejected, strict=True))
    rejects = sum(not part.boxes and out for part, out in zip(parts, rejected, strict=True))
    assert (escapes, rejects) == (choice.escapes, choice.false_rejects)


def _draw_wrong(parts: list[LabelledPart], verdicts: list[Verdict], out: Path) -> None:
    """A picture of every escape and every false reject; those of a former run go."""
    for folder in ("escapes", "false_rejects"):
        for former in (out / folder).glob("*.png"):
            former.unlink()
    for part, verdict in zip(parts, verdicts, strict=True):
        if bool(part.boxes) is not (verdict.outcome is Outcome.REJECT):
            name = f"{part.image.parent.name}-{part.image.stem}.png"
            draw_part(part, verdict, out / ("escapes" if part.boxes else "false_rejects") / name)


def _refuse(parts: list[LabelledPart], missed: list[bool], recipe: Recipe, out: Path, *, floor: float) -> int:
    """No thresholds hold the rate: say so, and show the parts on which nothing is found."""
    lost = [part for part, each in zip(parts, missed, strict=True) if each]
    _draw_wrong(lost, [judge(part.detections, recipe) for part in lost], out)
    total = sum(bool(part.boxes) for part in parts)
    print(
        f"No thresholds hold this rate: {len(lost):,} of {total:,} defective parts ({len(lost) / total:.2%}) pass "
        f"even with every threshold at {floor:g}.\nSee {out}/escapes/. Are zones, sizes and labels right? "
        "Else the engine has to learn from such parts. No recipe was written.",
        file=sys.stderr,
    )
    return 1


def _rate(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not a rate: 0.001 is one part in a thousand")
    return value

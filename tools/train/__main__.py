"""From labelled pictures to an engine: python -m tools.train detect --data DIR --engine engines/NAME

The same command goes on with a run that was stopped. What it needs to be repeated is in the run's folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from edge_inspector.cli import main as command
from edge_inspector.errors import ConfigError, InspectorError
from edge_inspector.tables import NAME

from .augment import Augment
from .card import card_of
from .data import DataSet, Split, load, write_parts
from .dreams import write_golden
from .export import export
from .filters import FILTERS, filters_of
from .loop import Plan, begin_with, best_threshold, look, read_log, train
from .model import PRETRAINED, SIZES, Classifier, Inspector, Net
from .pictures import draw_curves, draw_samples, draw_views

BEST_F1 = "the lowest with about the best F1 on the validation part"


def arguments() -> argparse.ArgumentParser:
    """What is learned from what, for how long."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add, plan, split = parser.add_argument, Plan(), Split()
    add("task", choices=("detect", "classify"))
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="COCO, VOC, YOLO, class folders, or CSV")
    add("--extra", type=Path, nargs="*", default=[], metavar="DIR", help="data that is only learned from: drawn, say")
    add("--good", type=Path, nargs="*", default=[], metavar="DIR", help="more pictures, of good parts")
    add("--twins", type=Path, metavar="DIR", help="pictures without defects, named as those with; for heal")
    add("--opposites", type=_list, default=(), metavar="A/B,...",
        help="classes that turn into each other when black and white change places")  # fmt: skip
    add("--engine", type=_engine, required=True, metavar="DIR", help="what is made: engines/NAME")
    add("--out", type=Path, metavar="DIR", help="the run's folder (runs/train-NAME)")
    add("--classes", type=_list, default=(), metavar="A,B", help="the classes' order; a classifier's good one first")
    add("--pixels", type=int, default=640, help="the longer side of the engine's input (640)")
    add("--size", choices=SIZES, default="medium", help="how large the network is (medium)")
    add("--filters", type=_filters, default=(), metavar="A,B", help=f"in the graph, before it: {', '.join(FILTERS)}")
    add("--mirrored", action="store_true", help="a classifier looks eight times, mirrored and turned; answers the mean")
    add("--split", type=int, default=split.seed, metavar="N", help="another number, another split (1)")
    add(
        "--group",
        type=_expression,
        default=split.group,
        metavar="REGEX",
        help="what in a file's name tells what belongs together",
    )
    add("--test", type=float, default=split.test, help=f"the share never learned from ({split.test})")
    add("--validate", type=_share_or_names, default=split.validate, metavar="SHARE",
        help=f"the share, or a regular expression of the names, that says when to stop ({split.validate})")  # fmt: skip
    add("--epochs", type=int, default=plan.epochs)
    add("--batch", type=int, default=plan.batch)
    add("--rate", type=float, default=plan.rate, help=f"the learning rate at its highest ({plan.rate})")
    add("--crop", type=_crop, default=0, metavar="PX", help="learn from pieces of this size, for large pictures")
    add("--areas", action="store_true", help="the defects are areas without a clear middle, as scratches are")
    add("--patience", type=int, default=plan.patience, help=f"epochs without progress, then it ends ({plan.patience})")
    add("--augment", type=_augment, default=Augment(), metavar="KEY=VALUE,...",
        help=", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(Augment)))  # fmt: skip
    add("--start", type=Path, nargs="+", default=[], metavar="FILE",
        help="begin with the weights of a former run: its best.pt; of several, with their mean")  # fmt: skip
    add("--seed", type=int, default=plan.seed)
    return parser


def main() -> int:
    """Read, train, export; every step says what it does."""
    args = arguments().parse_args()
    out = args.out or Path("runs") / f"train-{args.engine.name}"
    split = Split(seed=args.split, test=args.test, validate=args.validate, group=args.group)
    plan = Plan(epochs=args.epochs, batch=args.batch, rate=args.rate, crop_px=args.crop, areas=args.areas,
                patience=args.patience, seed=args.seed)  # fmt: skip
    try:
        change = args.augment
        added = change.paste or change.synthetic or change.heal or change.mosaic
        if args.task == "classify" and (args.crop or args.opposites or added):
            raise ConfigError("--crop, --opposites, paste, synthetic, heal and mosaic are for detect: the label of a "
                              "whole picture would not follow")  # fmt: skip
        data = load(args.task, args.data, good=args.good, extra=args.extra, twins=args.twins, classes=args.classes,
                    opposites=args.opposites, longer_px=args.pixels, split=split)  # fmt: skip
        if args.mirrored and (args.task == "detect" or data.size[0] != data.size[1]):
            raise ConfigError("--mirrored is for classifiers of square pictures")
        if args.augment.heal and not any(example.twin for example in data.examples):
            raise ConfigError(f"--augment heal: found no picture of the same name in --twins {args.twins}")
        _same_run(args, data, out)
        write_parts(data, out)
        draw_views(data, args.augment, plan, out / "views.png")
        torch.manual_seed(args.seed)
        make = Net if args.task == "detect" else Classifier
        net = make(len(data.labels), channels=data.channels, size=args.size)
        if args.start:
            begin_with(args.start, net)
        elif args.size == PRETRAINED:
            net.eyes.load()
        filters = filters_of(args.filters)
        trained = train(data, net, filters, out, augment=args.augment, plan=plan)
        _make_engine(
            args, data, Inspector(trained, filters.cpu(), channels=data.channels, mirrored=args.mirrored).eval(), out
        )
    except (InspectorError, ArithmeticError) as error:
        print(f"train: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, InspectorError) else 1
    return 0


def _make_engine(args: argparse.Namespace, data: DataSet, inspector: Inspector, run: Path) -> None:
    """From the network to engines/NAME, by way of `edge-inspector import`, which proves it; then its card."""
    log, task = read_log(run), "accuracy" if data.good else "AP50"
    draw_curves(log, task, run / "curves.png")
    draw_samples(data, inspector, run / "samples.png")
    print("painting golden pictures ...")
    sure = write_golden(inspector, data.size, len(data.labels), run / "golden")
    for label, score in zip(data.labels, sure, strict=True):
        if score < 0.5:
            print(f"warning: the network is not sure of {label} in any picture that it painted ({score:.2f})")
    export(inspector, run / "model.onnx", np.asarray(cv2.imread(str(run / "golden" / "0.png")), np.uint8))
    words = ["import", str(run / "model.onnx"), "--name", args.engine.name, "--engines", str(args.engine.parent)]
    words += ["--replace", "--golden", str(run / "golden"), "--classes", ",".join(data.labels)]
    words += ["--good", ",".join(data.good)] if data.good else []
    recipe = args.engine / "recipe.toml"
    calibrated = recipe.is_file() and BEST_F1 not in recipe.read_text()
    if code := command(words):
        raise SystemExit(code)
    if not (calibrated or data.good) and data.part("validate"):
        found = look(data, data.part("validate"), inspector)
        _set_threshold(recipe, best_threshold(found))
    (args.engine / "README.md").write_text(card_of(args, data, inspector, log, run))
    print(f"card       {args.engine / 'README.md'}: say there whose pictures it learned from, and their terms of use")
    test = next(run.glob("test.*"))
    where = f"{args.engine.name} --engines {args.engine.parent}"
    print(f"next:\n  edge-inspector evaluate {where} --data {test} --train {test.with_stem('train')}\n"
          f"  edge-inspector calibrate threshold {where} --data {test.with_stem('validate')}")  # fmt: skip


def _set_threshold(recipe: Path, threshold: float) -> None:
    """In place of 0.5; what escapes is still for `edge-inspector calibrate threshold` to say."""
    lines = recipe.read_text().splitlines()
    new = {"threshold": f"{threshold:g}  # {BEST_F1}", "floor": f"{threshold / 2:g}"}
    for n, line in enumerate(lines):
        key = line.partition(" = ")[0]
        if key in new:
            lines[n] = f"{key} = {new.pop(key)}"
        elif line.startswith("# Not calibrated yet: "):
            lines[n] = line.replace("0.5", f"{threshold:g}")
    recipe.write_text("\n".join(lines) + "\n")


def _same_run(args: argparse.Namespace, data: DataSet, out: Path) -> None:
    """Write down what was asked for; or see that the run which is there was asked for the same, of the same data."""
    asked = {key: value for key, value in vars(args).items() if key not in ("out", "engine")}
    asked["augment"] = dataclasses.asdict(args.augment)
    learned = [(each.sha256, each.part, each.boxes.tolist(), each.shares.tolist()) for each in data.examples]
    asked["sha256_of_data"] = hashlib.sha256(json.dumps(sorted(learned)).encode()).hexdigest()
    text = json.dumps(asked, indent=1, default=str)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "run.json"
    if path.is_file() and path.read_text() != text:
        raise SystemExit(f"train: {path}: another run lies there, or its data has changed; give --out another "
                         f"folder, or delete {out}")  # fmt: skip
    path.write_text(text)


def _engine(text: str) -> Path:
    if not NAME.fullmatch(Path(text).name):
        raise argparse.ArgumentTypeError(f'"{text}": a name has letters, digits, "_", "." and "-"')
    return Path(text)


def _share_or_names(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return _expression(text)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f'"{text}" is no regular expression: {error}') from None
    return text


def _crop(text: str) -> int:
    if int(text) % 32:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 32")
    return int(text)


def _filters(text: str) -> tuple[str, ...]:
    for name in _list(text):
        if name not in FILTERS:
            raise argparse.ArgumentTypeError(f'"{name}" is none of {", ".join(FILTERS)}')
    return _list(text)


def _list(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _augment(text: str) -> Augment:
    try:
        return Augment(**{key: float(value) for key, value in (pair.split("=") for pair in text.split(","))})
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())

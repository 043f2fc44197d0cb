"""Make an INT8 graph of an engine from real pictures of its line, and measure whether it is worth having.

The ranges come from the pictures, resized as the line does it. Layers that suffer most stay in higher precision. It is
kept, as int8.onnx in the engine's folder, only where it agrees with FP32 on pictures that it has not learned from.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..errors import EngineMissing, ModelRefused
from ..models.folder import Engine, find
from ..models.halve import to_fp16
from ..models.int8 import MODEL, REPORT, Report, install
from ..models.manifest import sha256, where
from ..models.quantize import Quantizer
from ..preprocess import use_one_thread
from ..recipe import Recipe, load_recipe
from ..runners.openvino import OpenVinoRunner, machine
from ..types import Detections
from .agreement import Agreement
from .int8_pictures import LEAST, Split, fitted, gather
from .int8_table import agreement_of, best_of, compare, look, one_sided, text
from .own_copy import own
from .terminal import Block, bar

PROBED = 8  # pictures on which each layer is tried alone
KEPT_SHARE = 4  # at most a quarter of the layers: with more, too little is left to be faster


def arguments(parser: argparse.ArgumentParser) -> None:
    """Of which engine, from which pictures, and how alike it has to be."""
    parser.add_argument("name", metavar="NAME", help="the engine's name")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help=f"{LEAST} or more pictures of the line"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="what they show (COCO), to measure AP as well")
    parser.add_argument("--few", action="store_true", help=f"accept fewer than {LEAST} pictures, with a warning")
    parser.add_argument(
        "--min-agreement",
        type=_share,
        default=0.99,
        metavar="A",
        help="below it the INT8 engine is not installed (0.99): the share of boxes that FP32 and INT8 both find, or of "
        "verdicts that are alike, whichever is lower",
    )
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")


def main(args: argparse.Namespace) -> int:
    """Calibrate, choose layers, measure, and keep it or not. Raises ModelRefused, exit 1, where it is not kept."""
    use_one_thread()
    engine = find(args.name, args.engines)
    if engine.tables.script:
        raise ModelRefused(f'engine "{args.name}" is a script: it has no model.onnx to quantise')
    try:
        engine = own(engine, args.engines)
        refused = "" if os.access(engine.folder, os.W_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        refused = error.strerror or str(error)
    if refused:
        raise EngineMissing(
            f"{args.engines / args.name}: {MODEL} cannot be written there: {refused}; run it as who may, or say where "
            "with --engines DIR: an engine that came with edge-inspector is copied there"
        )
    with tempfile.TemporaryDirectory(prefix="edge-inspector-int8-") as folder:
        quantizer = Quantizer(engine.model, Path(folder))
        recipe = load_recipe(engine.recipe, engine.tables.labels)
        job = Job(engine, recipe, gather(args.images, engine.tables, annotations=args.labels, few=args.few))
        model, exact = Path(folder) / MODEL, OpenVinoRunner(engine.model, engine.tables.task, precision="fp32")
        worst = _distortions(job, quantizer, exact.inputs[0].shape[:2])
        kept = _choose(job, quantizer, worst, exact=exact, wanted=args.min_agreement, into=model)
        report = _measure(job, quantizer, kept, exact=exact, model=model, least=args.min_agreement)
        if report.agreement < report.min_agreement:
            raise ModelRefused(
                f"INT8 agrees with FP32 by {report.agreement:.4f}, less than {report.min_agreement:g}: it was not "
                f"installed; stay with {report.recommended.upper()}, give more pictures of the line with --images, or "
                "ask for less with --min-agreement"
            )
        install(engine.folder, model, report)
    print(f"installed: {engine.folder / MODEL} and {REPORT}")
    best, build = report.recommended.upper(), f"edge-inspector build {where(engine.folder)} --precision"
    why = "as good and faster" if best == "INT8" else "INT8 is not faster, or not as good"
    print(f"recommended on this machine: {best} ({why}); next: {build} {report.recommended}")
    return 0


@dataclass(frozen=True, slots=True)
class Job:
    """What is calibrated, how it will be judged, and the pictures."""

    engine: Engine
    recipe: Recipe
    split: Split


def _distortions(job: Job, quantizer: Quantizer, size: tuple[int, int]) -> list[tuple[str, float]]:
    """Learn the ranges, then try each layer alone; name and dB of each, the worst first."""
    learned, found = job.split.learned, []
    step = _progress("ranges of activations", len(learned))
    for done in quantizer.calibrate(fitted(sample, job.engine.tables, size) for sample in learned):
        step(done)
    step = _progress("each layer alone", len(quantizer.layers))
    for each in quantizer.distortion([fitted(sample, job.engine.tables, size) for sample in learned[:PROBED]]):
        found.append(each)
        step(len(found))
    return sorted(found, key=lambda each: each[1])


def _choose(
    job: Job,
    quantizer: Quantizer,
    worst: list[tuple[str, float]],
    *,
    exact: OpenVinoRunner,
    wanted: float,
    into: Path,
) -> dict[str, float]:
    """Write the INT8 graph, the worst layers kept until it surely agrees by `wanted`, at most a quarter of all.

    Looks at the pictures that were learned from, never at those it is measured on. Returns the layers kept.
    """
    task, samples = job.engine.tables.task, job.split.learned

    def answers(runner: OpenVinoRunner, title: str) -> list[Detections]:
        step = _progress(title, len(samples))
        columns = look({"int8": runner}, samples, tables=job.engine.tables, recipe=job.recipe, progress=step)
        return columns["int8"].seen

    wants, kept = answers(exact, "FP32"), dict[str, float]()
    for count in range(len(worst) // KEPT_SHARE + 1):
        kept = dict(worst[:count])
        quantizer.write(into, keep=kept)
        seen = answers(OpenVinoRunner(into, task, precision="int8"), f"INT8, {count} layers kept")
        if agreement_of(wants, seen, job.recipe).surely >= wanted:
            break
    return kept


def _measure(
    job: Job, quantizer: Quantizer, kept: dict[str, float], *, exact: OpenVinoRunner, model: Path, least: float
) -> Report:
    """The three precisions on pictures that were not learned from; printed, and as a report."""
    engine, recipe, split = job.engine, job.recipe, job.split
    files = {"fp32": engine.model, "fp16": model.with_name("fp16.onnx"), "int8": model}
    to_fp16(engine.model, files["fp16"])
    others = {
        name: OpenVinoRunner(model if name == "int8" else engine.model, engine.tables.task, precision=name)
        for name in ("fp16", "int8")
    }
    step = _progress("FP32, FP16 and INT8 in turn", len(split.measured))
    columns = look({"fp32": exact, **others}, split.measured, tables=engine.tables, recipe=recipe, progress=step)
    alike = agreement_of(columns["fp32"].seen, columns["int8"].seen, recipe)
    rows = compare(columns, files, recipe)
    report = Report(
        engine=engine.folder.name,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        model_sha256=sha256(engine.model.read_bytes()),
        int8_sha256=sha256(model.read_bytes()),
        pictures_sha256=split.sha256,
        calibrated_on=len(split.learned),
        measured_on=len(split.measured),
        duplicates=split.duplicates,
        machine=machine(),
        layers=len(quantizer.layers),
        kept=kept,
        table=rows,
        agreement=alike.least,
        min_agreement=least,
        recommended=best_of(rows, least),
        warnings=tuple(filter(None, (*split.warnings(), one_sided(columns["fp32"].seen, recipe)))),
    )
    _print(report, alike)
    return report


def _print(report: Report, alike: Agreement) -> None:
    where = f"{report.machine.runtime} {report.machine.version}, {report.machine.device}"
    print(f"measured on {report.measured_on} pictures, calibrated on {report.calibrated_on} others; {where}")
    print("\n".join(text(report.table)))
    print("latency: median, from picture to answer; FP16: whichever half precision this processor has")
    print(
        f"INT8 and FP32: boxes {alike.boxes:.4f} ({alike.found} and {alike.wanted}), verdicts {alike.verdicts:.4f}; "
        f"agreement is the lower, {alike.least:.4f}"
    )
    print(f"{len(report.kept)} of {report.layers} layers were kept in higher precision")
    for name, decibels in report.kept.items():
        print(f"  {name}: quantised alone, {decibels:.1f} dB of signal over noise")
    for warning in report.warnings:
        print(f"warning: {warning}")


def _progress(title: str, total: int) -> Callable[[int], None]:
    block = Block(sys.stderr)
    return lambda done: (block.final if done == total else block.show)([f"{bar(done, total)} {title}"])


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value

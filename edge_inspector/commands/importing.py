"""Makes an engine's folder of an exported ONNX file: read, recognise, complete, write, prove. For a child process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EngineMissing, ModelRefused
from ..models import gate
from ..models.external import LARGEST
from ..models.folder import Engine, ModelTables, find
from ..models.golden import make_golden
from ..models.graph import complete, tensor
from ..models.heads import choose
from ..models.heads.base import Found, Hints
from ..models.manifest import command, sha256
from ..models.source import Source, read, refuse_invalid
from ..models.speed import median_ms
from ..recipe import load_recipe
from ..runners.openvino import OpenVinoRunner
from . import importing_texts as texts
from .isolated import Tell
from .looking import read_picture

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MOST_PICTURES = 8
TIMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for. folder: a new one, for the engine of that name. golden: a folder of pictures."""

    file: Path
    name: str
    folder: Path
    hints: Hints
    golden: Path | None = None


def make(wanted: Wanted, tell: Tell) -> list[str]:
    """Make the engine; returns what was found and done, line by line. Raises ModelRefused, EngineMissing."""
    tell("reading the file")
    source, found = _recognise(wanted.file, wanted.hints)
    tell("completing the graph")
    try:
        model = complete(source.model, found)
    except ModelRefused as error:
        raise ModelRefused(f"{wanted.file}: {error}") from None
    refuse_invalid(model, wanted.file)
    tables = _tables(wanted, found)
    tables = _write(wanted, tables, model)
    engine = find(wanted.folder.name, wanted.folder.parent)
    load_recipe(engine.recipe, tables.labels)
    outputs = [str(tensor(output)) for output in model.graph.output]
    del model
    tell("compiling it with OpenVINO")
    try:
        proof, doubts = _prove(wanted, engine, tell)
    except EngineMissing as error:
        text = str(error).replace(wanted.folder.name, wanted.name)
        raise ModelRefused(
            f"{wanted.file}: completed, but it does not run: {text}; export it again, or as FP32"
        ) from None
    card = texts.readme(wanted.name, source, found, tables, outputs, doubts)
    (wanted.folder / "README.md").write_text(card, encoding="utf-8")
    return [*texts.summary(source, found, tables, outputs), *proof, *(f"warning    {doubt}" for doubt in doubts)]


def _recognise(file: Path, hints: Hints) -> tuple[Source, Found]:
    """Read the file and choose its head; where the file leaves the size open, the head may know a better one."""
    source = read(file, size=hints.size)
    try:
        found = choose(source.signature, hints)
        if source.signature.open_size and hints.size is None and found.pixelwise.size != _size(found):
            source = read(file, fallback=found.pixelwise.size)
            found = choose(source.signature, hints)
    except ModelRefused as error:
        raise ModelRefused(f"{file}: {error}") from None
    if found.need:
        raise ModelRefused(f"{file}: is taken for {found.head}, but does not tell enough; add {found.need}")
    given = {
        "scale": hints.scale, "mean": hints.mean, "std": hints.std, "colour": hints.colour, "resize": hints.resize
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    pixelwise = dataclasses.replace(found.pixelwise, size=_size(found), **given)  # type: ignore[arg-type]
    return source, dataclasses.replace(found, pixelwise=pixelwise)


def _size(found: Found) -> tuple[int, int]:
    shape = found.image.shape
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    return height or 0, width or 0


def _tables(wanted: Wanted, found: Found) -> ModelTables:
    labels = wanted.hints.labels or texts.clean(found.labels) or tuple(f"class{n}" for n in range(found.classes))
    if len(labels) != found.classes:
        raise ModelRefused(
            f"{wanted.file}: the head {found.head} has {found.classes} classes, but there are {len(labels)} names: "
            f"{', '.join(labels[:10])}; give as many with --classes"
        )
    if wanted.hints.good and found.task not in ("classify", "segment"):
        raise ModelRefused(f"{wanted.file}: the head {found.head} has no good classes; leave --good away")
    good = wanted.hints.good if wanted.hints.good is not None else found.good or ()
    try:
        return ModelTables(
            labels=labels, task=found.task, resize=found.pixelwise.resize, nms_iou=found.nms_iou, good=good
        )
    except ValueError as error:
        raise ModelRefused(f"{wanted.file}: {error}; see --classes and --good") from None


def _write(wanted: Wanted, tables: ModelTables, model: Any) -> ModelTables:
    """All but what the proof tells; returns the tables with the graph's hash."""
    if model.ByteSize() > LARGEST:
        raise ModelRefused(f"{wanted.file}: is larger than 2 GB with its weights; export it in half precision")
    wanted.folder.mkdir(exist_ok=True)
    content = model.SerializeToString()
    (wanted.folder / "model.onnx").write_bytes(content)
    tables = dataclasses.replace(tables, sha256=sha256(content))
    (wanted.folder / "model.toml").write_text(texts.model_toml(tables), encoding="utf-8")
    (wanted.folder / "recipe.toml").write_text(texts.recipe_toml(tables), encoding="utf-8")
    return tables


def _prove(wanted: Wanted, engine: Engine, tell: Tell) -> tuple[list[str], list[str]]:
    """Golden answers in exact float32, proven there and as it would run; lines to print, and what it does not prove."""
    exact = OpenVinoRunner(engine.model, engine.tables.task, precision="fp32")
    tell("proving it on golden pictures")
    make_golden(engine, exact, _pictures(wanted, exact.inputs[0].shape[:2], engine.tables.resize))
    gate.prove(engine, exact)
    exact.close()
    lines = []
    tell("measuring it")
    usual = OpenVinoRunner(engine.model, engine.tables.task)
    try:
        off = gate.prove(engine, usual)
        agrees = f"scores within {off:.1%} of exact FP32 as OpenVINO runs it here"
    except EngineMissing:
        agrees = "exact in FP32 only"
        lines.append(
            "warning    in the precision that OpenVINO chooses here its rows differ too much; run: "
            + command(wanted.folder.with_name(wanted.name), "openvino", "fp32")
        )
    took = median_ms(usual, times=TIMES)
    usual.close()
    return [f"proven     {agrees}; {took:.1f} ms an inference", *lines], gate.doubts(engine)


def _pictures(wanted: Wanted, size: tuple[int, int], resize: str) -> list[Any]:
    """The user's own pictures, as the engine will see them; none: synthetic ones will do."""
    import numpy as np

    from ..preprocess import Letterbox

    if wanted.golden is None:
        return []
    paths = sorted(path for path in wanted.golden.glob("*") if path.suffix.lower() in PICTURES)[:MOST_PICTURES]
    if not paths:
        raise ModelRefused(f"{wanted.golden}: holds no pictures; expected some for --golden")
    made = []
    for path in paths:
        pixels, into = read_picture(path), np.zeros((*size, 3), np.uint8)
        fit = Letterbox.fit(pixels.shape[:2], size, keep_aspect=resize == "letterbox")
        fit.clear(into)
        fit.apply(pixels, into)
        made.append(into)
    return made

"""What `import` writes and says: model.toml, the first recipe, the engine's card, and the summary on the terminal."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Sequence

from .. import __version__
from ..models.folder import ModelTables
from ..models.heads.base import Found, Pixelwise
from ..models.source import Source

SHOWN = 12


def printable(text: str) -> str:
    """Without what could command a terminal: the names in a file are not ours."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def clean(names: Sequence[str]) -> tuple[str, ...]:
    """Names fit for a file and a terminal: printable, not empty, each only once."""
    made: list[str] = []
    for n, name in enumerate(names):
        plain = "".join(c for c in name if c.isprintable()).strip()[:80] or f"class{n}"
        while plain in made:
            plain = f"{plain}-{n}"
        made.append(plain)
    return tuple(made)


def summary(source: Source, found: Found, tables: ModelTables, outputs: Sequence[str]) -> list[str]:
    """What was recognised and why."""
    opset = next(each.version for each in source.model.opset_import if each.domain in ("", "ai.onnx"))
    lines = [
        f"file       {source.path}: {source.signature.producer or 'unknown exporter'}, opset {opset}, "
        f"SHA-256 {source.sha256[:12]}",
        f"head       {found.head} ({found.task})",
        *textwrap.wrap(found.why, 100, initial_indent="why        ", subsequent_indent=" " * 11),
        f"classes    {len(tables.labels)}: {_short(tables.labels)}" + _good(tables),
        f"input      {_input(found.pixelwise)}",
        f"output     {', '.join(outputs)}" + _after(tables),
    ]
    if not found.labels and tables.labels[0] == "class0":
        lines.append("note       the file names no classes; give their names with --classes")
    return lines + [f"note       {note}" for note in source.notes]


def model_toml(tables: ModelTables) -> str:
    """The keys of models/folder.py."""
    lines = [f"task = {_text(tables.task)}", f"labels = {_list(tables.labels)}", f"resize = {_text(tables.resize)}"]
    if tables.task == "detect":
        lines.append(f"nms_iou = {tables.nms_iou}")
    if tables.good:
        lines.append(f"good = {_list(tables.good)}")
    lines.append(f"sha256 = {_text(tables.sha256)}  # of model.onnx")
    return "\n".join(lines) + "\n"


def recipe_toml(tables: ModelTables) -> str:
    """One threshold for every class, to be calibrated."""
    bad = [label for label in tables.labels if label not in tables.good]
    classes = "".join(f'\n# [classes.{_text(label)}]\n# threshold = 0.5\n# severity = "critical"\n' for label in bad)
    return (
        "# Not calibrated yet: 0.5 says nothing about escapes and false rejects. `edge-inspector calibrate threshold`\n"
        "# chooses thresholds on labelled pictures of the line.\n"
        "[default]\n"
        "threshold = 0.5  # from here on a detection counts\n"
        "floor = 0.25  # between floor and threshold it is a near-miss, below it is noise\n"
        'severity = "critical"\n'
        "\n# How many defects of a severity make a reject; 0: that severity alone never does.\n"
        "[reject]\ncritical = 1\nmajor = 1\nminor = 1\n"
        "\n# What holds for one class only; everything else is taken from [default].\n" + classes
    )


def readme(
    name: str, source: Source, found: Found, tables: ModelTables, outputs: Sequence[str], doubts: Sequence[str]
) -> str:
    """The engine's card. doubts: what golden/ does not prove."""
    notes = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in source.notes)
    return (
        f"# {name}\n\n"
        f"Imported by edge-inspector {__version__} from `{source.path.name}`.\n\n"
        "| | |\n|---|---|\n"
        f"| file | SHA-256 `{source.sha256}` |\n"
        f"| exporter | {_cell(source.signature.producer or 'unknown')} |\n"
        f"| head | {found.head} ({found.task}): {_cell(found.why)} |\n"
        f"| classes | {_cell(', '.join(tables.labels) + _good(tables))} |\n"
        f"| input | `image` uint8 [1, {found.pixelwise.size[0]}, {found.pixelwise.size[1]}, 3], BGR; "
        f"in the graph: {_input(found.pixelwise)} |\n"
        f"| output | {_cell(', '.join(outputs) + _after(tables))} |\n\n"
        + (f"## What import did\n\n{notes}\n" if notes else "")
        + "## Still to be done\n\n"
        "- Look at what it finds: `edge-inspector replay PICTURES --engine " + name + "`.\n"
        "- Choose thresholds on labelled pictures, `edge-inspector calibrate threshold`: recipe.toml has 0.5 for all.\n"
        "- Compile it for the machine of the line: `edge-inspector build " + name + "`.\n"
        "- Say here on what it was trained and measured, and where its limits are.\n\n"
        "golden/ holds pictures and what this model finds in them in exact float32: every build has to find it again.\n"
        + "".join(f"\nNot proven: {printable(doubt)}.\n" for doubt in doubts)
    )


def next_steps(name: str, engines: str) -> list[str]:
    """The commands to type after it."""
    where = "" if engines == "engines" else f" --engines {shlex.quote(engines)}"
    return [
        "next:",
        f"  edge-inspector replay PICTURES --engine {name}{where}    what it finds, as the line would judge it",
        f"  edge-inspector calibrate threshold {name} --data DIR{where}    thresholds, from labelled pictures",
        f"  edge-inspector build {name}{where}                       compile it for this machine",
    ]


def _input(pixelwise: Pixelwise) -> str:
    height, width = pixelwise.size
    how = "letterboxed" if pixelwise.resize == "letterbox" else "stretched"
    steps = "bytes as they are" if pixelwise.scale == 1 else "0 to 1" if pixelwise.scale == 1 / 255 else (
        f"times {pixelwise.scale:g}"
    )  # fmt: skip
    if any(pixelwise.mean):
        steps += f", less {_numbers(pixelwise.mean)}"
    if any(n != 1 for n in pixelwise.std):
        steps += f", divided by {_numbers(pixelwise.std)}"
    return f"{width} x {height} pixels, {how}, {pixelwise.colour.upper()}, {steps}"


def _after(tables: ModelTables) -> str:
    if tables.task != "detect":
        return ""
    return ", nothing to suppress" if tables.nms_iou >= 1 else f", suppressed at IoU {tables.nms_iou:g} on the CPU"


def _good(tables: ModelTables) -> str:
    return f"; good: {_short(tables.good)}" if tables.good else ""


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _cell(text: str) -> str:
    return printable(text.replace("|", "\\|").replace("\n", " "))


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are TOML's as well."""
    return json.dumps(value, ensure_ascii=False)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"

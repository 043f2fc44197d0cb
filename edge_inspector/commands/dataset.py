"""Labelled pictures, in whichever of four usual forms: COCO, VOC, YOLO, or a folder for good parts and for each class.

What is there says which. A file that does not fit raises ConfigError: file, place, what was found, what was expected.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cameras.replay import SUFFIXES
from ..errors import ConfigError
from .looking import read_picture

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled defect; xyxy in the picture's pixels."""

    label: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture. boxes: None where nobody labelled it, () for a good part."""

    image: Path
    boxes: tuple[Box, ...] | None


def form_of(folder: Path, annotations: Path | None = None) -> str:
    """Which form the data has: COCO, VOC, YOLO or folders. Raises ConfigError where it is none of them."""
    if annotations is not None or (folder / "annotations.json").is_file():
        return "COCO"
    if any((folder / "annotations").glob("*.xml")):
        return "VOC"
    if any((folder / "labels").glob("*.txt")):
        return "YOLO"
    if folder.is_dir() and any(pictures(each) for each in folder.iterdir() if each.is_dir() and each.name != "images"):
        return "folders"
    raise ConfigError(
        f"{folder}: found no labelled data, expected annotations.json (COCO), annotations/*.xml and images/ (VOC), "
        f"labels/*.txt and images/ (YOLO), or the folder {GOOD}/ and one for each class"
    )


def read_dataset(folder: Path, labels: tuple[str, ...], *, annotations: Path | None = None) -> list[Sample]:
    """Every picture with its labels, by name. labels: the engine's, for YOLO in the order of its numbers.

    annotations: a COCO file elsewhere; its file names are relative to `folder`, or to images/ there. In folders a label
    is for a whole picture, so its box is all of it. A label the engine does not know is refused.
    """
    form = form_of(folder, annotations)
    if form == "COCO":
        samples = _coco(annotations or folder / "annotations.json", folder, labels)
    elif form == "folders":
        samples = _folders(folder, labels)
    else:
        beside, suffix = (_voc, "annotations/{}.xml") if form == "VOC" else (_yolo, "labels/{}.txt")
        samples = [_beside(folder / suffix.format(path.stem), path, labels, beside) for path in _images(folder)]
    if not samples:
        raise ConfigError(f"{folder}: found no pictures, expected some with labels ({form})")
    return sorted(samples, key=lambda sample: sample.image)


def good_parts(folder: Path) -> list[Sample]:
    """The pictures of a folder that holds good parts only. Raises ConfigError where there are none."""
    found = pictures(folder)
    if not found:
        raise ConfigError(f"{folder}: found no pictures, expected those of good parts")
    return [Sample(path, ()) for path in found]


def pictures(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def fingerprint(samples: list[Sample], folder: Path) -> str:
    """SHA-256 over names relative to the folder, contents and labels: the same data has the same, wherever it lies."""
    digest = hashlib.sha256()
    named = {Path(os.path.relpath(sample.image, folder)).as_posix(): sample for sample in samples}
    for name, sample in sorted(named.items(), key=lambda each: each[0]):
        content = hashlib.sha256(sample.image.read_bytes()).hexdigest()
        labelled = None if sample.boxes is None else [[box.label, *box.xyxy] for box in sample.boxes]
        digest.update(json.dumps([name, content, labelled]).encode() + b"\n")
    return digest.hexdigest()


def _coco(path: Path, folder: Path, labels: tuple[str, ...]) -> list[Sample]:
    """COCO's instances: images, annotations, categories. A picture without an annotation is a good part."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; expected a COCO file (JSON)") from None
    tables = {
        key: found.get(key) if isinstance(found, dict) else None for key in ("images", "annotations", "categories")
    }
    for key, table in tables.items():
        if not isinstance(table, list):
            raise ConfigError(f"{path}: {key}: found {_show(table)}, expected a list, as in a COCO file")
    names: dict[object, str] = {}
    for n, entry in enumerate(tables["categories"] or []):
        where = f"{path}: categories[{n}]"
        names[_key(entry, "id", int, where)] = _key(entry, "name", str, where)
    boxes: dict[object, list[Box]] = {}
    for n, entry in enumerate(tables["images"] or []):
        boxes[_key(entry, "id", int, f"{path}: images[{n}]")] = []
    for n, entry in enumerate(tables["annotations"] or []):
        where = f"{path}: annotations[{n}]"
        image, category = _key(entry, "image_id", int, where), _key(entry, "category_id", int, where)
        if image not in boxes or category not in names:
            which = ("image_id", image, "images") if image not in boxes else ("category_id", category, "categories")
            raise ConfigError(f"{where}.{which[0]}: found {which[1]}, expected the id of one of {which[2]}")
        x, y, width, height = _numbers(_key(entry, "bbox", list, where), f"{where}.bbox", 4)
        label = _known(names[category], labels, where)
        boxes[image].append(Box(label, _in_order((x, y, x + width, y + height), f"{where}.bbox")))
    samples = []
    for n, entry in enumerate(tables["images"] or []):
        where = f"{path}: images[{n}]"
        samples.append(Sample(_file(folder, _key(entry, "file_name", str, where), where), tuple(boxes[entry["id"]])))
    return samples


def _voc(path: Path, image: Path, labels: tuple[str, ...]) -> tuple[Box, ...]:
    """Pascal VOC: an XML file for each picture."""
    try:
        objects = ET.parse(path).getroot().findall("object")  # noqa: S314  # expat bounds what entities grow to
    except ET.ParseError as error:
        raise ConfigError(f"{path}: is not XML: {error}; expected a VOC annotation") from None
    boxes = []
    for n, found in enumerate(objects):
        where = f"{path}: object[{n}]"
        texts = [found.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        label = _known((found.findtext("name") or "").strip(), labels, f"{where}.name")
        boxes.append(Box(label, _in_order(_numbers(texts, f"{where}.bndbox", 4), f"{where}.bndbox")))
    return tuple(boxes)


def _yolo(path: Path, image: Path, labels: tuple[str, ...]) -> tuple[Box, ...]:
    """A line for each box: number of the class, then centre and size (or a polygon) as shares of the picture's size."""
    height, width = read_picture(image).shape[:2]
    boxes = []
    for n, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not (words := line.split()):
            continue
        where = f"{path}: line {n}"
        if not words[0].isdigit() or int(words[0]) >= len(labels):
            raise ConfigError(
                f'{where}: found class "{words[0]}", expected 0 to {len(labels) - 1}: {", ".join(labels)}'
            )
        if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
            raise ConfigError(f"{where}: found {len(words)} numbers, expected 5: class, centre x, y, width, height")
        values = _numbers(words[1:], where, len(words) - 1)
        x, y = values[0::2], values[1::2]
        if len(words) == 5:
            x, y = (x[0] - x[1] / 2, x[0] + x[1] / 2), (y[0] - y[1] / 2, y[0] + y[1] / 2)
        if min(values) < 0 or max(values) > 1:
            raise ConfigError(
                f"{where}: found {min(values):g} to {max(values):g}, expected shares of the picture, 0 to 1"
            )
        xyxy = (min(x) * width, min(y) * height, max(x) * width, max(y) * height)
        boxes.append(Box(labels[int(words[0])], _in_order(xyxy, where)))
    return tuple(boxes)


def _beside(
    path: Path,
    image: Path,
    labels: tuple[str, ...],
    read: Callable[[Path, Path, tuple[str, ...]], tuple[Box, ...]],
) -> Sample:
    """A picture whose labels stand in a file of their own; without the file nobody labelled it."""
    return Sample(image, read(path, image, labels) if path.is_file() else None)


def _folders(folder: Path, labels: tuple[str, ...]) -> list[Sample]:
    """good/ and a folder for each class."""
    samples = []
    for each in sorted(path for path in folder.iterdir() if path.is_dir() and pictures(path)):
        if each.name != GOOD:
            _known(each.name, labels, str(each))
        for path in pictures(each):
            height, width = (0, 0) if each.name == GOOD else read_picture(path).shape[:2]
            whole = Box(each.name, (0.0, 0.0, float(width), float(height)))
            samples.append(Sample(path, () if each.name == GOOD else (whole,)))
    return samples


def _images(folder: Path) -> list[Path]:
    return pictures(folder / "images") or pictures(folder)


def _file(folder: Path, name: str, where: str) -> Path:
    """The picture that a COCO file names."""
    for path in (folder / name, folder / "images" / name, folder.parent / name):
        if path.is_file():
            return path
    raise ConfigError(f'{where}.file_name: found "{name}", expected a picture that is there: {folder / name}')


def _known(name: str, labels: tuple[str, ...], where: str) -> str:
    if name not in labels:
        near = difflib.get_close_matches(name, labels, n=1, cutoff=0.0)[0]
        raise ConfigError(f'{where}: the engine knows no class "{name}"; the nearest is "{near}"')
    return name


def _key(entry: object, key: str, kind: type[Any], where: str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        expected = {int: "a whole number", str: "a name", list: "a list"}[kind]
        raise ConfigError(f"{where}.{key}: found {_show(value)}, expected {expected}")
    return value


def _numbers(values: Any, where: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        raise ConfigError(f"{where}: found {_show(values)}, expected {count} numbers")
    return numbers


def _in_order(xyxy: tuple[float, ...], where: str) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = xyxy
    if x2 <= x1 or y2 <= y1:
        raise ConfigError(f"{where}: found {x1:g}, {y1:g} to {x2:g}, {y2:g}, expected a box with an area")
    return x1, y1, x2, y2


def _show(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."

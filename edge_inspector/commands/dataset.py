"""Labelled pictures, in whichever of five usual forms: COCO, VOC, YOLO, CSV, or a folder for good parts and each class.

What is there says which. A file that does not fit raises ConfigError: file, place, what was found, what was expected.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CameraMissing, ConfigError
from .dataset_layout import GOOD, folder_of, form_of, picture_of, pictures, pictures_and_labels, table_of
from .looking import read_picture
from .yolo_names import yolo_names

DEFECTIVE = "defective"
Labels = tuple[str, ...] | None  # the names that are known; None: every name is taken
Skipped = dict[Path, str] | None  # pictures that are missing or cannot be read, and why; None: they are an error


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled defect; xyxy in the picture's pixels."""

    label: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture. boxes: None where nobody labelled it, () for a good part. probability: that it is defective."""

    image: Path
    boxes: tuple[Box, ...] | None
    probability: float | None = None


def read_dataset(
    data: Path,
    labels: Labels,
    *,
    annotations: Path | None = None,
    good: tuple[str, ...] = (GOOD,),
    skipped: Skipped = None,
) -> list[Sample]:
    """Every picture with its labels, by name. data: a folder, or a COCO or CSV file itself.

    labels: the engine's; another is refused. None: all are taken. For YOLO in the order of its numbers, where no file
    beside the data names them. annotations: a COCO or CSV file elsewhere; its file names are relative to `data`, or to
    images/ there. In folders and CSV a label is for a whole picture, so its box is all of it; that of a good part is
    "good" or one of `good`. skipped: where given, missing and broken pictures go in there and are no error.
    """
    form, folder = form_of(data, annotations), folder_of(data)
    if form == "COCO":
        samples = _coco(table_of(data, annotations, form), folder, labels, skipped)
    elif form == "CSV":
        table = table_of(data, annotations, form)
        rows = [(row, _file(table, folder, row.file, row.where, skipped)) for row in _csv(table, labels, good)]
        samples = [
            Sample(sample.image, sample.boxes, row.probability)
            for row, file in rows
            if file is not None
            for sample in _whole(file, row.label, labels, good, row.where, skipped)
        ]
    elif form == "folders":
        samples = _folders(folder, labels, good, skipped)
    else:
        pairs, missing = pictures_and_labels(folder, form)
        if missing and skipped is None:
            raise ConfigError(f"{missing[0]}: found labels for it ({form}), expected a picture that is there")
        if skipped is not None:
            skipped.update(dict.fromkeys(missing, "is missing"))
        if form == "VOC":
            samples = [_voc(path, image, labels) for image, path in pairs]
        else:
            names = yolo_names(folder) or labels or labels_of(folder)
            samples = [sample for image, path in pairs for sample in _yolo(path, image, names, labels, skipped)]
    if not samples:
        raise ConfigError(f"{data}: found no pictures, expected some with labels ({form})")
    return sorted(samples, key=lambda sample: sample.image)


def labels_of(data: Path, *, annotations: Path | None = None, good: tuple[str, ...] = (GOOD,)) -> tuple[str, ...]:
    """The classes of defects in a data set, in the same order every time: by COCO's id, YOLO's number, or name."""
    form = form_of(data, annotations)
    if form == "COCO":
        path = table_of(data, annotations, form)
        return tuple(name for _, name in sorted(_categories(path, _tables(path)).items()))
    if form == "YOLO":
        names = yolo_names(data)
        if names is None:
            raise ConfigError(f"{data}: found no names of the classes, expected data.yaml with names, or classes.txt")
        return names
    if form == "VOC":
        samples = read_dataset(data, None, skipped={})
        return tuple(sorted({box.label for sample in samples for box in sample.boxes or ()}))
    if form == "CSV":
        found = {row.label for row in _csv(table_of(data, annotations, form), None, good)}
    else:
        found = {each.name for each in data.iterdir() if each.is_dir() and pictures(each)}
    return tuple(sorted(found - {GOOD, "", *good}))


def good_parts(folder: Path) -> list[Sample]:
    """The pictures of a folder that holds good parts only. Raises ConfigError where there are none."""
    found = pictures(folder)
    if not found:
        raise ConfigError(f"{folder}: found no pictures, expected those of good parts")
    return [Sample(path, ()) for path in found]


def fingerprint(samples: list[Sample], folder: Path) -> str:
    """SHA-256 over names relative to the folder, contents and labels: the same data has the same, wherever it lies."""
    digest = hashlib.sha256()
    named = {Path(os.path.relpath(sample.image, folder)).as_posix(): sample for sample in samples}
    for name, sample in sorted(named.items(), key=lambda each: each[0]):
        content = hashlib.sha256(sample.image.read_bytes()).hexdigest()
        labelled = None if sample.boxes is None else [[box.label, *box.xyxy] for box in sample.boxes]
        digest.update(json.dumps([name, content, labelled]).encode() + b"\n")
    return digest.hexdigest()


def _coco(path: Path, folder: Path, labels: Labels, skipped: Skipped) -> list[Sample]:
    """COCO's instances: images, annotations, categories. A picture without an annotation is a good part."""
    tables = _tables(path)
    names = _categories(path, tables)
    boxes: dict[object, list[Box]] = {}
    for n, entry in enumerate(tables["images"]):
        boxes[_key(entry, "id", int, f"{path}: images[{n}]")] = []
    for n, entry in enumerate(tables["annotations"]):
        where = f"{path}: annotations[{n}]"
        image, category = _key(entry, "image_id", int, where), _key(entry, "category_id", int, where)
        if image not in boxes or category not in names:
            which = ("image_id", image, "images") if image not in boxes else ("category_id", category, "categories")
            raise ConfigError(f"{where}.{which[0]}: found {which[1]}, expected the id of one of {which[2]}")
        x, y, width, height = _numbers(_key(entry, "bbox", list, where), f"{where}.bbox", 4)
        label = _known(names[category], labels, where)
        boxes[image].append(Box(label, _in_order((x, y, x + width, y + height), f"{where}.bbox")))
    samples = []
    for n, entry in enumerate(tables["images"]):
        where = f"{path}: images[{n}]"
        image = _file(path, folder, _key(entry, "file_name", str, where), f"{where}.file_name", skipped)
        samples += [Sample(image, tuple(boxes[entry["id"]]))] if image else []
    return samples


def _tables(path: Path) -> dict[str, list[Any]]:
    """What a COCO file has to have."""
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
    return {key: table or [] for key, table in tables.items()}


def _categories(path: Path, tables: dict[str, list[Any]]) -> dict[int, str]:
    places = [(f"{path}: categories[{n}]", entry) for n, entry in enumerate(tables["categories"])]
    return {_key(entry, "id", int, where): _key(entry, "name", str, where) for where, entry in places}


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a CSV file: a picture's file, and its class, "" for none."""

    where: str
    file: str
    label: str
    probability: float | None


def _csv(path: Path, labels: Labels, good: tuple[str, ...]) -> list[_Row]:
    """A line for each picture: its file, and its class or how likely it is defective; an empty one is no label."""
    try:
        header, *lines = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; expected a CSV file with a header line") from None
    keys = [key.strip().lower() for key in header]
    image = _column(keys, ("image", "file", "filename", "path"))
    label, chance = _column(keys, ("class", "label")), _column([key[-11:] for key in keys], ("probability",))
    if image is None or (label is None and chance is None):
        missing = "image" if image is None else "class or probability"
        raise ConfigError(f"{path}: line 1: found {', '.join(header)}, expected a column {missing}")
    rows = []
    for n, line in enumerate(lines, start=2):
        where = f"{path}: line {n}"
        if not any(line):
            continue
        if len(line) != len(header):
            raise ConfigError(f"{where}: found {len(line)} values, expected {len(header)}, as in the first line")
        probability = _share(line[chance], where) if chance is not None and line[chance].strip() else None
        name = line[label].strip() if label is not None else ""
        if label is None and probability is not None:
            name = GOOD if probability < 0.5 else _only_defect(labels, good, where)
        rows.append(_Row(where, line[image].strip(), name, probability))
    return rows


def _column(keys: list[str], names: tuple[str, ...]) -> int | None:
    return next((keys.index(name) for name in names if name in keys), None)


def _only_defect(labels: Labels, good: tuple[str, ...], where: str) -> str:
    """What a picture has that is likely defective."""
    bad = [DEFECTIVE] if labels is None else [label for label in labels if label not in (GOOD, *good)]
    if len(bad) != 1:
        raise ConfigError(f"{where}: found a probability, expected a class: the engine knows {', '.join(bad)}")
    return bad[0]


def _whole(path: Path, name: str, labels: Labels, good: tuple[str, ...], where: str, skipped: Skipped) -> list[Sample]:
    """A picture with a label for all of it; none where it is skipped."""
    if name == GOOD or name in good or not name:
        return [Sample(path, () if name else None)]
    _known(name, labels, where)
    size = _size(path, skipped)
    return [] if size is None else [Sample(path, (Box(name, (0.0, 0.0, float(size[1]), float(size[0]))),))]


def _voc(path: Path, image: Path, labels: Labels) -> Sample:
    """Pascal VOC: an XML file for each picture; without it nobody labelled the picture."""
    if not path.is_file():
        return Sample(image, None)
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
    return Sample(image, tuple(boxes))


def _yolo(path: Path, image: Path, names: tuple[str, ...], labels: Labels, skipped: Skipped) -> list[Sample]:
    """A line for each box: number of the class, then centre and size (or a polygon) as shares of the picture's size.

    Without its file nobody labelled the picture.
    """
    if not path.is_file():
        return [Sample(image, None)]
    size = _size(image, skipped)
    if size is None:
        return []
    height, width = size
    boxes = []
    for n, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not (words := line.split()):
            continue
        where = f"{path}: line {n}"
        if not words[0].isdigit() or int(words[0]) >= len(names):
            raise ConfigError(f'{where}: found class "{words[0]}", expected 0 to {len(names) - 1}: {", ".join(names)}')
        label = _known(names[int(words[0])], labels, where)
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
        boxes.append(Box(label, _in_order(xyxy, where)))
    return [Sample(image, tuple(boxes))]


def _folders(folder: Path, labels: Labels, good: tuple[str, ...], skipped: Skipped) -> list[Sample]:
    """good/ and a folder for each class."""
    return [
        sample
        for each in sorted(path for path in folder.iterdir() if path.is_dir() and pictures(path))
        for path in pictures(each)
        for sample in _whole(path, each.name, labels, good, str(each), skipped)
    ]


def _size(image: Path, skipped: Skipped) -> tuple[int, int] | None:
    """The picture's (height, width); None where it cannot be read, and that is no error."""
    try:
        height, width = read_picture(image).shape[:2]
    except CameraMissing:
        if skipped is None:
            raise
        skipped[image] = "cannot be read"
        return None
    return height, width


def _file(table: Path, folder: Path, name: str, where: str, skipped: Skipped) -> Path | None:
    """The picture that a COCO or CSV file names; None where it is missing, and that is no error."""
    path = picture_of(table, folder, name)
    if path is None:
        if skipped is None:
            raise ConfigError(f'{where}: found "{name}", expected a picture that is there: {folder / name}')
        skipped[folder / name] = "is missing"
    return path


def _known(name: str, labels: Labels, where: str) -> str:
    if labels is not None and name not in labels:
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


def _share(text: str, where: str) -> float:
    (value,) = _numbers([text], where, 1)
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{where}: found {value:g}, expected a probability, 0 to 1")
    return value


def _in_order(xyxy: tuple[float, ...], where: str) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = xyxy
    if x2 <= x1 or y2 <= y1:
        raise ConfigError(f"{where}: found {x1:g}, {y1:g} to {x2:g}, {y2:g}, expected a box with an area")
    return x1, y1, x2, y2


def _show(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."

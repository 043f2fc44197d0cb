"""From a folder of labelled pictures to examples: read, refuse what is damaged, split, and write the split down."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_inspector.commands.dataset import Sample, good_parts, labels_of, read_dataset
from edge_inspector.commands.dataset_layout import GOOD
from edge_inspector.commands.looking import read_picture
from edge_inspector.commands.terminal import Block, bar
from edge_inspector.errors import ConfigError
from edge_inspector.preprocess import Letterbox
from edge_inspector.types import Pixels

PARTS = ("train", "validate", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled picture. boxes: float32 [n, 5], px of the engine's input and class; shares: float32 [classes], how
    sure each class is, for a classifier. part: what it is for. sha256: of its pixels. twin: the same without defects.
    """

    sample: Sample
    boxes: NDArray[np.float32]
    shares: NDArray[np.float32]
    part: str
    sha256: str
    twin: Path | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """labels: in the order of their numbers; good: of a classifier's those that a good part has. size: (height,
    width) of the engine's input. channels: 1 where every picture is grey. opposites: for each class the one that it
    turns into when black and white change places, or nothing.
    """

    labels: tuple[str, ...]
    good: tuple[str, ...]
    size: tuple[int, int]
    channels: int
    examples: tuple[Example, ...]
    opposites: tuple[int, ...] = ()

    def part(self, name: str) -> list[Example]:
        """Those for training, validation or test."""
        return [example for example in self.examples if example.part == name]

    def read(self, example: Example, *, twin: bool = False) -> Pixels:
        """uint8 [height, width, channels], as the engine would be given it; twin: its flawless twin."""
        path = example.twin if twin and example.twin else example.sample.image
        pixels, into = read_picture(path), np.empty((*self.size, 3), np.uint8)
        fit = Letterbox.fit(pixels.shape[:2], self.size)
        fit.clear(into)
        fit.apply(pixels, into)
        return np.ascontiguousarray(into[..., :1]) if self.channels == 1 else into


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Pictures of one group (what `group`, a regular expression, finds in the file name) are in one part, and so are
    those with the same content. test: a share of all; validate: of the rest; both by hash; or validate: a regular
    expression of the names that do. seed: another one is another split.
    """

    seed: int = 1
    test: float = 0.2
    validate: float | str = 0.1
    group: str = ".*"

    def part_of(self, image: Path) -> str:
        """By name alone: more pictures, or another folder, move none from one part to another."""
        found = re.search(self.group, image.stem)
        key = found[0] if found else image.stem
        if _share(key if self.seed == 1 else f"test {self.seed}/{key}") < self.test:
            return "test"
        if isinstance(self.validate, str):
            return "validate" if re.search(self.validate, image.stem) else "train"
        return "validate" if _share(f"{self.seed}/{key}") < self.validate else "train"


def load(
    task: str,
    folders: Sequence[Path],
    *,
    good: Sequence[Path] = (),
    extra: Sequence[Path] = (),
    twins: Path | None = None,
    classes: Sequence[str] = (),
    opposites: Sequence[str] = (),
    longer_px: int,
    split: Split,
) -> DataSet:
    """Read and look at everything. extra: data sets that are only learned from, whatever the split says. twins: a
    folder of pictures without defects, with the names and sizes of those with defects. opposites: pairs "A/B" of
    classes that turn into each other when black and white change places.

    Raises ConfigError, with the file's name, for what nothing can be learned from.
    """
    named = tuple(classes)
    samples = [sample for folder in folders for sample in read_dataset(folder, None, good=named[:1] or (GOOD,))]
    samples += [sample for folder in good for sample in good_parts(folder)]
    more = [sample for folder in extra for sample in read_dataset(folder, None, good=named[:1] or (GOOD,))]
    samples += more
    left_out = sum(sample.boxes is None for sample in samples)
    samples = [sample for sample in samples if sample.boxes is not None]
    found = tuple(dict.fromkeys(name for folder in folders for name in labels_of(folder, good=named[:1] or (GOOD,))))
    labels = _labels(task, found, named, samples)
    sizes, grey, contents = _look(samples)
    size = _input_size(sizes, longer_px)
    parts = _parts(samples, contents, split, only_train={sample.image for sample in more})
    if "train" not in parts:
        raise ConfigError(
            f"{folders[0]}: all pictures are held back, expected some to learn from: --test and --validate"
        )
    if left_out:
        print(f"{left_out} pictures without labels left out")
    return DataSet(
        labels,
        labels[:1] if task == "classify" else (),
        size,
        1 if grey else 3,
        tuple(
            _example(sample, labels, Letterbox.fit(shape, size), part, content, _twin(sample, shape, twins))
            for sample, shape, content, part in zip(samples, sizes, contents, parts, strict=True)
        ),
        _opposites(opposites, labels),
    )


def write_parts(data: DataSet, run: Path) -> None:
    """split.csv, a line for each picture; and each part as a data set that `edge-inspector evaluate --data` reads."""
    with (run / "split.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "part", "sha256_of_pixels"])
        table.writerows([each.sample.image.resolve(), each.part, each.sha256] for each in data.examples)
    for part in PARTS:
        samples = [example.sample for example in data.part(part)]
        if data.good:
            _write_csv(samples, data, run / f"{part}.csv")
        else:
            (run / f"{part}.json").write_text(json.dumps(_coco(samples, data.labels)))


def _write_csv(samples: list[Sample], data: DataSet, path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        probable = len(data.labels) == 2 and any(sample.probability is not None for sample in samples)
        table.writerow(["image", "probability" if probable else "class"])
        for sample in samples:
            label = sample.boxes[0].label if sample.boxes else data.good[0]
            sure = sample.probability if sample.probability is not None else float(bool(sample.boxes))
            table.writerow([sample.image.resolve(), sure if probable else label])


def _coco(samples: list[Sample], labels: tuple[str, ...]) -> dict[str, object]:
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for n, sample in enumerate(samples, start=1):
        images.append({"id": n, "file_name": str(sample.image.resolve())})
        for box in sample.boxes or ():
            x1, y1, x2, y2 = box.xyxy
            category, bbox = labels.index(box.label) + 1, [x1, y1, x2 - x1, y2 - y1]
            entry = {"id": len(annotations) + 1, "image_id": n, "category_id": category, "bbox": bbox}
            annotations.append({**entry, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
    categories = [{"id": n, "name": name} for n, name in enumerate(labels, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _labels(task: str, found: tuple[str, ...], named: tuple[str, ...], samples: list[Sample]) -> tuple[str, ...]:
    """In the order that was asked for; a classifier's first class is what good parts have."""
    counts = Counter(name for sample in samples for name in {box.label for box in sample.boxes or ()})
    print(f"{len(samples)} pictures: {sum(not s.boxes for s in samples)} good, "
          + ", ".join(f"{counts[name]} {name}" for name in found))  # fmt: skip
    if not counts:
        raise ConfigError("found no labelled defect, expected some of each class: nothing could be learned")
    there = found if task == "detect" else (named[0] if named else GOOD, *found)
    if named and sorted(named) != sorted(there):
        raise ConfigError(f"--classes: found {', '.join(named)}, expected {', '.join(there)}, as in the data")
    return named or there


def _opposites(pairs: Sequence[str], labels: tuple[str, ...]) -> tuple[int, ...]:
    """For each class what it turns into; one that is in no pair stays what it is."""
    turned = list(range(len(labels)))
    for pair in pairs:
        names = pair.split("/")
        if len(names) != 2 or not set(names) <= set(labels):
            raise ConfigError(f'--opposites: found "{pair}", expected two of {", ".join(labels)}, as A/B')
        a, b = map(labels.index, names)
        turned[a], turned[b] = b, a
    return tuple(turned) if pairs else ()


def _look(samples: list[Sample]) -> tuple[list[tuple[int, int]], bool, list[str]]:
    """Every picture's size and hash, and whether all are grey. Raises ConfigError for one that is none or whose boxes
    lie outside of it.
    """
    block, sizes, contents, grey = Block(sys.stderr), [], [], True
    for n, sample in enumerate(samples, start=1):
        pixels = read_picture(sample.image)
        height, width = pixels.shape[:2]
        for box in sample.boxes or ():
            x1, y1, x2, y2 = box.xyxy
            if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
                raise ConfigError(
                    f"{sample.image}: found the box of {box.label} at {x1:g}, {y1:g} to {x2:g}, {y2:g}, "
                    f"expected it within {width} x {height} pixels"
                )
        grey = grey and bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
        sizes.append((height, width))
        contents.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        block.show([f"{bar(n, len(samples))} reading {n} of {len(samples)}"])
    return sizes, grey, contents


def _input_size(sizes: list[tuple[int, int]], longer_px: int) -> tuple[int, int]:
    """The most frequent size, scaled to `longer_px`, up to the next multiples of 32."""
    height, width = Counter(sizes).most_common(1)[0][0]
    scale = longer_px / max(height, width)
    return -(-round(height * scale) // 32) * 32, -(-round(width * scale) // 32) * 32


def _parts(samples: list[Sample], contents: list[str], split: Split, *, only_train: set[Path]) -> list[str]:
    """Which part each is in. The same content under several names goes where it is held back most."""
    strictest: dict[str, str] = {}
    for sample, content in zip(samples, contents, strict=True):
        part = "train" if sample.image in only_train else split.part_of(sample.image)
        strictest[content] = max(strictest.get(content, part), part, key=PARTS.index)
    return [strictest[content] for content in contents]


def _example(
    sample: Sample, labels: tuple[str, ...], fit: Letterbox, part: str, content: str, twin: Path | None
) -> Example:
    boxes = np.array([(*box.xyxy, labels.index(box.label)) for box in sample.boxes or ()], np.float32).reshape(-1, 5)
    shares = np.zeros(len(labels), np.float32)
    if sample.probability is not None and len(labels) == 2:
        shares[:2] = 1 - sample.probability, sample.probability
    else:
        shares[int(boxes[0, 4]) if len(boxes) else 0] = 1.0
    boxes[:, :4] = boxes[:, :4] * (fit.scale * 2) + np.array(fit.offset * 2)
    return Example(sample, boxes, shares, part, content, twin)


def _twin(sample: Sample, shape: tuple[int, int], folder: Path | None) -> Path | None:
    """The picture of the same name there. Raises ConfigError where it has another size."""
    path = folder / sample.image.name if folder and sample.boxes else None
    if path is None or not path.is_file():
        return None
    if (found := read_picture(path).shape[:2]) != shape:
        raise ConfigError(
            f"{path}: found {found[1]} x {found[0]} pixels, expected {shape[1]} x {shape[0]} as {sample.image}"
        )
    return path


def _share(text: str) -> float:
    """0 to 1, as good as drawn by lot, and always the same."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)

"""The pictures of `calibrate int8`: readable, each counted once, split into what is learned and what is measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraMissing, ModelRefused
from ..models.folder import ModelTables
from ..preprocess import Letterbox
from ..types import Pixels
from .dataset import Sample, read_dataset
from .dataset_layout import GOOD, form_of_files, pictures
from .looking import read_picture

LEAST, FEWEST = 100, 10
MOST_LEARNED, MOST_MEASURED = 200, 300
TOLD = 3


@dataclass(frozen=True, slots=True)
class Split:
    """learned: for the ranges and for choosing layers. measured: others, for the table. sha256: of all used."""

    learned: tuple[Sample, ...]
    measured: tuple[Sample, ...]
    duplicates: int
    sha256: str

    def warnings(self) -> list[str]:
        """What makes the measurement weaker than it should be."""
        found, total = [], len(self.learned) + len(self.measured)
        if total < LEAST:
            found.append(f"only {total} pictures (--few), less than {LEAST}: ranges and agreement may not hold")
        if len(self.measured) < LEAST:
            found.append(f"measured on {len(self.measured)} pictures: one verdict is {1 / len(self.measured):.1%}")
        if self.duplicates:
            found.append(f"{self.duplicates} pictures are copies of others and did not count")
        return found


def gather(folder: Path, tables: ModelTables, *, annotations: Path | None, few: bool) -> Split:
    """The pictures of a folder in the order of the SHA-256 of their pixels, which is the same on every machine.

    Of pictures with the same pixels one counts. A third is measured on, at most 300; of the rest at most 200 are
    learned from. Raises ModelRefused for pictures that cannot be read, and for too few.
    """
    samples = _samples(folder, tables, annotations)
    unique: dict[str, Sample] = {}
    broken = []
    for sample in samples:
        try:
            pixels = read_picture(sample.image)
        except CameraMissing:
            broken.append(sample.image.name)
            continue
        unique.setdefault(hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest(), sample)
    if broken:
        named = ", ".join(broken[:TOLD]) + (", ..." if len(broken) > TOLD else "")
        raise ModelRefused(
            f"{folder}: OpenCV cannot read {len(broken)} of {len(samples)} pictures: {named}; remove them"
        )
    duplicates = len(samples) - len(unique)
    if len(unique) < (FEWEST if few else LEAST):
        copies = f", {duplicates} more are copies of them and do not count" if duplicates else ""
        mend = f"at least {FEWEST}" if few else f"at least {LEAST} of the line, or say --few"
        raise ModelRefused(f"{folder}: found {len(unique)} pictures{copies}; expected {mend}")
    order = sorted(unique)
    measured = order[: min(len(order) // 3, MOST_MEASURED)]
    learned = order[len(measured) :][:MOST_LEARNED]
    digest = hashlib.sha256("".join(sorted(measured + learned)).encode()).hexdigest()
    return Split(tuple(unique[n] for n in learned), tuple(unique[n] for n in measured), duplicates, digest)


def _samples(folder: Path, tables: ModelTables, annotations: Path | None) -> list[Sample]:
    """Labelled, where labels are named or lie with the pictures; else all that is in the folder and those in it."""
    if not folder.is_dir():
        raise ModelRefused(f"{folder}: is no folder; expected pictures of the line in it, for --images")
    plain = pictures(folder)
    if annotations is None and plain:
        return [Sample(path, None) for path in plain]
    inner = {each.name for each in folder.iterdir() if each.is_dir() and pictures(each)}
    if annotations is not None or form_of_files(folder) or (inner and inner <= {GOOD, *tables.labels}):
        return read_dataset(folder, tables.labels, annotations=annotations)
    return [Sample(path, None) for each in sorted(folder.rglob("*")) if each.is_dir() for path in pictures(each)]


def fitted(sample: Sample, tables: ModelTables, size: tuple[int, int]) -> Pixels:
    """The picture as the engine gets it on the line: uint8 [H, W, 3], in an input of (height, width)."""
    pixels = read_picture(sample.image)
    into = np.empty((*size, 3), np.uint8)
    fit = Letterbox.fit(pixels.shape[:2], size, keep_aspect=tables.resize == "letterbox")
    fit.clear(into)
    fit.apply(pixels, into)
    return into


def truth_of(sample: Sample, labels: tuple[str, ...]) -> NDArray[np.float32]:
    """The boxes that are there, float32 [n, 5]: x1, y1, x2, y2 in the picture's pixels, class."""
    boxes = [(*box.xyxy, labels.index(box.label)) for box in sample.boxes or ()]
    return np.array(boxes, np.float32).reshape(-1, 5)

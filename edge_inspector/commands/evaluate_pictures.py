"""What is wrong with test pictures: broken, of another size, there twice, or known from training. Told, never fatal.

The same picture is the same file, the same pixels, or one that looks the same when small: encoded again, scaled or made
brighter. 16 x 16 differences (dHash) find candidates, and 64 x 64 grey levels decide, as boards of one layout differ in
nothing but a defect: in DeepPCB, NEU-DET and ELPV different pictures are 1.8, 0.9 and 0.37 or more apart, and the same
ones saved as JPEG of quality 50 up to 0.17, 0.39 (0.33 for 19 of 20) and 0.20.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cameras.replay import SUFFIXES
from ..errors import ConfigError
from .dataset import Sample, read_dataset
from .looking import whole_picture

CANDIDATE, SAME = 28, 0.35  # of 256 bits; of the standard deviation of grey levels, at the place that differs most
SMALL = 64


@dataclass(frozen=True, slots=True)
class Print:
    """What a picture is known by. file, pixels: SHA-256; bits: bool [256]; small: float32 [64, 64], mean 0, sd 1."""

    path: Path
    file: str
    pixels: str
    size: tuple[int, int]
    bits: NDArray[np.bool_]
    small: NDArray[np.float32]


@dataclass(slots=True)
class Findings:
    """Names of pictures: what was found on them. wrong_size, duplicates and leaked are by name what they are beside."""

    unlabelled: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    wrong_size: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)
    alike: dict[str, str] = field(default_factory=dict)
    leaked: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {name: getattr(self, name) for name in self.__slots__}

    def warnings(self) -> list[str]:
        """A sentence for each thing that was found."""
        told: list[tuple[Sequence[str] | dict[str, str], str]] = [
            (self.leaked, "the engine was trained on {}: figures with them flatter"),
            (self.missing, "{} missing: left out"),
            (self.broken, "{} cannot be read: left out"),
            (self.unlabelled, "{} without a label: left out"),
            (self.duplicates, "{} the same as others: left out, each counts once"),
            (self.alike, "{} nearly the same as others, and counted"),
            (
                self.wrong_size,
                "{} of another size than most; left out where the recipe has zones or a lens, as both are for one",
            ),
        ]
        return [text.format(_named(found)) for found, text in told if found]


def inspect(
    samples: list[Sample], tell: Callable[[int], None], *, one_size: bool
) -> tuple[list[Sample], list[Print], Findings]:
    """The pictures to evaluate, their prints, and what was found. one_size: the recipe's zones or lens need it."""
    findings = Findings()
    seen: list[tuple[Sample, Print]] = []
    for n, sample in enumerate(samples, start=1):
        tell(n)
        found = print_of(sample.image)
        if found is None:
            findings.broken.append(str(sample.image))
        elif sample.boxes is None:
            findings.unlabelled.append(str(sample.image))
        else:
            seen.append((sample, found))
    (usual, _), *_ = Counter(found.size for _, found in seen).most_common(1) or [((0, 0), 0)]
    first: dict[str, Sample] = {}
    kept: list[tuple[Sample, Print]] = []
    for sample, found in seen:
        name, other = str(sample.image), first.setdefault(found.pixels, sample)
        if found.size != usual:
            findings.wrong_size[name] = f"{_wide(found.size)}, most are {_wide(usual)}"
        if other is not sample:
            findings.duplicates[name] = f"{other.image}{'' if _alike(other, sample) else ', labelled otherwise'}"
        if other is not sample or (one_size and found.size != usual):
            findings.left_out.append(name)
        else:
            kept.append((sample, found))
    prints = [found for _, found in kept]
    for n, m in _pairs(prints, prints):
        if m < n:
            findings.alike.setdefault(str(prints[n].path), str(prints[m].path))
    return [sample for sample, _ in kept], prints, findings


def leaks(tested: Sequence[Print], trained: Path, tell: Callable[[int], None]) -> dict[str, str]:
    """Which of the tested pictures the engine was trained on: by path, and the picture there.

    trained: a folder with pictures in it or in its folders, a COCO file, or a CSV file with a column image (or file).
    In a CSV, sha256 (of the file) or sha256_of_pixels stands for a picture that is elsewhere, and a row whose part (or
    split) is "test" is none that the engine was trained on, as in the split.csv of `tools/train`.
    """
    known = _trained(trained)
    if not known:
        raise ConfigError(f"{trained}: found no pictures, expected those that the engine was trained on")
    prints, by_hash = [], {}
    for n, (path, digest) in enumerate(known, start=1):
        tell(n)
        seen = print_of(path)
        if seen is not None:
            prints.append(seen)
            by_hash[seen.file] = by_hash[seen.pixels] = str(path)
        elif digest:
            by_hash[digest] = str(path)
    if not by_hash:
        raise ConfigError(f"{trained}: found {known[0][0]} and others, none of which can be read")
    same = {str(each.path): by_hash.get(each.file) or by_hash.get(each.pixels) for each in tested}
    found = {name: other for name, other in same.items() if other}
    for n, m in _pairs(tested, prints):
        found.setdefault(str(tested[n].path), f"{prints[m].path} (nearly)")
    return found


def print_of(path: Path) -> Print | None:
    """None where it is no picture."""
    import cv2

    try:
        content = path.read_bytes()
    except OSError:
        return None
    found = whole_picture(content)
    if found is None:
        return None
    grey = cv2.cvtColor(found, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    tiny = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(int)
    digest = hashlib.sha256(found.tobytes()).hexdigest()
    standard = (small - small.mean()) / max(1.0, float(small.std()))
    bits = (tiny[:, 1:] > tiny[:, :-1]).ravel()
    return Print(path, hashlib.sha256(content).hexdigest(), digest, found.shape[:2], bits, standard)


def _pairs(some: Sequence[Print], others: Sequence[Print]) -> Iterator[tuple[int, int]]:
    """Numbers of those that look the same."""
    if not some or not others:
        return
    there = np.stack([each.bits for each in others]).astype(np.float32)
    for n, each in enumerate(some):
        bits = each.bits.astype(np.float32)
        apart = bits.sum() + there.sum(axis=1) - 2 * there @ bits
        for m in np.flatnonzero(apart <= CANDIDATE).tolist():
            if float(np.abs(each.small - others[m].small).max()) < SAME:
                yield n, m


def _trained(trained: Path) -> list[tuple[Path, str]]:
    """Pictures, and their SHA-256 where a list says it."""
    if trained.is_dir():
        return [(path, "") for path in sorted(trained.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if trained.suffix.lower() != ".csv":
        return [(sample.image, "") for sample in read_dataset(trained, None, skipped={})]
    try:
        rows = list(csv.DictReader(trained.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{trained}: cannot be read: {error}; expected a folder, a COCO file or a CSV file") from None
    key = next((key for key in ("image", "file", "filename", "path", "name") if rows and key in rows[0]), None)
    if rows and key is None:
        raise ConfigError(f"{trained}: line 1: found {', '.join(rows[0])}, expected a column image")
    used = [row for row in rows if (row.get("part") or row.get("split")) != "test"]
    digest = [row.get("sha256") or row.get("sha256_of_pixels") or "" for row in used]
    return [(_there(trained.parent, row[key or ""] or ""), each) for row, each in zip(used, digest, strict=True)]


def _there(folder: Path, name: str) -> Path:
    """A path is relative to its list, or to where the training ran."""
    return folder / name if (folder / name).is_file() else Path(name)


def _alike(one: Sample, other: Sample) -> bool:
    """Whether their labels are the same, in any order."""
    labels = [sorted((box.label, box.xyxy) for box in sample.boxes or ()) for sample in (one, other)]
    return labels[0] == labels[1]


def _wide(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _named(found: Sequence[str] | dict[str, str], most: int = 3) -> str:
    """`2 pictures (a.png, b.png)`."""
    named = [Path(each).name for each in list(found)[:most]]
    text = ", ".join(named) + (", ..." if len(found) > most else "")
    return f"{len(found):,} picture{'s' if len(found) > 1 else ''} ({text})"

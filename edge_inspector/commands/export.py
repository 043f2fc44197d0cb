"""Make a data set of the pictures that a line has kept, for labelling: with what the engine found as suggestions.

Suggestions are to be corrected by a person before anything learns from them. Pictures without any, such as those of
faults, go into unlabelled/: nobody has said that these parts are good.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..errors import ConfigError, FailedError
from ..kept import Record, records

Found = tuple[str, tuple[float, float, float, float], float]  # class, x1, y1, x2, y2 in pixels, score


@dataclass(frozen=True, slots=True)
class Exported:
    """A picture in images/; found: never empty."""

    name: str
    record: Record
    found: list[Found]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to take, and what to make of it."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the line keeps pictures: its keep_folder")
    parser.add_argument("--format", choices=("coco", "yolo"), required=True, help="annotations/*.json, or labels/*.txt")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder, empty or not there yet")
    parser.add_argument("--since", type=_time, metavar="TIME", help="only later ones, UTC: 2026-01-31T06:00")
    parser.add_argument("--station", metavar="NAME", help="only of this station")


def main(args: argparse.Namespace) -> int:
    """Write the data set, and say how much of it there is."""
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"{args.out}: found something there, expected a folder that is empty or not there yet")
    taken = [(path, record) for path, record in records(args.folder) if _wanted(record, args)]
    if not taken:
        mend = 'expected some of a station with keep = ["reject", "fault", "near_miss"]'
        raise ConfigError(f"{args.folder}: found no kept pictures, {mend}")
    labels = list(dict.fromkeys(label for _, record in reversed(taken) for label in record["labels"]))
    try:
        exported, unlabelled = _copy(taken, args.out)
        write = _coco if args.format == "coco" else _yolo
        write(exported, labels, args.out)
    except OSError as error:
        what = f"{error.filename or args.out}: {error.strerror}"
        raise FailedError(f"{what}; what is in {args.out} is not whole: remove it, and export again") from None
    lost = len(taken) - len(exported) - unlabelled
    print(f"{args.out}: {len(exported)} pictures with suggestions, to be corrected before anything learns from them")
    if unlabelled:
        print(f"{args.out / 'unlabelled'}: {unlabelled} without: label them, too, or leave them out")
    if lost:
        print(f"{lost} were damaged, or have made room for newer ones meanwhile")
    return 0


def _wanted(record: Record, args: argparse.Namespace) -> bool:
    since_us = args.since.timestamp() * 1e6 if args.since else 0
    return record["t_trigger_us"] >= since_us and args.station in (None, record["station"])


def _copy(taken: list[tuple[Path, Record]], out: Path) -> tuple[list[Exported], int]:
    """The pictures as PNG files: those with suggestions into images/, the others (how many) into unlabelled/images/."""
    import cv2
    import numpy as np

    folders = out / "images", out / "unlabelled" / "images"
    folders[0].mkdir(parents=True)
    exported, unlabelled = [], 0
    for path, record in taken:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:  # the daemon needed the room
            continue
        whole = int.from_bytes(raw[2:6], "little") == len(raw) > 0  # as a BMP says of itself
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR) if whole else None
        if pixels is None:
            continue
        found = list(_found(record))
        unlabelled += not found
        folder = folders[not found]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{path.stem}.png"
        (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        if found:
            exported.append(Exported(name, record, found))
    return exported, unlabelled


def _found(record: Record) -> Iterator[Found]:
    """What the engine found from the recipe's floor on, within the picture, best first."""
    width, height = record["size_px"]
    both = [*record["defects"], *record["near_misses"]]
    for each in sorted(both, key=lambda each: -each["score"]):
        x1, y1, x2, y2 = each["box_px"]
        box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if box[0] < box[2] and box[1] < box[3]:
            yield each["class"], box, each["score"]


def _coco(exported: list[Exported], labels: list[str], out: Path) -> None:
    """COCO's instances; score: how sure the engine was."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, each in enumerate(exported, start=1):
        width, height = each.record["size_px"]
        images.append({"id": number, "file_name": each.name, "width": width, "height": height})
        for label, (x1, y1, x2, y2), score in each.found:
            wide, high = round(x2 - x1, 1), round(y2 - y1, 1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": labels.index(label) + 1,
                 "bbox": [x1, y1, wide, high], "area": round(wide * high, 2), "segmentation": [], "iscrowd": 0,
                 "score": score}
            )  # fmt: skip
    categories = [{"id": n, "name": label, "supercategory": ""} for n, label in enumerate(labels, start=1)]
    tables = {"images": images, "annotations": annotations, "categories": categories}
    (out / "annotations").mkdir()
    (out / "annotations" / "instances_default.json").write_text(json.dumps(tables))


def _yolo(exported: list[Exported], labels: list[str], out: Path) -> None:
    """A line for each box: number of the class, then centre and size as shares of the picture's size."""
    (out / "labels").mkdir()
    for each in exported:
        width, height = each.record["size_px"]
        lines = []
        for label, (x1, y1, x2, y2), _ in each.found:
            shares = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
            lines.append(" ".join([str(labels.index(label)), *(f"{share:.6f}" for share in shares)]) + "\n")
        (out / "labels" / each.name).with_suffix(".txt").write_text("".join(lines))
    names = "".join(f"  {n}: {json.dumps(label, ensure_ascii=False)}\n" for n, label in enumerate(labels))
    (out / "classes.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")  # for Label Studio
    # both the same: how they are divided is for whoever trains
    (out / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n{names}", encoding="utf-8")


def _time(text: str) -> datetime:
    """UTC, where it does not say otherwise. Raises ValueError, of which argparse makes its message."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)

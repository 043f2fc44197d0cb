"""Where the files of a data set lie: as its form has it, or as CVAT, Label Studio, Roboflow or Ultralytics write it."""

from __future__ import annotations

from pathlib import Path

from ..cameras.replay import SUFFIXES
from ..errors import ConfigError

GOOD = "good"
COCO = ("annotations.json", "annotations/*.json", "_annotations.coco.json")
LABELS = {"VOC": (("annotations", "Annotations"), ".xml"), "YOLO": (("labels", "obj_train_data"), ".txt")}
IMAGES = ("images", "JPEGImages", "obj_train_data")


def form_of(data: Path, annotations: Path | None = None) -> str:
    """Which form the data has: COCO, VOC, YOLO, CSV or folders. Raises ConfigError where it is none of them."""
    if data.is_file() or annotations is not None:
        return "CSV" if (annotations or data).suffix.lower() == ".csv" else "COCO"
    if form := form_of_files(data):
        return form
    if (data / "labels.csv").is_file():
        return "CSV"
    if data.is_dir() and any(pictures(each) for each in data.iterdir() if each.is_dir() and each.name not in IMAGES):
        return "folders"
    raise ConfigError(
        f"{data}: found no labelled data, expected annotations.json (COCO), annotations/*.xml and images/ (VOC), "
        f"labels/*.txt and images/ (YOLO), labels.csv (CSV), or the folder {GOOD}/ and one for each class"
    )


def form_of_files(data: Path) -> str | None:
    """COCO, VOC or YOLO; None where there are no files with boxes."""
    if _coco_files(data):
        return "COCO"
    return next((form for form, (_, suffix) in LABELS.items() if any(_folder(data, form).rglob(f"*{suffix}"))), None)


def folder_of(data: Path) -> Path:
    """The data set's folder, where `data` is that, or a file in it or in its annotations/."""
    folder = data.parent if data.is_file() else data
    return folder.parent if data.is_file() and folder.name == "annotations" else folder


def table_of(data: Path, annotations: Path | None, form: str) -> Path:
    """The one file with all labels, of COCO or CSV. Raises ConfigError where there are several."""
    if annotations is not None or data.is_file():
        return annotations or data
    if form == "CSV":
        return data / "labels.csv"
    path, *more = _coco_files(data)
    if more:
        raise ConfigError(f"{data}: found {len(more) + 1} COCO files, expected the name of one in its place: {path}")
    return path


def pictures(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def picture_of(table: Path, folder: Path, name: str) -> Path | None:
    """The picture that a COCO or CSV file names: beside it or in images/, perhaps in a folder for the file's part."""
    part = table.stem.removeprefix("instances_")
    images = folder / "images"
    places = folder / name, images / name, images / part / name, folder / part / name, folder.parent / name
    return next((path for path in places if path.is_file()), None)


def pictures_and_labels(data: Path, form: str) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """VOC, YOLO: of every picture its own path and that of its labels, there or not; and where pictures are missing.

    Labels lie as deep in their folder as pictures in theirs (images/train/a.png, labels/train/a.txt).
    """
    labels, suffix = _folder(data, form), LABELS[form][1]
    found = [(folder, path) for folder in (data / name for name in IMAGES) for path in _below(folder)]
    found = found or [(data, path) for path in pictures(data)]
    pairs = [(path, labels / path.relative_to(folder).with_suffix(suffix)) for folder, path in found]
    absent = {*labels.rglob(f"*{suffix}")} - {label for _, label in pairs} - {labels / "classes.txt"}
    return pairs, [(data / IMAGES[0] / path.relative_to(labels)).with_suffix("") for path in sorted(absent)]


def _coco_files(data: Path) -> list[Path]:
    return next((files for files in (sorted(data.glob(name)) for name in COCO) if files), [])


def _folder(data: Path, form: str) -> Path:
    names = LABELS[form][0]
    return next((data / name for name in names if (data / name).is_dir()), data / names[0])


def _below(folder: Path) -> list[Path]:
    return [path for each in (folder, *sorted(folder.rglob("*"))) if each.is_dir() for path in pictures(each)]

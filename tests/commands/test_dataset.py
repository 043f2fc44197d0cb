"""Four forms of labelled data mean the same, and what is wrong in a file is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.commands.dataset import Box, Sample, fingerprint, form_of, good_parts, read_dataset
from edge_inspector.errors import ConfigError

LABELS = ("scratch", "dent")
BOX = Box("dent", (12.5, 20.0, 37.5, 60.0))
REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


def picture(path: Path) -> Path:
    """A grey one, 100 wide and 80 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((80, 100, 3), 90, np.uint8))
    return path


def text(path: Path, content: str) -> None:
    """A file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def coco() -> dict[str, list[dict[str, object]]]:
    """Two pictures, of which one is good."""
    return {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [12.5, 20, 25, 40]}],
        "categories": [{"id": 3, "name": "dent"}],
    }


def voc(label: str = "dent", x2: str = "37.5") -> str:
    """One object."""
    return f"""<annotation><object><name>{label}</name><bndbox><xmin>12.5</xmin><ymin>20</ymin><xmax>{x2}</xmax>
    <ymax>60</ymax></bndbox></object></annotation>"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with images/a.png and images/b.png."""
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    return tmp_path


@pytest.mark.parametrize("form", ["COCO", "VOC", "YOLO"])
def test_all_forms_mean_the_same(two: Path, form: str) -> None:
    """One dent, and a good part: a picture whose labels are known to be none."""
    if form == "COCO":
        text(two / "annotations.json", json.dumps(coco()))
    elif form == "VOC":
        text(two / "annotations" / "a.xml", voc())
        text(two / "annotations" / "b.xml", "<annotation></annotation>")
    else:
        text(two / "labels" / "a.txt", "1 0.25 0.5 0.25 0.5\n")
        text(two / "labels" / "b.txt", "")
    assert form_of(two) == form
    assert read_dataset(two, LABELS) == [
        Sample(two / "images" / "a.png", (BOX,)),
        Sample(two / "images" / "b.png", ()),
    ]


@pytest.mark.parametrize(("name", "content"), [("annotations/a.xml", voc()), ("labels/a.txt", "1 0.25 0.5 0.25 0.5")])
def test_without_its_file_nobody_labelled_a_picture(two: Path, name: str, content: str) -> None:
    """That is no good part."""
    text(two / name, content)
    assert [sample.boxes for sample in read_dataset(two, LABELS)] == [(BOX,), None]


def test_folders_label_whole_pictures(tmp_path: Path) -> None:
    """good/ and one for each class; the box is the picture."""
    good, dent = picture(tmp_path / "good" / "1.png"), picture(tmp_path / "dent" / "1.png")
    assert form_of(tmp_path) == "folders"
    assert read_dataset(tmp_path, LABELS) == [Sample(dent, (Box("dent", (0, 0, 100, 80)),)), Sample(good, ())]
    assert good_parts(tmp_path / "good") == [Sample(good, ())]


def test_a_polygon_of_yolo_is_the_box_around_it(two: Path) -> None:
    """Segmentation labels have corners in place of centre and size."""
    text(two / "labels" / "a.txt", "1 0.125 0.25 0.375 0.5 0.2 0.75")
    boxes = read_dataset(two, LABELS)[0].boxes
    assert boxes is not None
    assert boxes[0].xyxy == pytest.approx(BOX.xyxy)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("annotations.json", "{", "annotations.json: cannot be read"),
        ("annotations.json", "[]", "images: found nothing, expected a list"),
        ("annotations.json", {"images": [{"id": 7, "file_name": "c.png"}]}, 'images[0].file_name: found "c.png"'),
        ("annotations.json", {"images": [{"id": "7"}]}, 'images[0].id: found "7", expected a whole number'),
        ("annotations.json", {"annotations": [{"image_id": 9, "category_id": 3}]}, "annotations[0].image_id: found 9"),
        ("annotations.json", {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]}, "bbox: found [1"),
        ("annotations.json", {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 3]}]}, "an area"),
        ("annotations.json", {"categories": [{"id": 3, "name": "dint"}]}, 'no class "dint"; the nearest is "dent"'),
        ("annotations/a.xml", "<annotation>", "a.xml: is not XML"),
        ("annotations/a.xml", voc("dint"), 'object[0].name: the engine knows no class "dint"; the nearest is "dent"'),
        ("annotations/a.xml", voc(x2="wide"), "object[0].bndbox: found"),
        ("labels/a.txt", "\n2 0.5 0.5 0.1 0.1", 'line 2: found class "2", expected 0 to 1: scratch, dent'),
        ("labels/a.txt", "1 0.5 0.5 0.1", "line 1: found 4 numbers, expected 5"),
        ("labels/a.txt", "1 0.5 0.5 0.1 nan", "line 1: found"),
        ("labels/a.txt", "1 50 50 10 10", "expected shares of the picture"),
        ("dint/a.png", "", 'dint: the engine knows no class "dint"; the nearest is "dent"'),
    ],
)
def test_what_is_wrong_is_named(two: Path, name: str, content: str | dict[str, object], says: str) -> None:
    """File, place, what was found, what was expected."""
    text(two / name, content if isinstance(content, str) else json.dumps({**coco(), **content}))
    with pytest.raises(ConfigError) as refused:
        read_dataset(two, LABELS)
    assert says in str(refused.value)
    assert str(two) in str(refused.value)


def test_no_data_says_what_could_be_there(tmp_path: Path) -> None:
    """All four forms."""
    with pytest.raises(ConfigError, match=r"COCO.*VOC.*YOLO.*good/"):
        read_dataset(tmp_path, LABELS)


def test_the_fingerprint_is_of_names_contents_and_labels(two: Path, tmp_path: Path) -> None:
    """Not of where it lies or in which order it was read."""
    samples = [Sample(two / "images" / "a.png", (BOX,)), Sample(two / "images" / "b.png", ())]
    first = fingerprint(samples, two)
    assert fingerprint(samples[::-1], two) == first
    moved = tmp_path / "elsewhere"
    there = [Sample(picture(moved / "images" / sample.image.name), sample.boxes) for sample in samples]
    assert fingerprint(there, moved) == first
    assert fingerprint([there[0], Sample(there[1].image, None)], moved) != first
    assert fingerprint(there[:1], moved) != first
    there[0].image.write_bytes(b"another")
    assert fingerprint(there, moved) != first


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not here: ../shared/data")
def test_real_sets() -> None:
    """DeepPCB is COCO, NEU-DET is VOC; every picture of both has a defect."""
    boards = read_dataset(REAL / "deeppcb", ("open", "short", "mousebite", "spur", "copper", "pin-hole"))
    assert (len(boards), sum(len(each.boxes or ()) for each in boards)) == (1000, 6873)
    steel = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
    assert [bool(each.boxes) for each in read_dataset(REAL / "neu_det", steel)] == [True] * 1440

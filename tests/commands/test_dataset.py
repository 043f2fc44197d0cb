"""Five forms of labelled data mean the same, and what is wrong in a file is named with its place."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.commands.dataset import Box, Sample, fingerprint, good_parts, labels_of, read_dataset
from edge_inspector.commands.dataset_layout import form_of
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


@pytest.mark.parametrize(
    ("images", "files"),
    [
        pytest.param("images", {"annotations/instances_default.json": json.dumps(coco())}, id="CVAT, COCO"),
        pytest.param("images/train", {"annotations/instances_train.json": json.dumps(coco())}, id="CVAT, a part"),
        pytest.param("train", {"annotations/instances_train.json": json.dumps(coco())}, id="COCO's own"),
        pytest.param("", {"_annotations.coco.json": json.dumps(coco())}, id="Roboflow"),
        pytest.param("JPEGImages", {"Annotations/a.xml": voc(), "Annotations/b.xml": "<annotation/>"}, id="VOC's own"),
        pytest.param("images/train", {"labels/train/a.txt": "1 0.25 0.5 0.25 0.5", "labels/train/b.txt": ""},
                     id="Ultralytics"),
        pytest.param("obj_train_data", {"obj_train_data/a.txt": "1 0.25 0.5 0.25 0.5", "obj_train_data/b.txt": ""},
                     id="Darknet"),
    ],
)  # fmt: skip
def test_the_layouts_of_other_tools(tmp_path: Path, images: str, files: dict[str, str]) -> None:
    """As they write it, without moving a file."""
    for name in ("a", "b"):
        picture(tmp_path / images / f"{name}.png")
    for name, content in files.items():
        text(tmp_path / name, content)
    for data in (tmp_path, *(tmp_path / name for name in files if name.endswith("json"))):
        skipped: dict[Path, str] = {}
        assert [each.boxes for each in read_dataset(data, LABELS, skipped=skipped)] == [(BOX,), ()]
        assert not skipped


def test_one_of_several_coco_files_has_to_be_named(two: Path) -> None:
    """Which pictures are meant nobody can know."""
    text(two / "annotations" / "instances_a.json", json.dumps(coco()))
    text(two / "annotations" / "instances_b.json", json.dumps(coco()))
    with pytest.raises(ConfigError, match=r"found 2 COCO files, expected the name of one .*instances_a\.json"):
        read_dataset(two, LABELS)
    assert len(read_dataset(two / "annotations" / "instances_b.json", LABELS)) == 2


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


@pytest.mark.parametrize("key", ["class", "Label"])
def test_csv_labels_whole_pictures(two: Path, key: str) -> None:
    """Beside the pictures, or the file itself; a class that the engine calls good is a good part's, "" nobody's."""
    text(two / "labels.csv", f"image,{key},note\nimages/a.png,dent,\nimages/b.png,fine,x\nimages/c.png,,\n")
    picture(two / "images" / "c.png")
    assert form_of(two) == form_of(two / "labels.csv") == "CSV"
    whole = Box("dent", (0, 0, 100, 80))
    for data in (two, two / "labels.csv"):
        samples = read_dataset(data, LABELS, good=("fine",))
        assert [sample.boxes for sample in samples] == [(whole,), (), None]
    assert labels_of(two, good=("fine",)) == ("dent",)
    assert labels_of(two) == ("dent", "fine")


def test_csv_of_probabilities(two: Path) -> None:
    """From a half on defective: with the only defect that the engine knows."""
    text(two / "some.csv", "file,defect_probability\nimages/a.png,0.5\nimages/b.png,0.49\n")
    box = (0, 0, 100, 80)
    for labels, name in ((None, "defective"), (("good", "broken"), "broken")):
        samples = read_dataset(two / "some.csv", labels)
        assert [(each.boxes, each.probability) for each in samples] == [((Box(name, box),), 0.5), ((), 0.49)]
    with pytest.raises(ConfigError, match=r"some.csv: line 2: found a probability, expected a class"):
        read_dataset(two / "some.csv", LABELS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "expected a CSV file with a header line"),
        ("picture,class\na.png,dent", "line 1: found picture, class, expected a column image"),
        ("image,size\na.png,3", "line 1: found image, size, expected a column class or probability"),
        ("image,class\na.png", "line 2: found 1 values, expected 2"),
        ("image,class\nc.png,dent", 'line 2: found "c.png", expected a picture that is there'),
        ("image,class\na.png,dint", 'line 2: the engine knows no class "dint"; the nearest is "dent"'),
        ("image,probability\na.png,1.5", "line 2: found 1.5, expected a probability"),
        ("image,probability\na.png,yes", 'line 2: found ["yes"], expected 1 numbers'),
    ],
)
def test_what_is_wrong_in_a_csv_is_named(two: Path, content: str, says: str) -> None:
    """File, line, what was found, what was expected."""
    text(two / "labels.csv", content)
    with pytest.raises(ConfigError) as refused:
        read_dataset(two, LABELS)
    assert says in str(refused.value)


def test_coco_file_itself(two: Path) -> None:
    """Its pictures lie beside it, or in images/."""
    text(two / "some.json", json.dumps(coco()))
    assert [sample.boxes for sample in read_dataset(two / "some.json", None)] == [(BOX,), ()]


def test_labels_of_coco_are_in_the_order_of_their_ids(two: Path) -> None:
    """Also those that no picture has."""
    categories = [{"id": 9, "name": "a"}, {"id": 3, "name": "dent"}]
    text(two / "annotations.json", json.dumps({**coco(), "categories": categories}))
    assert labels_of(two) == ("dent", "a")


def test_labels_of_voc_are_in_the_order_of_their_names(two: Path) -> None:
    """Any name is taken where no engine says which there are."""
    text(two / "annotations" / "a.xml", voc())
    text(two / "annotations" / "b.xml", voc("a bump"))
    assert labels_of(two) == ("a bump", "dent")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", "train: images\nnames: ['dent', scratch]  # two\n"),
        ("data.yml", "nc: 2\nnames:\n  # two\n  - dent\n\n  - 'scratch'\nval: images\n"),
        ("data.yaml", "names:\n- dent\n- scratch"),
        ("data.yaml", 'names:\n  1: scratch\n  0: "dent"\npath: .'),
        ("data.yaml", "names: {0: dent, 1: scratch}"),
        ("data.yaml", "names: [dent,\n  scratch]\n"),
        ("classes.txt", "dent\n\nscratch\n"),
        ("labels/classes.txt", "dent\nscratch\n"),
        ("obj.names", "dent\nscratch"),
    ],
)
def test_names_of_yolo(two: Path, name: str, content: str) -> None:
    """They go before the order of the engine's labels."""
    text(two / "labels" / "a.txt", "0 0.25 0.5 0.25 0.5\n")
    text(two / name, content)
    assert labels_of(two) == ("dent", "scratch")
    assert read_dataset(two, LABELS)[0].boxes == read_dataset(two, None)[0].boxes == (BOX,)


@pytest.mark.parametrize("content", [None, "nc: 2", "names: {0: dent, 2: scratch}"])
def test_yolo_without_names_says_what_to_add(two: Path, content: str | None) -> None:
    """Nobody can know what number 0 is."""
    text(two / "labels" / "a.txt", "0 0.25 0.5 0.25 0.5\n")
    if content:
        text(two / "data.yaml", content)
    for read in (labels_of, partial(read_dataset, labels=None)):
        with pytest.raises(ConfigError, match="names"):
            read(two)


def test_missing_and_broken_pictures_can_be_skipped(two: Path) -> None:
    """Where the caller asks to be told."""
    text(two / "labels.csv", "image,class\na.png,dent\nb.png,dent\nc.png,dent\n")
    text(two / "images" / "b.png", "no picture")
    skipped: dict[Path, str] = {}
    assert [each.image.name for each in read_dataset(two, LABELS, skipped=skipped)] == ["a.png"]
    assert skipped == {two / "images" / "b.png": "cannot be read", two / "c.png": "is missing"}


@pytest.mark.parametrize(("folder", "suffix"), [("annotations", "xml"), ("labels", "txt")])
def test_labels_without_a_picture_are_told(two: Path, folder: str, suffix: str) -> None:
    """Where the caller asks for what is missing, else they are refused; what names the classes is no label."""
    text(two / folder / f"a.{suffix}", voc() if suffix == "xml" else "1 0.25 0.5 0.25 0.5")
    text(two / folder / f"gone.{suffix}", "")
    text(two / "labels" / "classes.txt", "scratch\ndent\n")
    skipped: dict[Path, str] = {}
    assert [each.boxes for each in read_dataset(two, LABELS, skipped=skipped)] == [(BOX,), None]
    assert skipped == {two / "images" / "gone": "is missing"}
    with pytest.raises(ConfigError, match=r"gone: found labels for it .*, expected a picture that is there"):
        read_dataset(two, LABELS)


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
    """DeepPCB is COCO, NEU-DET is VOC: every picture of both has a defect. ELPV is CSV."""
    boards = read_dataset(REAL / "deeppcb", ("open", "short", "mousebite", "spur", "copper", "pin-hole"))
    assert (len(boards), sum(len(each.boxes or ()) for each in boards)) == (1000, 6873)
    steel = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
    assert [bool(each.boxes) for each in read_dataset(REAL / "neu_det", steel)] == [True] * 1440
    cells = read_dataset(REAL / "elpv", ("good", "defective"))
    assert (len(cells), sum(bool(each.boxes) for each in cells)) == (
        1970,
        sum((each.probability or 0) > 0.5 for each in cells),
    )
    assert labels_of(REAL / "elpv") == ("defective",)

"""What a daemon has kept becomes a data set that reads back as it was found, and no part is called good by nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_inspector.cli import main
from edge_inspector.commands.dataset import Box, labels_of, read_dataset
from edge_inspector.commands.dataset_layout import form_of
from edge_inspector.commands.looking import read_picture
from edge_inspector.errors import ConfigError

from ..faults.rig import BOX, boards, must_add_up, running, step

NEAR_MISS = step(reject=True).replace("0.9", "0.3")
EDGE = step(reject=True).replace("[100.0, 100.0, 140.0, 150.0", "[-20.0, 300.0, 30.0, 330.0")
KEEP = 'keep = ["reject", "fault", "near_miss"]'


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of each kind, one reject at the picture's edge."""
    folder = tmp_path_factory.mktemp("line")
    script = [step(), EDGE, NEAR_MISS, step(error="boom"), step(reject=True)]
    with running(folder, camera=boards(20, 10), script=script, station=KEEP, line='keep_folder = "kept"') as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
    assert len(list((folder / "kept").glob("*.bmp"))) == 8
    return folder / "kept"


def export(kept: Path, out: Path, form: str, *more: str) -> int:
    """Run the command."""
    return main(["export", str(kept), "--format", form, "--out", str(out), *more])


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_what_was_found_is_read_back(kept: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As suggestions, within the picture; a fault's picture is in no data set, and lies apart for who labels it."""
    assert export(kept, tmp_path / "out", form) == 0
    said = capsys.readouterr().out
    assert "6 pictures with suggestions" in said
    assert "2 without" in said
    assert form_of(tmp_path / "out") == form.upper()
    assert labels_of(tmp_path / "out") == ("short",)
    samples = read_dataset(tmp_path / "out", ("short",))
    found = {sample.image.stem.split("Z-top-")[1]: sample.boxes for sample in samples}
    # the input of 320 x 320 shows a picture of 640 x 640
    boxes = {"near_miss": [2 * value for value in BOX[:4]], "edge": [0.0, 600.0, 60.0, 660.0]}
    boxes["edge"][3] = 640.0
    assert {name.rpartition("-")[2] for name in found} == {"reject", "near_miss"}
    for name, labelled in found.items():
        assert labelled is not None
        (box,) = labelled
        edge = name in ("board-000002-reject", "board-000007-reject")
        assert box.label == "short"
        assert box.xyxy == pytest.approx(boxes["edge" if edge else "near_miss"], abs=0.01)
    for sample in samples:
        assert np.array_equal(read_picture(sample.image), read_picture(kept / f"{sample.image.stem}.bmp"))
    apart = list((tmp_path / "out" / "unlabelled").rglob("*.png"))
    assert sorted(path.stem.split("-")[-1] for path in apart) == ["fault", "fault"]
    assert all(sample.boxes for sample in samples)


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_nothing_but_faults_is_no_data_set(kept: Path, tmp_path: Path, form: str) -> None:
    """There is nothing to learn from before somebody has labelled it, whoever reads it and whatever it knows."""
    (tmp_path / "kept").mkdir()
    for path in kept.glob("*-fault.*"):
        (tmp_path / "kept" / path.name).write_bytes(path.read_bytes())
    assert export(tmp_path / "kept", tmp_path / "out", form) == 0
    for labels in (("short",), None):
        with pytest.raises(ConfigError, match="found no"):
            read_dataset(tmp_path / "out", labels)


def test_a_correction_is_read(kept: Path, tmp_path: Path) -> None:
    """A false reject, whose box a person has taken away, is a good part; a new box is a defect."""
    assert export(kept, tmp_path / "coco", "coco") == 0
    path = tmp_path / "coco" / "annotations" / "instances_default.json"
    tables = json.loads(path.read_bytes())
    gone = tables["annotations"].pop(0)
    path.write_text(json.dumps(tables))
    samples = read_dataset(tmp_path / "coco", ("short",))
    assert [sample.boxes == () for sample in samples] == [n == gone["image_id"] - 1 for n in range(6)]
    assert export(kept, tmp_path / "yolo", "yolo") == 0
    first = sorted((tmp_path / "yolo" / "labels").iterdir())[0]
    first.write_text("")
    fault = next((tmp_path / "yolo" / "unlabelled" / "images").iterdir())
    fault.rename(tmp_path / "yolo" / "images" / fault.name)
    (tmp_path / "yolo" / "labels" / f"{fault.stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    by_name = {sample.image.stem: sample.boxes for sample in read_dataset(tmp_path / "yolo", ("short",))}
    assert by_name[first.stem] == ()
    assert by_name[fault.stem] == (Box("short", (160.0, 160.0, 480.0, 480.0)),)


def test_a_part_of_it(kept: Path, tmp_path: Path) -> None:
    """Since a time, of a station."""
    names = sorted(path.stem for path in kept.glob("*.bmp"))
    since = f"{names[4][:4]}-{names[4][4:6]}-{names[4][6:11]}:{names[4][11:13]}:{names[4][13:22]}"
    assert export(kept, tmp_path / "late", "coco", "--since", since, "--station", "top") == 0
    assert sorted(path.stem for path in (tmp_path / "late").rglob("*.png")) == names[4:]
    assert export(kept, tmp_path / "none", "coco", "--station", "side") == 78
    assert export(kept, tmp_path / "none", "coco", "--since", "2999-01-01") == 78
    assert not (tmp_path / "none").exists()
    with pytest.raises(SystemExit):
        export(kept, tmp_path / "none", "coco", "--since", "yesterday")


def test_corrections_are_never_written_over(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with anything in it is refused."""
    assert export(kept, tmp_path / "out", "yolo") == 0
    assert export(kept, tmp_path / "out", "yolo") == 78
    assert "expected a folder that is empty or not there yet" in capsys.readouterr().err


def test_damaged_pictures_are_left_out_and_counted(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The power went, or the daemon has made room meanwhile."""
    for path in kept.iterdir():
        (tmp_path / "kept").mkdir(exist_ok=True)
        (tmp_path / "kept" / path.name).write_bytes(path.read_bytes())
    first, second, third = sorted((tmp_path / "kept").glob("*reject.bmp"))[:3]
    first.write_bytes(first.read_bytes()[:-1000])
    second.write_bytes(b"")
    third.unlink()
    assert export(tmp_path / "kept", tmp_path / "out", "coco") == 0
    said = capsys.readouterr().out
    assert "3 pictures with suggestions" in said
    assert "3 were damaged" in said
    assert len(read_dataset(tmp_path / "out", ("short",))) == 3


def test_pictures_of_two_engines(kept: Path, tmp_path: Path) -> None:
    """The newest one's classes come first, in its order; those that only the older one knew follow."""
    for path in sorted(kept.iterdir()):
        (tmp_path / "kept").mkdir(exist_ok=True)
        (tmp_path / "kept" / path.name).write_bytes(path.read_bytes())
    last = sorted((tmp_path / "kept").glob("*.json"))[-1]
    record = json.loads(last.read_bytes())
    record["labels"], record["defects"][0]["class"] = ["x", "dent"], "dent"
    last.write_text(json.dumps(record))
    for form in ("coco", "yolo"):
        assert export(tmp_path / "kept", tmp_path / form, form) == 0
        samples = read_dataset(tmp_path / form, None)
        assert [box.label for sample in samples for box in sample.boxes or ()] == ["short"] * 5 + ["dent"]
    assert labels_of(tmp_path / "coco") == ("x", "dent", "short")

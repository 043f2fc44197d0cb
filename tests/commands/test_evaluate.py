"""`evaluate` as it is typed: on drawn boards and the engine that ships, on a classifier, on answers that are known."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_inspector import runners
from edge_inspector.cameras.boards import LABELS, Boards
from edge_inspector.cli import main
from edge_inspector.commands.dataset import read_dataset
from edge_inspector.commands.evaluate_figures import KEYS
from tests.models.tiny import SIZE, Graph

ENGINES = Path(__file__).parents[2] / "engines"


def picture(path: Path, *, seed: int, level: int = 90, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    """Coarse blocks of chance about a grey level: no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(level - 40, level + 41, (8, 8, 1)).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(blocks.repeat(3, axis=2), size, interpolation=cv2.INTER_NEAREST))
    return path


def coco(data: Path, boxes: dict[str, list[tuple[str, list[float]]]], labels: tuple[str, ...]) -> None:
    """annotations.json: of each picture its labels with x, y, width, height."""
    number = {name: n for n, name in enumerate(labels)}
    table = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(boxes)],
        "annotations": [
            {"image_id": n, "category_id": number[label], "bbox": box}
            for n, found in enumerate(boxes.values())
            for label, box in found
        ],
        "categories": [{"id": n, "name": name} for name, n in number.items()],
    }
    (data / "annotations.json").write_text(json.dumps(table))


def scripted(folder: Path, answers: list[str], *, recipe: str = "") -> Path:
    """engines/ with an engine `made` that answers to the pictures in their order; what it knows is dent and scratch."""
    at = folder / "engines" / "made"
    at.mkdir(parents=True)
    steps = "".join(f"[[script]]\nboxes = [{answer}]\n" for answer in answers)
    (at / "model.toml").write_text(f'labels = ["dent", "scratch"]\ninput_size = [{SIZE}, {SIZE}]\n{steps}')
    if recipe:
        (at / "recipe.toml").write_text(recipe)
    return at.parent


def classifier(folder: Path) -> Path:
    """engines/ with `made`, for which what is bright is broken."""
    g = Graph()
    level = g.add("ReduceMean", g.front(), axes=[1, 2, 3], keepdims=0)
    level = g.add("Sub", g.add("Reshape", level, g.weight([1, 1])), g.weight(0.5))
    g.add("Softmax", g.add("MatMul", level, g.weight([[-20.0, 20.0]])), axis=1, outputs=("scores",))
    at = folder / "engines" / "made"
    at.mkdir(parents=True)
    (at / "model.onnx").write_bytes(g.model({"scores": [1, 2]}).SerializeToString())
    (at / "model.toml").write_text('task = "classify"\nlabels = ["good", "broken"]\ngood = ["good"]\n')
    return at.parent


class Bright:
    """A runner of an engine for anomalies, which takes what is bright for one."""

    simulated = True

    def __init__(self) -> None:
        self.inputs = [np.zeros((SIZE, SIZE, 3), np.uint8)]

    def submit(self, lane: int) -> None:
        """It is computed when it is collected."""

    def collect(self, lane: int) -> tuple[Any, ...]:
        """heatmap, score."""
        heat = self.inputs[lane][::8, ::8, 0].astype(np.float32) / 255
        return heat, heat.max()

    def close(self) -> None:
        """Nothing to do."""


def evaluate(data: Path, engines: Path, capsys: pytest.CaptureFixture[str], *more: str, name: str = "made") -> Any:
    """What --json prints, which is one object and nothing else; out is written beside the data."""
    words = ["evaluate", name, "--engines", str(engines), "--data", str(data), "--out", str(engines.parent / "out")]
    assert main([*words, "--json", *more]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(report)
    assert json.loads((engines.parent / "out" / "report.json").read_text()) == report
    return report


def test_boards_in_three_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine that ships, on boards whose truth is known: COCO, VOC and YOLO say the same of them."""
    boards, canvas = Boards(seed=77, defect_rate=1.0, defects=(3, 5), layouts=2), np.empty((640, 640, 3), np.uint8)
    found: dict[str, list[tuple[str, list[float]]]] = {}
    for form in ("coco", "voc", "yolo"):
        (tmp_path / form / "images").mkdir(parents=True)
    for folder in ("voc/annotations", "yolo/labels"):
        (tmp_path / folder).mkdir()
    for n in range(3):
        planted = boards.draw(n, canvas, flawless=n == 0)
        planted = () if n == 0 else planted
        for form in ("coco", "voc", "yolo"):
            assert cv2.imwrite(str(tmp_path / form / "images" / f"{n}.png"), canvas)
        boxes = [(each.label, [float(value) for value in each.box_px]) for each in planted]
        found[f"{n}.png"] = [(label, [x1, y1, x2 - x1, y2 - y1]) for label, (x1, y1, x2, y2) in boxes]
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for label, (x1, y1, x2, y2) in boxes
        )
        (tmp_path / "voc" / "annotations" / f"{n}.xml").write_text(f"<annotation>{objects}</annotation>")
        lines = [
            f"{LABELS.index(label)} {(x1 + x2) / 1280!r} {(y1 + y2) / 1280!r} {(x2 - x1) / 640!r} {(y2 - y1) / 640!r}"
            for label, (x1, y1, x2, y2) in boxes
        ]
        (tmp_path / "yolo" / "labels" / f"{n}.txt").write_text("\n".join(lines))
    coco(tmp_path / "coco", found, LABELS)
    (tmp_path / "yolo" / "data.yaml").write_text(f"names: {list(LABELS)}\n")
    (tmp_path / "out" / "engines").mkdir(parents=True)
    labels = [
        [(box.label, *map(round, box.xyxy)) for each in read_dataset(tmp_path / form, None) for box in each.boxes or ()]
        for form in ("coco", "voc", "yolo")
    ]
    assert labels[0] == labels[1] == labels[2]
    report = evaluate(tmp_path / "yolo", tmp_path / "out" / "engines", capsys, name="boards")
    assert (report["images"], report["parts"]) == (3, {"defective": 2, "good": 1})
    assert (report["escapes"], report["false_rejects"]) == (0, 0)
    assert report["ap50"] > 0.5
    assert 0 < report["ap"] < report["ap50"]
    assert report["deeppcb_map"] > 0.5
    assert report["accuracy"] is None
    told = [report["inference_ms"][key] for key in ("p50", "p90", "p99", "max")]
    assert 0 < told[0] <= told[1] <= told[2] <= told[3]


def test_known_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five parts: found, taken for another, nothing found, a false reject, and a good one that passes."""
    data = tmp_path / "data"
    names = ["a", "b", "c", "d", "e"]
    for n, name in enumerate(names):
        picture(data / f"{name}.png", seed=n)
    coco(data, {"a.png": [("dent", [10, 10, 30, 30])], "b.png": [("scratch", [10, 10, 30, 30])],
                "c.png": [("dent", [10, 10, 30, 30])], "d.png": [], "e.png": []}, ("dent", "scratch"))  # fmt: skip
    row = "[10, 10, 40, 40, {}, 0]"
    engines = scripted(tmp_path, [row.format(0.9), row.format(0.8), "", row.format(0.6), row.format(0.1)])
    report = evaluate(data, engines, capsys)
    assert (report["escapes"], report["false_rejects"]) == (1, 1)
    assert report["escape_rate"]["at_most_95"] == pytest.approx(0.8646, abs=1e-4)  # Clopper and Pearson, 1 of 3
    assert [report[key] for key in ("precision", "recall", "f1")] == pytest.approx([1 / 3] * 3)
    assert (report["ap50"], report["ap"]) == (pytest.approx(51 / 101 / 2), pytest.approx(51 / 101 / 2))
    assert (report["deeppcb_map"], report["deeppcb_f"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert report["confusion"] == {
        "labelled": ["dent", "scratch", "false alarm"],
        "found": ["dent", "scratch", "missed"],
        "counts": [[1, 0, 1], [1, 0, 0], [1, 0, 0]],
    }
    assert [(each["name"], each["recall"]) for each in report["classes"]] == [("dent", 0.5), ("scratch", 0.0)]
    page = (tmp_path / "out" / "report.html").read_text()
    order = [page.index(text) for text in ("Escape: defective", "False reject: good", "Mistaken: scratch for dent.")]
    assert order == sorted(order)
    assert [path.name for path in sorted((tmp_path / "out" / "worst").iterdir())] == [
        "01-c.png",
        "02-d.png",
        "03-b.png",
    ]


def test_people_are_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json: figures with their bounds, and where the page is."""
    picture(tmp_path / "data" / "dent" / "a.png", seed=1)
    engines = scripted(tmp_path, ["[0, 0, 64, 64, 0.9, 0]"])
    words = ["--engines", str(engines), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "made", *words]) == 0
    said = capsys.readouterr().out
    assert "escapes            0 in 1 parts (0.00%): at most 95.00% at 95 %" in said
    assert "false rejects      no such parts" in said
    assert f"written: {tmp_path / 'out'}/report.html" in said


def test_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bright ones are broken, it says; two labels disagree. From folders, and from a list of probabilities."""
    levels = {"good": (60, 70, 190), "broken": (180, 200, 61)}
    data, lines = tmp_path / "data", ["image,defect_probability"]
    for name, of in levels.items():
        for n, level in enumerate(of):
            path = picture(data / name / f"{n}.png", seed=level, level=level)
            lines.append(f"{path.relative_to(data)},{1 / 3 if name == 'good' else 2 / 3}")
    (data / "list.csv").write_text("\n".join(lines))
    engines = classifier(tmp_path)
    for where in (data, data / "list.csv"):
        report = evaluate(where, engines, capsys)
        assert report["accuracy"] == pytest.approx(4 / 6)
        assert report["confusion"]["counts"] == [[2, 1], [1, 2]]
        assert report["confusion"]["labelled"] == ["good", "broken"]
        assert (report["escapes"], report["false_rejects"]) == (1, 1)
        assert (report["precision"], report["recall"], report["f1"]) == (2 / 3, 2 / 3, 2 / 3)
        assert [report[key] for key in ("ap", "ap50", "deeppcb_map", "deeppcb_f")] == [None] * 4


def test_anomalies_are_measured_by_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a defect is called: an engine that was shown good parts only has one name for it."""
    for name, level in (("good", 60), ("scratch", 200), ("dent", 210)):
        picture(tmp_path / "data" / name / "1.png", seed=level, level=level)
    monkeypatch.setattr(runners, "make", lambda engine: Bright())
    engines = classifier(tmp_path)
    (engines / "made" / "model.toml").write_text('task = "anomaly"\nlabels = ["anomaly"]\n')
    report = evaluate(tmp_path / "data", engines, capsys)
    assert (report["parts"], report["escapes"], report["false_rejects"]) == ({"defective": 2, "good": 1}, 0, 0)
    assert (report["recall"], report["ap"], report["accuracy"], report["confusion"]) == (1.0, None, None, None)


def test_what_is_wrong_with_pictures_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Broken, missing, without a label, of another size, there twice: named, left out where it must be, exit 0."""
    data = tmp_path / "data"
    for n, name in enumerate(("a", "b", "unlabelled")):
        picture(data / f"{name}.png", seed=n)
    picture(data / "wide.png", seed=9, size=(96, 64))
    shutil.copy(data / "a.png", data / "copy.png")
    cv2.imwrite(str(data / "nearly.jpg"), cv2.imread(str(data / "b.png")), [cv2.IMWRITE_JPEG_QUALITY, 60])
    (data / "broken.png").write_bytes(b"no picture")
    dents = [f"{name},dent" for name in ("a.png", "b.png", "wide.png", "broken.png", "nearly.jpg", "missing.png")]
    (data / "labels.csv").write_text("\n".join(["image,class", *dents, "copy.png,good", "unlabelled.png,"]))
    report = evaluate(data, scripted(tmp_path, ["[0, 0, 64, 64, 0.9, 0]"]), capsys)
    found = {key: [Path(name).name for name in value] for key, value in report["pictures"].items()}
    assert found == {
        "missing": ["missing.png"], "broken": ["broken.png"], "unlabelled": ["unlabelled.png"], "leaked": [],
        "duplicates": ["copy.png"], "alike": ["nearly.jpg"], "wrong_size": ["wide.png"], "left_out": ["copy.png"],
    }  # fmt: skip
    assert report["images"] == 4
    assert "labelled otherwise" in str(report["pictures"]["duplicates"])
    assert sum("picture" in text for text in report["warnings"]) == 6
    zone = '[[zones]]\nname = "all"\npolygon = [[0, 0], [64, 0], [64, 64], [0, 64]]\n'
    (tmp_path / "zones.toml").write_text(zone)
    report = evaluate(data, tmp_path / "engines", capsys, "--recipe", str(tmp_path / "zones.toml"))
    assert report["images"] == 3  # a zone is in pixels of one size


def test_no_picture_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then it is an error, which says why."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.csv").write_text("image,class\na.png,dent\nb.png,dent\n")
    (tmp_path / "data" / "a.png").write_bytes(b"no picture")
    engines = scripted(tmp_path, [""])
    assert main(["evaluate", "made", "--engines", str(engines), "--data", str(tmp_path / "data")]) == 78
    assert "found no picture" in capsys.readouterr().err


@pytest.mark.parametrize("listed", ["folder", "csv of paths", "csv of hashes"])
def test_a_leak_is_a_warning_with_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: str) -> None:
    """The same file under another name, and saved again; what a split says is for the test is none."""
    data, train = tmp_path / "data", tmp_path / "train"
    for n, name in enumerate(("same", "again", "new", "test")):
        picture(data / "dent" / f"{name}.png", seed=n)
    (train / "inner").mkdir(parents=True)
    shutil.copy(data / "dent" / "same.png", train / "inner" / "x.png")
    cv2.imwrite(str(train / "y.jpg"), cv2.imread(str(data / "dent" / "again.png")), [cv2.IMWRITE_JPEG_QUALITY, 60])
    picture(train / "z.png", seed=8)
    where, leaked = train, ["again.png", "same.png"]
    if listed != "folder":
        shutil.copy(data / "dent" / "test.png", train / "test.png")
        where = train / "split.csv"
        pixels = cv2.imread(str(data / "dent" / "same.png")).tobytes()
        rows = ["image,part", "inner/x.png,train", "y.jpg,validate", "test.png,test"]
        if listed == "csv of hashes":
            digest, leaked = hashlib.sha256(pixels).hexdigest(), ["same.png"]
            rows = ["image,part,sha256_of_pixels", f"gone.png,train,{digest}"]
        where.write_text("\n".join(rows) + "\n")
    report = evaluate(data, scripted(tmp_path, ["[0, 0, 64, 64, 0.9, 0]"]), capsys, "--train", str(where))
    assert sorted(Path(name).name for name in report["pictures"]["leaked"]) == leaked
    assert f"the engine was trained on {len(leaked)} picture" in report["warnings"][0]
    assert leaked[0] in report["warnings"][0]
    assert report["images"] == 4


def test_robustness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seven changes at three strengths, the same every time; what goes by brightness fails when the light changes."""
    for n, level in enumerate((112, 113, 142, 143)):
        picture(tmp_path / "data" / ("broken" if level > 128 else "good") / f"{n}.png", seed=n, level=level)
    engines = classifier(tmp_path)
    reports = [evaluate(tmp_path / "data", engines, capsys, "--robustness") for _ in range(2)]
    assert reports[0]["robustness"] == reports[1]["robustness"]
    made = {(each["change"], each["strength"]): each for each in reports[0]["robustness"]}
    assert len(made) == 21
    assert reports[0]["accuracy"] == made["JPEG", 1]["accuracy"] == 1.0
    assert made["brightness", 3]["accuracy"] < 1.0
    assert made["brightness", 3]["amount"] == "60 grey levels"
    assert sum(made["brightness", 3][key] for key in ("escapes", "false_rejects")) > 0
    assert "<h2>Robustness</h2>" in (tmp_path / "out" / "report.html").read_text()


def test_the_page_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No address but data: in it, no script; a name that is HTML is text."""
    data = tmp_path / "data"
    name = '<img src=x onerror="alert(1)">'
    picture(data / "a.png", seed=1)
    picture(data / "<b>.png", seed=2)
    coco(data, {"a.png": [(name, [10, 10, 30, 30])], "<b>.png": []}, (name,))
    engines = scripted(tmp_path, ["[5, 5, 30, 30, 0.9, 0]", ""])  # both wrong: < comes before a
    table = (engines / "made" / "model.toml").read_text()
    (engines / "made" / "model.toml").write_text(table.replace('["dent", "scratch"]', f"['{name}']"))
    evaluate(data, engines, capsys)
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.findall(
        r"""(?:src|href|url|action)\s*[=(]\s*["']?(?!data:image/)[^"' >]""", page.replace("&lt;img src=x", "")
    )
    assert not re.findall(r"https?:|<script|<link|@import|<img src=x|<b>\.png", page)
    assert page.count("data:image/") == 2
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read."""
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert main(["evaluate", "made", "--engines", str(scripted(tmp_path, [""])), "--data", str(tmp_path)]) == 3
    assert "pip install 'edge-inspector[evaluate]'" in capsys.readouterr().err


def test_an_engine_that_fails_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which picture, and why: it is not counted as one on which nothing was found."""
    picture(tmp_path / "data" / "dent" / "a.png", seed=1)
    engines = scripted(tmp_path, ["[9, 9, 3, 3, 0.9, 0]"])
    assert main(["evaluate", "made", "--engines", str(engines), "--data", str(tmp_path / "data")]) == 1
    assert "a.png: engine output: boxes must be" in capsys.readouterr().err

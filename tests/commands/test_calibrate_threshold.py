"""`calibrate threshold` on a scripted engine: what it says is what judge() does."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli import main
from edge_inspector.commands.dataset import Box
from edge_inspector.commands.labelled_parts import LabelledPart, folds_of, meet
from edge_inspector.commands.part_pictures import draw_part
from edge_inspector.commands.recipe_text import to_toml, with_thresholds
from edge_inspector.judge import judge
from edge_inspector.recipe import load_recipe
from edge_inspector.types import Defect, Detections, Outcome, Reason, Severity, Verdict

LABELS = ("dent", "scratch")
RECIPE = """
[default]
floor = 0.3
[reject]
minor = 2
[classes."dent"]
severity = "minor"
severity_by_size = [{ severity = "critical", from_px = 50.0 }]
[[zones]]
name = 'the "whole"'
polygon = [[0, 0], [100, 0], [100.5, 100], [0, 100]]
"""


def row(score: float, label: int = 0) -> str:
    """A box that lies in the label."""
    return f"[10, 10, 40, 40, {score}, {label}]"


def engine_of(folder: Path, answers: list[str], *, recipe: str = "") -> Path:
    """A scripted engine that answers to the pictures in their order, with scores as given. Returns engines/."""
    steps = "".join(f"[[script]]\nboxes = [{answer}]\n" for answer in answers)
    at = folder / "engines" / "made"
    at.mkdir(parents=True)
    (at / "model.toml").write_text(f"labels = {list(LABELS)}\ninput_size = [100, 100]\n{steps}")
    if recipe:
        (at / "recipe.toml").write_text(recipe)
    return at.parent


def data_of(folder: Path, kinds: list[str]) -> Path:
    """Pictures 0.png, 1.png ... in COCO: each has one label, or "good"."""
    data = folder / "data"
    data.mkdir()
    images, annotations = [], []
    for n, kind in enumerate(kinds):
        assert cv2.imwrite(str(data / f"{n}.png"), np.full((100, 100, 3), 90, np.uint8))
        images.append({"id": n, "file_name": f"{n}.png"})
        if kind != "good":
            annotations.append({"image_id": n, "category_id": LABELS.index(kind), "bbox": [5, 5, 40, 40]})
    categories = [{"id": n, "name": name} for n, name in enumerate(LABELS)]
    (data / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return data


def calibrate(folder: Path, engines: Path, data: Path, *more: str) -> int:
    """The command as it is typed."""
    words = ["calibrate", "threshold", "made", "--engines", str(engines), "--data", str(data)]
    return main([*words, "--out", str(folder / "out"), *more])


def detections(answer: list[tuple[float, int]]) -> Detections:
    """Those of `row`."""
    xyxy = np.tile(np.array([[10, 10, 40, 40]], np.float32), (len(answer), 1))
    score, label = [each[0] for each in answer], [each[1] for each in answer]
    return Detections(xyxy, np.array(score, np.float32), np.array(label, np.int16))


def test_the_recipe_does_what_the_report_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read back by the daemon's own loader, judged by the daemon's own judge."""
    answers = [[(0.9, 0)], [(0.6, 0)], [(0.2, 1), (0.1, 0)], [(0.4, 0)], [(0.15, 1)], [(0.7, 0)]]
    kinds = ["dent", "dent", "scratch", "good", "good", "good"]
    engines = engine_of(tmp_path, [", ".join(row(*each) for each in answer) for answer in answers])
    assert calibrate(tmp_path, engines, data_of(tmp_path, kinds)) == 0
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text())
    assert (report["chosen"]["escapes"], report["chosen"]["false_rejects"]) == (0, 1)
    assert report["no_better_exists"]
    recipe = load_recipe(out / "recipe.toml", LABELS)
    assert [rule.threshold for rule in recipe.rules] == [0.5, 0.18]
    outcomes = [judge(detections(answer), recipe).outcome for answer in answers]
    assert [outcome is Outcome.REJECT for outcome in outcomes] == [True, True, True, False, False, True]
    assert [path.name for path in (out / "false_rejects").iterdir()] == ["data-5.png"]
    assert not (out / "escapes").exists()
    for picture in (out / "curve.png", out / "false_rejects" / "data-5.png"):
        assert cv2.imread(str(picture)) is not None
    said = capsys.readouterr().out
    assert "COCO: 3 defective parts, 3 good ones" in said
    assert "2,995 defective parts" in said
    text = (out / "recipe.toml").read_text()
    assert report["data_sha256"] in text
    assert report["engine"]["sha256"] in text


def test_an_escape_that_is_allowed_buys_false_rejects(tmp_path: Path) -> None:
    """One in four, where catching it would cost a good part; it is drawn."""
    answers = [row(0.9), row(0.8), row(0.7), row(0.2), row(0.4)]
    data = data_of(tmp_path, ["dent"] * 4 + ["good"])
    assert calibrate(tmp_path, engine_of(tmp_path, answers), data, "--max-escape", "0.25") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["chosen"]["escapes"], report["chosen"]["false_rejects"]) == (1, 0)
    assert [path.name for path in (tmp_path / "out" / "escapes").iterdir()] == ["data-3.png"]


def test_a_rate_that_cannot_be_held_writes_no_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is found on a defective part: exit 1, and a picture of it."""
    data = data_of(tmp_path, ["dent", "good"])
    assert calibrate(tmp_path, engine_of(tmp_path, ["", row(0.4)]), data) == 1
    assert "1 of 1 defective parts (100.00%) pass" in capsys.readouterr().err
    assert (tmp_path / "out" / "escapes" / "data-0.png").is_file()
    assert not (tmp_path / "out" / "recipe.toml").exists()


def test_caught_for_the_wrong_reason(tmp_path: Path) -> None:
    """Rejected, but not for the defect that it has."""
    data = data_of(tmp_path, ["dent", "good"])
    assert calibrate(tmp_path, engine_of(tmp_path, ["[80, 80, 95, 95, 0.9, 0]", ""]), data) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["right_for_the_wrong_reason"] == 1
    assert report["classes"]["dent"]["found"] == 0


def test_a_recipe_keeps_what_is_not_a_threshold(tmp_path: Path) -> None:
    """Zones, severities, limits, floors: all but what would lie above the threshold. Limits of two need two hits."""
    twice = f"{row(0.8)}, [60, 60, 90, 90, 0.6, 0]"
    engines = engine_of(tmp_path, [twice, row(0.9), row(0.28, 1)], recipe=RECIPE)
    assert calibrate(tmp_path, engines, data_of(tmp_path, ["dent", "good", "scratch"])) == 0
    before = load_recipe(engines / "made" / "recipe.toml", LABELS)
    after = load_recipe(tmp_path / "out" / "recipe.toml", LABELS)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["chosen"]["escapes"], report["chosen"]["false_rejects"]) == (0, 0)
    assert (after.tables.zones, after.tables.reject) == (before.tables.zones, before.tables.reject)
    assert after.rules[0].severity_by_size == before.rules[0].severity_by_size
    assert after.rules[0].severity is before.rules[0].severity
    assert after.rules[1].floor == after.rules[1].threshold < 0.28 < before.rules[1].floor
    assert after.rules[0].floor == 0.3


def test_the_worst_can_be_read_among_many(tmp_path: Path) -> None:
    """Texts do not cover each other: that of the defect looks as it does where nothing else was found."""
    picture = tmp_path / "part.png"
    cv2.imwrite(str(picture), np.full((640, 640, 3), 90, np.uint8))
    worst = Defect("dent", 0.9, (200.0, 200.0, 260.0, 260.0), Severity.CRITICAL)
    weak = tuple(Defect("dent", 0.1, (190.0 + n, 190.0 + n, 250.0, 250.0), Severity.CRITICAL) for n in range(30))
    drawn = []
    for near_misses in ((), weak):
        part = LabelledPart(picture, (), Detections.none())
        verdict = Verdict(Outcome.REJECT, Reason.DEFECT, (worst,), near_misses)
        draw_part(part, verdict, tmp_path / "drawn.png")
        drawn.append(cv2.imread(str(tmp_path / "drawn.png")))
    text = (slice(184, 198), slice(200, 270))
    assert (drawn[0][text] == 255).any()
    assert (drawn[0][text] == drawn[1][text]).all()
    assert (drawn[0] != drawn[1]).any()


def test_only_defective_parts_are_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then --good is named."""
    data = data_of(tmp_path, ["dent"])
    assert calibrate(tmp_path, engine_of(tmp_path, [row(0.5)]), data) == 78
    assert "found no good parts" in (said := capsys.readouterr().err)
    assert "--good" in said


def test_toml_of_strange_names(tmp_path: Path) -> None:
    """Quotes, umlauts and dots in a class's name come back as they were."""
    label = 'Grat "groß".1'
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(with_thresholds({}, {label: 0.1}), ["a comment"]), encoding="utf-8")
    assert load_recipe(path, (label,)).rules[0].threshold == 0.1
    assert load_recipe(path, (label,)).rules[0].floor == 0.1


def test_folds_keep_neighbours_together() -> None:
    """A defective and a good part of one name are in one fold; every kind of defect is in every fold."""
    box = Box("dent", (0, 0, 1, 1))
    other = Box("scratch", (0, 0, 1, 1))
    parts = [
        LabelledPart(Path(folder) / f"{n:02}.png", boxes, Detections.none())
        for n in range(10)
        for folder, boxes in (("a", (box,)), ("b", (other,)), ("good", ()))
    ]
    folds = folds_of(parts).reshape(10, 3)
    assert folds.tolist() == [[n // 2] * 3 for n in range(10)]


def test_boxes_meet_where_half_of_the_smaller_lies_in_the_other() -> None:
    """So a find anywhere in a label for the whole part meets it."""
    assert meet((0, 0, 100, 100), (90, 90, 95, 95))
    assert meet((0, 0, 10, 10), (5, 0, 15, 10))
    assert not meet((0, 0, 10, 10), (6, 0, 16, 10))
    assert not meet((0, 0, 10, 10), (20, 20, 30, 30))

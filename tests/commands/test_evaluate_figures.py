"""Each figure of `evaluate` against detections made by hand, whose answer is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.commands import evaluate_boxes as boxes
from edge_inspector.commands.agreement import Rows, Truth, mean_average_precision
from edge_inspector.commands.dataset import Box, Sample
from edge_inspector.commands.evaluate_changes import CHANGES, STRENGTHS, Change
from edge_inspector.commands.evaluate_coco import average_precision
from edge_inspector.commands.evaluate_figures import accuracy, class_of, classes, parts, rate
from edge_inspector.commands.evaluate_pictures import inspect, leaks, print_of
from edge_inspector.commands.evaluate_run import Seen
from edge_inspector.commands.labelled_parts import LabelledPart
from edge_inspector.models.folder import ModelTables
from edge_inspector.types import Detections, Outcome, Reason, Verdict

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "deeppcb"


def rows(*found: tuple[float, ...]) -> Rows:
    """x1, y1, x2, y2, score, class of each."""
    return np.array(found, np.float32).reshape(-1, 6)


def truth(*there: tuple[float, ...]) -> Truth:
    """x1, y1, x2, y2, class of each."""
    return np.array(there, np.float32).reshape(-1, 5)


def seen(*boxes: Box, rejected: bool = False, scores: tuple[float, ...] = ()) -> Seen:
    """A part with these labels, and what was said of it."""
    verdict = Verdict(*((Outcome.REJECT, Reason.DEFECT) if rejected else (Outcome.PASS, Reason.OK)))
    part = LabelledPart(Path("part.png"), boxes, Detections.none())
    return Seen(part, verdict, np.array(scores, np.float32), 1.0, 1.0)


def test_each_label_is_found_once_and_the_surest_chooses_first() -> None:
    """A second find of the same label is a false alarm, as is one of another class."""
    there = truth((0, 0, 10, 10, 0), (20, 0, 30, 10, 1))
    found = rows((1, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (20, 0, 30, 10, 0.7, 0))
    assert boxes.pair(found, there).tolist() == [0, -1, -1]
    assert boxes.pair(found, there, classes=False).tolist() == [0, -1, 1]
    counts = boxes.counts([(found, there)])
    assert (counts[None].right, counts[None].wrong, counts[None].missed) == (1, 2, 1)
    assert (counts[None].precision, counts[None].recall, counts[None].f1) == (1 / 3, 1 / 2, 2 / 5)
    assert (counts[1].precision, counts[1].recall) == (None, 0.0)


def test_half_an_overlap_is_enough_and_a_third_is_not_for_deeppcb() -> None:
    """0.5 or more; but strictly more than 0.33."""
    there = truth((0, 0, 100, 1, 0))
    for wide, by_half, by_third in ((50, True, True), (49, False, True), (33, False, False), (34, False, True)):
        found = rows((0, 0, wide, 1, 0.9, 0))
        assert (boxes.pair(found, there).tolist() == [0]) is by_half
        assert (boxes.pair(found, there, beyond=boxes.DEEPPCB_IOU).tolist() == [0]) is by_third


def test_deeppcb_pools_all_classes() -> None:
    """Four labels of two classes; by score right, wrong, right, right: precision 1, 2/3, 3/4, made monotonous."""
    one = (rows((0, 0, 9, 9, 0.9, 0), (50, 50, 59, 59, 0.8, 1)), truth((0, 0, 9, 9, 0), (20, 20, 29, 29, 1)))
    two = (rows((0, 0, 9, 9, 0.7, 1), (20, 20, 29, 29, 0.4, 0)), truth((0, 0, 9, 9, 1), (20, 20, 29, 29, 0)))
    found = boxes.deeppcb([one, two], (0.5, 0.5))
    assert found["map"] == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)
    assert found["map_steps"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert found["f"] == pytest.approx(4 / 7)  # two of three right, two of four found
    assert (found["best_f"], found["best_f_score"]) == (pytest.approx(6 / 8), pytest.approx(0.4))
    assert boxes.deeppcb([(rows(), truth())], (0.5,))["map"] is None
    assert boxes.deeppcb([(rows(), truth((0, 0, 9, 9, 0)))], (0.5,))["map"] == 0.0


def test_one_score_is_one_threshold() -> None:
    """The best F cannot lie between detections that score alike."""
    there = truth((0, 0, 9, 9, 0))
    found = rows((0, 0, 9, 9, 0.5, 0), (20, 20, 29, 29, 0.5, 0))
    assert boxes.deeppcb([(found, there)], (0.5,))["best_f"] == pytest.approx(2 / 3)


def test_confusion_has_every_label_and_every_find_once() -> None:
    """Right, taken for another, missed, and a false alarm."""
    there = truth((0, 0, 9, 9, 0), (20, 0, 29, 9, 1), (40, 0, 49, 9, 1))
    found = rows((0, 0, 9, 9, 0.9, 0), (20, 0, 29, 9, 0.8, 0), (60, 0, 69, 9, 0.7, 1))
    assert boxes.confusion([(found, there)], 2).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_average_precision_is_that_of_coco() -> None:
    """Found at IoU 0.8 it counts at 7 of 10 steps; recall of a half is 51 of 101 places of the curve."""
    pictures = [(rows((0, 0, 80, 1, 0.9, 0)), truth((0, 0, 100, 1, 0))), (rows(), truth((0, 0, 100, 1, 0)))]
    made = average_precision(pictures)
    assert made.classes == {0: (pytest.approx(0.7 * 51 / 101), pytest.approx(51 / 101))}
    assert average_precision([(rows((0, 0, 9, 9, 0.9, 0)), truth())]).ap is None
    assert average_precision([(rows(), truth((0, 0, 9, 9, 2)))]).classes == {2: (0.0, 0.0)}


def test_average_precision_agrees_with_the_area_under_the_curve() -> None:
    """On many boxes both are the same but for COCO's 101 places."""
    rng = np.random.default_rng(5)
    pictures = []
    for _ in range(30):
        corner = rng.uniform(0, 400, (5, 2))
        there = np.column_stack((corner, corner + rng.uniform(20, 60, (5, 2)), rng.integers(0, 3, 5)))
        moved = there[:, :4] + rng.normal(0, 3, (5, 4))
        found = np.column_stack((moved, rng.random(5), np.where(rng.random(5) < 0.8, there[:, 4], 0)))
        pictures.append((found[np.argsort(-found[:, 4])].astype(np.float32), there.astype(np.float32)))
    made, area = average_precision(pictures), mean_average_precision(pictures)
    assert (made.ap50, made.ap) == pytest.approx(area, abs=0.01)


def test_parts_are_right_wrong_or_missed() -> None:
    """Two defective ones, of which one escapes, and two good ones, of which one is rejected."""
    dent = Box("dent", (0, 0, 1, 1))
    counts = parts([seen(dent, rejected=True), seen(dent), seen(), seen(rejected=True)])
    assert (counts.right, counts.wrong, counts.missed) == (1, 1, 1)
    assert rate(0, 0) is None
    assert rate(0, 300) == {"seen": 0.0, "at_least_95": 0.0, "at_most_95": pytest.approx(0.00994, abs=1e-4)}


def test_a_classifier_says_the_likeliest_class() -> None:
    """All that is good is one class; the label is that of the largest box."""
    tables = ModelTables(labels=("fine", "dent", "ok", "scratch"), task="classify", good=("fine", "ok"))
    small, large = Box("scratch", (0, 0, 1, 1)), Box("dent", (0, 0, 9, 9))
    there = [
        seen(scores=(0.2, 0.1, 0.4, 0.3)),
        seen(small, large, scores=(0.1, 0.6, 0.1, 0.2)),
        seen(small, scores=(0.1, 0.6, 0.1, 0.2)),
    ]
    table = classes(there, tables)
    assert table.labelled == table.found == ("good", "dent", "scratch")
    assert table.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert accuracy(table) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("good", "said"), [(0.51, "good"), (0.5, "bad"), (0.1, "bad")])
def test_one_of_two_classes_is_good_from_a_half_on(good: float, said: str) -> None:
    """What is not surely good is not good, whatever the other class says."""
    tables = ModelTables(labels=("bad", "good"), task="classify", good=("good",))
    assert class_of(seen(scores=(0.3, good)), tables) == ("good", said)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_changes_are_stronger_each_time_and_the_same_every_time(change: Change) -> None:
    """By the picture's name alone; and the label stays where the defect is."""
    pixels = np.full((120, 160, 3), 60, np.uint8)
    pixels[40:60, 90:130] = 180
    box = Box("dent", (90, 40, 130, 60))
    apart = []
    for strength in STRENGTHS:
        other, moved = change.apply(pixels, (box,), strength, "a.png")
        again, _ = change.apply(pixels, (box,), strength, "a.png")
        assert other.dtype == np.uint8
        assert (other == again).all()
        apart.append(float(np.abs(other.astype(int) - pixels).mean()))
        if change.name in ("shift", "rotation"):
            y, x = np.nonzero(other[..., 0] > 120)
            assert moved[0].xyxy == pytest.approx((x.min(), y.min(), x.max() + 1, y.max() + 1), abs=2.0)
        else:
            assert moved == (box,)
    assert apart[0] < apart[1] < apart[2]
    assert change.text(1).startswith(f"{change.amounts[0]:g} ")


def test_a_defect_that_leaves_the_picture_is_not_labelled_any_more() -> None:
    """Else finding nothing there would be an escape."""
    shift = next(each for each in CHANGES if each.name == "shift")
    edges = [Box("dent", (0, 0, 2, 80)), Box("dent", (98, 0, 100, 80)), Box("dent", (0, 0, 100, 2)),
             Box("dent", (0, 78, 100, 80)), Box("dent", (40, 30, 60, 50))]  # fmt: skip
    _, moved = shift.apply(np.zeros((80, 100, 3), np.uint8), tuple(edges), 3, "a.png")
    assert 1 < len(moved) < 5
    assert all(0 <= box.xyxy[0] < box.xyxy[2] <= 100 for box in moved)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not here: ../shared/data")
def test_boards_of_one_layout_are_not_the_same_picture(tmp_path: Path) -> None:
    """Also not the template that a defect was drawn into; but a picture saved again is."""
    paths = sorted((REAL / "images").glob("92000*.png"))[:40]
    samples = [Sample(path, ()) for path in paths]
    kept, prints, findings = inspect(samples, lambda n: None, one_size=False)
    assert kept == samples
    assert findings.warnings() == []
    templates = tmp_path / "templates"
    templates.mkdir()
    for path in paths:
        (templates / path.name).symlink_to((REAL / "templates" / path.name).resolve())
    assert leaks(prints, templates, lambda n: None) == {}
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in paths[:10]:
        cv2.imwrite(str(copies / f"{path.stem}-again.jpg"), cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 50])
    found = leaks(prints, copies, lambda n: None)
    assert {Path(name).stem for name in found} == {path.stem for path in paths[:10]}


def test_what_is_no_picture_has_no_print(tmp_path: Path) -> None:
    """Missing, empty, or something else."""
    for name, content in (("empty.png", b""), ("text.png", b"text")):
        (tmp_path / name).write_bytes(content)
        assert print_of(tmp_path / name) is None
    assert print_of(tmp_path / "missing.png") is None

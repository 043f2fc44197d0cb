"""Outputs of every task become detections, and what is no answer is an error, not an empty result."""

from __future__ import annotations

import numpy as np
import pytest

from edge_inspector.contract import Answer
from edge_inspector.models.answers import detections_of
from edge_inspector.models.folder import ModelTables
from edge_inspector.preprocess import Letterbox
from edge_inspector.types import Detections

FRAME, SIZE = (100, 200), (64, 64)
FIT = Letterbox.fit(FRAME, SIZE, keep_aspect=False)
CLASSIFIER = ModelTables(labels=("good", "scratch", "dent"), task="classify", good=("good",))
ANOMALY = ModelTables(labels=("anomaly",), task="anomaly")
SEGMENTS = ModelTables(labels=("background", "crack"), task="segment", good=("background",))


def floats(*values: float) -> np.ndarray:
    """A float32 array."""
    return np.array(values, np.float32)


def found(tables: ModelTables, *answer: np.ndarray, floor: float = 0.25) -> Detections:
    """Detections in a frame of 200x100 for an input of 64x64."""
    outputs: Answer = tuple(output.astype(np.float32) for output in answer)
    return detections_of(tables, outputs, FIT, SIZE, floor=floor, frame=FRAME)


def test_a_good_part_has_no_detection() -> None:
    """What a classifier is sure of is good."""
    assert len(found(CLASSIFIER, floats(0.9, 0.06, 0.04))) == 0


def test_a_class_that_is_not_good_is_a_defect_of_the_whole_picture() -> None:
    """The box is the frame."""
    detections = found(CLASSIFIER, floats(0.1, 0.2, 0.7))
    assert detections.xyxy.tolist() == [[0, 0, 200, 100]]
    assert detections.label.tolist() == [2]
    assert detections.score.tolist() == pytest.approx([0.9])  # 0.2 of the 0.9 that are not good speak for another class


def test_a_classifier_in_doubt_does_not_pass_the_part() -> None:
    """Three classes of a third each: no class reaches one half, but good does not either."""
    assert found(CLASSIFIER, floats(0.34, 0.33, 0.33)).score.max() == pytest.approx(0.66)


def test_without_good_classes_every_class_stands_for_itself() -> None:
    """Sigmoid outputs, each a kind of defect."""
    detections = found(ModelTables(labels=("scratch", "dent"), task="classify"), floats(0.8, 0.7))
    assert detections.score.tolist() == pytest.approx([0.8, 0.7])


def test_patches_of_a_segmentation() -> None:
    """In frame pixels, with their area; background is none."""
    heatmap = np.zeros((2, 8, 8))
    heatmap[0] = 1.0
    heatmap[1, 2:4, 1:3] = 0.8
    heatmap[1, 3, 2] = 0.0
    detections = found(SEGMENTS, heatmap)
    assert detections.xyxy[0].tolist() == pytest.approx([25.0, 25.0, 75.0, 50.0])
    assert detections.area is not None
    assert detections.area.tolist() == pytest.approx([3 * 25 * 12.5])


def test_the_score_of_the_whole_picture_is_never_lost() -> None:
    """An anomaly model that says 0.9 of the part and shows nothing in its map has found something."""
    assert found(ANOMALY, np.zeros((8, 8)), floats(0.9)[0]).score.tolist() == pytest.approx([0.9])
    heatmap = np.zeros((8, 8))
    heatmap[4, 4] = 0.4
    assert found(ANOMALY, heatmap, floats(0.9)[0]).score.tolist() == pytest.approx([0.9])
    heatmap[4, 4] = 0.95
    assert found(ANOMALY, heatmap, floats(0.1)[0]).score.tolist() == pytest.approx([0.95])


@pytest.mark.parametrize(
    ("tables", "answer"),
    [
        (CLASSIFIER, [floats(np.nan, 0.5, 0.5)]),
        (CLASSIFIER, [floats(0.2, 0.8)]),
        (CLASSIFIER, [floats(-3.0, 2.0, 9.0)]),
        (SEGMENTS, [np.full((2, 8, 8), np.inf)]),
        (SEGMENTS, [np.zeros((3, 8, 8))]),
        (ANOMALY, [np.full((8, 8), np.nan), floats(0.1)[0]]),
        (ANOMALY, [np.zeros((8, 8)), floats(17.0)[0]]),
        (ANOMALY, [np.zeros((8, 8)), floats(np.nan)[0]]),
    ],
)
def test_what_is_no_answer_is_an_error(tables: ModelTables, answer: list[np.ndarray]) -> None:
    """Not a number, logits, another number of classes: never read as nothing found."""
    with pytest.raises(ValueError, match="engine output"):
        found(tables, *answer)

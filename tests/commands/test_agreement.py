"""Agreement cannot hide an engine that finds nothing, and average precision is the textbook's."""

from __future__ import annotations

import numpy as np
import pytest

from edge_inspector.commands.agreement import agree, average_precision, mean_average_precision
from edge_inspector.recipe import RecipeTables, fit_recipe
from edge_inspector.types import Detections

RECIPE = fit_recipe("r", "0" * 64, RecipeTables(), ("scratch", "dent"))


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections of x1, y1, x2, y2, score, class."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int16))


ONE, TWO = (0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 1)


@pytest.mark.parametrize(
    ("other", "boxes", "verdicts"),
    [
        ([found(ONE, TWO), found()], 1.0, 1.0),
        ([found(), found()], 0.0, 0.5),  # an engine that finds nothing agrees on nothing, however many parts are good
        ([found(ONE), found()], 2 / 3, 1.0),
        ([found(ONE, TWO), found(TWO)], 4 / 5, 0.5),
        ([found((0, 0, 10, 10, 0.9, 1), TWO), found()], 0.5, 1.0),  # another class is another detection
        ([found((6, 0, 16, 10, 0.9, 0), TWO), found()], 0.5, 1.0),  # and so is another place
        ([found(ONE, ONE, TWO), found()], 4 / 5, 1.0),  # one box twice is one too many
        ([found(ONE, TWO, (0, 30, 9, 39, 0.4, 0)), found()], 1.0, 1.0),  # below the threshold nothing counts
    ],
)
def test_agreement_of_boxes_and_of_verdicts(other: list[Detections], boxes: float, verdicts: float) -> None:
    """F1 over the boxes, and the share of pictures with the same verdict; an engine is held to the lower."""
    alike = agree([found(ONE, TWO), found()], other, RECIPE)
    assert alike is not None
    assert (alike.boxes, alike.verdicts) == (pytest.approx(boxes), pytest.approx(verdicts))
    assert alike.least == pytest.approx(min(boxes, verdicts))
    assert alike.surely <= alike.least


def test_agreement_on_nothing_says_nothing() -> None:
    """Where FP32 finds nothing in any picture, an INT8 engine that finds nothing is not proven."""
    assert agree([found(), found()], [found(), found()], RECIPE) is None


def test_average_precision_over_ious() -> None:
    """A box that overlaps by 0.7 counts at five of the ten thresholds of COCO."""
    truth = np.array([[0, 0, 10, 10, 0]], np.float32)
    rows = np.array([[0, 0, 7.2, 10, 0.9, 0]], np.float32)
    assert mean_average_precision([(rows, truth)]) == (pytest.approx(1.0), pytest.approx(0.5))
    assert mean_average_precision([(rows, truth[:0])]) is None


TRUTH = np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 0]], np.float32)


def row_at(x: float, score: float, label: int = 0) -> list[float]:
    """A box of ten pixels."""
    return [x, x, x + 10, x + 10, score, label]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row_at(0, 0.9), row_at(20, 0.8)], 1.0),  # both found
        ([row_at(0, 0.9)], 0.5),  # one of two
        ([row_at(0, 0.9), row_at(50, 0.8), row_at(20, 0.7)], 0.5 + 0.5 * 2 / 3),  # a wrong one between them
        ([row_at(50, 0.9), row_at(0, 0.8)], 0.25),  # a wrong one first
        ([row_at(0, 0.9), row_at(1, 0.8)], 0.5),  # the same one twice
        ([row_at(0, 0.9, 1)], 0.0),  # another class
        ([], 0.0),
    ],
)
def test_average_precision_by_hand(rows: list[list[float]], expected: float) -> None:
    """The area under a curve that can be drawn by hand."""
    found = [(np.array(rows, np.float32).reshape(-1, 6), TRUTH)]
    assert average_precision(found, 0) == pytest.approx(expected)

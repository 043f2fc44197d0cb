"""An engine's rows become detections: suppressed as a naive reference does it, refused where they are no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_inspector import nms
from edge_inspector.nms import suppress, to_detections
from edge_inspector.preprocess import Letterbox
from edge_inspector.types import Detections

Rows = NDArray[np.float32]
SAME = Letterbox.fit((100, 100), (100, 100))


def rows(*values: tuple[float, ...]) -> Rows:
    """An engine's output."""
    return np.array(values, np.float32).reshape(-1, 6)


def detections(output: Rows, *, floor: float = 0.25, iou: float = 0.5, classes: int = 3) -> Detections:
    """As for a frame that is as large as the input."""
    return to_detections(output, SAME, (100, 100), floor=floor, iou=iou, classes=classes)


def overlap(a: Rows, b: Rows) -> float:
    """Intersection over union, by the textbook."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height / union) if union else 0.0


def naive(output: Rows, floor: float, iou: float) -> Rows:
    """The best stays, and takes out what overlaps it; then the next."""
    left = sorted((row for row in output if row[4] >= floor), key=lambda row: -row[4])
    kept: list[Rows] = []
    for row in left:
        if all(row[5] != other[5] or overlap(row, other) <= iou for other in kept):
            kept.append(row)
    return np.array(kept, np.float32).reshape(-1, 6)


boxes = st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(1, 20), st.integers(1, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
outputs = st.lists(
    st.tuples(boxes, st.integers(0, 64).map(lambda n: n / 64), st.integers(0, 2)).map(lambda r: (*r[0], r[1], r[2])),
    max_size=25,
).map(lambda found: rows(*found))


@settings(deadline=None, max_examples=300)
@given(outputs, st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.sampled_from([0.1, 0.5]))
def test_against_the_naive_reference(output: Rows, iou: float, floor: float) -> None:
    """Same boxes, same order, same scores and classes as by the textbook, at every threshold."""
    found, expected = detections(output, floor=floor, iou=iou), naive(output, floor, iou)
    assert found.xyxy.tolist() == expected[:, :4].tolist()
    assert found.score.tolist() == expected[:, 4].tolist()
    assert found.label.tolist() == expected[:, 5].tolist()


@settings(deadline=None)
@given(outputs)
def test_one_keeps_all(output: Rows) -> None:
    """With an IoU limit of 1 nothing is suppressed, not even the very same box."""
    assert len(detections(output, iou=1.0)) == int((output[:, 4] >= 0.25).sum())


def test_the_engines_array_is_left_alone() -> None:
    """The rows belong to the lane: they are not written to, and the detections do not look into them afterwards."""
    output = rows((10, 10, 20, 20, 0.5, 0), (30, 30, 40, 40, 0.9, 1))
    before = output.copy()
    found = detections(output)
    output[:] = 0
    assert found.score.tolist() == pytest.approx([0.9, 0.5])
    assert found.xyxy.tolist() == [before[1, :4].tolist(), before[0, :4].tolist()]
    assert found.xyxy.dtype == found.score.dtype == np.float32
    assert found.label.dtype == np.int16


def test_nothing_found() -> None:
    """No rows, and only rows of zeros, are both an empty answer with the right shapes."""
    for output in (rows(), np.zeros((300, 6), np.float32)):
        found = detections(output)
        assert (found.xyxy.shape, found.score.shape, found.label.shape) == ((0, 4), (0,), (0,))
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5) == []


def test_boxes_are_clipped_to_the_frame() -> None:
    """What sticks out over the frame is cut off, in the frame's height and width and not the input's."""
    letterbox = Letterbox.fit((50, 100), (100, 100))
    found = to_detections(rows((-5, 10, 120, 90, 0.9, 0)), letterbox, (50, 100), floor=0.25, iou=0.5, classes=1)
    assert found.xyxy.tolist() == [[0.0, 0.0, 100.0, 50.0]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((3, 5), np.float32), r"expected float32 \[K, 6 or 7\], got float32 \[3, 5\]"),
        (np.zeros((1, 3, 6), np.float32), r"expected float32 \[K, 6 or 7\]"),
        (rows((1, 1, 2, 2, np.nan, 0)), "not finite"),
        (rows((1, 1, np.nan, 2, 0.1, 0)), "not finite"),  # also in a row that is below the floor
        (rows((1, 1, np.inf, 2, 0.9, 0)), "not finite"),
        (rows((1, 1, 2, 2, -np.inf, 0)), "not finite"),
        (rows((1, 1, 2, 2, 0.9, np.nan)), "not finite"),
        (rows((1, 1, 2, 2, 1.5, 0)), "scores must lie in 0..1"),
        (rows((1, 1, 2, 2, 0.9, 3)), "class outside 0..2"),
        (rows((1, 1, 2, 2, 0.9, -1)), "class outside 0..2"),
        (rows((1, 1, 2, 2, 0.9, 0.5)), "class outside 0..2"),
    ],
)
def test_no_answer_raises(output: Rows, message: str) -> None:
    """What cannot be an answer is an error, and never an empty result."""
    with pytest.raises(ValueError, match=message):
        detections(output)


@pytest.mark.parametrize("score", [-0.01, -3.0])
def test_negative_scores_raise(score: float) -> None:
    """An engine that was exported without its sigmoid answers in logits: most are negative, and not "nothing found"."""
    with pytest.raises(ValueError, match=r"0\.\.1"):
        detections(rows((1, 1, 9, 9, score, 0)))


@pytest.mark.parametrize("box", [(9, 9, 1, 1), (9, 1, 1, 9), (1, 9, 9, 1)])
def test_boxes_inside_out_raise(box: tuple[int, ...]) -> None:
    """A box whose second corner is not the greater one (x, y, width, height?) is no answer."""
    with pytest.raises(ValueError, match="x1"):
        detections(rows((*box, 0.99, 0)))


@pytest.mark.parametrize("count", [2, 9, 16, 17, 60])
def test_few_and_many_boxes_are_suppressed_alike(count: int) -> None:
    """The same pairs, whichever way they are looked for."""
    random = np.random.default_rng(count)
    corner = random.integers(0, 60, (count, 2))
    xyxy = np.concatenate([corner, corner + random.integers(0, 40, (count, 2))], axis=1).astype(np.float32)
    label = random.integers(0, 2, count).astype(np.float32)
    for iou in (0.0, 0.3, 0.5):
        assert list(nms._doubles_of_few(xyxy, label, iou)) == nms._doubles(xyxy, label, iou)

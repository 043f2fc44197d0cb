"""The letterbox: where a frame lies in the engine's input, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.preprocess import GREY, Letterbox, use_one_thread
from edge_inspector.types import Pixels

sides = st.integers(1, 2000)
sizes = st.tuples(sides, sides)


@given(sizes, sizes, st.booleans())
def test_picture_fits(frame: tuple[int, int], target: tuple[int, int], keep_aspect: bool) -> None:
    """The scaled picture lies inside the input, in its middle, fills one side of it, and keeps its shape."""
    box = Letterbox.fit(frame, target, keep_aspect=keep_aspect)
    left, top = box.offset
    for n, before in ((0, top), (1, left)):
        behind = target[n] - box.inner[n] - before
        assert box.inner[n] >= 1
        assert 0 <= before <= behind <= before + 1
    assert box.inner[0] == target[0] or box.inner[1] == target[1]
    if not keep_aspect:
        assert box.inner == target
    elif min(box.inner) > 1:
        exact = min(target[0] / frame[0], target[1] / frame[1])
        assert abs(box.inner[0] - frame[0] * exact) <= 0.5
        assert abs(box.inner[1] - frame[1] * exact) <= 0.5


@settings(deadline=None)
@given(sizes, sizes, st.booleans(), st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5))
def test_boxes_come_back(
    frame: tuple[int, int], target: tuple[int, int], keep_aspect: bool, parts: list[tuple[float, ...]]
) -> None:
    """A box of the frame, moved and scaled as the picture is, is by `to_frame` where it was."""
    box = Letterbox.fit(frame, target, keep_aspect=keep_aspect)
    extent = np.array([frame[1], frame[0]] * 2)
    boxes = np.array(parts) * extent
    moved = boxes * np.array([*box.scale] * 2) + np.array([*box.offset] * 2)
    back = box.to_frame(moved.astype(np.float32))
    assert back.dtype == np.float32
    input_px = np.maximum(extent, extent / np.array([*box.scale] * 2) * np.array([*box.offset] * 2) + extent)
    assert (np.abs(back - boxes) <= 1e-5 * input_px + 1e-3 / np.array([*box.scale] * 2)).all()


@given(sizes, sizes, st.booleans())
def test_corners_come_back(frame: tuple[int, int], target: tuple[int, int], keep_aspect: bool) -> None:
    """The corners of the picture in the input are the corners of the frame."""
    box = Letterbox.fit(frame, target, keep_aspect=keep_aspect)
    (left, top), (height, width) = box.offset, box.inner
    back = box.to_frame(np.array([[left, top, left + width, top + height]], np.float32))[0]
    assert back == pytest.approx([0, 0, frame[1], frame[0]], rel=1e-5)


def gradient(height: int, width: int) -> Pixels:
    """A picture whose pixels say where they were: blue is x, green is y, red is the rest."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width).round()[None, :]
    picture[..., 1] = np.linspace(0, 255, height).round()[:, None]
    picture[..., 2] = 200
    return picture


SIZES = [
    ((64, 48), (64, 48)),  # as it is
    ((480, 640), (320, 320)),  # wide, smaller
    ((640, 480), (320, 320)),  # high, smaller
    ((30, 50), (96, 64)),  # larger, input not square
    ((64, 48), (64, 64)),  # not scaled, only moved
]


@pytest.mark.parametrize(("frame", "target"), SIZES)
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_apply_writes_into_the_given_buffer(frame: tuple[int, int], target: tuple[int, int], keep_aspect: bool) -> None:
    """The picture is in the buffer, in the right place and the right way round; the border is grey."""
    box, into = Letterbox.fit(frame, target, keep_aspect=keep_aspect), np.full((*target, 3), 7, np.uint8)
    address = into.ctypes.data
    box.clear(into)
    box.apply(gradient(*frame), into)
    assert into.ctypes.data == address
    (left, top), (height, width) = box.offset, box.inner
    inner = into[top : top + height, left : left + width].astype(int)
    assert np.abs(inner - gradient(height, width).astype(int)).max() <= 255 // min(height, width, *frame) + 2
    border = np.ones(target, bool)
    border[top : top + height, left : left + width] = False
    assert (into[border] == GREY).all()
    assert border.any() == (box.inner != target)


@pytest.mark.parametrize(("frame", "target"), SIZES[1:4])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_opencv_writes_where_it_is_told(
    frame: tuple[int, int], target: tuple[int, int], keep_aspect: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy: the engine's memory is what OpenCV resizes into, also where the picture does not begin at its edge."""
    box, into = Letterbox.fit(frame, target, keep_aspect=keep_aspect), np.zeros((*target, 3), np.uint8)
    copies = []
    monkeypatch.setattr(np, "copyto", lambda *arrays: copies.append(arrays))
    box.apply(gradient(*frame), into)
    assert copies == []
    assert (into[..., 2] == 200).sum() == box.inner[0] * box.inner[1]


def test_second_frame_leaves_nothing_of_the_first() -> None:
    """A buffer that is used again shows the new frame only."""
    box, into = Letterbox.fit((30, 60), (64, 64)), np.zeros((64, 64, 3), np.uint8)
    fresh = into.copy()
    for buffer in (into, fresh):
        box.clear(buffer)
    box.apply(np.full((30, 60, 3), 255, np.uint8), into)
    box.apply(gradient(30, 60), into)
    box.apply(gradient(30, 60), fresh)
    assert np.array_equal(into, fresh)


def test_border_is_painted_once() -> None:
    """`apply` does not touch the border: painting it for every frame would cost time."""
    box, into = Letterbox.fit((30, 60), (64, 64)), np.full((64, 64, 3), 7, np.uint8)
    box.apply(gradient(30, 60), into)
    assert (into[: box.offset[1]] == 7).all()


def test_one_thread() -> None:
    """OpenCV keeps to the thread that calls it."""
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    try:
        use_one_thread()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)

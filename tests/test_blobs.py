"""Heatmaps become boxes: as a flood fill by hand finds them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_inspector.blobs import MOST, rows_of


def by_hand(heatmap: np.ndarray, floor: float) -> list[tuple[int, int, int, int, float, int]]:
    """Patches by flood fill, corners touch: x1, y1, x2, y2 in cells, highest value, cells."""
    left = {(int(y), int(x)) for y, x in np.argwhere(heatmap >= floor)}
    found = []
    while left:
        stack, cells = [left.pop()], []
        while stack:
            y, x = stack.pop()
            cells.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
        ys, xs = [y for y, _ in cells], [x for _, x in cells]
        highest = max(float(heatmap[cell]) for cell in cells)
        found.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1, highest, len(cells)))
    return found


@settings(deadline=None, max_examples=150)
@given(arrays(np.float32, (6, 9), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75])), st.sampled_from([0.2, 0.5, 0.7]))
def test_against_a_flood_fill(heatmap: np.ndarray, floor: float) -> None:
    """The same patches, in pixels of an input that is four times as wide and twice as high."""
    rows = rows_of(heatmap, 3, floor=floor, size=(12, 36))
    expected = [(x1 * 4, y1 * 2, x2 * 4, y2 * 2, top, 3, n * 8) for x1, y1, x2, y2, top, n in by_hand(heatmap, floor)]
    assert sorted(map(tuple, rows.tolist())) == sorted(expected)
    assert (np.diff(rows[:, 4]) <= 0).all()


def test_the_strongest_are_kept() -> None:
    """A map full of specks does not make an endless list, and its strongest speck is in it."""
    heatmap = np.zeros((64, 64), np.float32)
    heatmap[::2, ::2] = np.random.default_rng(1).uniform(0.5, 0.9, (32, 32))
    rows = rows_of(heatmap, 0, floor=0.3, size=(64, 64))
    assert len(rows) == MOST
    assert rows[0, 4] == heatmap.max()

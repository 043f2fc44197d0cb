"""How the grab thread tells a frozen camera: the same picture again, and never by chance."""

from __future__ import annotations

import numpy as np

from edge_inspector.grab import Sameness


def pictures(count: int, size: tuple[int, int] = (37, 26)) -> list[np.ndarray]:
    """Different noise."""
    return [np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n in range(count)]


def test_a_run_counts_what_is_identical() -> None:
    """From 1 again as soon as anything differs, the middle row or another."""
    first, second = pictures(2)
    sameness = Sameness((37, 26))
    for picture, run in ((first, 1), (first, 2), (first.copy(), 3), (second, 1), (first, 1), (first, 2)):
        sameness.look(picture)
        assert sameness.run == run
    other = first.copy()
    other[4, 5, 1] ^= 1
    sameness.look(other)
    assert sameness.run == 1


def test_a_part_with_the_picture_of_the_part_before() -> None:
    """However many frames of no part lay between the two."""
    shown = pictures(6)
    sameness = Sameness((37, 26))
    for n, same in ((0, False), (1, False), (1, True), (2, False), (1, False)):
        sameness.look(shown[n])
        assert sameness.same_as_last_part() is same
    for picture in shown[2:]:
        sameness.look(picture)  # not of any part
    sameness.look(shown[1])
    assert sameness.same_as_last_part()

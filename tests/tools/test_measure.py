"""The figures in a model card are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from edge_inspector.commands.agreement import average_precision
from tools.train.measure import parts

TRUTH = np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 0]], np.float32)


def row(x: float, score: float, label: int = 0) -> list[float]:
    """A box of ten pixels."""
    return [x, x, x + 10, x + 10, score, label]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(0, 0.9), row(20, 0.8)], 1.0),  # both found
        ([row(0, 0.9)], 0.5),  # one of two
        ([row(0, 0.9), row(50, 0.8), row(20, 0.7)], 0.5 + 0.5 * 2 / 3),  # a wrong one between them
        ([row(50, 0.9), row(0, 0.8)], 0.25),  # a wrong one first
        ([row(0, 0.9), row(1, 0.8)], 0.5),  # the same one twice
        ([row(0, 0.9, 1)], 0.0),  # another class
        ([], 0.0),
    ],
)
def test_average_precision(rows: list[list[float]], expected: float) -> None:
    """The area under a curve that can be drawn by hand."""
    found = [(np.array(rows, np.float32).reshape(-1, 6), TRUTH)]
    assert average_precision(found, 0) == pytest.approx(expected)


def test_parts_are_counted_as_a_line_does() -> None:
    """A defective board without any detection is an escape, a good one with any is a false reject."""
    one, none = np.array([row(0, 0.5)], np.float32), np.zeros((0, 6), np.float32)
    good = np.zeros((0, 5), np.float32)
    found = [(one, TRUTH), (none, TRUTH), (one, good), (none, good), (none, good)]
    assert parts(found, 0.4) == (2, 1, 3, 1)
    assert parts(found, 0.6) == (2, 2, 3, 0)

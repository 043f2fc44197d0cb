"""Brings a map of many places down to few, so that what an engine returns stays small.

A cell keeps its highest value: a mean would hide a crack of one pixel, and hiding is passing.
"""

from __future__ import annotations

import math

from .base import Builder

CELLS = 256 * 256  # a map of more places is pooled


def pooled(height: int, width: int) -> tuple[int, int]:
    """The size of a map after pooling by the smallest whole factor that makes it small enough.

    A factor that divides both sides is taken where one is near, so that a cell means the same area everywhere.
    """
    factor = _factor(height, width)
    return math.ceil(height / factor), math.ceil(width / factor)


def _factor(height: int, width: int) -> int:
    least = next(n for n in range(1, max(height, width) + 1) if math.ceil(height / n) * math.ceil(width / n) <= CELLS)
    even = (n for n in range(least, 2 * least) if height % n == 0 and width % n == 0)
    return next(even, least)


def pool(builder: Builder, heatmap: str, shape: tuple[int, ...]) -> str:
    """The map [1, C, h, w], of that shape; a large one as the highest of each square. At the end they may be cut."""
    factor = _factor(*shape[2:])
    if factor == 1:
        return heatmap
    kernel = [factor, factor]
    return builder.add("MaxPool", heatmap, kernel_shape=kernel, strides=kernel, ceil_mode=1)

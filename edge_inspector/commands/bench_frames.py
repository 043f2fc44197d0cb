"""What the benchmark shows to engines: boards of which one in four has a defect, drawn once and kept in memory."""

from __future__ import annotations

import numpy as np

from ..cameras.boards import Boards
from ..types import Pixels

SIZE = (1024, 1280)  # height, width


def frames() -> list[Pixels]:
    """Eight different boards, uint8 [1024, 1280, 3]."""
    boards, square = Boards(seed=1, defect_rate=0.25, size=1280, layouts=4), np.empty((1280, 1280, 3), np.uint8)
    made = []
    for number in range(1, 9):
        boards.draw(number, square)
        made.append(square[: SIZE[0], : SIZE[1]].copy())
    return made

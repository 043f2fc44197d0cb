"""A synthetic line of bare printed circuit boards: binarised pictures, copper 0, substrate 255, six kinds of defects.

Owns how a board looks (layouts, edges), how a defect is drawn and proved, and the camera that shows them. The look and
the classes follow DeepPCB (Tang et al. 2019, arXiv 1902.06197): its defects were drawn by hand into real scans.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..errors import CameraFault, CameraMissing, EndOfStream
from ..types import Pixels, Shot
from .board_defects import LABELS, Brush, Planted
from .board_layouts import Layout

__all__ = ["LABELS", "Boards", "BoardsCamera", "Planted"]

_COPPER, _BARE = 0, 255
_SLACK_PX = 384  # how much larger a layout is than a picture of it
_SLICE_NS = 200_000_000


class Boards:
    """Draws boards by number; the same (seed, defect_rate, number) always gives the same bytes, in any order.

    defect_rate: share of boards with at least one defect. size: pixels a side, 320 or more. defects: fewest and most
    on a defective board. layouts: how many large layouts the boards are cut out of (about 1 MB each, drawn when
    first needed, some 50 ms). Raises CameraMissing without OpenCV. Not for use by two threads at once.
    """

    def __init__(
        self,
        seed: int = 1,
        defect_rate: float = 0.2,
        *,
        size: int = 640,
        defects: tuple[int, int] = (1, 4),
        layouts: int = 24,
    ) -> None:
        if not 0.0 <= defect_rate <= 1.0:
            raise ValueError(f"defect_rate must lie in 0..1, got {defect_rate}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if size < 320:
            raise ValueError(f"size must be at least 320 px, got {size}")
        self._cv = _opencv()
        self._seed, self._rate, self._size, self._defects = seed, defect_rate, size, defects
        self._layouts: list[Pixels | None] = [None] * layouts
        self._ragged = _raggedness(self._cv, np.random.default_rng((seed, 0)), size + 512)
        self._sum: Pixels = np.empty((size, size), np.uint8)
        self._turned: Pixels = np.empty((size, size), np.uint8)

    def draw(self, number: int, into: Pixels, *, flawless: bool = False) -> tuple[Planted, ...]:
        """Draw board `number` into `into`, uint8 [size, size, 3], and return what was planted; flawless: plant nothing.

        The flawless board is the very same one, pixel by pixel, outside of its defects.
        """
        grey, planted = self._make(number, flawless)
        self._cv.cvtColor(grey, self._cv.COLOR_GRAY2BGR, dst=into)
        return planted

    def truth(self, number: int) -> tuple[Planted, ...]:
        """What is planted on board `number`; costs as much as drawing it."""
        return self._make(number, False)[1]

    def warm_up(self) -> None:
        """Draw every layout now (about a second), so that no board has to wait for one."""
        for index in range(len(self._layouts)):
            self._layout(index)

    def _make(self, number: int, flawless: bool) -> tuple[Pixels, tuple[Planted, ...]]:
        rng = np.random.default_rng((self._seed, 1, number))
        grey = self._bare_board(number, rng)
        if flawless or rng.random() >= self._rate:
            return grey, ()
        return grey, Brush(self._cv, rng, grey).plant(int(rng.integers(self._defects[0], self._defects[1] + 1)))

    def _bare_board(self, number: int, rng: np.random.Generator) -> Pixels:
        """Cut a picture out of a layout, with edges of its own, and turn it into one of eight positions."""
        cv, size = self._cv, self._size
        layout = self._layout(int(rng.integers(len(self._layouts))))
        x, y = (int(v) for v in rng.integers(0, _SLACK_PX, 2))
        # Any 262144 boards in a row have different edge noise (an odd factor visits every place of a power of two).
        u, v = divmod(number * 77773 % (1 << 18), 512)
        cv.add(layout[y : y + size, x : x + size], self._ragged[v : v + size, u : u + size], dst=self._sum)
        cv.threshold(self._sum, int(rng.integers(118, 133)), _BARE, cv.THRESH_BINARY, dst=self._sum)
        turn = int(rng.integers(8))
        if turn >= 4:
            cv.transpose(self._sum, dst=self._turned)
            self._sum, self._turned = self._turned, self._sum
        if turn % 4:
            cv.flip(self._sum, turn % 4 - 2, dst=self._turned)
            self._sum, self._turned = self._turned, self._sum
        return self._sum

    def _layout(self, index: int) -> Pixels:
        layout = self._layouts[index]
        if layout is None:
            rng = np.random.default_rng((self._seed, 2, index))
            side = self._size + _SLACK_PX
            # Some boards are coarse, and some are nearly empty: a third of DeepPCB has fewer edges than any style here.
            zoom, full = float(rng.choice((1.0, 1.0, 1.3, 1.7))), float(rng.choice((1.0, 1.0, 0.35)))
            layout = self._layouts[index] = Layout(self._cv, rng, int(side / zoom), full=full).finish(index, side)
        return layout


class BoardsCamera:
    """Shows boards 1, 2, 3 and so on as a line camera would: `rate` boards per second, 0 for as fast as they are read.

    count: how many there are, 0 for no end. Opening again goes on with the next number.
    """

    simulated = True

    def __init__(self, *, rate: float = 10.0, seed: int = 1, count: int = 0, defect_rate: float = 0.2) -> None:
        if rate < 0 or count < 0:
            raise ValueError(f"rate and count must not be negative, got {rate} and {count}")
        self.waits = rate == 0
        self._boards = Boards(seed, defect_rate)
        self._period_ns = int(1e9 / rate) if rate else 0
        self._count = count
        self._number = 1
        self._drawn: Pixels = np.empty((640, 640, 3), np.uint8)
        self._drawn_number = 0
        self._due_ns: int | None = None

    def open(self) -> tuple[int, int]:
        """Draw the layouts; the first board comes one period later."""
        self._boards.warm_up()
        self._due_ns = time.monotonic_ns() + self._period_ns
        return 640, 640

    def read(self, into: Pixels) -> Shot | None:
        """The next board at its time. A board that is late by more than a period does not pull others after it."""
        if self._due_ns is None:
            raise CameraFault("the boards camera was read while it was closed")
        if self._count and self._number > self._count:
            raise EndOfStream(f"all {self._count} boards were shown")
        if self._drawn_number != self._number:  # before its time comes, so that the stamp follows the exposure at once
            self._boards.draw(self._number, self._drawn)
            self._drawn_number = self._number
        wait_ns = self._due_ns - time.monotonic_ns() if self._period_ns else 0
        if wait_ns > 0:
            time.sleep(min(wait_ns, _SLICE_NS) / 1e9)
            if wait_ns > _SLICE_NS:
                return None
        np.copyto(into, self._drawn)
        now_ns = time.monotonic_ns()
        late = now_ns - self._due_ns > self._period_ns
        self._due_ns = (now_ns if late else self._due_ns) + self._period_ns
        self._number += 1
        return Shot(now_ns, f"board-{self._number - 1:06d}")

    def close(self) -> None:
        """Stop; nothing is held."""
        self._due_ns = None


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise CameraMissing("drawing boards needs OpenCV: pip install opencv-python-headless") from error
    return cv2


def _raggedness(cv: Any, rng: np.random.Generator, side: int) -> Pixels:
    """What a scan does to edges, uint8 [side, side], 0 to 90 around 45: slow waves, and grain that comes and goes."""
    grain = rng.normal(0, 1, (side, side)).astype(np.float32)
    slow = cv.resize(rng.normal(0, 1, (side // 24, side // 24)).astype(np.float32), (side, side))
    where = cv.resize(rng.normal(0, 1, (side // 40, side // 40)).astype(np.float32), (side, side))
    field = 45 + 8 * slow + grain * (3 + 16 * np.clip(where - 0.3, 0, 2))
    return np.asarray(np.clip(field, 0, 90), np.uint8)

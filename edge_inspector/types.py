"""The values that flow through the daemon: frozen, slotted, checked once at the border.

Times named `*_ns` are `time.monotonic_ns()`; `wire.py` turns them into UTC for readers.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Outcome(str, enum.Enum):
    """What is said of a part. There is no default, and a FAULT is never a pass."""

    PASS = "pass"
    REJECT = "reject"
    FAULT = "fault"


class Reason(str, enum.Enum):
    """Why. OK belongs to a pass, DEFECT to a reject, everything else to a fault."""

    OK = "ok"
    DEFECT = "defect"
    TIMEOUT = "timeout"
    NO_FRAME = "no_frame"
    STALE_FRAME = "stale_frame"
    FROZEN_FRAME = "frozen_frame"
    OVERLOAD = "overload"
    ENGINE_FAULT = "engine_fault"
    CAMERA_FAULT = "camera_fault"
    SHUTDOWN = "shutdown"


class Severity(str, enum.Enum):
    """How bad a defect is; the order of the members is the order of badness."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found, best score first, as a struct of arrays in one picture's pixels.

    xyxy: float32 [n, 4], x1, y1, x2, y2; score: float32 [n], 0 to 1; label: int16 [n], index into the class names.
    area: float32 [n], square pixels of what the boxes were drawn around, where the model tells; None: it does not.
    Raises ValueError where shapes, types or values do not fit: a NaN compares false to every threshold, so it must
    be stopped here and not be read as "nothing found".
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int16]
    area: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.score)
        for name, array, shape, dtype in (
            ("xyxy", self.xyxy, (n, 4), np.float32),
            ("score", self.score, (n,), np.float32),
            ("label", self.label, (n,), np.int16),
            ("area", self.area, (n,), np.float32),
        ):
            if array is None:
                continue
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{name}: expected {np.dtype(dtype).name} {list(shape)}, got {array.dtype} {list(array.shape)}"
                )
        if not n:
            return
        # one value that is no number makes a sum, a least and a most that are none
        least, most = self.score.min(), self.score.max()
        if not (math.isfinite(self.xyxy.sum()) and math.isfinite(least + most)):
            raise ValueError("detections hold values that are not finite numbers")
        if least < 0.0 or most > 1.0:
            raise ValueError(f"scores must lie in 0..1, got {least:g}..{most:g}")
        if self.label.min() < 0:
            raise ValueError(f"labels must be 0 or more, got {self.label.min()}")
        if self.area is not None and not (np.isfinite(self.area).all() and self.area.min() >= 0.0):
            raise ValueError("areas must be finite and not negative")
        if (self.xyxy[:, :2] > self.xyxy[:, 2:]).any():
            raise ValueError("boxes must be x1, y1, x2, y2 with x1 <= x2 and y1 <= y2; some are inside out")

    @classmethod
    def none(cls) -> Detections:
        """Nothing was found, and that is known."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int16))

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True)
class Defect:
    """One detection that a recipe has judged. box_px: x1, y1, x2, y2 in the frame's pixels."""

    label: str
    score: float
    box_px: tuple[float, float, float, float]
    severity: Severity
    zone: str | None = None
    area_mm2: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one part. Made by `judge()` or by `Verdict.fault()`, nowhere else.

    suppressed: how many detections a rule took out; near_misses: those of them that only missed the threshold.
    grade: A (nothing) to D (a critical defect); None for a fault.
    """

    outcome: Outcome
    reason: Reason
    defects: tuple[Defect, ...] = ()
    near_misses: tuple[Defect, ...] = ()
    suppressed: int = 0
    grade: str | None = None

    def __post_init__(self) -> None:
        expected = {Reason.OK: Outcome.PASS, Reason.DEFECT: Outcome.REJECT}.get(self.reason, Outcome.FAULT)
        if self.outcome is not expected:
            raise ValueError(
                f"reason {self.reason.value} belongs to outcome {expected.value}, not {self.outcome.value}"
            )

    @classmethod
    def fault(cls, reason: Reason) -> Verdict:
        """A verdict for a part that could not be judged."""
        return cls(Outcome.FAULT, reason)


@dataclass(frozen=True, slots=True)
class Shot:
    """What a camera says of the frame it has just delivered.

    t_grab_ns: the monotonic clock right after the frame was taken from the driver. lag_ns: how long before that it
    had been waiting (a network stream's backlog), as far as the source can tell. part_id: the name the source itself
    has for what it shows (a file name, a board number), or None.
    """

    t_grab_ns: int
    part_id: str | None = None
    lag_ns: int = 0


@dataclass(slots=True)
class Frame:
    """A picture in a borrowed buffer of a FramePool: `with frame:` gives the buffer back on leaving.

    pixels: uint8 [height, width, 3], BGR; not to be touched after the `with`.
    """

    pixels: Pixels
    shot: Shot
    _give_back: Callable[[Pixels], None] = field(repr=False)

    def __enter__(self) -> Frame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the buffer back; a second call does nothing."""
        give_back, self._give_back = self._give_back, _nothing
        give_back(self.pixels)

    def handed_on(self, *, then: Callable[[], None] | None = None) -> Frame:
        """The same buffer in a Frame of its own, which gives it back and then calls `then`; this one no longer does."""
        give_back, self._give_back = self._give_back, _nothing
        if then is None:
            return Frame(self.pixels, self.shot, give_back)

        def both(pixels: Pixels) -> None:
            give_back(pixels)
            then()

        return Frame(self.pixels, self.shot, both)


def _nothing(pixels: Pixels) -> None:
    """A frame that was given back has nothing more to give."""

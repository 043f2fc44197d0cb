"""Letterbox into a given buffer, and its inverse for boxes. Owns the geometry between frame and engine input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import Pixels

GREY = 114  # the border that detectors are trained with since YOLOv3


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a frame of one size lies in an input of another: scaled by (x, y), then moved by (left, top) pixels.

    inner: (height, width) of the scaled picture. With `keep_aspect` false the frame is stretched to fill the input.
    """

    scale: tuple[float, float]
    offset: tuple[int, int]
    inner: tuple[int, int]

    @classmethod
    def fit(cls, frame: tuple[int, int], target: tuple[int, int], *, keep_aspect: bool = True) -> Letterbox:
        """For a frame of (height, width) in an input of (height, width)."""
        if not keep_aspect:
            return cls((target[1] / frame[1], target[0] / frame[0]), (0, 0), target)
        scale = min(target[0] / frame[0], target[1] / frame[1])
        inner = (max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale)))
        offset = ((target[1] - inner[1]) // 2, (target[0] - inner[0]) // 2)
        return cls((inner[1] / frame[1], inner[0] / frame[0]), offset, inner)

    def apply(self, frame: Pixels, into: Pixels) -> None:
        """Write `frame`, uint8 [h, w, 3], into `into`, uint8 [H, W, 3]. The border must be grey already (`clear`)."""
        left, top = self.offset
        view = into[top : top + self.inner[0], left : left + self.inner[1]]
        if frame.shape == view.shape:
            np.copyto(view, frame)
            return
        import cv2

        made = cv2.resize(frame, (self.inner[1], self.inner[0]), dst=view, interpolation=cv2.INTER_LINEAR)
        if made is not view:  # OpenCV would not write there
            np.copyto(view, made)

    def clear(self, into: Pixels) -> None:
        """Paint the border. Needed once for a buffer that only frames of this size are written to."""
        into[:] = GREY

    def to_frame(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes, float32 [n, 4], from the input's pixels to the frame's."""
        shift = np.array([*self.offset, *self.offset], np.float32)
        scale = np.array([*self.scale, *self.scale], np.float32)
        return ((xyxy - shift) / scale).astype(np.float32)


def use_one_thread() -> None:
    """Keep OpenCV from starting a thread pool of its own, which would fight with the engine's for the cores."""
    import cv2

    cv2.setNumThreads(1)

"""What may change before a camera: light, focus, noise, compression, position. Each at three strengths, and repeatable.

A change has the same effect on a picture of the same name every time. Boxes move with shift and rotation; of one that
leaves the picture by more than half nothing is labelled any more.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .dataset import Box

Matrix = NDArray[np.float64]  # [2, 3], from the picture's pixels to those of the changed one
STRENGTHS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Change:
    """A way to change a picture. amounts: one for each strength, in `unit`; towards: + or - by the picture's name."""

    name: str
    amounts: tuple[float, float, float]
    unit: str
    make: Callable[[Pixels, float, np.random.Generator], tuple[Pixels, Matrix | None]]

    def apply(self, pixels: Pixels, boxes: tuple[Box, ...], strength: int, name: str) -> tuple[Pixels, tuple[Box, ...]]:
        """The changed picture and its labels. strength: 1 to 3. name: the picture's, from which all chance comes."""
        rng = np.random.default_rng((zlib.crc32(name.encode()), zlib.crc32(self.name.encode())))
        changed, matrix = self.make(pixels, self.amounts[strength - 1], rng)
        return changed, boxes if matrix is None else _moved(boxes, matrix, pixels.shape[:2])

    def text(self, strength: int) -> str:
        """`20 grey levels`."""
        return f"{self.amounts[strength - 1]:g} {self.unit}"


def _brightness(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, None]:
    return _bytes(pixels.astype(np.float32) + amount * _sign(rng)), None


def _contrast(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, None]:
    """About the mean, so that the picture is as bright as it was."""
    mean = np.float32(pixels.mean())
    return _bytes((pixels - mean) * np.float32(amount / 100) + mean), None


def _blur(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, None]:
    import cv2

    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), amount), np.uint8), None


def _noise(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, None]:
    """The same on all three channels, as a monochrome sensor has it."""
    grain = rng.standard_normal((*pixels.shape[:2], 1), np.float32)
    return _bytes(pixels + np.float32(amount) * grain), None


def _jpeg(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, None]:
    import cv2

    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8), None


def _shift(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, Matrix]:
    """By whole pixels, in any direction."""
    far, angle = amount / 100 * max(pixels.shape[:2]), rng.uniform(0, 2 * math.pi)
    x, y = round(far * math.cos(angle)), round(far * math.sin(angle))
    return _warped(pixels, np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))


def _rotation(pixels: Pixels, amount: float, rng: np.random.Generator) -> tuple[Pixels, Matrix]:
    """About the middle, one way or the other."""
    import cv2

    middle = ((pixels.shape[1] - 1) / 2, (pixels.shape[0] - 1) / 2)
    return _warped(pixels, np.asarray(cv2.getRotationMatrix2D(middle, amount * _sign(rng), 1.0), float))


CHANGES = (
    Change("brightness", (20, 40, 60), "grey levels", _brightness),
    Change("contrast", (80, 60, 40), "% of it", _contrast),
    Change("blur", (0.8, 1.6, 2.4), "px (sigma)", _blur),
    Change("noise", (8, 16, 32), "grey levels (sigma)", _noise),
    Change("JPEG", (50, 25, 10), "quality", _jpeg),
    Change("shift", (1, 2, 4), "% of the longer side", _shift),
    Change("rotation", (1, 2, 5), "degrees", _rotation),
)


def _warped(pixels: Pixels, matrix: Matrix) -> tuple[Pixels, Matrix]:
    """The edge goes on as it ends."""
    import cv2

    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8), matrix


def _moved(boxes: tuple[Box, ...], matrix: Matrix, size: tuple[int, int]) -> tuple[Box, ...]:
    """The upright box around each moved one, within the picture of (height, width)."""
    moved = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x1, y2, 1], [x2, y2, 1]]) @ matrix.T
        low, high = corners.min(axis=0), corners.max(axis=0)
        inner = np.stack([low, high]).clip(0, (size[1], size[0]))
        if np.prod(inner[1] - inner[0]) >= 0.5 * np.prod(high - low):
            moved.append(Box(box.label, (*inner[0].tolist(), *inner[1].tolist())))
    return tuple(moved)


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _bytes(values: NDArray[np.float32]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)

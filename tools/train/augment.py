"""Pictures as the line might also have taken them: turned, moved, darker, softer, noisier; and more defects.

Every change is drawn from a generator that the caller seeds with epoch and picture, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.preprocess import GREY
from edge_inspector.types import Pixels

from .targets import visible

Boxes = NDArray[np.float32]  # [n, 5]: x1, y1, x2, y2, class
FOCUS = 0.7  # of the pieces of a large picture are cut around a defect
LEAST_LEFT = 0.15  # of a defect that a mosaic cuts off: a piece of rust is rust
INVERTED = 0.3  # of the pictures, where classes have opposites
Look = Callable[[np.random.Generator], tuple[Pixels, Boxes]]  # draws another picture of the training part


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How much of each. turns: flips and quarter turns (0 or 1). zoom, shift: shares; angle: degrees; light, contrast:
    shares of the whole range; blur, noise, paste, synthetic: how often, of one; noise_levels: grey levels. heal: how
    many of the defects give way to what the flawless twin shows. strokes: how often the lines of a black-and-white
    picture become thicker or thinner; with it, every picture stays black and white when zoomed. mosaic: how often four
    pictures are put together as one, with smaller defects.
    """

    turns: float = 1.0
    zoom: float = 0.1
    shift: float = 0.05
    angle: float = 0.0
    light: float = 0.1
    contrast: float = 0.2
    blur: float = 0.1
    noise: float = 0.2
    noise_levels: float = 8.0
    paste: float = 0.0
    synthetic: float = 0.0
    heal: float = 0.0
    strokes: float = 0.0
    mosaic: float = 0.0

    def apply(
        self,
        pixels: Pixels,
        boxes: Boxes,
        size: tuple[int, int],
        random: np.random.Generator,
        another: Look,
        twin: Pixels | None = None,
        opposites: tuple[int, ...] = (),
    ) -> tuple[Pixels, Boxes]:
        """One of the pictures it might have been, uint8 of (height, width): a piece where `pixels` is larger.

        twin: the same part without defects. opposites: what each class turns into when black and white change places.
        """
        if random.random() < self.mosaic:
            pixels, boxes = mosaic([(pixels, boxes), *(another(random) for _ in range(3))], random)
            twin = None
        middles = np.asarray((boxes[:, :2] + boxes[:, 2:4]) / 2, np.float32)
        if self.heal and twin is not None:
            pixels, boxes = healed(pixels, boxes, twin, random.random(len(boxes)) < self.heal)
        if random.random() < self.paste:
            pixels, boxes = paste(pixels, boxes, *another(random), random)
        if random.random() < self.synthetic and len(boxes):
            pixels, boxes = draw_like(pixels, boxes, random)
        if opposites and random.random() < INVERTED:
            pixels = 255 - pixels
            boxes = np.concatenate((boxes[:, :4], np.array(opposites, np.float32)[boxes[:, 4:].astype(int)]), axis=1)
        pixels, boxes = self._place(pixels, boxes, size, random, middles)
        if self.strokes:
            pixels = self._draw_again(pixels, random)
        if self.turns and random.random() < 0.5:
            pixels, boxes = pixels[:, ::-1], _mirrored(boxes, size[1])
        if self.turns and size[0] == size[1] and random.random() < 0.5:
            pixels, boxes = pixels.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2, 4]]
        if self.turns and random.random() < 0.5:
            pixels, boxes = pixels[::-1], _mirrored(boxes[:, [1, 0, 3, 2, 4]], size[0])[:, [1, 0, 3, 2, 4]]
        return self._expose(np.ascontiguousarray(pixels), random), boxes

    def _place(
        self,
        pixels: Pixels,
        boxes: Boxes,
        size: tuple[int, int],
        random: np.random.Generator,
        middles: NDArray[np.float32],
    ) -> tuple[Pixels, Boxes]:
        """Zoom, turn and move, or where none is asked for just cut a piece; mostly around one of the `middles`."""
        height, width = pixels.shape[:2]
        whole, piece = np.array((width, height)), np.array((size[1], size[0]))
        zoom = float(np.exp(random.uniform(-self.zoom, self.zoom)))
        low = (whole * (1 - zoom) / 2).clip(0)  # so much is empty at the edges
        low = np.where(whole - 2 * low < piece, 0, low)
        corner = low + random.uniform(0, 1, 2) * (whole - piece - 2 * low)
        if len(middles) and (whole > piece).all() and random.random() < FOCUS:
            middle = (middles[random.integers(len(middles))] - whole / 2) * zoom + whole / 2
            corner = (middle - random.uniform(0.1, 0.9, 2) * piece).clip(low, whole - piece - low)
        if not (self.zoom or self.shift or self.angle) and (whole >= piece).all():
            x, y = corner.astype(int)
            return pixels[y : y + size[0], x : x + size[1]], boxes - np.array([x, y, x, y, 0], np.float32)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-self.angle, self.angle), zoom)
        matrix[:, 2] += random.uniform(-self.shift, self.shift, 2) * piece - corner
        made = cv2.warpAffine(pixels, matrix, (size[1], size[0]), borderValue=(GREY,) * 3)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ matrix[:, :2].T + matrix[:, 2]
        placed = np.concatenate((corners.min(axis=1), corners.max(axis=1), boxes[:, 4:]), axis=1)
        return np.asarray(made, np.uint8).reshape(*size, -1), placed.astype(np.float32)

    def _draw_again(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Black and white, with thicker or thinner lines."""
        level = 128.0
        if random.random() < self.strokes:
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.5, 1.5)), np.uint8)
            level = random.uniform(72, 184)
        return np.asarray((pixels.reshape(*pixels.shape[:2], -1) > level) * np.uint8(255), np.uint8)

    def _expose(self, pixels: Pixels, random: np.random.Generator) -> Pixels:
        """Light, lens and sensor."""
        gain, lift = 1 + random.uniform(-self.contrast, self.contrast), 255 * random.uniform(-self.light, self.light)
        table = ((np.arange(256) - 128.0) * gain + 128 + lift).clip(0, 255).astype(np.uint8)
        made = cv2.LUT(pixels, table)
        if random.random() < self.blur:
            made = cv2.GaussianBlur(made, (0, 0), random.uniform(0.4, 1.2))
        if random.random() < self.noise:
            levels = random.uniform(0, self.noise_levels)
            grain = random.standard_normal(pixels.shape[:2], np.float32)[..., None] * levels
            made = (made.reshape(pixels.shape) + grain).clip(0, 255).astype(np.uint8)
        return np.asarray(made, np.uint8).reshape(pixels.shape)


def healed(pixels: Pixels, boxes: Boxes, twin: Pixels, chosen: NDArray[np.bool_]) -> tuple[Pixels, Boxes]:
    """Without the chosen defects, except those that share a place with one that stays."""
    made, stay = pixels.copy(), ~chosen
    corners = [tuple(int(value) for value in box[:4].round().clip(0)) for box in boxes]
    while more := [n for n in np.flatnonzero(~stay) if _touch(corners[n], boxes[stay])]:
        stay[more] = True  # and with it what shares a place with it
    for n in np.flatnonzero(~stay):
        x1, y1, x2, y2 = corners[n]
        made[y1:y2, x1:x2] = twin[y1:y2, x1:x2]
    return made, boxes[stay]


def mosaic(four: list[tuple[Pixels, Boxes]], random: np.random.Generator) -> tuple[Pixels, Boxes]:
    """One picture of four, smaller or cut off (Bochkovskiy et al. 2020, arXiv 2004.10934), as large as each was."""
    height, width = four[0][0].shape[:2]
    middle_x, middle_y = (int(side * random.uniform(0.3, 0.7)) for side in (width, height))
    made, found = np.empty_like(four[0][0]), []
    for n, (pixels, boxes) in enumerate(four):
        x1, x2 = ((0, middle_x), (middle_x, width))[n % 2]
        y1, y2 = ((0, middle_y), (middle_y, height))[n // 2]
        wide, high = x2 - x1, y2 - y1
        scale = random.uniform(max(wide / width, high / height), 1)
        small = cv2.resize(pixels, (max(wide, round(width * scale)), max(high, round(height * scale))))
        x, y = (int(random.integers(0, more + 1)) for more in (small.shape[1] - wide, small.shape[0] - high))
        made[y1:y2, x1:x2] = small.reshape(*small.shape[:2], -1)[y : y + high, x : x + wide]
        placed = boxes * np.array([scale] * 4 + [1], np.float32) - np.array([x, y, x, y, 0], np.float32)
        found.append(visible(placed, (high, wide), LEAST_LEFT) + np.array([x1, y1, x1, y1, 0], np.float32))
    return made, np.concatenate(found)


def paste(
    pixels: Pixels, boxes: Boxes, other: Pixels, others: Boxes, random: np.random.Generator
) -> tuple[Pixels, Boxes]:
    """A defect of another picture, with a soft rim, at a place where there is none (Ghiasi et al. 2021)."""
    if not len(others):
        return pixels, boxes
    x1, y1, x2, y2, label = (int(value) for value in others[random.integers(len(others))].round())
    piece = other[max(y1, 0) : y2, max(x1, 0) : x2]
    high, wide = piece.shape[:2]
    height, width = pixels.shape[:2]
    if min(high, wide) < 4 or high >= height or wide >= width:
        return pixels, boxes
    for _ in range(5):
        x, y = int(random.integers(0, width - wide)), int(random.integers(0, height - high))
        if not _touch((x, y, x + wide, y + high), boxes):
            break
    else:
        return pixels, boxes
    rim = 0.12
    across, down = (np.minimum(np.linspace(0, 1, n), np.linspace(1, 0, n)) / rim for n in (wide, high))
    mask = np.minimum(down[:, None], across[None]).clip(0, 1)[..., None]
    made = pixels.copy()
    under = made[y : y + high, x : x + wide]
    under[:] = (mask * piece + (1 - mask) * under).astype(np.uint8)
    return made, np.concatenate((boxes, np.array([[x, y, x + wide, y + high, label]], np.float32)))


def draw_like(pixels: Pixels, boxes: Boxes, random: np.random.Generator) -> tuple[Pixels, Boxes]:
    """A synthetic defect: a labelled one's own texture, stretched and turned, drawn as another of its class."""
    x1, y1, x2, y2, label = (int(value) for value in boxes[random.integers(len(boxes))].round())
    piece = pixels[max(y1, 0) : y2, max(x1, 0) : x2]
    if min(piece.shape[:2]) < 4:
        return pixels, boxes
    high, wide = (max(4, int(n * random.uniform(0.6, 1.6))) for n in piece.shape[:2])
    made = np.asarray(cv2.resize(piece, (wide, high)), np.uint8).reshape(high, wide, -1)
    made = made[:: random.choice((-1, 1)), :: random.choice((-1, 1))]
    whole = np.array([[0, 0, wide, high, label]], np.float32)
    return paste(pixels, boxes, np.ascontiguousarray(made), whole, random)


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    made = boxes.copy()
    made[:, 0], made[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return made


def _touch(box: tuple[int, ...], boxes: Boxes) -> bool:
    return bool(
        ((boxes[:, 0] < box[2]) & (boxes[:, 2] > box[0]) & (boxes[:, 1] < box[3]) & (boxes[:, 3] > box[1])).any()
    )

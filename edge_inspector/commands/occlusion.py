"""What an engine's answer depends on, measured: cover place after place, and see what is left of what it said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import Answer
from ..models.answers import detections_of, rows_of_answer
from ..models.folder import ModelTables
from ..preprocess import Letterbox
from ..runners.base import Runner
from ..types import Detections, Pixels
from .agreement import LEAST_IOU, iou

Array = NDArray[np.float32]
Progress = Callable[[int, int, float], None]  # how many of how many patches of which width, in pixels of the picture
PLACES = 4  # along the longer side of the picture, at first
DIVISIONS = 3  # how often a place that costs something is divided in four
COSTS = 0.05  # of a score: where less than this is lost, nobody looks closer
KEEPS = 0.5  # of what a place costs: where none of its four parts costs as much, they count together only
LEAST_SCORE = 0.01  # where nothing reaches the floor, the likeliest detection from this on is explained


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that an engine says of a picture. box_px: x1, y1, x2, y2 in the picture.

    lost: how much of `score` a patch takes away at the place that costs most, at_px; patch_px: how wide it is there.
    """

    label: str
    score: float
    box_px: tuple[float, float, float, float]
    lost: float = 0.0
    at_px: tuple[float, float] = (0.0, 0.0)
    patch_px: float = 0.0


class Claims:
    """What an engine said of a picture (`first`), and how much of that it still says in another answer.

    A detector's detections from the floor on, else its likeliest; a classifier's likeliest defect from the floor on,
    else its good classes.
    """

    def __init__(self, tables: ModelTables, answer: Answer, fit: Letterbox, size: tuple[int, int],
                 frame: tuple[int, int], *, floor: float) -> None:  # fmt: skip
        """size, frame: (height, width) of the engine's input and of the picture."""
        found = detections_of(tables, answer, fit, size, floor=floor, frame=frame)
        if not len(found) and tables.task == "detect":
            found = detections_of(tables, answer, fit, size, floor=LEAST_SCORE, frame=frame)
            found = Detections(found.xyxy[:1], found.score[:1], found.label[:1])
        self._tables, self._fit, self._size, self._found = tables, fit, size, found
        self._classes: list[int] = []
        names = [tables.labels[n] for n in found.label]
        scores, boxes = found.score.tolist(), [(row[0], row[1], row[2], row[3]) for row in found.xyxy.tolist()]
        if tables.task == "classify":
            good = [n for n, name in enumerate(tables.labels) if name in tables.good]
            self._classes = [int(found.label[0])] if len(found) else good or [int(answer[0].argmax())]
            names = [" or ".join(tables.labels[n] for n in self._classes)]
            scores, boxes = self.scores(answer).tolist(), [(0.0, 0.0, float(frame[1]), float(frame[0]))]
        self.first = tuple(Claim(*each) for each in zip(names, scores, boxes, strict=True))

    def scores(self, answer: Answer) -> Array:
        """float32 [n]: of a classifier the probability, of a detection the best score of its class at an IoU of 0.5."""
        if self._classes:
            return np.array([answer[0][self._classes].sum()], np.float32)
        rows = rows_of_answer(self._tables, answer, self._size, floor=LEAST_SCORE)
        boxes, scores = self._fit.to_frame(rows[:, :4]), np.zeros(len(self._found), np.float32)
        for n, (box, label) in enumerate(zip(self._found.xyxy, self._found.label, strict=True)):
            scores[n] = rows[(rows[:, 5] == label) & (iou(box, boxes) >= LEAST_IOU), 4].max(initial=0.0)
        return scores


class Occlusion:
    """Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2, from coarse to fine: a place that costs something is
    divided in four, and its parts count in its stead where one of those that its patch reached costs half as much.

    The patch has the mean colour of the picture and soft edges: a hard edge is a thing that engines see. It covers its
    place, and fades out within half a place around it.
    """

    def __init__(self, runner: Runner, pixels: Pixels, fit: Letterbox, claims: Claims) -> None:
        """pixels: the picture as it lies in the engine's input."""
        (left, top), (high, wide) = fit.offset, fit.inner
        self._runner, self._pixels, self._fit, self._claims = runner, pixels, fit, claims
        self._inner = np.s_[top : top + high, left : left + wide]
        self._colour = pixels[self._inner].mean(axis=(0, 1))
        side = max(fit.inner) / PLACES
        self._grid = (max(1, round(high / side)), max(1, round(wide / side)))

    def measure(self, progress: Progress) -> tuple[tuple[Claim, ...], Array]:
        """The claims with what each of them loses; and what is lost at each place of a grid over the picture, float32
        [h, w], of the claim that loses most there. Raises EngineFault.
        """
        wanted = np.array([claim.score for claim in self._claims.first], np.float32)
        lost = np.zeros((*self._grid, len(wanted)), np.float32)
        if not len(wanted):
            return (), lost.sum(axis=2)
        places = list(np.ndindex(self._grid))
        lost[:] = self._look(places, wanted, progress, division=0).reshape(lost.shape)
        division, level = 0, np.zeros(lost.shape, int)
        closer = np.ones(lost.shape, bool)  # a place that its parts did not replace is not divided again
        for division in range(1, DIVISIONS + 1):
            parents = np.argwhere((closer & (lost >= COSTS * wanted)).any(axis=2)) * 2
            lost, level, closer = (each.repeat(2, axis=0).repeat(2, axis=1) for each in (lost, level, closer))
            places = [(int(y) + n // 2, int(x) + n % 2) for y, x in parents for n in range(4)]
            parts = self._look(places, wanted, progress, division=division).reshape(-1, 2, 2, len(wanted))
            fine = np.zeros_like(lost)
            for (y, x), part in zip(parents, parts, strict=True):
                fine[y : y + 2, x : x + 2] = part
            around = np.pad(fine, ((1, 1), (1, 1), (0, 0)))  # the patch reached half a place, one part, further
            for y, x in parents:
                four, most = np.s_[y : y + 2, x : x + 2], around[y : y + 4, x : x + 4].max(axis=(0, 1))
                closer[four] &= most >= KEEPS * lost[four]
                lost[four] = np.where(closer[four], fine[four], lost[four])
                level[four][closer[four]] = division
        told = (self._told(n, lost[..., n], level[..., n]) for n in range(len(wanted)))
        return tuple(told), lost.max(axis=2)

    def _told(self, n: int, lost: Array, level: NDArray[np.int_]) -> Claim:
        """A claim with the place that costs most; of several that cost alike, the middle of most."""
        import cv2

        alike = np.pad((lost >= lost.max() - 0.01).astype(np.uint8), 1)
        y, x = np.unravel_index(int(cv2.distanceTransform(alike, cv2.DIST_C, 3)[1:-1, 1:-1].argmax()), lost.shape)
        high, wide = (side / scale for side, scale in zip(self._fit.inner, self._fit.scale[::-1], strict=True))
        at = ((float(x) + 0.5) * wide / lost.shape[1], (float(y) + 0.5) * high / lost.shape[0])
        width = self._patch_px(int(level[y, x]))
        return dataclasses.replace(self._claims.first[n], lost=float(lost[y, x]), at_px=at, patch_px=width)

    def _patch_px(self, division: int) -> float:
        """How wide a patch is to where it is half faded, in pixels of the picture: a place and a half."""
        return float(1.5 * self._fit.inner[1] / self._fit.scale[0] / (self._grid[1] * 2**division))

    def _look(self, places: Sequence[tuple[int, ...]], wanted: Array, progress: Progress, *, division: int) -> Array:
        """What is lost at places of the grid after so many divisions, float32 [places, claims], 0 or more."""
        lost = np.zeros((len(places), len(wanted)), np.float32)
        for n, answer in enumerate(self._answers(places, division)):
            lost[n] = (wanted - self._claims.scores(answer)).clip(0)
            progress(n + 1, len(places), self._patch_px(division))
        return lost

    def _answers(self, places: Sequence[tuple[int, ...]], division: int) -> Iterator[Answer]:
        """As many places as the runner has lanes are in work at a time."""
        lanes = len(self._runner.inputs)
        for n in range(len(places) + lanes):
            if n >= lanes and n - lanes < len(places):
                yield self._runner.collect((n - lanes) % lanes)
            if n < len(places):
                self._cover(places[n], division, self._runner.inputs[n % lanes])
                self._runner.submit(n % lanes)

    def _cover(self, place: tuple[int, ...], division: int, into: Pixels) -> None:
        """Write the picture with one place covered."""
        np.copyto(into, self._pixels)
        view = into[self._inner]
        bands = [
            _band(at, count * 2**division, side)
            for at, count, side in zip(place, self._grid, view.shape[:2], strict=True)
        ]
        (rows, down), (columns, across) = bands
        opaque = (down[:, None] * across)[..., None]
        part = view[rows, columns]
        part[:] = part + opaque * (self._colour - part)


def _band(at: int, count: int, side: int) -> tuple[slice, NDArray[np.float64]]:
    """Where the patch over one of `count` places along a side covers it, and how much: 1 within, 0 half a place off."""
    width = side / count
    first, last = max(0, int((at - 0.5) * width)), min(side, int((at + 1.5) * width) + 1)
    off = np.abs(np.arange(first, last) + 0.5 - (at + 0.5) * width) / width  # 0.5 at the edge of the place
    return slice(first, last), (2.0 - 2.0 * off).clip(0.0, 1.0)

"""One picture at a time through an engine, outside the daemon: for calibrating, measuring and comparing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..cameras.replay import cut_off, decoded
from ..contract import Answer
from ..errors import CameraMissing
from ..models.answers import detections_of
from ..models.folder import ModelTables
from ..preprocess import Letterbox
from ..runners.base import Runner
from ..types import Detections, Pixels


class Looker:
    """Runs pictures of any size through a runner, resized as the daemon would."""

    def __init__(self, tables: ModelTables, runner: Runner) -> None:
        self._tables = tables
        self._runner = runner
        self._painted: Letterbox | None = None

    def answer(self, pixels: Pixels) -> tuple[Answer, Letterbox]:
        """The engine's raw outputs for uint8 [h, w, 3] BGR, copied, and how the picture lay in its input."""
        into = self._runner.inputs[0]
        fit = Letterbox.fit(pixels.shape[:2], into.shape[:2], keep_aspect=self._tables.resize == "letterbox")
        if fit != self._painted:
            fit.clear(into)
            self._painted = fit
        fit.apply(pixels, into)
        self._runner.submit(0)
        return tuple(np.array(output) for output in self._runner.collect(0)), fit

    def look(self, pixels: Pixels, *, floor: float) -> Detections:
        """What the engine finds with a score of `floor` or more, in the picture's pixels."""
        answer, fit = self.answer(pixels)
        size = self._runner.inputs[0].shape[:2]
        return detections_of(self._tables, answer, fit, size, floor=floor, frame=pixels.shape[:2])


def read_picture(path: Path) -> Pixels:
    """uint8 [h, w, 3] BGR. Raises CameraMissing where the file is no picture."""
    try:
        pixels = whole_picture(path.read_bytes())
    except OSError:
        pixels = None
    if pixels is None:
        raise CameraMissing(f"{path}: is not a whole picture that OpenCV can read")
    return pixels


def whole_picture(content: bytes) -> Pixels | None:
    """The picture in a file's bytes, uint8 [h, w, 3] BGR; None where it is none, or only a part of one."""
    import cv2

    try:
        return None if cut_off(content) else decoded(content, cv2)
    except cv2.error:
        return None

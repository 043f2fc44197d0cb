"""What one looks at while and after it learns: the curves of loss and figure, and what it finds in unseen pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge_inspector.types import Pixels

from .augment import Augment
from .data import DataSet
from .loop import Plan, Views, detections
from .model import Inspector

BLUE, ORANGE, GREY, BLACK = (180, 119, 31), (14, 127, 255), (225, 225, 225), (40, 40, 40)
SIDE, SHOWN, CERTAIN = 320, 12, 0.3


def draw_curves(log: list[dict[str, float]], name: str, into: Path) -> None:
    """Loss and figure over the epochs, each on a scale of its own."""
    canvas = np.full((420, 760, 3), 255, np.uint8)
    left, top, width, height = 60, 40, 640, 320
    for n in range(11):
        y = top + n * height // 10
        cv2.line(canvas, (left, y), (left + width, y), GREY, 1)
    losses, figures = ([entry[key] for entry in log] for key in ("loss", "figure"))
    most = max(losses)
    for values, scale, colour in ((losses, most, BLUE), (figures, 1.0, ORANGE)):
        points = [
            (left + n * width // max(1, len(values) - 1), round(top + height * (1 - max(0.0, value) / scale)))
            for n, value in enumerate(values)
        ]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, colour, 2, cv2.LINE_AA)
    _text(canvas, f"loss, 0 to {most:.2f} (last {losses[-1]:.3f})", (left, 24), BLUE)
    best = f"best {max(figures):.3f}" if any(figures) else "there is none"
    _text(canvas, f"{name} on the validation part, 0 to 1 ({best})", (left + 300, 24), ORANGE)
    _text(canvas, f"{len(log)} epochs", (left + width - 80, top + height + 30), BLACK)
    cv2.imwrite(str(into), canvas)


def draw_samples(data: DataSet, inspector: Inspector, into: Path) -> None:
    """Pictures of the validation part with what is labelled (blue) and what is found (orange, with its score)."""
    tiles = []
    for example in (data.part("validate") or data.part("train"))[:SHOWN]:
        pixels = np.repeat(data.read(example), 3 // data.channels, axis=2)
        with torch.no_grad():
            answer = inspector(torch.from_numpy(pixels)[None])[0].numpy()
        scale = SIDE / max(data.size)
        tile: Pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale), np.uint8)
        if data.good:
            found, label = int(answer.argmax()), int(example.shares.argmax())
            _text(tile, f"labelled {data.labels[label]}", (6, 16), BLUE)
            _text(tile, f"found {data.labels[found]} {answer[found]:.2f}", (6, 34), ORANGE)
        else:
            for *box, label in example.boxes:
                _box(tile, np.array(box) * scale, BLUE, data.labels[int(label)], below=True)
            for *box, score, label in detections(answer):
                if score >= CERTAIN:
                    _box(tile, np.array(box) * scale, ORANGE, f"{data.labels[int(label)]} {score:.2f}")
        framed = np.zeros((SIDE, SIDE + 4, 3), np.uint8)
        framed[: tile.shape[0], : tile.shape[1]] = tile
        tiles.append(framed)
    _write_grid(tiles, into)


def draw_views(data: DataSet, augment: Augment, plan: Plan, into: Path) -> None:
    """What it is shown: augmented pictures of the training part, as the loop draws them."""
    views = Views(data, data.part("train")[:SHOWN], augment=augment, plan=plan)
    tiles = []
    for n in range(len(views)):
        planes, _ = views[(0, n)]
        pixels = np.repeat(planes.transpose(1, 2, 0), 3 // data.channels, axis=2)
        tiles.append(np.asarray(cv2.resize(pixels, (SIDE + 4, SIDE)), np.uint8))
    _write_grid(tiles, into)


def _write_grid(tiles: list[Pixels], into: Path) -> None:
    rows = [tiles[n : n + 4] for n in range(0, len(tiles), 4)]
    blank = np.zeros((SIDE, SIDE + 4, 3), np.uint8)
    cv2.imwrite(str(into), np.vstack([np.hstack(row + [blank] * (4 - len(row))) for row in rows]))


def _box(
    canvas: Pixels, box: NDArray[np.float64], colour: tuple[int, int, int], text: str, *, below: bool = False
) -> None:
    x1, y1, x2, y2 = (int(value) for value in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1)
    _text(canvas, text, (x1, y2 + 11 if below else y1 - 3), colour, size=0.35)


def _text(canvas: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int], *, size: float = 0.45) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

"""Golden pictures that show nothing real: drawn shapes and noise, changed until the network is sure of each class.

An engine proves itself by pictures in which it surely finds every class. Those of a factory are its own affair and
must not travel with an engine, so the network paints some (activation maximisation, Erhan et al. 2009).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_inspector.models.golden import drawn

from .model import Inspector

STEPS, RATE, NOISE = 150, 12.0, 6.0  # steps; grey levels a step, and of the noise
SURE = 0.95
LARGEST, RIM = 128, 32  # px: of what is painted in a larger picture, and of what lies around it


def write_golden(inspector: Inspector, size: tuple[int, int], classes: int, into: Path) -> list[float]:
    """Write a PNG for each class of a classifier, or one or two in which a detector finds them all.

    Returns how sure the network is of each class in its picture, 0 to 1.
    """
    into.mkdir(parents=True, exist_ok=True)
    for former in into.glob("*.png"):
        former.unlink()
    side = (size[0], size[1]) if _is_classifier(inspector, size) else (min(size[0], LARGEST), min(size[1], LARGEST))
    background = next(iter(drawn(size, count=1))).mean(axis=2).astype(np.float32)
    painted = paint(inspector, background, side, classes)
    sure = [0.0] * classes
    for n, (picture, labels) in enumerate(_laid_out(background, painted)):
        pixels = np.repeat(picture[..., None], 3, axis=2)
        with torch.no_grad():
            says = _says(inspector, torch.from_numpy(pixels)[None])[0]
        for label in labels:
            sure[label] = float(says[label])
        cv2.imwrite(str(into / f"{n}.png"), picture)
    return sure


def paint(
    inspector: Inspector, background: NDArray[np.float32], side: tuple[int, int], classes: int
) -> NDArray[np.uint8]:
    """A piece for each class, uint8 [classes, height, width].

    Every step looks at it with other noise and before another piece of the background, so that what it shows does not
    hang on single grey levels: it must still be there in half precision, in INT8, and elsewhere in a picture.
    """
    draw = np.random.default_rng(0)
    rims = tuple(RIM if mine < whole else 0 for mine, whole in zip(side, background.shape, strict=True))
    middle = background[: side[0], : side[1]]
    pieces = torch.from_numpy(np.repeat(middle[None], classes, axis=0)).requires_grad_()
    optimiser = torch.optim.Adam([pieces], lr=RATE)
    for _ in range(STEPS):
        high, wide = (n + 2 * rim for n, rim in zip(side, rims, strict=True))
        y, x = (
            int(draw.integers(0, max(1, whole - n + 1)))
            for whole, n in zip(background.shape, (high, wide), strict=True)
        )
        around = torch.from_numpy(background[y : y + high, x : x + wide])
        shown = functional.pad(pieces, (rims[1], rims[1], rims[0], rims[0]))[:, : around.shape[0], : around.shape[1]]
        inner = functional.pad(torch.ones_like(pieces), (rims[1], rims[1], rims[0], rims[0]))
        inner = inner[:, : around.shape[0], : around.shape[1]]
        picture = shown + (1 - inner) * around
        noise = torch.from_numpy(draw.standard_normal(picture.shape, np.float32))
        score = _says(inspector, (picture + NOISE * noise).clamp(0, 255)[..., None].expand(-1, -1, -1, 3))
        mine = score.diagonal()
        if float(mine.detach().min()) > SURE:
            break
        optimiser.zero_grad()
        (-torch.log(mine.clamp(1e-6, 1.0)) * (mine.detach() < SURE)).sum().backward()  # type: ignore[no-untyped-call]
        assert pieces.grad is not None
        pieces.grad = torch.from_numpy(np.stack([cv2.GaussianBlur(each, (0, 0), 1.0) for each in pieces.grad.numpy()]))
        optimiser.step()
    return np.asarray(pieces.detach().clamp(0, 255).round().to(torch.uint8).numpy(), np.uint8)


def _laid_out(background: NDArray[np.float32], pieces: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], list[int]]]:
    """Pictures of the full size with as many pieces as fit, a rim between them, and which classes these are."""
    (height, width), (high, wide) = background.shape, pieces.shape[1:]
    places = [(0, 0)]
    if (high, wide) != (height, width):
        places = [(y, x) for y in range(RIM // 2, height - high + 1, high + RIM)
                  for x in range(RIM // 2, width - wide + 1, wide + RIM)] or places  # fmt: skip
    made = []
    for first in range(0, len(pieces), len(places)):
        picture, labels = background.astype(np.uint8), list(range(first, min(first + len(places), len(pieces))))
        for label, (y, x) in zip(labels, places, strict=False):
            picture[y : y + high, x : x + wide] = pieces[label]
        made.append((picture, labels))
    return made


def _says(inspector: Inspector, picture: Tensor) -> Tensor:
    """The highest score of every class in [n, height, width, 3]; float [n, classes]."""
    found = inspector.found(picture)
    return found if isinstance(found, Tensor) else found[0].amax((2, 3))


def _is_classifier(inspector: Inspector, size: tuple[int, int]) -> bool:
    with torch.no_grad():
        return isinstance(inspector.found(torch.zeros(1, *size, 3)), Tensor)

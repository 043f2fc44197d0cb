"""A compact one-stage detector without anchors: one class map and one box map, both a cell for 8x8 pixels.

After CenterNet (Zhou et al. 2019, arXiv 1904.07850), with distances to the four sides as in FCOS (Tian et al. 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE_PX = 8
BEST = 100


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU: the only brick. The normalisation melts into the convolution at export."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):
    """Two convolutions beside a short cut, half as wide in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2), conv(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] to the same."""
        return x + self.body(x)  # type: ignore[no-any-return]


class Net(nn.Module):
    """Grey picture in, float [n, 1, H, W], -0.5 to 0.5; H and W multiples of 32.

    Out: class logits [n, classes, H/8, W/8] and sides [n, 4, H/8, W/8], px from the cell's centre to left, top, right
    and bottom. Down to stride 32 for context, up again to stride 8, where the smallest defects are three cells wide.
    """

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.fine = nn.Sequential(conv(1, 16, 6, 2), conv(16, 32, 3, 2), conv(32, 64, 3, 2), Block(64))
        self.middle = nn.Sequential(conv(64, 96, 3, 2), Block(96), Block(96))
        self.coarse = nn.Sequential(conv(96, 128, 3, 2), Block(128), Block(128), conv(128, 96, 1))
        self.up_middle = conv(96, 64)
        self.up_fine = nn.Sequential(conv(64, 64), conv(64, 64))
        self.classes = nn.Conv2d(64, classes, 1)
        self.sides = nn.Conv2d(64, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)  # type: ignore[arg-type]  # at first nearly every cell says "nothing"

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and sides."""
        fine = self.fine(grey)
        middle = self.middle(fine)
        middle = middle + functional.interpolate(self.coarse(middle), scale_factor=2.0)
        found = self.up_fine(fine + functional.interpolate(self.up_middle(middle), scale_factor=2.0))
        sides = torch.exp(self.sides(found).float().clamp(-4, 4)) * 2 * STRIDE_PX
        return self.classes(found).float(), sides


class Inspector(nn.Module):
    """The network as an engine: bytes of a picture in, rows of boxes out. Everything in between is in the graph.

    In: uint8 [n, H, W, 3], BGR. Out: float32 [n, 100, 6]: x1, y1, x2, y2 in px, score, class; best score first.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Normalise, look, keep the peaks, take the best."""
        grey = image.float().mean(dim=3).unsqueeze(1) / 255.0 - 0.5
        logits, sides = self.net(grey)
        score = torch.sigmoid(logits)
        # A cell that is not the best of its 3x3 neighbours of the same class only repeats what a neighbour says.
        score = score * (functional.max_pool2d(score, 3, 1, 1) == score).float()
        columns = score.shape[3]
        cells = score.shape[2] * columns
        best, at = torch.topk(score.flatten(1), BEST, dim=1)
        cell = torch.remainder(at, cells)
        label = torch.div(at, cells, rounding_mode="floor").float()
        box = centres_to_boxes(sides).flatten(2).gather(2, cell.unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2)
        return torch.cat((box, best.unsqueeze(2), label.unsqueeze(2)), dim=2)


def centres_to_boxes(sides: Tensor) -> Tensor:
    """Sides [n, 4, h, w] to x1, y1, x2, y2 [n, 4, h, w], px."""
    rows, columns = sides.shape[2:]
    y = (torch.arange(rows, device=sides.device).float() + 0.5) * STRIDE_PX
    x = (torch.arange(columns, device=sides.device).float() + 0.5) * STRIDE_PX
    x, y = x.view(1, 1, 1, -1).expand(1, 1, rows, columns), y.view(1, 1, -1, 1).expand(1, 1, rows, columns)
    left, top, right, bottom = sides[:, 0:1], sides[:, 1:2], sides[:, 2:3], sides[:, 3:4]
    return torch.cat((x - left, y - top, x + right, y + bottom), dim=1)


def loss(logits: Tensor, boxes: Tensor, target: dict[str, Tensor]) -> Tensor:
    """Focal loss of the class map (CenterNet, equation 1) plus 1 - GIoU of the boxes near a defect's middle.

    target: `heat` [n, classes, h, w], 1 at a defect's middle and less around it; `box` [n, 4, h, w], px; `near`
    [n, h, w], how much a cell's box counts; `ignore` [n, h, w], 1 where nothing is asked.
    """
    heat, near = target["heat"], target["near"]
    middle = heat.eq(1.0).float()
    chance = torch.sigmoid(logits)
    hit = -functional.logsigmoid(logits) * (1 - chance) ** 2 * middle
    miss = -functional.logsigmoid(-logits) * chance**2 * (1 - heat) ** 4 * (1 - middle)
    classes = ((hit + miss) * (1 - target["ignore"]).unsqueeze(1)).sum() / middle.sum().clamp(min=1)
    sides = ((1 - overlap(boxes, target["box"])) * near).sum() / near.sum().clamp(min=1)
    return classes + 2.0 * sides


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes [n, 4, h, w], -1 to 1."""
    ax1, ay1, ax2, ay2 = a.unbind(1)
    bx1, by1, bx2, by2 = b.unbind(1)
    inner = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    inner = inner * (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inner
    hull = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)) * (torch.maximum(ay2, by2) - torch.minimum(ay1, by1))
    return inner / union.clamp(min=1e-3) - (hull - union) / hull.clamp(min=1e-3)

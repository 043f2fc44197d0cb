"""A compact one-stage detector without anchors: one class map and one box map, both a cell for 8x8 pixels.

After CenterNet (Zhou et al. 2019, arXiv 1904.07850), with distances to the four sides as in FCOS (Tian et al. 2019).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from .pretrained import FINE, MIDDLE, Pretrained

STRIDE_PX = 8
PRETRAINED = "pretrained"
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


# stem (each step halves the picture; a single one quarters it), stride 8, 16, 32, blocks at the last two; 0.4, 0.8 and
# 2.7 M parameters
SIZES: dict[str, tuple[tuple[int, ...], int, int, int, int]] = {
    "small": ((32,), 40, 80, 128, 1),
    "medium": ((16, 32), 64, 96, 128, 2),
    "large": ((24, 48), 96, 160, 256, 2),
    PRETRAINED: ((1,), 48, 80, 96, 2),
}


class Net(nn.Module):
    """Picture in, float [n, channels, H, W], -0.5 to 0.5; H and W multiples of 32.

    Out: class logits [n, classes, H/8, W/8] and sides [n, 4, H/8, W/8], px from the cell's centre to left, top, right
    and bottom. Down to stride 32 for context, up again to stride 8, where the smallest defects are three cells wide.
    """

    def __init__(self, classes: int = 6, *, channels: int = 1, size: str = "medium") -> None:
        super().__init__()
        stem, fine, middle, coarse, deep = SIZES[size]
        if size == PRETRAINED:
            self.eyes = Pretrained(channels=channels)
            self.fine, self.middle = conv(FINE, fine, 1), conv(MIDDLE, middle, 1)
        else:
            steps = [conv(channels, stem[0], 6, 4 if len(stem) == 1 else 2)]
            steps += [conv(a, b, 3, 2) for a, b in itertools.pairwise(stem)]
            self.fine = nn.Sequential(*steps, conv(stem[-1], fine, 3, 2), Block(fine))
            self.middle = nn.Sequential(conv(fine, middle, 3, 2), *(Block(middle) for _ in range(deep)))
        blocks = (Block(coarse) for _ in range(deep))
        self.coarse = nn.Sequential(conv(middle, coarse, 3, 2), *blocks, conv(coarse, middle, 1))
        self.up_middle = conv(middle, fine)
        self.up_fine = nn.Sequential(*(conv(fine, fine) for _ in stem))
        self.classes = nn.Conv2d(fine, classes, 1)
        self.sides = nn.Conv2d(fine, 4, 1)
        nn.init.constant_(self.classes.bias, -4.0)  # type: ignore[arg-type]  # at first nearly every cell says "nothing"

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and sides."""
        if hasattr(self, "eyes"):
            seen = self.eyes(picture)
            fine, middle = self.fine(seen[0]), self.middle(seen[1])
        else:
            fine = self.fine(picture)
            middle = self.middle(fine)
        middle = middle + functional.interpolate(self.coarse(middle), scale_factor=2.0)
        found = self.up_fine(fine + functional.interpolate(self.up_middle(middle), scale_factor=2.0))
        sides = torch.exp(self.sides(found).float().clamp(-4, 4)) * 2 * STRIDE_PX
        return self.classes(found).float(), sides


# channels after each halving; 0.7, 1.6 and 3.0 M parameters, 1.1 M after what was pretrained
WIDTHS = {"small": (16, 32, 64, 96, 128), "medium": (24, 48, 96, 128, 192), "large": (32, 64, 128, 192, 256),
          PRETRAINED: (MIDDLE, 128)}  # fmt: skip


class Classifier(nn.Module):
    """A compact residual network (He et al. 2016): picture in as `Net` has it, class logits [n, classes] out.

    The mean over all places tells of texture, the highest value of the one crack: the last layer sees both.
    """

    def __init__(self, classes: int, *, channels: int = 1, size: str = "medium") -> None:
        super().__init__()
        widths = WIDTHS[size]
        steps = []
        if size == PRETRAINED:
            self.eyes = Pretrained(channels=channels)
        else:
            steps.append(conv(channels, widths[0], 6, 2))
        for a, b in itertools.pairwise(widths):
            steps += [conv(a, b, 3, 2), nn.Sequential(Block(b), Block(b))]
        self.body = nn.Sequential(*steps)
        self.drop = nn.Dropout(0.2)
        self.classes = nn.Linear(2 * widths[-1], classes)

    def forward(self, picture: Tensor) -> Tensor:
        """Class logits."""
        if hasattr(self, "eyes"):
            picture = self.eyes(picture)[1]
        found = self.body(picture).float()
        return self.classes(self.drop(torch.cat((found.mean((2, 3)), found.amax((2, 3))), 1)))  # type: ignore[no-any-return]


class Inspector(nn.Module):
    """A network as an engine: bytes of a picture in, boxes or scores out. Everything in between is in the graph.

    In: uint8 [n, H, W, 3], BGR. Out, of a detector: float32 [n, 100, 6]: x1, y1, x2, y2 in px, score, class; best
    score first. Of a classifier: float32 [n, classes], each class's probability.
    """

    grey: Tensor

    def __init__(
        self, net: nn.Module, filters: nn.Module | None = None, *, channels: int = 1, mirrored: bool = False
    ) -> None:
        """filters: what is done to every picture first (filters.py). mirrored: a classifier looks at a square picture
        as it is, mirrored and turned, eight times, and answers with the mean.
        """
        super().__init__()
        self.net = net
        self.filters = filters or nn.Identity()
        self.channels = channels
        self.mirrored = mirrored
        # The mean of three channels, eight pixels at a time: a mean over so short an axis is slow on a processor.
        self.register_buffer("grey", torch.kron(torch.eye(8), torch.full((3, 1), 1 / 3)), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalise, filter, look, and answer."""
        found = self.found(image)
        return found if isinstance(found, Tensor) else best_rows(*found)

    def found(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The probability of each class; a detector's for each cell, and its sides."""
        floats = image.float()
        n, height, width, _ = image.shape
        if self.channels == 1:
            planes = (floats.reshape(n, height, width // 8, 24) @ self.grey).reshape(n, 1, height, width)
        else:
            planes = floats.permute(0, 3, 1, 2)
        picture = self.filters(planes / 255.0 - 0.5)
        if isinstance(self.net, Net):
            logits, sides = self.net(picture)
            return torch.sigmoid(logits), sides
        if self.mirrored:
            picture = torch.cat((picture, picture.flip(2)))
            picture = torch.cat((picture, picture.flip(3)))
            picture = torch.cat((picture, picture.transpose(2, 3)))
        logits = self.net(picture)
        return torch.softmax(logits, 1).reshape(-1, n, logits.shape[1]).mean(0)


def best_rows(score: Tensor, sides: Tensor) -> Tensor:
    """The peaks of the class maps as rows, float32 [n, 100, 6]: box in px, score, class; the best first."""
    # A cell that is not the best of its 3x3 neighbours of the same class only repeats what a neighbour says.
    score = score * (functional.max_pool2d(score, 3, 1, 1) == score).float()
    columns = score.shape[3]
    cells = score.shape[2] * columns
    best, at = torch.topk(score.flatten(1), min(BEST, int(score[0].numel())), dim=1)
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


def aligned_loss(logits: Tensor, boxes: Tensor, truth: Tensor, *, cells: int = 10) -> Tensor:
    """For defects that are areas, whose middle nobody can tell: which cells answer for one is learned as well.

    truth [n, m, 5]: x1, y1, x2, y2 in px and class, -1 where there is none. Task-aligned assignment (Feng et al. 2021,
    TOOD, arXiv 2108.07755): of the cells in a box those answer that score highest in sqrt(score) * IoU^6; what they
    should score is their IoU. Binary cross-entropy of the classes plus 1 - GIoU.
    """
    classes, rows, columns = logits.shape[1:]
    score, wanted = logits.detach().sigmoid().flatten(2), truth[..., 4].long().clamp(min=0)
    x1, y1, x2, y2 = (truth[..., k, None] for k in range(4))
    middle = centres_to_boxes(torch.zeros(1, 4, rows, columns, device=logits.device))[0].flatten(1)
    x, y = middle[0], middle[1]
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2) & (truth[..., 4:] >= 0)  # [n, m, cells]
    flat = boxes.flatten(2)
    iou = intersection(flat.detach().unsqueeze(1), truth[..., :4].unsqueeze(3)).clamp(min=0) * inside
    fit = score.gather(1, wanted.unsqueeze(2).expand(-1, -1, rows * columns)).sqrt() * iou**6
    best = torch.zeros_like(fit).scatter_(2, fit.topk(min(cells, fit.shape[2]), dim=2).indices, 1.0) * inside
    rival = (iou + 1e-6) * best
    chosen = best * (rival == rival.amax(1, keepdim=True))  # a cell answers for one defect only
    quality = (
        chosen * fit / (chosen * fit).amax(2, keepdim=True).clamp(min=1e-12) * (chosen * iou).amax(2, keepdim=True)
    )
    named = functional.one_hot(wanted, classes).float()  # [n, m, classes]
    target = torch.einsum("nma,nmc->nca", quality, named)
    total = target.sum().clamp(min=1.0)
    says = functional.binary_cross_entropy_with_logits(logits.flatten(2), target, reduction="sum") / total
    weight, owner = quality.max(1)
    aim = truth[..., :4].gather(1, owner.unsqueeze(2).expand(-1, -1, 4)).transpose(1, 2)
    lies = ((1 - overlap(flat, aim)) * weight).sum() / total
    return says + 4.0 * lies


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes [..., 4, k], with broadcasting; 0 to 1."""
    low, high = torch.maximum(a[..., :2, :], b[..., :2, :]), torch.minimum(a[..., 2:, :], b[..., 2:, :])
    inner = (high - low).clamp(min=0).prod(-2)
    areas = [(each[..., 2:, :] - each[..., :2, :]).clamp(min=0).prod(-2) for each in (a, b)]
    return inner / (areas[0] + areas[1] - inner).clamp(min=1e-3)

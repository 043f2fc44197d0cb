"""Trains the detector in engines/boards on synthetic boards, drawn while it learns: no picture is seen twice.

    python -m tools.train.boards --out engines/boards --minutes 30 --seed 1

Plain PyTorch on the CPU: AdamW, cosine schedule over the wall clock, averaged weights (EMA). Then it exports.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from edge_inspector.cameras.boards import LABELS, Boards, Planted

from .export import export, golden
from .model import STRIDE_PX, Net, centres_to_boxes, loss

CROP_PX = 320
Target = dict[str, NDArray[np.float32]]


class Crops(IterableDataset[tuple[NDArray[np.uint8], Target]]):
    """An endless stream of 320x320 crops, four from each board, and what is to be found in them.

    Every 64 boards the layouts are thrown away and new ones are drawn, from a seed that no line and no test uses.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], Target]]:
        board = np.empty((640, 640, 3), np.uint8)
        for round_ in range(1 << 30):
            boards = Boards(1_000_000 * self._seed + 100 + round_, 0.95, defects=(3, 11), layouts=5)
            for number in range(64):
                planted = boards.draw(number, board)
                for y in (0, CROP_PX):
                    for x in (0, CROP_PX):
                        yield board[y : y + CROP_PX, x : x + CROP_PX, 0].copy(), target(planted, x, y)


def target(planted: tuple[Planted, ...], x0: int, y0: int) -> Target:
    """What the maps should say for the crop at (x0, y0); defects that are mostly outside of it are not asked for."""
    n = CROP_PX // STRIDE_PX
    maps = {
        "heat": np.zeros((len(LABELS), n, n), np.float32),
        "box": np.zeros((4, n, n), np.float32),
        "near": np.zeros((n, n), np.float32),
        "ignore": np.zeros((n, n), np.float32),
    }
    cell = np.arange(n)
    for defect in planted:
        whole = np.array(defect.box_px, float) - (x0, y0, x0, y0)
        box = whole.clip(0, CROP_PX)
        w, h = box[2] - box[0], box[3] - box[1]
        if w * h < 0.45 * (whole[2] - whole[0]) * (whole[3] - whole[1]):
            x1, y1, x2, y2 = (box // STRIDE_PX).astype(int)
            maps["ignore"][y1 : y2 + 1, x1 : x2 + 1] = w * h > 0
            continue
        column, row = int((box[0] + box[2]) / 2 / STRIDE_PX), int((box[1] + box[3]) / 2 / STRIDE_PX)
        column, row = min(column, n - 1), min(row, n - 1)
        spread = 0.13 / STRIDE_PX
        bell_x = np.exp(-0.5 * ((cell - column) / max(0.55, spread * w)) ** 2)
        bell_y = np.exp(-0.5 * ((cell - row) / max(0.55, spread * h)) ** 2)
        bell = (bell_y[:, None] * bell_x).astype(np.float32)
        heat = maps["heat"][LABELS.index(defect.label)]
        np.maximum(heat, bell, out=heat)
        mine = (bell > 0.15) & (bell > maps["near"])
        maps["near"][mine] = bell[mine]
        maps["box"][:, mine] = box[:, None]
    return maps


def train(seconds: float, seed: int, batch: int, peak_rate: float) -> Net:
    """Train for `seconds` of wall clock and return the averaged network, ready for use."""
    torch.manual_seed(seed)
    net = Net(len(LABELS))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(net)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}])
    batches = DataLoader(Crops(seed), batch, num_workers=1, prefetch_factor=4)
    begin, shown = time.monotonic(), 0.0
    for step, (crops, wanted) in enumerate(batches, start=1):
        share = (time.monotonic() - begin) / seconds
        if share >= 1.0:
            break
        rate = peak_rate * min(1.0, step / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        grey = (crops.unsqueeze(1).float() / 255.0 - 0.5).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits, sides = net(grey)
        value = loss(logits, centres_to_boxes(sides), wanted)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        blend(average, net, max(0.002, 20 / (step + 20)))
        shown = float(value.detach()) if step == 1 else 0.98 * shown + 0.02 * float(value.detach())
        if step % 50 == 0:
            print(f"step {step}  {100 * share:3.0f} %  loss {shown:.3f}  rate {rate:.5f}", flush=True)
    average.eval()
    return average


def blend(average: nn.Module, net: nn.Module, weight: float) -> None:
    """Move every weight and statistic of `average` towards `net` by `weight`."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now.to(mean.dtype), weight)


def main() -> None:
    """Train, export, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the engine's folder; model.onnx is written there")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=0.002, help="learning rate at its highest")
    args = parser.parse_args()
    net = train(args.minutes * 60, args.seed, args.batch, args.rate)
    args.out.mkdir(parents=True, exist_ok=True)
    export(net, args.out / "model.onnx")
    golden(args.out)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters -> {args.out / 'model.onnx'}")


if __name__ == "__main__":
    main()

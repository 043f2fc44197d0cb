"""Trains the detector in engines/boards on synthetic boards, drawn while it learns: no picture is seen twice.

    python -m tools.train.boards --out engines/boards --minutes 30 --seed 1

Plain PyTorch on the CPU: AdamW, cosine schedule over the wall clock, averaged weights (EMA). Then it exports.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from edge_inspector.cameras.boards import LABELS, Boards, Planted

from .export import export, golden
from .loop import blend
from .model import Inspector, Net, centres_to_boxes, loss
from .targets import Target, target_of

CROP_PX = 320


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


def target(planted: tuple[Planted, ...], x: int, y: int) -> Target:
    """What the maps should say for the crop at (x, y)."""
    boxes = [np.array(defect.box_px, np.float32) - (x, y, x, y) for defect in planted]
    rows = [(*box, LABELS.index(defect.label)) for box, defect in zip(boxes, planted, strict=True)]
    return target_of(np.array(rows, np.float32).reshape(-1, 5), classes=len(LABELS), size=(CROP_PX, CROP_PX))


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


def write_pictures(folder: Path, count: int, seed: int, good: float | None) -> None:
    """Boards as pictures with a COCO file, to be learned from beside real ones; or, with a share of good ones, to
    measure an engine with: as a line shows them, one to four defects on a bad one.
    """
    boards = Boards(1_000_000 * seed + 50, 0.9, defects=(3, 11), layouts=64)
    if good is not None:
        boards = Boards(seed, 1 - good, layouts=64)
    image = np.empty((640, 640, 3), np.uint8)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, count + 1):
        planted, name = boards.draw(number, image), f"images/drawn-{number:05d}.png"
        cv2.imwrite(str(folder / name), image[:, :, 0], [cv2.IMWRITE_PNG_BILEVEL, 1])
        images.append({"id": number, "file_name": name, "width": 640, "height": 640})
        for defect in planted:
            x1, y1, x2, y2 = map(int, defect.box_px)
            box = {
                "image_id": number,
                "category_id": LABELS.index(defect.label) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            annotations.append({"id": len(annotations) + 1, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, **box})
    categories = [{"id": n, "name": name} for n, name in enumerate(LABELS, start=1)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(coco))


def main() -> None:
    """Train, export, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the engine's folder; model.onnx is written there")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=0.002, help="learning rate at its highest")
    parser.add_argument("--pictures", type=int, metavar="N", help="do not train, but write so many pictures to --out")
    parser.add_argument("--good", type=float, metavar="SHARE", help="of those pictures, without defects: as on a line")
    args = parser.parse_args()
    if args.pictures:
        write_pictures(args.out, args.pictures, args.seed, args.good)
        return
    net = train(args.minutes * 60, args.seed, args.batch, args.rate)
    args.out.mkdir(parents=True, exist_ok=True)
    image = np.empty((640, 640, 3), np.uint8)
    Boards(7, 1.0).draw(1, image)
    export(Inspector(net), args.out / "model.onnx", image)
    golden(args.out)
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters -> {args.out / 'model.onnx'}")


if __name__ == "__main__":
    main()

"""The training loop: AdamW, a cosine schedule, averaged weights, a checkpoint after every epoch, an early end.

Everything random is drawn from seed, epoch and picture, so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import itertools
import math
import os
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from edge_inspector.commands.agreement import Rows, average_precision, iou
from edge_inspector.commands.terminal import Block, bar
from edge_inspector.errors import ConfigError
from edge_inspector.nms import suppress

from .augment import Augment
from .data import DataSet, Example
from .model import Inspector, aligned_loss, centres_to_boxes, loss
from .targets import target_of, visible

NMS_IOU = 0.5
LEAST_SCORE = 0.01
KEPT_BYTES = 1e9  # in each of the processes that prepare pictures
LATE = 0.85  # of the epochs; after it no mosaics, which no camera takes (as in YOLOX, Ge et al. 2021)
SLOW = 0.2  # of the rate, for what was trained before
LAST, BEST, LOG = "last.pt", "best.pt", "log.csv"
COLUMNS = ("epoch", "loss", "figure", "rate", "seconds")

Item = tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast. rate: the highest learning rate. patience: epochs without a better figure, then it ends.

    crop_px: it learns from squares of this side, 0: from whole pictures. areas: the defects are areas without a clear
    middle, and the network finds out itself where it tells them best.
    """

    epochs: int = 60
    batch: int = 16
    rate: float = 0.002
    crop_px: int = 0
    areas: bool = False
    patience: int = 20
    seed: int = 1


class Views(Dataset[Item]):
    """Augmented pictures with what the network should say of them; asked for by (epoch, number)."""

    def __init__(self, data: DataSet, examples: list[Example], *, augment: Augment, plan: Plan) -> None:
        self._data, self._examples, self._augment, self._plan = data, examples, augment, plan
        self._most = max((len(example.boxes) for example in examples), default=0) + 2
        if augment.mosaic:
            self._most *= 4
        self._kept: dict[tuple[int, bool], NDArray[np.uint8]] = {}
        self._size = (plan.crop_px, plan.crop_px) if plan.crop_px else data.size

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, key: tuple[int, int]) -> Item:  # type: ignore[override]
        epoch, number = key
        example, draw = self._examples[number], np.random.default_rng((self._plan.seed, epoch, number))
        twin = self._read(number, twin=True) if self._augment.heal and example.twin else None
        late = epoch >= LATE * self._plan.epochs
        augment = dataclasses.replace(self._augment, mosaic=0) if late else self._augment
        pixels, boxes = augment.apply(
            self._read(number), example.boxes, self._size, draw, another=self._another, twin=twin,
            opposites=self._data.opposites,
        )  # fmt: skip
        if self._data.good:
            target = {"shares": example.shares}
        elif self._plan.areas:
            target = {"truth": np.full((self._most, 5), -1, np.float32)}
            seen = visible(boxes, self._size)[: self._most]
            target["truth"][: len(seen)] = seen
        else:
            target = target_of(boxes, classes=len(self._data.labels), size=self._size)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), target

    def _another(self, draw: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        number = int(draw.integers(len(self._examples)))
        return self._read(number), self._examples[number].boxes

    def _read(self, number: int, *, twin: bool = False) -> NDArray[np.uint8]:
        """Decoded once, as far as memory allows."""
        pixels = self._kept.get((number, twin))
        if pixels is None:
            pixels = self._data.read(self._examples[number], twin=twin)
            if pixels.nbytes * len(self._kept) < KEPT_BYTES:
                self._kept[number, twin] = pixels
        return pixels


class Order:
    """Batches of (epoch, number), from `epoch` on; shuffled by seed and epoch."""

    def __init__(self, count: int, plan: Plan, *, epoch: int) -> None:
        self._count, self._plan, self._epoch = count, plan, epoch
        self.steps = max(1, count // plan.batch)

    def __len__(self) -> int:
        return self.steps * (self._plan.epochs - self._epoch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self._epoch, self._plan.epochs):
            numbers = np.random.default_rng((self._plan.seed, epoch)).permutation(self._count)
            for step in range(self.steps):
                yield [(epoch, int(n)) for n in numbers[step * self._plan.batch : (step + 1) * self._plan.batch]]


def train(data: DataSet, net: nn.Module, filters: nn.Module, run: Path, *, augment: Augment, plan: Plan) -> nn.Module:
    """Train, or go on where `run` was left; returns the averaged network of the last epoch, on the CPU, or where it was
    ended early that of the best: at a high rate the best of many epochs is mostly the luckiest.

    The figure is AP50 for a detector and accuracy for a classifier, on the validation part; without one it is always 0.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(plan.seed)
    net, filters = net.to(device, memory_format=torch.channels_last), filters.to(device)  # type: ignore[call-overload]
    average, optimiser = copy.deepcopy(net), _optimiser(net)
    state = _load(run / LAST, device)
    log: list[dict[str, float]] = state["log"] if state else []
    learn, judged = data.part("train"), data.part("validate")
    order = Order(len(learn), plan, epoch=len(log))
    views = Views(data, learn, augment=augment, plan=plan)
    batches = iter(DataLoader(views, batch_sampler=order, num_workers=min(8, (os.cpu_count() or 1) - 1)))  # type: ignore[arg-type]
    scaler = torch.amp.GradScaler(enabled=device.type == "cuda")
    if state:
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"].cpu())  # after the loader has drawn from it
    block, started_s, begun = Block(sys.stderr), time.monotonic(), len(log)
    for epoch in range(len(log), plan.epochs):
        if _is_over(log, plan):
            break
        net.train()
        epoch_s, total = time.monotonic(), 0.0
        for n in range(order.steps):
            pixels, target = next(batches)
            step = epoch * order.steps + n
            rate = _rate(step, plan.epochs * order.steps, plan.rate)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            planes = filters(pixels.to(device).float() / 255.0 - 0.5)
            planes = planes.contiguous(memory_format=torch.channels_last)
            with _half(device):
                found = net(planes)
            value = _loss(found, {key: each.to(device) for key, each in target.items()})
            if not math.isfinite(float(value.detach())):
                raise ArithmeticError(
                    f"epoch {epoch + 1}: the loss is no number; try a lower --rate than {plan.rate:g}"
                )
            optimiser.zero_grad()
            scaler.scale(value).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            scaler.step(optimiser)
            scaler.update()
            blend(average, net, max(0.002, 20 / (step + 21)))
            total += float(value.detach())
            done = (epoch - begun) * order.steps + n + 1
            left_s = (time.monotonic() - started_s) / done * (len(order) - done)
            block.show([f"{bar(step + 1, plan.epochs * order.steps)} epoch {epoch + 1} of {plan.epochs}  "
                        f"loss {total / (n + 1):.3f}  {_clock(left_s)} left"])  # fmt: skip
        mean = total / order.steps
        figure = measure(data, judged, Inspector(average, filters, channels=data.channels)) if judged else 0.0
        log.append(dict(zip(COLUMNS, (epoch + 1, mean, figure, rate, time.monotonic() - epoch_s), strict=True)))
        kept = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        if figure >= max(entry["figure"] for entry in log):
            _save(average.state_dict(), run / BEST)  # first: killed here, it does the same epoch again
        _save({**kept, "scaler": scaler.state_dict(), "random": torch.get_rng_state(), "log": log}, run / LAST)
        _write_log(log, run / LOG)
        told = f"  {'accuracy' if data.good else 'AP50'} {figure:.4f}" if judged else ""
        print(f"epoch {epoch + 1}: loss {mean:.4f}{told}", flush=True)
    if len(log) < plan.epochs:
        average.load_state_dict(torch.load(run / BEST, map_location=device, weights_only=True))
    _save(average.state_dict(), run / BEST)
    return average.cpu().eval()


def begin_with(files: Sequence[Path], net: nn.Module) -> None:
    """Take the weights of former runs; of several, where each began with another, the mean (Wortsman et al. 2022).

    arXiv 2203.05482. Raises ConfigError where they are of another network or other classes.
    """
    states = []
    for path in files:
        try:
            net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise ConfigError(
                f"--start {path}: does not fit this network: {str(error).splitlines()[-1].strip()}"
            ) from None
        states.append(copy.deepcopy(net.state_dict()))
    for name, value in net.state_dict().items():
        if value.dtype.is_floating_point:
            value.copy_(torch.stack([state[name] for state in states]).mean(0))


def measure(data: DataSet, examples: list[Example], inspector: Inspector) -> float:
    """AP50, the mean over the classes there are, or accuracy, on whole pictures without augmentation."""
    found = look(data, examples, inspector)
    if data.good:
        return sum(int(answer.argmax()) == int(each.shares.argmax()) for answer, each in found) / len(found)
    pairs = [(answer, each.boxes) for answer, each in found]
    there = sorted({int(label) for each in examples for label in each.boxes[:, 4]})
    return float(np.mean([average_precision(pairs, label) for label in there])) if there else 0.0


def look(data: DataSet, examples: list[Example], inspector: Inspector) -> list[tuple[Rows, Example]]:
    """What an engine would find: rows after suppression, or scores."""
    inspector.eval()
    device, found = next(inspector.parameters()).device, []
    with torch.no_grad():
        for example in examples:
            image = torch.from_numpy(np.repeat(data.read(example), 3 // data.channels, axis=2))[None].to(device)
            answer = inspector(image)[0].cpu().numpy()
            if not data.good:
                answer = detections(answer)
                answer[:, :4] = answer[:, :4].clip(0, (data.size[1], data.size[0]) * 2)
            found.append((answer, example))
    return found


def best_threshold(found: list[tuple[Rows, Example]]) -> float:
    """Of a detector: one threshold for all classes, the lowest whose F1 (IoU 0.5) is within 0.005 of the highest.

    F1 is flat over a wide range, where few pictures decide by chance; an escape costs more than a false reject.
    """
    right, total = [], sum(len(example.boxes) for _, example in found)
    for rows, example in found:
        used = np.zeros(len(example.boxes), bool)
        for row in rows:
            same = (iou(row[:4], example.boxes) >= NMS_IOU) & (example.boxes[:, 4] == row[5]) & ~used
            used |= same & (np.cumsum(same) == 1)
            right.append((float(row[4]), bool(same.any())))
    scores, hits = np.array([score for score, _ in right]), np.array([hit for _, hit in right], float)
    if not hits.any():
        return 0.5
    steps = [0.02 * n for n in range(5, 48)]
    f1 = [2 * hits[scores >= step].sum() / ((scores >= step).sum() + total + 1e-9) for step in steps]
    return next(step for step, value in zip(steps, f1, strict=True) if value >= max(f1) - 0.005)


def detections(rows: Rows) -> Rows:
    """What is left of an engine's rows on the line: no noise, no repetitions."""
    rows = rows[rows[:, 4] > LEAST_SCORE]
    return rows[suppress(rows[:, :4], rows[:, 5], NMS_IOU)]


def blend(average: nn.Module, net: nn.Module, weight: float) -> None:
    """Move every weight and statistic of `average` towards `net` by `weight`."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now.to(mean.dtype), weight)


def _loss(found: Any, target: dict[str, Tensor]) -> Tensor:
    if isinstance(found, Tensor):
        return functional.cross_entropy(found.float(), target["shares"], label_smoothing=0.05)
    logits, sides = found
    if "truth" in target:
        return aligned_loss(logits, centres_to_boxes(sides), target["truth"])
    return loss(logits, centres_to_boxes(sides), target)


def _optimiser(net: nn.Module) -> torch.optim.Optimizer:
    """What was trained before is changed slowly; scales and offsets are not decayed."""
    groups = []
    for slow, flat in itertools.product((False, True), repeat=2):
        chosen = [
            parameter
            for name, parameter in net.named_parameters()
            if parameter.requires_grad and name.startswith("eyes.") is slow and (parameter.ndim <= 1) is flat
        ]
        groups.append({"params": chosen, "weight_decay": 0.0 if flat else 0.02, "share": SLOW if slow else 1.0})
    return torch.optim.AdamW(groups)


def _rate(step: int, steps: int, highest: float) -> float:
    """A short rise, then half a cosine down to a hundredth."""
    rise = min(150, max(1, steps // 20))
    return highest * min(1.0, (step + 1) / rise) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _half(device: torch.device) -> torch.autocast:
    """Mixed precision where the hardware has it: a GPU, or a processor with bfloat16."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.float16)
    fast = "bf16" in _flags()
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def _flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _is_over(log: list[dict[str, float]], plan: Plan) -> bool:
    figures = [entry["figure"] for entry in log][::-1]
    return bool(figures) and int(np.argmax(figures)) >= plan.patience


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    return torch.load(path, map_location=device, weights_only=True) if path.is_file() else {}  # type: ignore[no-any-return]


def _save(state: Any, path: Path) -> None:
    """Whole or not at all, whenever it is killed."""
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def read_log(run: Path) -> list[dict[str, float]]:
    """An entry for each epoch, with COLUMNS."""
    with (run / LOG).open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _write_log(log: list[dict[str, float]], path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(log)


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"

"""What a detector's head is made of: what is asked of a file, what is found in it, and the graph it is completed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...contract import ROWS, Tensor


@dataclass(frozen=True, slots=True)
class Signature:
    """What can be known of a graph without running it. inputs: without those that have a value in the file.

    Shapes are fixed: batch 1, and where the file leaves the picture's size open (`open_size`), that of --size, of the
    metadata or 640. outputs: as inferred, not as declared; None where it depends on the picture (after an NMS, say).
    operators: the types of all nodes. tails: output -> the types of the nodes between it and the weights nearest to
    it (Conv, Gemm, MatMul, Q/DQ left out). metadata: the exporter's own notes.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    producer: str = ""
    tails: Mapping[str, frozenset[str]] = field(default_factory=dict)
    open_size: bool = False

    @property
    def images(self) -> tuple[Tensor, ...]:
        """The inputs that could be a picture: four dimensions, three of them channels, first or last."""
        return tuple(t for t in self.inputs if len(t.shape) == 4 and 3 in (t.shape[1], t.shape[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the user said, where the file does not tell; None or empty: nothing. size: (height, width)."""

    head: str | None = None
    labels: tuple[str, ...] = ()
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    colour: str | None = None
    size: tuple[int, int] | None = None
    resize: str | None = None
    good: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixelwise:
    """How pixels, 0 to 255, become what the network expects: (pixel * scale - mean) / std, channels in its order.

    resize: `letterbox` or `stretch`. size: (height, width) where the graph leaves it open.
    """

    colour: str = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "letterbox"
    size: tuple[int, int] = (640, 640)


class Builder(Protocol):
    """A graph that is being completed: add operators, get the names of their results. Opset 17 or later.

    size: (height, width) of the input in pixels. Every tensor has a batch of 1. The original graph's outputs can be
    used by their names; those of half or double precision arrive as float32.
    """

    size: tuple[int, int]

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output; returns its name."""
        ...

    def split(self, value: str, sizes: Sequence[int], *, axis: int) -> list[str]:
        """Parts of a tensor along an axis."""
        ...

    def top(self, value: str, count: int, *, axis: int) -> tuple[str, str]:
        """The `count` largest along an axis, the largest first, and their int64 indices."""
        ...

    def peak(self, value: str, *, axis: int) -> str:
        """The largest along an axis, which goes."""
        ...

    def constant(self, value: NDArray[Any] | float | int | Sequence[int] | Sequence[float]) -> str:
        """A constant; Python integers become int64, floats float32."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, of the original graph or added, all dimensions fixed. Raises ModelRefused."""
        ...

    def feed(self, name: str, value: NDArray[Any]) -> None:
        """Give a further input of the original graph (orig_target_sizes, say) a constant value."""
        ...

    def best(self, boxes: str, scores: str, *others: str, classes: str | None = None, count: int = ROWS) -> list[str]:
        """As `rows`, but gives the best `count` back: boxes [1, K, 4], scores [1, K, 1], classes [1, K, 1], float32.

        Then each of `others` ([1, N, ...]) for these boxes: [1, K, ...].
        """
        ...

    def rows(self, boxes: str, scores: str, *, classes: str | None = None, extra: str | None = None) -> None:
        """End it for the task `detect`: the best K boxes over all classes become the output `detections`.

        boxes: float32 [1, N, 4], x1, y1, x2, y2 in input pixels. scores: [1, N, C] probabilities; or, with `classes`
        ([1, N], any number type), [1, N]. extra: [1, N, 1], mask areas in square pixels: the seventh column.
        """
        ...

    def output(self, name: str, value: str) -> None:
        """End it with a named output of the contract (`scores`, `heatmap`, `score`): cast to float32, as it is."""
        ...


Complete = Callable[["Builder", "Found"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A head that a graph may have. why: what it was recognised by, for the user. sure: 0 to 1, to rank candidates.

    head: its name for --head. classes: how many, background not counted. labels: from the metadata, or empty.
    nms_iou: 1 where nothing is left to suppress. outputs: role -> name of the graph's output. more: what only
    `complete` needs. need: what the user must say (`--classes`, ...) as the file does not; "" nothing.
    """

    head: str
    why: str
    sure: float
    task: str
    classes: int
    complete: Complete
    image: Tensor
    pixelwise: Pixelwise
    outputs: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()
    good: tuple[str, ...] | None = None
    nms_iou: float = 0.5
    more: Mapping[str, Any] = field(default_factory=dict)
    need: str = ""


def floats(values: Sequence[float]) -> NDArray[np.float32]:
    """A float32 array."""
    return np.array(values, np.float32)

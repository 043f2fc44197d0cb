"""The one contract of every engine: what goes in, what comes out for each task, whatever framework it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INPUT = "image"  # uint8 [1, H, W, 3], BGR as OpenCV gives it, already resized
ROWS = 300  # of a detector's rows the best so many are kept

# task -> output -> its shape without the batch; a letter is any size, no dimension at all a single number
OUTPUTS: dict[str, dict[str, tuple[str, ...]]] = {
    # x1, y1, x2, y2 in input pixels, score, class; the best first, the rest 0. A seventh: the mask's area, input pixels
    "detect": {"detections": ("K", "6 or 7")},
    "classify": {"scores": ("C",)},  # each class's probability
    "segment": {"heatmap": ("C", "h", "w")},  # each class's probability at each place of a coarser grid
    "anomaly": {"heatmap": ("h", "w"), "score": ()},  # 0 to 1, 0.5 at the threshold it was trained with
}

Answer = tuple[NDArray[np.float32], ...]  # the outputs of one part in the order above, without the batch dimension


@dataclass(frozen=True, slots=True)
class Tensor:
    """A graph's input or output. dtype: NumPy's name for it. shape: None where a dimension is not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


def breach(task: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
    """How a graph breaks the contract of its task; "" where it keeps it. The order of outputs is of no meaning."""
    wanted = [f"{INPUT}: uint8 [1, H, W, 3]", *(_describe(name, shape) for name, shape in OUTPUTS[task].items())]
    found = {tensor.name: tensor for tensor in outputs}
    fits = (
        [tensor.name for tensor in inputs] == [INPUT]
        and _fits(inputs[0], "uint8", ("H", "W", "3"))
        and found.keys() == OUTPUTS[task].keys()
        and all(_fits(found[name], "float32", shape) for name, shape in OUTPUTS[task].items())
    )
    return "" if fits else f"expected {', '.join(wanted)}; found {', '.join(map(str, (*inputs, *outputs)))}"


def _fits(tensor: Tensor, dtype: str, shape: tuple[str, ...]) -> bool:
    return (
        tensor.dtype == dtype
        and len(tensor.shape) == 1 + len(shape)
        and tensor.shape[0] == 1
        and all(
            n is not None and n > 0 and (not want[0].isdigit() or str(n) in want.split(" or "))
            for n, want in zip(tensor.shape[1:], shape, strict=True)
        )
    )


def _describe(name: str, shape: tuple[str, ...]) -> str:
    return f"{name}: float32 [{', '.join(('1', *shape))}]"

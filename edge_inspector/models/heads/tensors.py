"""Questions the heads ask of a graph's inputs and outputs, and the two steps on boxes that many of them share."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ...contract import Tensor
from .base import Builder, Hints, Signature, floats

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOATS = ("float16", "float32", "float64", "bfloat16")
WHOLES = ("int32", "int64", "uint32", "uint64", "int16", "uint8")


def is_float(tensor: Tensor) -> bool:
    """Whether it holds floating point numbers."""
    return tensor.dtype in FLOATS


def is_whole(tensor: Tensor) -> bool:
    """Whether it holds whole numbers."""
    return tensor.dtype in WHOLES


def inner(tensor: Tensor) -> tuple[int | None, ...]:
    """The shape without the batch, which is 1 or open."""
    return tensor.shape[1:] if tensor.shape and tensor.shape[0] in (1, None) else (-1,)


def called(tensor: Tensor, *words: str) -> bool:
    """Whether one of the words is in its name."""
    return any(word in tensor.name.lower() for word in words)


def tail_of(signature: Signature, tensor: Tensor) -> frozenset[str]:
    """The operators between an output and the weights nearest to it."""
    return signature.tails.get(tensor.name, frozenset())


def names_of(signature: Signature) -> tuple[str, ...]:
    """The classes' names, as Ultralytics writes them into a file: `{0: 'scratch', 1: 'dent'}`; or none."""
    try:
        names = ast.literal_eval(signature.metadata.get("names", ""))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ()
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[n] for n in range(len(names))]
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def counted(signature: Signature, hints: Hints) -> tuple[int, str]:
    """How many classes there are where the outputs do not say, and what the user must say of them, "" for nothing."""
    labels = hints.labels or names_of(signature)
    return len(labels), "" if labels else "--classes"


def surely(sure: float, signature: Signature, hints: Hints, classes: int) -> float:
    """How sure a reading is that finds so many classes: hardly where they are not as many as there are names."""
    labels = hints.labels or names_of(signature)
    return sure if not labels or len(labels) == classes else min(sure, 0.2)


def corners(builder: Builder, centred: str, *, scale: bool) -> str:
    """[1, N, 4] of cx, cy, w, h as x1, y1, x2, y2. scale: from 0..1 to pixels of the input."""
    centre, extent = builder.split(centred, [2, 2], axis=2)
    half = builder.add("Mul", extent, builder.constant(0.5))
    boxes = builder.add("Concat", builder.add("Sub", centre, half), builder.add("Add", centre, half), axis=2)
    return to_pixels(builder, boxes) if scale else boxes


def to_pixels(builder: Builder, boxes: str, order: Sequence[int] = (0, 1, 2, 3)) -> str:
    """[1, N, 4] of 0..1 in pixels of the input. order: where x1, y1, x2, y2 are found."""
    if tuple(order) != (0, 1, 2, 3):
        boxes = builder.add("Gather", boxes, builder.constant(list(order)), axis=2)
    height, width = builder.size
    return builder.add("Mul", boxes, builder.constant(floats([width, height, width, height])))

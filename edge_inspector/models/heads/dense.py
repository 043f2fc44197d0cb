"""NanoDet and NanoDet-Plus: at every place of every stride, probabilities and a distribution for each side of a box.

Source: nanodet/model/head/{gfl_head,nanodet_head,nanodet_plus_head}.py and config/*.yml of RangiLyu/nanodet.
"""

from __future__ import annotations

import math

import numpy as np

from .base import Builder, Found, Hints, Pixelwise, Signature
from .tensors import inner, is_float, names_of

PLUS, FIRST = (8, 16, 32, 64), (8, 16, 32)
REG_MAX = 7  # of every configuration but nanodet-g's (10)
IMAGE = Pixelwise(
    colour="bgr",
    scale=1.0,
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    resize="stretch",
    size=(320, 320),
)


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """One output [1, N, C + 4 * (reg_max + 1)] with a row for every place of three or four strides."""
    if len(signature.outputs) != 1 or len(signature.images) != 1:
        return []
    (output,), image = signature.outputs, signature.images[0]
    if len(output.shape) != 3 or not is_float(output) or image.shape[1] != 3:
        return []
    (rows, columns), (height, width) = inner(output), image.shape[2:]
    if rows is None or columns is None or height is None or width is None:
        return []
    strides = next((s for s in (PLUS, FIRST) if rows == sum(map(math.prod, cells(height, width, s)))), None)
    labels = hints.labels or names_of(signature)
    classes = len(labels) or columns - 4 * (REG_MAX + 1)
    bins, odd = divmod(columns - classes, 4)
    if strides is None or classes < 1 or odd or bins < 5 or "Sigmoid" not in signature.operators:
        return []
    plus = strides is PLUS
    found = Found(
        head="nanodet",
        why=f"{output}: as many rows as places at the strides {', '.join(map(str, strides))}, and room for {classes} "
        f"classes and 4 distributions of {bins}, as NanoDet{'-Plus' if plus else ''} has it; BGR, its mean and "
        "deviation, stretched",
        sure=0.95 if plus else 0.9 if image.name == "data" else 0.3,  # three strides: YOLOX has as many rows
        task="detect",
        classes=classes,
        complete=_complete,
        image=image,
        pixelwise=IMAGE,
        outputs={"rows": output},
        labels=names_of(signature),
        nms_iou=0.6,
        more={"bins": bins, "strides": strides, "offset": 0.0 if plus else 0.5},
    )
    return [found]


def cells(height: int, width: int, strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Rows and columns of places at each stride."""
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in strides]


def _complete(builder: Builder, found: Found) -> None:
    """A side's distance is the mean of its distribution times the stride; the boxes end at the picture's border."""
    bins, (height, width) = int(found.more["bins"]), builder.size
    centres, strides = [], []
    for stride, (rows, columns) in zip(found.more["strides"], cells(height, width, found.more["strides"]), strict=True):
        y, x = np.mgrid[:rows, :columns]
        centres.append((np.stack([x.ravel(), y.ravel()], axis=1) + found.more["offset"]) * stride)
        strides.append(np.full((rows * columns, 1), stride))
    centre, stride_of = (builder.constant(np.concatenate(c)[None].astype(np.float32)) for c in (centres, strides))
    total = sum(map(len, strides))
    scores, sides = builder.split(found.outputs["rows"].name, [found.classes, 4 * bins], axis=2)
    sides = builder.add("Reshape", sides, builder.constant([1, total, 4, bins]))
    values = builder.constant(np.arange(bins, dtype=np.float32).reshape(bins, 1))
    means = builder.add("MatMul", builder.add("Softmax", sides, axis=3), values)
    distances = builder.add("Mul", builder.add("Reshape", means, builder.constant([1, total, 4])), stride_of)
    before, behind = builder.split(distances, [2, 2], axis=2)
    boxes = builder.add("Concat", builder.add("Sub", centre, before), builder.add("Add", centre, behind), axis=2)
    limit = builder.constant(np.array([width, height, width, height], np.float32))
    boxes = builder.add("Min", builder.add("Max", boxes, builder.constant(0.0)), limit)
    builder.rows(boxes, scores)

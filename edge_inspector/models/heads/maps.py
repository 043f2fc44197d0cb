"""What is no detector: classifiers and semantic segmentation (and anomaly models, in anomalies.py).

Sources: torchvision, timm and Ultralytics classifiers; torchvision models/segmentation/_utils.py.
"""

from __future__ import annotations

from ...contract import Tensor
from . import anomalies
from .base import Builder, Found, Hints, Pixelwise, Signature
from .pooling import pool, pooled
from .tensors import IMAGENET_MEAN, IMAGENET_STD, inner, is_float, names_of, surely, tail_of

GOOD = ("good", "ok", "okay", "pass", "passed", "normal", "no_defect", "no defect", "nodefect", "defect-free")
BACKGROUND = ("background", "__background__", "bg", *GOOD)
IMAGENET = Pixelwise(resize="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(224, 224))
UNIT = Pixelwise(resize="stretch", size=(224, 224))
ACTIVATIONS = {"Softmax", "Sigmoid", "LogSoftmax", "HardSigmoid"}


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """The heads of this family that the graph may have."""
    if len(signature.images) != 1 or len(signature.inputs) != 1:
        return []
    return [*_classifier(signature, hints), *_segmentation(signature, hints), *anomalies.recognise(signature, hints)]


def _classifier(signature: Signature, hints: Hints) -> list[Found]:
    """[1, C], or [1, C, 1, 1]: one number for each class."""
    flat = [t for t in signature.outputs if is_float(t) and len(t.shape) in (2, 4) and t.shape[2:] in ((), (1, 1))]
    if len(flat) != 1 or len(signature.outputs) != 1:
        return []
    (output,) = flat
    classes = inner(output)[0]
    if classes is None or classes < 1:
        return []
    labels, activation = hints.labels or names_of(signature), _activation(signature, output, classes)
    good, need = _good(labels, hints, GOOD)
    if classes == 1:  # is it the chance of a defect, or of a good part? the file cannot say
        need = "" if hints.good == () else "--good ''"
    plain = signature.metadata.get("task") == "classify"  # Ultralytics normalises no further
    found = Found(
        head="classifier",
        why=f"{output}: {classes} classes of the whole picture, {TEXTS[activation]}; RGB, "
        + ("0 to 1" if plain else "ImageNet's mean and deviation")
        + ", stretched",
        sure=surely(0.9, signature, hints, classes),
        task="classify",
        classes=classes,
        complete=_complete_classifier,
        image=signature.images[0],
        pixelwise=UNIT if plain else IMAGENET,
        outputs={"scores": output},
        labels=names_of(signature),
        good=good,
        nms_iou=1.0,
        more={"activation": activation},
        need=need,
    )
    return [found]


def _complete_classifier(builder: Builder, found: Found) -> None:
    flat = builder.add("Reshape", found.outputs["scores"].name, builder.constant([1, found.classes]))
    builder.output("scores", _activate(builder, flat, found.more["activation"]))


def _segmentation(signature: Signature, hints: Hints) -> list[Found]:
    """[1, C, h, w]: one number for each class at each place. Where there are several alike, `out`, or the first."""
    maps = [t for t in signature.outputs if is_float(t) and len(t.shape) == 4]
    if not maps or len(maps) != len(signature.outputs) or len({t.shape for t in maps}) > 1:
        return []
    output = next((t for t in maps if t.name == "out"), maps[0])
    classes, height, width = inner(output)
    if classes is None or height is None or width is None or height * width == 1:
        return []
    labels, activation = hints.labels or names_of(signature), _activation(signature, output, classes)
    good, need = _good(labels[:1], hints, BACKGROUND) if classes > 1 else (hints.good or (), "")
    grid = pooled(height, width)
    found = Found(
        head="segmentation",
        why=f"{output}: {classes} classes at every place, {TEXTS[activation]}"
        + (f", pooled to {grid[0]} x {grid[1]}" if grid != (height, width) else "")
        + ("; its other outputs are left out" if len(maps) > 1 else "")
        + "; RGB, ImageNet's mean and deviation, stretched",
        sure=surely(0.85 if classes > 1 or not activation else 0.55, signature, hints, classes),
        task="segment",
        classes=classes,
        complete=_complete_segmentation,
        image=signature.images[0],
        pixelwise=IMAGENET,
        outputs={"map": output},
        labels=names_of(signature),
        good=good,
        nms_iou=1.0,
        more={"activation": activation},
        need=need,
    )
    return [found]


def _complete_segmentation(builder: Builder, found: Found) -> None:
    heatmap = _activate(builder, found.outputs["map"].name, found.more["activation"])
    builder.output("heatmap", pool(builder, heatmap, builder.shape(found.outputs["map"].name)))


TEXTS = {
    "": "probabilities already",
    "Softmax": "logits, softmax added",
    "Sigmoid": "logits, sigmoid added",
    "Exp": "logarithms of probabilities",
}


def _activation(signature: Signature, tensor: Tensor, classes: int) -> str:
    """The operator that makes probabilities of it; "" where it holds them already."""
    tail = tail_of(signature, tensor)
    if "LogSoftmax" in tail:
        return "Exp"
    if tail & ACTIVATIONS:
        return ""
    return "Softmax" if classes > 1 else "Sigmoid"


def _activate(builder: Builder, value: str, activation: str) -> str:
    if activation == "Softmax":
        return builder.add("Softmax", value, axis=1)
    return builder.add(activation, value) if activation else value


def _good(labels: tuple[str, ...], hints: Hints, words: tuple[str, ...]) -> tuple[tuple[str, ...] | None, str]:
    """Which classes are no defect, and what the user must say where neither he nor their names tell."""
    if hints.good is not None:
        return hints.good, ""
    good = tuple(label for label in labels if label.lower() in words)
    return (good, "") if good else (None, "--good")

"""Detectors that give boxes, scores and labels apart: torchvision, TensorFlow, SSD, EfficientNMS, and their likes.

Sources: torchvision models/detection/{roi_heads,generalized_rcnn,transform}.py; TensorFlow's object_detection
exporter; qfgaohao/pytorch-ssd vision/ssd/{ssd,mobilenetv1_ssd_config}.py; plugin/efficientNMSPlugin of NVIDIA/TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...contract import ROWS, Tensor
from ...errors import ModelRefused
from .base import Builder, Found, Hints, Pixelwise, Signature
from .detr import sizes_input
from .tensors import called, counted, inner, is_float, is_whole, names_of, surely, tail_of, to_pixels

UNIT = Pixelwise()
SSD = Pixelwise(scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3, resize="stretch", size=(300, 300))
TENSORFLOW = Pixelwise(scale=1.0, resize="stretch", size=(320, 320))  # bytes in, the rest is in the graph
TENSORFLOW_FLOAT = Pixelwise(scale=1 / 127.5, mean=(1.0,) * 3, resize="stretch", size=(300, 300))


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """The heads of this family that the graph may have."""
    if not signature.images:
        return []
    return [*_kept(signature, hints), *_apart(signature, hints)]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Outputs of boxes that were chosen already: boxes [?, N, 4], scores and labels [?, N], and their count."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    count: Tensor | None

    @property
    def batched(self) -> bool:
        return len(self.boxes.shape) == 3


def _kept(signature: Signature, hints: Hints) -> list[Found]:
    """Heads with labels: what a box is, was decided in the graph."""
    kept = None if sizes_input(signature) else _take(signature)
    if kept is None:
        return []
    inside = "NonMaxSuppression" in signature.operators
    plugins = sorted(name for name in signature.operators if name.endswith("_TRT"))
    classes, need = counted(signature, hints)
    found = []
    for head, sure, text in _kinds(kept, inside):
        pixelwise = UNIT
        if head == "tensorflow":
            pixelwise = TENSORFLOW if signature.images[0].dtype == "uint8" else TENSORFLOW_FLOAT
        roles = {"boxes": kept.boxes, "scores": kept.scores, "labels": kept.labels}
        found.append(
            Found(
                head=head,
                why=", ".join(map(str, roles.values())) + f": {text}",
                sure=sure,
                task="detect",
                classes=classes,
                complete=_complete_kept,
                image=signature.images[0],
                pixelwise=pixelwise,
                outputs={**roles, **({"count": kept.count} if kept.count else {})},
                labels=names_of(signature),
                nms_iou=1.0 if inside or head != "boxes" else 0.5,
                more={**KINDS[head], "plugins": plugins},
                need=need,
            )
        )
    return found


# how each says where a box is, from which number on its labels count, and whether rows beyond the count are to be cut
KINDS: dict[str, dict[str, Any]] = {
    "torchvision": {"order": None, "first": 1},
    "boxes": {"order": None, "first": 0},
    "efficient-nms": {"order": None, "first": 0},
    "tensorflow": {"order": (1, 0, 3, 2), "first": 1},
    "ssd-labels": {"order": (0, 1, 2, 3), "first": 1},
}


def _take(signature: Signature) -> _Kept | None:
    """The outputs by their shapes, by their names where several have the same."""
    outputs = signature.outputs
    boxes = _one([t for t in outputs if is_float(t) and t.shape and t.shape[-1] == 4 and len(t.shape) in (2, 3)], "box")
    if boxes is None or (len(boxes.shape) == 3 and boxes.shape[0] not in (1, None)):
        return None
    rows = boxes.shape[:-1]
    lists = [t for t in outputs if t is not boxes and t.shape in (rows, (*rows, 1))]
    labels = _one([t for t in lists if is_whole(t)], "class", "label")
    labels = labels or _one([t for t in lists if is_float(t) and called(t, "class", "label")], "class", "label")
    scores = _one([t for t in lists if is_float(t) and t is not labels], "score", "conf")
    if labels is None or scores is None:
        return None
    counts = [t for t in outputs if called(t, "num") and all(n in (1, None) for n in t.shape)]
    return _Kept(boxes, scores, labels, counts[0] if len(counts) == 1 else None)


def _one(tensors: list[Tensor], *words: str) -> Tensor | None:
    """The only one; of several the only one that is called so, and not raw."""
    if len(tensors) > 1:
        tensors = [t for t in tensors if called(t, *words) and not called(t, "raw", "multiclass", "anchor")]
    return tensors[0] if len(tensors) == 1 else None


def _kinds(kept: _Kept, inside: bool) -> list[tuple[str, float, str]]:
    """Which of the kinds it may be, how surely, and why."""
    done = ", suppressed in the graph (TensorRT-RTX has no NonMaxSuppression)" if inside else ""
    if not kept.batched:
        text = f"no batch, as torchvision has it: pixels, labels from 1{done}; RGB, 0 to 1, normalised in the graph"
        return [("torchvision", 0.9, text)]
    if is_float(kept.labels) or called(kept.boxes, "detection_boxes"):
        text = f"as TensorFlow's detectors have it: y before x, 0 to 1, labels from 1{done}; RGB"
        return [("tensorflow", 0.9 if called(kept.boxes, "detection") else 0.6, text)]
    if kept.count is not None:
        text = f"and their count, as EfficientNMS has it: pixels, labels from 0{done}; RGB, 0 to 1"
        return [("efficient-nms", 0.9, text)]
    return [
        ("boxes", 0.6, f"pixels, labels from 0{done}; RGB, 0 to 1"),
        ("ssd-labels", 0.55, f"boxes from 0 to 1, labels from 1{done}; RGB, 0 to 1"),
    ]


def _complete_kept(builder: Builder, found: Found) -> None:
    """Rows as they come; an open number of them is padded and cut to as many as the contract keeps.

    Raises ModelRefused for what only TensorRT could run.
    """
    if found.more["plugins"]:
        raise ModelRefused(
            f"the graph holds {', '.join(found.more['plugins'])}, a plugin that runs in TensorRT alone; export without "
            "it (end2end=False, or without --end2end): boxes are suppressed after the engine"
        )
    names = {role: tensor.name for role, tensor in found.outputs.items()}
    open_ended = None in found.outputs["boxes"].shape
    total = ROWS if open_ended else int(np.prod(builder.shape(names["boxes"])[:-1]))
    first = int(found.more["first"])
    taken = {}
    for role, columns, empty in (("boxes", 4, 0.0), ("scores", 1, 0.0), ("labels", 1, float(first))):
        value = builder.add("Reshape", builder.add("Cast", names[role], to=1), builder.constant([-1, columns]))
        if open_ended:
            rest = builder.constant(np.full((total, columns), empty, np.float32))
            value = builder.add("Concat", value, rest, axis=0)
            value = builder.add("Slice", value, builder.constant([0]), builder.constant([total]), builder.constant([0]))
        taken[role] = builder.add("Reshape", value, builder.constant([1, total, 4] if columns == 4 else [1, total]))
    boxes, scores, labels = taken["boxes"], taken["scores"], taken["labels"]
    if found.more["order"]:
        boxes = to_pixels(builder, boxes, found.more["order"])
    if first:
        labels = builder.add("Sub", labels, builder.constant(float(first)))
    if "count" in names:
        scores, labels = _counted(builder, names["count"], total, scores, labels)
    builder.rows(boxes, scores, classes=labels)


def _counted(builder: Builder, count: str, total: int, scores: str, labels: str) -> tuple[str, str]:
    """What stands beyond the count means nothing: 0."""
    number = builder.add("Reshape", builder.add("Cast", count, to=1), builder.constant([1, 1]))
    inside = builder.add("Less", builder.constant(np.arange(total, dtype=np.float32)[None]), number)
    zero = builder.constant(np.zeros((1, 1), np.float32))
    return builder.add("Where", inside, scores, zero), builder.add("Where", inside, labels, zero)


def _apart(signature: Signature, hints: Hints) -> list[Found]:
    """Every anchor's box, [1, N, 4], and its score for every class, [1, N, C]: nothing was chosen yet."""
    pair = _pair(signature)
    if pair is None:
        return []
    boxes, scores = pair
    columns = inner(scores)[1] or 0
    tail = tail_of(signature, scores)
    softmax, sigmoid = "Softmax" in tail, "Sigmoid" in tail
    named = 0.15 if called(boxes, "box") and called(scores, "score", "conf", "cls") else 0.0
    plain = "softmax in the graph" if softmax else "logits, softmax added"
    kinds = [
        ("ssd", 0.75 if softmax else 0.2 if sigmoid else 0.6, f"{plain}, class 0 is the background, boxes from 0 to 1")
    ]
    if softmax or sigmoid:
        how = "probabilities, no background, boxes in pixels"
        kinds.append(("boxes-scores", 0.8 if sigmoid else 0.3, how))
    return [
        Found(
            head=head,
            why=f"{boxes} and {scores}: {text}, x1, y1, x2, y2; "
            + ("RGB, (x - 127) / 128, stretched" if head == "ssd" else "RGB, 0 to 1"),
            sure=surely(sure + named, signature, hints, columns - (head == "ssd")),
            task="detect",
            classes=columns - (head == "ssd"),
            complete=_complete_apart,
            image=signature.images[0],
            pixelwise=SSD if head == "ssd" else UNIT,
            outputs={"boxes": boxes, "scores": scores},
            labels=names_of(signature),
            nms_iou=0.5 if head == "ssd" else 0.65,
            more={"softmax": not softmax, "ssd": head == "ssd"},
        )
        for head, sure, text in kinds
        if columns > (head == "ssd")
    ]


def _pair(signature: Signature) -> tuple[Tensor, Tensor] | None:
    """Boxes [1, N, 4] and scores [1, N, C], and no more; by name where C is 4 as well."""
    flat = [t for t in signature.outputs if is_float(t) and len(t.shape) == 3 and t.shape[0] in (1, None)]
    if len(flat) != 2 or len(signature.outputs) != 2 or flat[0].shape[1] != flat[1].shape[1]:
        return None
    boxes = _one([t for t in flat if t.shape[2] == 4], "box")
    if boxes is None or called(boxes, "score", "logit", "label"):
        return None
    scores = flat[1] if flat[0] is boxes else flat[0]
    return None if called(scores, "label", "logit", "mask") or boxes.shape[1] is None else (boxes, scores)


def _complete_apart(builder: Builder, found: Found) -> None:
    boxes, scores = found.outputs["boxes"].name, found.outputs["scores"].name
    if found.more["ssd"]:
        if found.more["softmax"]:
            scores = builder.add("Softmax", scores, axis=2)
        scores = builder.split(scores, [1, found.classes], axis=2)[1]
        boxes = to_pixels(builder, boxes)
    builder.rows(boxes, scores)

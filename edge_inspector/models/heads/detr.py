"""The transformers that need no suppression: RT-DETR, D-FINE, DEIM, RF-DETR, DETR. Queries in, a box each out.

Sources: tools/**/export_onnx.py of lyuwenyu/RT-DETR and Peterande/D-FINE; RTDETRDecoder in ultralytics/nn/modules/
head.py; rfdetr.roboflow.com/latest/exports/onnx; PostProcess in models/detr.py of facebookresearch/detr.
"""

from __future__ import annotations

import numpy as np

from ...contract import Tensor
from .base import Builder, Found, Hints, Pixelwise, Signature
from .tensors import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    called,
    corners,
    counted,
    inner,
    is_float,
    is_whole,
    names_of,
    surely,
    tail_of,
)

QUERIES = 1000  # more rows than this are no queries
UNIT = Pixelwise(resize="stretch")
IMAGENET = Pixelwise(resize="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD)


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """The heads of this family that the graph may have."""
    return [*_decoded(signature, hints), *_joined(signature, hints), *_logits(signature, hints)]


def sizes_input(signature: Signature) -> Tensor | None:
    """The further input that asks for the picture's size (`orig_target_sizes`), or none."""
    found = [t for t in signature.inputs if t not in signature.images and is_whole(t) and inner(t) == (2,)]
    return found[0] if len(found) == 1 else None


def _decoded(signature: Signature, hints: Hints) -> list[Found]:
    """Labels, boxes, scores in pixels of the size that is asked for; its (width, height), as the exporters have it."""
    sizes, outputs = sizes_input(signature), signature.outputs
    boxes = [t for t in outputs if is_float(t) and len(t.shape) == 3 and t.shape[2] == 4]
    scores = [t for t in outputs if is_float(t) and len(t.shape) == 2]
    labels = [t for t in outputs if is_whole(t) and len(t.shape) == 2]
    if sizes is None or not signature.images or [len(boxes), len(scores), len(labels)] != [1, 1, 1]:
        return []
    classes, need = counted(signature, hints)
    found = Found(
        head="rt-detr",
        why=f"labels, boxes and scores, and the input {sizes} beside the picture, as RT-DETR, D-FINE and DEIM have it; "
        "RGB, 0 to 1, stretched",
        sure=0.95,
        task="detect",
        classes=classes,
        complete=_complete_decoded,
        image=signature.images[0],
        pixelwise=UNIT,
        outputs={"boxes": boxes[0], "scores": scores[0], "labels": labels[0]},
        labels=names_of(signature),
        nms_iou=1.0,
        more={"sizes": sizes},
        need=need,
    )
    return [found]


def _complete_decoded(builder: Builder, found: Found) -> None:
    sizes: Tensor = found.more["sizes"]
    height, width = builder.size
    builder.feed(sizes.name, np.array([[width, height]], sizes.dtype))
    out = found.outputs
    builder.rows(out["boxes"].name, out["scores"].name, classes=out["labels"].name)


def _joined(signature: Signature, hints: Hints) -> list[Found]:
    """One output of cx, cy, w, h of 0..1 and more, as Ultralytics exports RT-DETR: [1, 300, 4 + C] with a probability
    for each class; since its version 8.4 [1, 300, 6], sorted in the graph, with a score and a class.
    """
    if len(signature.outputs) != 1 or not signature.images:
        return []
    (output,) = signature.outputs
    rows, columns = inner(output) if len(output.shape) == 3 else (None, None)
    if rows is None or columns is None or not is_float(output) or rows > QUERIES or columns < 5:
        return []
    notes = signature.metadata
    said = "rtdetr" in (notes.get("description", "") + notes.get("head", "")).lower().replace("-", "")
    if not said and "GridSample" not in signature.operators:
        return []
    labels = hints.labels or names_of(signature)
    gathers = "GatherElements" in tail_of(signature, output)
    by_what = "the file says RT-DETR" if said else "sampled from a grid as deformable transformers do"
    readings = [("rt-detr-joined", columns - 4, f"{columns - 4} class scores", not (gathers and columns == 6))]
    if columns == 6:
        fits = gathers or (len(labels) != 2 and bool(labels))
        readings.insert(0, ("rt-detr-sorted", len(labels), "score and class, sorted in the graph", fits))
    found = []
    for head, classes, what, fits in readings:
        found.append(
            Found(
                head=head,
                why=f"{output}: {rows} queries, each cx, cy, w, h and {what}; {by_what}; RGB, 0 to 1, stretched",
                sure=surely(0.97 if said else 0.85, signature, hints, classes) if fits else 0.1,
                task="detect",
                classes=classes,
                complete=_complete_joined,
                image=signature.images[0],
                pixelwise=UNIT,
                outputs={"rows": output},
                labels=names_of(signature),
                nms_iou=1.0,
                need="" if classes else "--classes",
            )
        )
    return found


def _complete_joined(builder: Builder, found: Found) -> None:
    rows = found.outputs["rows"].name
    if found.head == "rt-detr-joined":
        boxes, scores = builder.split(rows, [4, found.classes], axis=2)
        builder.rows(corners(builder, boxes, scale=True), scores)
        return
    boxes, *others = builder.split(rows, [4, 1, 1], axis=2)
    flat = builder.constant([1, builder.shape(rows)[1]])
    scores, classes = (builder.add("Reshape", each, flat) for each in others)
    builder.rows(corners(builder, boxes, scale=True), scores, classes=classes)


def _logits(signature: Signature, hints: Hints) -> list[Found]:
    """Boxes [1, Q, 4] of 0..1 and logits [1, Q, C] apart. Sigmoid or softmax, the file does not always tell."""
    pair = _pair(signature)
    if pair is None or not signature.images:
        return []
    boxes, logits = pair
    columns = inner(logits)[1]
    assert columns is not None
    labels = hints.labels or names_of(signature)
    spare = columns > 1 and len(labels) == columns - 1  # RF-DETR's last column, where none of the names is for it
    found = []
    for head, sure, text in _candidates(signature, boxes, logits):
        softmax = head == "detr"
        if softmax and columns == 1:
            continue
        pixelwise = UNIT if head == "rt-detr-logits" else IMAGENET
        classes = columns - (softmax or spare)
        how = "softmax, the last class is no object" if softmax else "sigmoid"
        found.append(
            Found(
                head=head,
                why=f"{boxes} and {logits}: {text}; {how}; RGB, "
                + ("0 to 1" if pixelwise is UNIT else "ImageNet's mean and deviation")
                + ", stretched",
                sure=surely(sure, signature, hints, classes),
                task="detect",
                classes=classes,
                complete=_complete_logits,
                image=signature.images[0],
                pixelwise=pixelwise,
                outputs={"boxes": boxes, "logits": logits},
                labels=names_of(signature),
                nms_iou=1.0,
                more={"softmax": softmax, "columns": columns},
            )
        )
    return found


def _pair(signature: Signature) -> tuple[Tensor, Tensor] | None:
    """The boxes and the logits. By name first: with 4 classes, or 3 and a spare one, their shapes are the same."""
    flat = [t for t in signature.outputs if is_float(t) and len(t.shape) == 3 and t.shape[0] in (1, None)]
    named = [t for t in flat if called(t, "dets", "box")]
    boxes = [t for t in named or flat if t.shape[2] == 4]
    logits = [t for t in flat if t not in boxes]
    if len(boxes) != 1 or len(logits) != 1 or len(signature.outputs) > len(flat) + 1:  # masks may stand beside them
        return None
    queries, columns = inner(logits[0])
    if queries is None or queries > QUERIES or columns is None or queries != boxes[0].shape[1]:
        return None
    return boxes[0], logits[0]


def _candidates(signature: Signature, boxes: Tensor, logits: Tensor) -> list[tuple[str, float, str]]:
    """Which of the three it may be, how surely, and why.

    Those that sample their features from a grid (GridSample) are all trained with a sigmoid; DETR's softmax goes with
    full attention. RF-DETR calls its outputs dets and labels; transformers calls all of them logits and pred_boxes.
    """
    queries, deformable = inner(logits)[0], "GridSample" in signature.operators
    if tail_of(signature, logits) & {"Sigmoid", "Softmax"}:
        return [("rf-detr", 0.1, "but these are no logits"), ("detr", 0.1, "but these are no logits")]
    if called(boxes, "dets") and called(logits, "label"):
        if deformable:
            return [("rf-detr", 0.9, "RF-DETR's names, sampled from a grid"), ("detr", 0.1, "logits")]
        return [("rf-detr", 0.6, "RF-DETR's names"), ("detr", 0.5, "but full attention, as in DETR")]
    named = called(boxes, "pred_boxes") and called(logits, "logits")
    least = 0.5 if named or called(logits, "logit") else 0.35
    if deformable:
        return [
            ("rt-detr-logits", least + 0.3, f"{queries} queries, sampled from a grid, as transformers has RT-DETR"),
            ("rf-detr", least + 0.1, f"{queries} queries, sampled from a grid"),
            ("detr", 0.05, "logits"),
        ]
    classic = 0.3 if queries == 100 else 0.1
    return [("detr", least + classic, f"{queries} queries"), ("rf-detr", least + 0.05, f"{queries} queries")]


def _complete_logits(builder: Builder, found: Found) -> None:
    logits, columns = found.outputs["logits"].name, int(found.more["columns"])
    softmax = found.more["softmax"]
    scores = builder.add("Softmax", logits, axis=2) if softmax else builder.add("Sigmoid", logits)
    if found.classes < columns:
        scores = builder.split(scores, [found.classes, columns - found.classes], axis=2)[0]
    builder.rows(corners(builder, found.outputs["boxes"].name, scale=True), scores)

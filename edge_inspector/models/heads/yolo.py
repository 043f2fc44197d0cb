"""The YOLO family: a row or a column for each anchor or place on grids of several strides; or rows that are final.

Sources: Detect and Segment in ultralytics/nn/modules/head.py, crop_mask in ultralytics/utils/ops.py; models/yolo.py of
ultralytics/yolov5 and WongKinYiu/yolov7; models/yolo_head.py and data/data_augment.py of Megvii-BaseDetection/YOLOX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...contract import ROWS, Tensor
from .base import Builder, Found, Hints, Pixelwise, Signature, floats
from .tensors import corners, inner, is_float, names_of

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
MOST_FINAL = 1000  # no graph sorts out more rows than this
MASKED = 100  # so many rows get a mask area: the product with the prototypes is what costs
GREATEST_LOG = 15.0  # e^15 strides: no box is as large, but rows of nothing must not overflow
BYTES = Pixelwise(colour="bgr", scale=1.0)
READINGS = {
    "yolov5": "cx, cy, w, h, objectness and a score for each class, as YOLOv5, v6 and v7 have it",
    "yolox": "box relative to its place, objectness and a score for each class, as YOLOX has it",
    "yolox-decoded": "cx, cy, w, h, objectness and a score for each class, as YOLOX with decoding has it",
    "yolov8": "cx, cy, w, h and a score for each class, as YOLOv8, 9, 11 and 12 have it",
    "yolov10": "x1, y1, x2, y2, score and class, as YOLOv10, YOLO26 and exports with NMS have it",
}


@dataclass(frozen=True, slots=True)
class _Form:
    """A reading of one output. last: rows first, columns last. base: columns before the classes. sure: as in Found."""

    head: str
    rows: int
    columns: int
    last: bool
    sure: float
    because: str
    strides: tuple[int, ...] = ()

    @property
    def base(self) -> int:
        """4 numbers a box; with the objectness 5; score and class make 6."""
        return {"yolov8": 4, "yolov10": 6}.get(self.head, 5)


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """The heads of this family that the graph may have."""
    if not signature.images or signature.metadata.get("task") in ("classify", "obb", "semantic"):
        return []
    wanted = (hints.head or "").removesuffix("-seg")
    if "GridSample" in signature.operators:  # deformable attention: a transformer
        return []
    found = []
    for output in signature.outputs:
        boxes_apart = any(
            len(t.shape) == 3 and t.shape[1] == output.shape[1] and t.shape[2] == 4
            for t in signature.outputs
            if t.name != output.name and len(output.shape) == 3
        )
        if len(output.shape) == 3 and is_float(output) and None not in inner(output) and not boxes_apart:
            forms = _forms(signature, output, wanted)
            found += [made for form in forms if (made := _found(signature, hints, output, form))]
    return found


def _forms(signature: Signature, output: Tensor, wanted: str) -> list[_Form]:
    """How an output may be read. wanted: a head that the user named need not fit the grids."""
    first, second = (int(n or 0) for n in inner(output))
    size, tail = _size(signature.images[0]), signature.tails.get(output.name, frozenset())
    forms: list[_Form] = []
    for rows, columns, last in ((first, second, True), (second, first, False)):
        for each in (1, 3):
            strides = _strides(size, rows, each)
            forms += _on_grid(rows, columns, last, each, strides, tail) if strides else []
    if second == 6 or (second > 6 and _prototypes(signature, second - 6)):
        if tail & {"TopK", "NonMaxSuppression"} or signature.metadata.get("end2end", "").lower() == "true":
            return [_Form("yolov10", first, second, True, 0.95, "sorted out in the graph")]
        if not forms and first <= MOST_FINAL:
            forms.append(_Form("yolov10", first, second, True, 0.4, "but nothing in the graph sorts them out"))
    if wanted in READINGS and wanted not in [form.head for form in forms]:
        rows, columns, last = (first, second, True) if first >= second else (second, first, False)
        forms.append(_Form(wanted, rows, columns, last, 0.6, "as you say", _strides(size, rows, 1)))
    return forms


def _on_grid(
    rows: int, columns: int, last: bool, each: int, strides: tuple[int, ...], tail: frozenset[str]
) -> Iterator[_Form]:
    """The readings of rows that are as many as the grids have places, times `each`."""
    places = f"as many as the grids of strides {', '.join(map(str, strides))} have places"
    if each == 3:
        if last and columns > 5:
            yield _Form("yolov5", rows, columns, last, 0.95, f"three times {places}", strides)
    elif not last:
        if columns > 4:
            yield _Form("yolov8", rows, columns, last, 0.95, places, strides)
    elif "Exp" in tail and columns > 5:
        yield _Form("yolox-decoded", rows, columns, last, 0.9, f"{places}, decoded with an Exp", strides)
    elif not tail & {"Mul", "Add", "Sub", "Div", "Pow"} and columns > 5:
        yield _Form("yolox", rows, columns, last, 0.95, f"{places}, and the graph decodes no boxes", strides)
    else:
        for head in ("yolov5", "yolov8"):
            yield _Form(head, rows, columns, last, 0.6, places, strides)


def _found(signature: Signature, hints: Hints, output: Tensor, form: _Form) -> Found | None:
    prototypes = _prototypes(signature, form.columns - form.base - (form.head != "yolov10"))
    along = int(prototypes.shape[1] or 0) if prototypes else 0
    written, task = names_of(signature), signature.metadata.get("task", "")
    labels = hints.labels or written
    classes = len(labels) if form.head == "yolov10" else form.columns - form.base - along
    sure, because, need = form.sure, form.because, ""
    if form.head == "yolov10":
        need = "" if labels else "--classes"
    elif task in ("pose", "segment") and not along and 0 < len(written) < classes:
        classes = len(written)
        because += f"; the columns after the classes ({task}) stay unused"
    if classes < 1 and not need:
        return None
    if labels and len(labels) != classes:
        sure, because = 0.2, f"{because}; but {len(labels)} names for {classes} classes"
    tail = signature.tails.get(output.name, frozenset())
    bounded = not tail or bool(tail & {"Sigmoid", "HardSigmoid", "Softmax", "ReduceMax"})
    if not bounded:
        sure, because = min(sure, 0.5), f"{because}; without a Sigmoid, which is then added"
    pixelwise = BYTES if form.head.startswith("yolox") else Pixelwise()
    order = "BGR, 0 to 255" if pixelwise is BYTES else "RGB, 0 to 1"
    return Found(
        head=form.head + ("-seg" if prototypes else ""),
        why=f"{output}: {form.rows} rows, {because}; each {READINGS[form.head]}; {order}",
        sure=sure,
        task="detect",
        classes=classes,
        complete=_complete,
        image=signature.images[0],
        pixelwise=pixelwise,
        outputs={"rows": output} | ({"prototypes": prototypes} if prototypes else {}),
        labels=written,
        nms_iou=1.0 if form.head == "yolov10" else 0.5,
        more={"form": form, "bounded": bounded},
        need=need,
    )


def _complete(builder: Builder, found: Found) -> None:
    """Decode to corners and probabilities; then the best rows, with a mask's area where there are prototypes."""
    form: _Form = found.more["form"]
    prototypes = found.outputs.get("prototypes")
    rows = found.outputs["rows"].name
    if not form.last:
        if form.head == "yolov8" and form.rows > ROWS:
            rows, form = _strongest(builder, rows, found.classes), dataclasses.replace(form, rows=ROWS)
        rows = builder.add("Transpose", rows, perm=[0, 2, 1])
    used = {"yolov8": found.classes, "yolov10": 0}.get(form.head, found.classes)
    extent = [("box", 4), ("one", form.base - 4), ("classes", used)]
    extent.append(("rest", form.columns - sum(size for _, size in extent)))
    names, sizes = zip(*[(name, size) for name, size in extent if size], strict=True)
    part = dict(zip(names, builder.split(rows, sizes, axis=2), strict=True))
    scores, classes = part.get("classes", ""), None
    if not found.more["bounded"]:
        scores = builder.add("Sigmoid", scores)
    if form.head == "yolov10":
        boxes = _ordered(builder, part["box"])
        flat = builder.constant([1, form.rows])
        scores, classes = (builder.add("Reshape", each, flat) for each in builder.split(part["one"], [1, 1], axis=2))
    else:
        centred = _off_grid(builder, part["box"], form) if form.head == "yolox" else part["box"]
        boxes = _ordered(builder, corners(builder, centred, scale=False))
        if form.base == 5:
            one = part["one"] if found.more["bounded"] else builder.add("Sigmoid", part["one"])
            scores = builder.add("Mul", scores, one)
    if prototypes is None:
        builder.rows(boxes, scores, classes=classes)
        return
    best = builder.best(boxes, scores, part["rest"], classes=classes, count=MASKED)
    area = _areas(builder, best[0], best[3], prototypes)
    builder.output("detections", builder.add("Concat", *best[:3], area, axis=2))


def _strongest(builder: Builder, columns: str, classes: int) -> str:
    """Of [1, 4 + C + M, N] the ROWS columns with the best scores: what follows is not done for all 8,400 places."""
    span = (builder.constant([start]) for start in (4, 4 + classes, 1))
    _, index = builder.top(builder.peak(builder.add("Slice", columns, *span), axis=1), ROWS, axis=1)
    return builder.add("Gather", columns, builder.add("Reshape", index, builder.constant([ROWS])), axis=2)


def _off_grid(builder: Builder, raw: str, form: _Form) -> str:
    """YOLOX: centres are (raw + place) * stride, sides e^raw * stride."""
    height, width = builder.size
    places, strides = [], []
    for stride in form.strides:
        y, x = np.mgrid[: -(-height // stride), : -(-width // stride)]
        places.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    place = builder.constant(np.concatenate(places)[None].astype(np.float32))
    stride_px = builder.constant(np.concatenate(strides)[None].astype(np.float32))
    centre, side = builder.split(raw, [2, 2], axis=2)
    side = builder.add("Exp", builder.add("Min", side, builder.constant(GREATEST_LOG)))
    both = builder.add("Concat", builder.add("Add", centre, place), side, axis=2)
    return builder.add("Mul", both, stride_px)


def _ordered(builder: Builder, boxes: str) -> str:
    """x1 <= x2, y1 <= y2: what a network predicts as a distance or a side may come out below zero."""
    one, other = builder.split(boxes, [2, 2], axis=2)
    return builder.add("Concat", builder.add("Min", one, other), builder.add("Max", one, other), axis=2)


def _areas(builder: Builder, boxes: str, weights: str, prototypes: Tensor) -> str:
    """[1, K, 1]: the area in input pixels where a row's mask is positive, within its box.

    The mask is weights [1, K, M] times prototypes [1, M, h, w]; a cell is in the box where its upper left corner is.
    """
    _, along, h, w = (int(n or 0) for n in prototypes.shape)
    count = builder.shape(boxes)[1]
    tall, wide = builder.size[0] / h, builder.size[1] / w
    flat = builder.add("Reshape", prototypes.name, builder.constant([1, along, h * w]))
    masks = builder.add("Greater", builder.add("MatMul", weights, flat), builder.constant(0.0))
    positive = builder.add("Reshape", builder.add("Cast", masks, to=1), builder.constant([count, h, w]))
    left, top, right, bottom = (
        builder.add("Reshape", each, builder.constant([count, 1, 1])) for each in builder.split(boxes, [1] * 4, axis=2)
    )
    x = builder.constant(floats(list(np.arange(w) * wide)).reshape(1, w, 1))
    y = builder.constant(floats(list(np.arange(h) * tall)).reshape(1, 1, h))
    lines = builder.add("MatMul", positive, _within(builder, x, left, right))  # [K, h, 1]
    cells = builder.add("MatMul", _within(builder, y, top, bottom), lines)  # [K, 1, 1]
    area = builder.add("Mul", cells, builder.constant(tall * wide))
    return builder.add("Reshape", area, builder.constant([1, count, 1]))


def _within(builder: Builder, places: str, lower: str, upper: str) -> str:
    """1 where lower <= place < upper, else 0."""
    inside = builder.add("And", builder.add("GreaterOrEqual", places, lower), builder.add("Less", places, upper))
    return builder.add("Cast", inside, to=1)


def _prototypes(signature: Signature, most: int) -> Tensor | None:
    """The masks' prototypes: maps at a whole stride, at most so many."""
    height, width = _size(signature.images[0])
    for output in signature.outputs:
        if len(output.shape) == 4 and None not in output.shape and is_float(output):
            _, along, h, w = (int(n or 0) for n in output.shape)
            if 1 < along <= most and h and w and height % h == 0 and height // h * w == width:
                return output
    return None


def _size(image: Tensor) -> tuple[int, int]:
    height, width = image.shape[2:] if image.shape[1] == 3 else image.shape[1:3]
    return height or 0, width or 0


def _strides(size: tuple[int, int], rows: int, each: int) -> tuple[int, ...]:
    """The strides of grids that have so many places in all, `each` rows a place; none where there are no such."""
    for strides in STRIDES:
        if rows == each * sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides):
            return strides
    return ()

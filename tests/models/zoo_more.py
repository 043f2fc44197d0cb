"""Small networks of the other layouts (transformers, SSDs, torchvision, NanoDet, maps), with NumPy decoders beside.

The decoders are written from each exporter's own definition, not from the graph code that they check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from edge_inspector.contract import OUTPUTS, ROWS
from edge_inspector.models.graph import complete
from edge_inspector.models.heads import choose
from edge_inspector.models.heads.base import Found, Hints, Pixelwise, Signature
from edge_inspector.models.source import read

from .zoo import (
    SIZE,
    Array,
    Layout,
    Net,
    Outputs,
    best,
    corners,
    image_shape,
    network_input,
    pictures,
    run,
    same_rows,
    sigmoid,
    spread_out,
)  # fmt: skip

NAMES = ("scratch", "dent", "stain", "chip", "crack")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRETCHED = Pixelwise(resize="stretch")
IMAGENET = Pixelwise(resize="stretch", mean=MEAN, std=STD)
LABELS = Hints(labels=NAMES)
COUNT = TensorProto.INT64
UNIT = (1, 1, 1, 1)


def softmax(value: Array, axis: int = -1) -> Array:
    """In double precision."""
    powers = np.exp(value.astype(np.float64) - value.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def pixels_of(size: tuple[int, int]) -> Array:
    """Width, height, width, height."""
    return np.array([size[1], size[0], size[1], size[0]], np.float64)


class Heads(Net):
    """The parts that these networks have in common."""

    def rows(self, value: str, columns: int, *, inputs: int = 12, gain: float = 2.0, bias: Any = 0.0) -> str:
        """A map's places as rows: [1, N, columns]."""
        made = self.conv(value, (inputs, columns), kernel=1, gain=gain, bias=bias)
        flat = self.op("Reshape", made, self.constant([0, columns, -1]))
        return self.op("Transpose", flat, perm=[0, 2, 1])

    def joined(self, maps: Sequence[str], columns: int, **keywords: Any) -> str:
        """The rows of several maps, one behind the other."""
        return self.op("Concat", *(self.rows(each, columns, **keywords) for each in maps), axis=1)

    def sampled(self, value: str, size: tuple[int, int]) -> str:
        """The map, sampled from a grid a little beside its own, as deformable attention does."""
        y, x = np.meshgrid(np.linspace(-0.95, 0.95, size[0]), np.linspace(-0.95, 0.95, size[1]), indexing="ij")
        grid = self.constant(np.stack([x, y], axis=-1)[None])
        return self.op("GridSample", value, grid, align_corners=0, mode="bilinear", padding_mode="zeros")

    def end(self, kind: str, value: str, *, axis: int) -> str:
        """An activation; those over classes have an axis."""
        return self.op(kind, value, axis=axis) if "Softmax" in kind else self.op(kind, value)

    def centred(self, maps: Sequence[str]) -> str:
        """Boxes [1, N, 4]: cx, cy, w, h of 0..1."""
        return self.op("Sigmoid", self.joined(maps, 4, gain=2.5, bias=(0.0, 0.0, -1.0, -1.0)))

    def cornered(self, maps: Sequence[str], scale: Any = UNIT) -> str:
        """Boxes [1, N, 4]: x1, y1, x2, y2."""
        parts = self.ops("Split", self.centred(maps), self.constant([2, 2]), count=2, axis=2)
        half = self.op("Mul", parts[1], self.constant(0.5))
        boxes = self.op("Concat", self.op("Sub", parts[0], half), self.op("Add", parts[0], half), axis=2)
        return self.op("Mul", boxes, self.constant(np.array(scale, np.float32)))

    def best(self, boxes: str, scores: str, count: int, *, first: int = 0) -> tuple[str, str, str]:
        """The `count` best of boxes [1, N, 4] and scores [1, N, C]: boxes, scores and labels, [1, count, ...]."""
        classes = self.ops("TopK", scores, self.constant([1]), count=2, axis=2)
        score, index = self.ops("TopK", classes[0], self.constant([count]), count=2, axis=1)
        label = self.op("GatherElements", classes[1], index, axis=1)
        chosen = self.op("Gather", boxes, self.op("Reshape", index, self.constant([-1])), axis=1)
        label = self.op("Add", self.op("Squeeze", label, self.constant([2])), self.constant(first))
        return chosen, self.op("Squeeze", score, self.constant([2])), label


def levels(size: tuple[int, int], strides: Sequence[int] = (8,)) -> list[tuple[int, int]]:
    """How many places there are at each stride."""
    return [(-(-size[0] // s), -(-size[1] // s)) for s in strides]


def close(
    net: Net, size: tuple[int, int], outputs: Mapping[str, tuple[str, Sequence[Any], Any]], *, dynamic: bool = False,
    image: str = "images", inputs: Mapping[str, tuple[Sequence[Any], int]] | None = None, **keywords: Any,
) -> onnx.ModelProto:  # fmt: skip
    """The model of one picture input. outputs: the name -> (the value, its shape, its type)."""
    more = dict(inputs or {})
    kinds = {name: kind for name, (_, kind) in more.items()} | {name: kind for name, (_, _, kind) in outputs.items()}
    return net.model(
        {image: image_shape(size, dynamic=dynamic), **{name: shape for name, (shape, _) in more.items()}},
        {name: (value, shape) for name, (value, shape, _) in outputs.items()},
        dtypes={name: kind for name, kind in kinds.items() if kind != TensorProto.FLOAT},
        **keywords,
    )


FLOAT = TensorProto.FLOAT


# --- transformers ---------------------------------------------------------------------------------------------------


def rt_detr(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
    """RTDETRPostProcessor: the best 300 of queries times classes; boxes times the (w, h) it is given."""
    net, classes = Heads(11), len(NAMES)
    maps = net.backbone()[:1]
    scores = net.op("Sigmoid", net.joined(maps, classes))
    flat = net.op("Reshape", scores, net.constant([1, -1]))
    best_scores, index = net.ops("TopK", flat, net.constant([200]), count=2, axis=1)
    query = net.op("Div", index, net.constant([classes]))
    labels = net.op("Sub", index, net.op("Mul", query, net.constant([classes])))
    boxes = net.op("Gather", net.cornered(maps), net.op("Reshape", query, net.constant([-1])), axis=1)
    sizes = net.op("Cast", net.op("Tile", "orig_target_sizes", net.constant([1, 2])), to=FLOAT)
    boxes = net.op("Mul", boxes, net.op("Unsqueeze", sizes, net.constant([1])))
    batch: Any = "N" if dynamic else 1
    outputs: dict[str, tuple[str, Any, Any]] = {
        "labels": (labels, [batch, 200], COUNT),
        "boxes": (boxes, [batch, 200, 4], FLOAT),
        "scores": (best_scores, [batch, 200], FLOAT),
    }
    return close(net, size, outputs, inputs={"orig_target_sizes": ([batch, 2], COUNT)})


def kept_answer(first: int = 0, scale: bool = False, order: Sequence[int] = (0, 1, 2, 3)) -> Callable[..., Any]:
    """Boxes, scores and labels are the answer already: ordered, padded with zeros, cut."""

    def answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
        named = {next(k for k in ("box", "score", "label", "num") if k in n.replace("class", "label")): v
                 for n, v in outputs.items()}  # fmt: skip
        boxes = named["box"].reshape(-1, 4)[:, list(order)] * (pixels_of(size) if scale else 1)
        rows = np.concatenate(
            [boxes, named["score"].reshape(-1, 1), named["label"].reshape(-1, 1).astype(np.float64) - first], axis=1
        )
        if "num" in named:
            rows[int(named["num"].ravel()[0]) :, 4:] = 0
        rows = rows[np.argsort(-rows[:, 4], kind="stable")][:ROWS]
        total = ROWS if DYNAMIC in outputs else len(rows)
        return (np.concatenate([rows, np.zeros((total - len(rows), 6))]).astype(np.float32),)

    return answer


DYNAMIC = "boxes_"  # the name of an output with as many rows as there are boxes


def rt_detr_joined(
    size: tuple[int, int] = SIZE, dynamic: bool = False, *, classes: int = 5, said: bool = True
) -> onnx.ModelProto:
    """RTDETRDecoder.forward with export=True: sigmoid scores behind the boxes."""
    net = Heads(12)
    ((height, width),) = levels(size)
    maps = [net.sampled(net.backbone()[0], (height, width))]
    rows = net.op("Concat", net.centred(maps), net.op("Sigmoid", net.joined(maps, classes)), axis=2)
    names = {n: NAMES[n] for n in range(classes)}
    metadata = {"description": "Ultralytics rt-detr-l model", "names": str(names)} if said else {}
    outputs = {"output0": (rows, [1, height * width, 4 + classes], FLOAT)}
    return close(net, size, outputs, metadata=metadata)


def rt_detr_sorted(
    size: tuple[int, int] = SIZE, dynamic: bool = False, *, classes: int = 5, said: bool = True
) -> onnx.ModelProto:
    """RTDETRDecoder.postprocess with export=True: the best of queries times classes, as box, score and class."""
    net = Heads(18)
    ((height, width),) = levels(size)
    maps = [net.sampled(net.backbone()[0], (height, width))]
    flat = net.op("Reshape", net.op("Sigmoid", net.joined(maps, classes)), net.constant([1, -1]))
    scores, index = net.ops("TopK", flat, net.constant([300]), count=2, axis=1)
    query = net.op("Div", index, net.constant([classes]))
    label = net.op("Cast", net.op("Sub", index, net.op("Mul", query, net.constant([classes]))), to=FLOAT)
    taken = net.op("Expand", net.op("Unsqueeze", query, net.constant([2])), net.constant([1, 300, 4]))
    boxes = net.op("GatherElements", net.centred(maps), taken, axis=1)
    columns = [net.op("Unsqueeze", each, net.constant([2])) for each in (scores, label)]
    metadata = {"head": "RTDETRDecoder", "names": str({n: NAMES[n] for n in range(classes)})} if said else {}
    outputs = {"output0": (net.op("Concat", boxes, *columns, axis=2), [1, 300, 6], FLOAT)}
    return close(net, size, outputs, metadata=metadata)


def sorted_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """Boxes of 0..1, scores and classes, the best first."""
    rows = outputs["output0"][0].astype(np.float64)
    return (np.concatenate([corners(rows[:, :4]) * pixels_of(size), rows[:, 4:]], axis=1).astype(np.float32),)


def joined_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """Boxes of 0..1 and probabilities."""
    rows = next(iter(outputs.values()))[0].astype(np.float64)
    return (best(corners(rows[:, :4]) * pixels_of(size), rows[:, 4:]),)


def logits(
    boxes: str, scores: str, *, columns: int = 6, deformable: bool = True, stride: int = 8, image: str = "input"
) -> Callable[..., onnx.ModelProto]:
    """The raw outputs of a transformer: boxes of 0..1 and logits."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(13)
        ((height, width),) = levels(size, (stride,))
        maps = [net.backbone(image, gain=2.0)[0 if stride == 8 else 1]]
        if deformable:
            maps = [net.sampled(maps[0], (height, width))]
        outputs = {
            boxes: (net.centred(maps), [1, height * width, 4], FLOAT),
            scores: (net.joined(maps, columns), [1, height * width, columns], FLOAT),
        }
        return close(net, size, outputs, image=image)

    return make


def logits_answer(boxes: str, scores: str, *, softmaxed: bool = False, cut: int = 0) -> Callable[..., Any]:
    """Sigmoid; or softmax, its last column left out."""

    def answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
        made = softmax(outputs[scores][0]) if softmaxed else sigmoid(outputs[scores][0])
        made = made[:, : made.shape[1] - cut]
        return (best(corners(outputs[boxes][0].astype(np.float64)) * pixels_of(size), made),)

    return answer


# --- boxes, scores and labels apart ---------------------------------------------------------------------------------


def torchvision(size: tuple[int, int] = SIZE, dynamic: bool = False, *, keep: int = 100) -> onnx.ModelProto:
    """RoIHeads.postprocess_detections: pixels, labels from 1, after NMS as many rows as are left."""
    net = Heads(21)
    maps = net.backbone()[:1]
    boxes = net.cornered(maps, (size[1], size[0], size[1], size[0]))
    scores = net.op("Softmax", net.joined(maps, len(NAMES) + 1), axis=2)
    foreground = net.ops("Split", scores, net.constant([1, len(NAMES)]), count=2, axis=2)[1]
    highest, labels = net.ops("TopK", foreground, net.constant([1]), count=2, axis=2)
    picked = net.op(
        "NonMaxSuppression", boxes, net.op("Transpose", highest, perm=[0, 2, 1]),
        net.constant(np.array([keep])), net.constant(0.5), net.constant(0.05),
    )  # fmt: skip
    index = net.op("Gather", picked, net.constant(2), axis=1)

    def taken(value: str, shape: list[int]) -> str:
        return net.op("Gather", net.op("Reshape", value, net.constant(shape)), index, axis=0)

    outputs: dict[str, tuple[str, Any, Any]] = {
        DYNAMIC: (taken(boxes, [-1, 4]), ["kept", 4], FLOAT),
        "labels": (net.op("Add", taken(labels, [-1]), net.constant(1)), ["kept"], COUNT),
        "scores": (taken(highest, [-1]), ["kept"], FLOAT),
    }
    return close(net, size, outputs)


def torchvision_fixed(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
    """The same without suppression, with a fixed number of rows and no batch."""
    net = Heads(22)
    maps = net.backbone()[:1]
    boxes = net.cornered(maps, (size[1], size[0], size[1], size[0]))
    chosen, scores, labels = net.best(boxes, net.op("Sigmoid", net.joined(maps, len(NAMES))), 100, first=1)

    def flat(value: str, shape: list[int]) -> str:
        return net.op("Reshape", value, net.constant(shape))

    outputs = {
        "boxes": (flat(chosen, [100, 4]), [100, 4], FLOAT),
        "labels": (flat(labels, [100]), [100], COUNT),
        "scores": (flat(scores, [100]), [100], FLOAT),
    }
    return close(net, size, outputs)


def batched(*, scale: bool, first: int) -> Callable[..., onnx.ModelProto]:
    """Boxes, labels and scores of a batch, chosen already."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(23)
        maps = net.backbone()[:1]
        boxes = net.cornered(maps, pixels_of(size) if scale else UNIT)
        chosen, scores, labels = net.best(boxes, net.op("Sigmoid", net.joined(maps, 5)), 150, first=first)
        outputs = {
            "bboxes": (chosen, [1, 150, 4], FLOAT),
            "labels": (labels, [1, 150], COUNT),
            "scores": (scores, [1, 150], FLOAT),
        }
        return close(net, size, outputs)

    return make


def efficient_nms(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
    """The outputs of EfficientNMS: rows beyond num_dets hold anything at all."""
    net = Heads(24)
    maps = net.backbone()[:1]
    boxes = net.cornered(maps, (size[1], size[0], size[1], size[0]))
    chosen, scores, labels = net.best(boxes, net.op("Sigmoid", net.joined(maps, len(NAMES))), 250)
    above = net.op("Cast", net.op("Greater", scores, net.op("ReduceMean", scores)), to=TensorProto.INT32)
    number = net.op("ReduceSum", above, net.constant([1]), keepdims=1)
    outputs = {
        "num_dets": (number, [1, 1], TensorProto.INT32),
        "det_boxes": (chosen, [1, 250, 4], FLOAT),
        "det_scores": (scores, [1, 250], FLOAT),
        "det_classes": (net.op("Cast", labels, to=TensorProto.INT32), [1, 250], TensorProto.INT32),
    }
    return close(net, size, outputs)


def tensorflow(*, bytes_in: bool) -> Callable[..., onnx.ModelProto]:
    """TensorFlow's object detection exporter through tf2onnx: pixels last, y before x, labels as floats from 1."""

    def make(size: tuple[int, int] = (128, 160), dynamic: bool = False) -> onnx.ModelProto:
        net, name = Heads(25), "input_tensor:0" if bytes_in else "image_tensor:0"
        value = name
        if bytes_in:
            value = net.op("Cast", value, to=FLOAT)
            value = net.op("Sub", net.op("Mul", value, net.constant(1 / 127.5)), net.constant(1.0))
        value = net.op("Transpose", value, perm=[0, 3, 1, 2])
        maps = net.backbone(value, gain=4.0)[:1]
        corner = net.op("Gather", net.cornered(maps), net.constant([1, 0, 3, 2]), axis=2)
        chosen, scores, labels = net.best(corner, net.op("Sigmoid", net.joined(maps, len(NAMES))), 100, first=1)
        above = net.op("Cast", net.op("Greater", scores, net.op("ReduceMean", scores)), to=FLOAT)
        kinds = {"detection_boxes": (chosen, [1, 100, 4]), "detection_scores": (scores, [1, 100]),
                 "detection_classes": (net.op("Cast", labels, to=FLOAT), [1, 100]),
                 "num_detections": (net.op("ReduceSum", above, net.constant([1]), keepdims=0), [1])}  # fmt: skip
        return net.model(
            {name: [1, *size, 3]},
            kinds,
            producer="tf2onnx",
            dtypes={name: TensorProto.UINT8} if bytes_in else {},
        )

    return make


def apart(end: str, *, pixels: bool = False, columns: int = 6, anchors: int = 1) -> Any:
    """Every anchor's scores and boxes. end: the operator behind the scores, "" for none."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(26)
        maps = net.backbone(gain=3.0) * anchors
        scores = net.joined(maps, columns)
        if end:
            scores = net.end(end, scores, axis=2)
        total = anchors * sum(h * w for h, w in levels(size, (8, 16, 32)))
        boxes = net.cornered(maps, pixels_of(size) if pixels else UNIT)
        outputs = {"scores": (scores, [1, total, columns], FLOAT), "boxes": (boxes, [1, total, 4], FLOAT)}
        return close(net, size, outputs)

    return make


def ssd_answer(outputs: Outputs, size: tuple[int, int], *, logits: bool = False) -> tuple[Array, ...]:
    """The background is class 0; boxes from 0 to 1."""
    scores = softmax(outputs["scores"][0]) if logits else outputs["scores"][0]
    return (best(outputs["boxes"][0].astype(np.float64) * pixels_of(size), scores[:, 1:]),)


# --- NanoDet --------------------------------------------------------------------------------------------------------


def nanodet(strides: Sequence[int], image: str = "data", bins: int = 8) -> Callable[..., onnx.ModelProto]:
    """_forward_onnx: at each stride sigmoid of the classes, the distributions as they are, all in one."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net, classes = Heads(31), len(NAMES)
        maps = net.backbone(image, gain=3.0, levels=len(strides))
        parts = [
            net.op("Concat", net.op("Sigmoid", net.rows(each, classes)), net.rows(each, 4 * bins, gain=5.0), axis=2)
            for each in maps
        ]
        total = sum(h * w for h, w in levels(size, strides))
        rows = net.op("Concat", *parts, axis=1)
        return close(net, size, {"output": (rows, [1, total, classes + 4 * bins], FLOAT)}, image=image)

    return make


def nanodet_answer(strides: Sequence[int], offset: float, bins: int = 8) -> Callable[..., Any]:
    """Integral, then distance2bbox, place by place."""

    def answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
        rows = outputs["output"][0].astype(np.float64)
        boxes: list[list[float]] = []
        for stride, (height, width) in zip(strides, levels(size, strides), strict=True):
            for y in range(height):
                for x in range(width):
                    sides = softmax(rows[len(boxes), len(NAMES) :].reshape(4, bins)) @ np.arange(bins) * stride
                    middle = (np.array([x, y]) + offset) * stride
                    boxes.append([*(middle - sides[:2]), *(middle + sides[2:])])
        limited = np.clip(np.array(boxes), 0, pixels_of(size))
        return (best(limited, rows[:, : len(NAMES)]),)

    return answer


# --- maps -----------------------------------------------------------------------------------------------------------


def classifier(
    end: str = "", *, columns: int = 4, metadata: Mapping[str, str] | None = None, half: bool = False
) -> Any:
    """Pooled features, one matrix. end: the operator behind them."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(41)
        value = net.op("GlobalMaxPool", net.backbone("input", gain=3.0)[2])
        value = net.op("Flatten", value, axis=1)
        weight = net.constant(np.random.default_rng(5).normal(0, 0.5, (12, columns)))
        value = net.op("Gemm", value, weight, net.constant(np.linspace(-0.5, 0.5, columns)))
        if end:
            value = net.end(end, value, axis=1)
        if half:
            value = net.op("Cast", value, to=TensorProto.FLOAT16)
        kind = TensorProto.FLOAT16 if half else FLOAT
        return close(net, size, {"output": (value, [1, columns], kind)}, image="input", metadata=metadata)

    return make


def classifier_answer(how: Callable[[Array], Array]) -> Callable[..., Any]:
    """One probability a class."""
    return lambda outputs, size: (how(outputs["output"][0].astype(np.float64)).astype(np.float32),)


def segmentation(end: str = "", *, columns: int = 3, upsample: int = 1, aux: bool = False) -> Callable[..., Any]:
    """One number for each class and place, at a stride of 8 / upsample."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(42)
        feature = net.backbone("input", gain=3.0)[0]
        value = net.conv(feature, (12, columns), kernel=1, gain=3.0)
        if upsample > 1:
            factors = net.constant([1.0, 1.0, float(upsample), float(upsample)])
            value = net.op("Resize", value, "", factors, mode="linear")
        if end:
            value = net.end(end, value, axis=1)
        shape = [1, columns, size[0] // 8 * upsample, size[1] // 8 * upsample]
        outputs = {"out": (value, shape, FLOAT)}
        if aux:
            outputs = {"aux": (net.op("Neg", value), shape, FLOAT), **outputs}
        return close(net, size, outputs, image="input")

    return make


def pooled_down(heatmap: Array, factor: int) -> Array:
    """[C, h, w] over squares, those at the end cut."""
    _, height, width = heatmap.shape
    cells = [
        [heatmap[:, y : y + factor, x : x + factor].max(axis=(1, 2)) for x in range(0, width, factor)]
        for y in range(0, height, factor)
    ]
    return np.array(cells).transpose(2, 0, 1)


def segmentation_answer(how: Callable[[Array], Array], factor: int = 1) -> Callable[..., Any]:
    """One probability a class and place."""
    return lambda outputs, size: (pooled_down(how(outputs["out"][0].astype(np.float64)), factor).astype(np.float32),)


SCALES = {
    "image_threshold": "0.9",
    "pixel_threshold": "0.8",
    "pred_scores.min": "0.5",
    "pred_scores.max": "1.5",
    "anomaly_maps.min": "0.0",
    "anomaly_maps.max": "1.25",
}


def anomaly(version: int, *, metadata: Mapping[str, str] | None = None, scaled: bool = True) -> Callable[..., Any]:
    """Version 2: four outputs, scaled in the graph. Version 1: the raw map alone."""

    def make(size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
        net = Heads(43)
        raw = net.conv(net.op("Abs", net.conv(net.backbone("input", gain=3.0)[0], (12, 6))), (6, 1), kernel=1)
        heatmap = net.op("Resize", net.op("Abs", raw), "", net.constant([1.0, 1.0, 8.0, 8.0]), mode="linear")
        if version == 1:
            return close(net, size, {"output": (heatmap, [1, 1, *size], FLOAT)}, image="input", metadata=metadata)
        peak = net.op("Reshape", net.op("GlobalMaxPool", heatmap), net.constant([1, 1]))
        outputs = {}
        for name, mask, value, shape in (
            ("pred_score", "pred_label", peak, [1, 1]), ("anomaly_map", "pred_mask", heatmap, [1, 1, *size])
        ):  # fmt: skip
            if scaled:
                value = net.op("Div", net.op("Sub", value, net.constant(0.8)), net.constant(2.5))
                value = net.op("Add", value, net.constant(0.5))
                value = net.op("Clip", value, net.constant(0.0), net.constant(1.0))
            outputs[name] = (value, shape, FLOAT)
            outputs[mask] = (net.op("Greater", value, net.constant(0.5)), shape, TensorProto.BOOL)
        return close(net, size, outputs, image="input")

    return make


def anomaly_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """As version 2 gives them."""
    return outputs["anomaly_map"].reshape(size), outputs["pred_score"].reshape(())


def anomaly_scaled(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """normalize_min_max: (x - threshold) / (max - min) + 0.5, clipped; the score is the map's maximum."""
    raw = outputs["output"].reshape(size).astype(np.float64)
    heatmap = np.clip((raw - 0.8) / 1.25 + 0.5, 0, 1).astype(np.float32)
    return heatmap, np.array(np.clip((raw.max() - 0.9) / 1.0 + 0.5, 0, 1), np.float32)


def completed(layout: Layout, folder: Path) -> tuple[onnx.ModelProto, Found, onnx.ModelProto]:
    """The original, what it was recognised as with the layout's hints, and the completed graph."""
    original = layout.make(size=layout.size)
    path = folder / "original.onnx"
    onnx.save(original, path)
    source = read(path, size=None)
    found = choose(source.signature, layout.hints)
    return original, found, complete(source.model, found)


def signature_of(model: onnx.ModelProto, folder: Path) -> Signature:
    """What the importer knows of it."""
    onnx.save(model, folder / "signature.onnx")
    return read(folder / "signature.onnx").signature


def check(layout: Layout, folder: Path, *, spread: bool = True) -> None:
    """The completed graph gives what the decoder makes of the original's outputs, in both runtimes, on pictures."""
    original, found, made = completed(layout, folder)
    assert found.head == layout.head
    assert found.pixelwise == replace(layout.pixelwise, size=found.pixelwise.size)
    names = list(OUTPUTS[found.task])
    (image,) = [each for each in original.graph.input if each.name == found.image.name]
    half = any(each.type.tensor_type.elem_type == TensorProto.FLOAT16 for each in original.graph.output)
    whole = image.type.tensor_type.elem_type == TensorProto.UINT8
    for pixels in pictures(layout.size):
        fed = network_input(pixels, layout.pixelwise)
        if found.image.shape[3] == 3:
            fed = fed.transpose(0, 2, 3, 1)
        outputs = run(original, {image.name: fed.astype(np.uint8) if whole else fed, **layout.feeds})
        wanted = dict(zip(names, layout.answer(outputs, layout.size), strict=True))
        for answers in (run(made, {"image": pixels[None]}), on_openvino(made, pixels, names)):
            assert list(answers) == names
            for name in names:
                same(answers[name][0], wanted[name], atol=1e-3 if half else 1e-4)
        if found.task == "detect" and spread:
            spread_out(wanted["detections"][wanted["detections"][:, 4] > 0])


def on_openvino(made: onnx.ModelProto, pixels: Array, names: Sequence[str]) -> dict[str, Array]:
    """The outputs by name, from OpenVINO in exact float32."""
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(made.SerializeToString()), "CPU", exact)
    answer = compiled({"image": pixels[None]})
    return {name: np.array(answer[compiled.output(name)]) for name in names}


def same(given: Array, wanted: Array, *, atol: float) -> None:
    """Rows within 0.01 px and 1e-4; anything else within `atol`."""
    if wanted.ndim == 2 and wanted.shape[1] == 6:
        same_rows(given, wanted)
        return
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, atol=atol)
    assert wanted.size < 4 or np.ptp(wanted) > 0.2


def identity(value: Array) -> Array:
    """As it is."""
    return value


SIZES = {"orig_target_sizes": np.array([[SIZE[1], SIZE[0]]], np.int64)}
TF_BYTES = Pixelwise(scale=1.0, resize="stretch")
TF_FLOAT = Pixelwise(scale=1 / 127.5, mean=(1.0, 1.0, 1.0), resize="stretch")
SSD = Pixelwise(scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3, resize="stretch")
NANODET = Pixelwise(
    colour="bgr", scale=1.0, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), resize="stretch"
)
GOOD = Hints(good=("good",), labels=("good", "scratch", "dent", "stain"))
BACK = Hints(labels=("background", "scratch", "dent"))
RF, RAW, FB = ("dets", "labels"), ("pred_boxes", "logits"), ("pred_boxes", "pred_logits")

MORE: dict[str, Layout] = {
    "rt-detr": Layout(
        head="rt-detr", make=rt_detr, answer=kept_answer(), pixelwise=STRETCHED, hints=LABELS, feeds=SIZES
    ),
    "rt-detr ultralytics": Layout(
        head="rt-detr-joined", make=rt_detr_joined, answer=joined_answer, pixelwise=STRETCHED
    ),
    "rt-detr ultralytics, two classes": Layout(
        head="rt-detr-joined", make=lambda **k: rt_detr_joined(classes=2, said=False, **k), answer=joined_answer,
        pixelwise=STRETCHED,
    ),
    "rt-detr ultralytics, sorted": Layout(
        head="rt-detr-sorted", make=rt_detr_sorted, answer=sorted_answer, pixelwise=STRETCHED
    ),
    "rt-detr ultralytics, sorted, two classes": Layout(
        head="rt-detr-sorted", make=lambda **k: rt_detr_sorted(classes=2, said=False, **k), answer=sorted_answer,
        pixelwise=STRETCHED, hints=Hints(labels=NAMES[:2]),
    ),
    "rt-detr raw": Layout(
        head="rt-detr-logits", make=logits(*RAW, image="pixel_values"), answer=logits_answer(*RAW), pixelwise=STRETCHED
    ),
    "rf-detr": Layout(head="rf-detr", make=logits(*RF), answer=logits_answer(*RF), pixelwise=IMAGENET),
    "rf-detr, spare column": Layout(
        head="rf-detr", make=logits(*RF), answer=logits_answer(*RF, cut=1), pixelwise=IMAGENET, hints=LABELS
    ),
    "rf-detr, three classes": Layout(
        head="rf-detr", make=logits(*RF, columns=4), answer=logits_answer(*RF), pixelwise=IMAGENET
    ),
    "detr": Layout(
        head="detr", make=logits(*FB, deformable=False, stride=16), pixelwise=IMAGENET, hints=Hints(head="detr"),
        answer=logits_answer(*FB, softmaxed=True, cut=1),
    ),
    "detr, a hundred queries": Layout(
        head="detr", make=logits(*FB, deformable=False, stride=16), pixelwise=IMAGENET, size=(160, 160),
        answer=logits_answer(*FB, softmaxed=True, cut=1),
    ),
    "torchvision": Layout(head="torchvision", make=torchvision, answer=kept_answer(1), hints=LABELS),
    "torchvision, fixed": Layout(head="torchvision", make=torchvision_fixed, answer=kept_answer(1), hints=LABELS),
    "boxes": Layout(
        head="boxes", make=batched(scale=True, first=0), answer=kept_answer(), hints=Hints(head="boxes", labels=NAMES)
    ),
    "ssd-labels": Layout(
        head="ssd-labels", make=batched(scale=False, first=1), answer=kept_answer(1, True),
        hints=Hints(head="ssd-labels", labels=NAMES),
    ),
    "efficient-nms": Layout(head="efficient-nms", make=efficient_nms, answer=kept_answer(), hints=LABELS),
    "tensorflow": Layout(
        head="tensorflow", make=tensorflow(bytes_in=True), answer=kept_answer(1, True, (1, 0, 3, 2)),
        pixelwise=TF_BYTES, hints=LABELS,
    ),
    "tensorflow, floats": Layout(
        head="tensorflow", make=tensorflow(bytes_in=False), answer=kept_answer(1, True, (1, 0, 3, 2)),
        pixelwise=TF_FLOAT, hints=LABELS,
    ),
    "ssd": Layout(head="ssd", make=apart("Softmax", anchors=2), answer=ssd_answer, pixelwise=SSD, hints=LABELS),
    "ssd, logits": Layout(
        head="ssd", make=apart("", anchors=2), answer=lambda o, s: ssd_answer(o, s, logits=True), pixelwise=SSD
    ),
    "boxes-scores": Layout(
        head="boxes-scores", make=apart("Sigmoid", pixels=True), hints=Hints(labels=(*NAMES, "rust")),
        answer=lambda o, s: (best(o["boxes"][0], o["scores"][0]),),
    ),
    "nanodet-plus": Layout(
        head="nanodet", make=nanodet((8, 16, 32, 64)), answer=nanodet_answer((8, 16, 32, 64), 0.0), pixelwise=NANODET,
        hints=LABELS,
    ),
    "nanodet": Layout(
        head="nanodet", make=nanodet((8, 16, 32)), answer=nanodet_answer((8, 16, 32), 0.5), pixelwise=NANODET,
        hints=LABELS,
    ),
    "nanodet-g": Layout(
        head="nanodet", make=nanodet((8, 16, 32, 64), bins=11), answer=nanodet_answer((8, 16, 32, 64), 0.0, 11),
        pixelwise=NANODET, hints=LABELS,
    ),
    "classifier": Layout(
        head="classifier", make=classifier(), answer=classifier_answer(softmax), pixelwise=IMAGENET, hints=GOOD
    ),
    "classifier, softmax": Layout(
        head="classifier", make=classifier("Softmax"), answer=classifier_answer(identity), pixelwise=IMAGENET,
        hints=GOOD,
    ),
    "classifier, log softmax, half": Layout(
        head="classifier", make=classifier("LogSoftmax", half=True), answer=classifier_answer(np.exp),
        pixelwise=IMAGENET, hints=GOOD,
    ),
    "classifier ultralytics": Layout(
        head="classifier", answer=classifier_answer(identity), pixelwise=STRETCHED,
        make=classifier("Softmax", columns=2, metadata={"task": "classify", "names": "{0: 'bad', 1: 'good'}"}),
    ),
    "classifier, one number": Layout(
        head="classifier", make=classifier(columns=1), answer=classifier_answer(sigmoid), pixelwise=IMAGENET,
        hints=Hints(good=(), labels=("defect",)),
    ),
    "segmentation": Layout(
        head="segmentation", make=segmentation(), answer=segmentation_answer(lambda v: softmax(v, 0)),
        pixelwise=IMAGENET, hints=BACK,
    ),
    "segmentation, softmax, aux": Layout(
        head="segmentation", make=segmentation("Softmax", aux=True), answer=segmentation_answer(identity),
        pixelwise=IMAGENET, hints=BACK,
    ),
    "segmentation, one class": Layout(
        head="segmentation", make=segmentation("Sigmoid", columns=1), answer=segmentation_answer(identity),
        pixelwise=IMAGENET,
    ),
    "segmentation, large": Layout(
        head="segmentation", make=segmentation(upsample=8), size=(296, 320), pixelwise=IMAGENET, hints=BACK,
        answer=segmentation_answer(lambda v: softmax(v, 0), 2),
    ),
    "anomaly 2": Layout(head="anomaly", make=anomaly(2), answer=anomaly_answer, pixelwise=STRETCHED),
    "anomaly 1": Layout(
        head="anomaly", make=anomaly(1, metadata=SCALES), answer=anomaly_scaled, pixelwise=STRETCHED
    ),
}  # fmt: skip

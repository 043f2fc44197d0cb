"""Small networks of every layout that exporters make, built node by node, with a plain NumPy decoder beside each.

The first half is shared (`Net`, `Layout`, `pictures`, `run`, `best`, `same_rows`); `ZOO` at the end holds the YOLOs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_inspector.contract import ROWS
from edge_inspector.models.heads.base import Hints, Pixelwise

Array = NDArray[Any]
Outputs = Mapping[str, Array]  # what the original graph gives, with the batch
SIZE = (128, 160)  # not square, and enough anchors at strides 8, 16 and 32 (420) for a top 300 to leave some out


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to export. make(size=, dynamic=): the model; dynamic leaves batch, height and width open.

    answer: the contract's outputs from the original's, without the batch, in NumPy; size is (height, width).
    head: what it must be recognised as. hints: what a user has to say.
    """

    head: str
    make: Callable[..., onnx.ModelProto]
    answer: Callable[[Outputs, tuple[int, int]], tuple[Array, ...]]
    pixelwise: Pixelwise = field(default_factory=Pixelwise)
    hints: Hints = field(default_factory=Hints)
    size: tuple[int, int] = SIZE
    feeds: Mapping[str, Array] = field(default_factory=dict)


class Net:
    """A graph that grows: every method adds nodes and returns the names of their results."""

    def __init__(self, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node of one output."""
        return self.ops(kind, *inputs, count=1, domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, count: int, domain: str = "", **attributes: Any) -> list[str]:
        """One node of several outputs."""
        number = len(self._nodes)
        names = [f"/{kind}_{number}_output_{n}" for n in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, names, f"/{kind}_{number}", domain=domain, **attributes))
        return names

    def constant(self, value: Any, dtype: str | None = None) -> str:
        """A weight that is known: integers become int64, floats float32."""
        array = np.asarray(value, dtype)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(
        self, value: str, channels: tuple[int, int], *, stride: int = 1, kernel: int = 3, gain: float = 1.0,
        bias: float | Sequence[float] = 0.0, even: bool = False,
    ) -> str:  # fmt: skip
        """A convolution (in, out) with random weights that keep the spread; even: blind to a constant picture."""
        weight = self._random.normal(
            0, gain / np.sqrt(channels[0] * kernel**2), (channels[1], channels[0], kernel, kernel)
        )
        if even:
            weight -= weight.mean(axis=(2, 3), keepdims=True)
        offset = np.broadcast_to(np.asarray(bias, np.float32), (channels[1],)) + self._random.normal(
            0, 0.1, channels[1]
        )
        return self.op(
            "Conv", value, self.constant(weight), self.constant(offset), kernel_shape=[kernel, kernel],
            strides=[stride, stride], pads=[kernel // 2] * 4,
        )  # fmt: skip

    def backbone(self, image: str = "images", *, channels: int = 12, levels: int = 3, gain: float = 8.0) -> list[str]:
        """Maps at strides 8, 16, 32 (`levels` of them). gain: 8 for pixels 0..1, 8 / 255 for bytes."""
        value = self.op("Relu", self.conv(image, (3, channels), stride=2, gain=gain, even=True))
        value = self.op("Relu", self.conv(value, (channels, channels), stride=2, gain=1.4))
        maps = []
        for _ in range(levels):
            value = self.op("Relu", self.conv(value, (channels, channels), stride=2, gain=1.4))
            maps.append(value)
        return maps

    def model(
        self, inputs: Mapping[str, Sequence[int | str | None]], outputs: Mapping[str, tuple[str, Sequence[Any] | None]],
        *, metadata: Mapping[str, str] | None = None, producer: str = "pytorch", opset: int = 17,
        dtypes: Mapping[str, int] | None = None, domains: Sequence[str] = (),
    ) -> onnx.ModelProto:  # fmt: skip
        """Close it. outputs: the name to give -> (the value, its shape; None: inferred). dtypes: where not float32."""
        kinds = dict(dtypes or {})
        for name, (value, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], f"/{name}"))
        graph = helper.make_graph(
            self._nodes,
            "main_graph",
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, (_, s) in outputs.items()],
            self._weights,
        )
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9, producer_name=producer)
        helper.set_model_props(model, dict(metadata or {}))
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output
        for output, known in zip(model.graph.output, inferred, strict=True):
            output.CopyFrom(known)
        onnx.checker.check_model(model)
        return model


def image_shape(size: tuple[int, int], *, dynamic: bool = False) -> list[int | str]:
    """Of an input [N, 3, H, W]."""
    return ["batch", 3, "height", "width"] if dynamic else [1, 3, *size]


def pictures(size: tuple[int, int], count: int = 3) -> list[NDArray[np.uint8]]:
    """uint8 [h, w, 3]: noise of several grains, so that every place differs from every other."""
    import cv2

    made = []
    for seed in range(count):
        random = np.random.default_rng(1000 + seed)
        layers = [
            cv2.resize(random.integers(0, 256, (max(2, size[0] // g), max(2, size[1] // g), 3), np.uint8), size[::-1])
            for g in (1, 4, 16)
        ]
        made.append(np.mean(layers, axis=0).round().astype(np.uint8))
    return made


def network_input(pixels: NDArray[np.uint8], pixelwise: Pixelwise, *, dtype: str = "float32") -> Array:
    """What the original graph wants for a picture, made in NumPy: float [1, 3, H, W]."""
    ordered = pixels[..., ::-1] if pixelwise.colour == "rgb" else pixels
    scaled = (ordered.astype(np.float64) * pixelwise.scale - pixelwise.mean) / pixelwise.std
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]).astype(dtype)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs of a graph, from ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def run_openvino(model: onnx.ModelProto, pixels: NDArray[np.uint8], folder: Path) -> dict[str, Array]:
    """All outputs of a completed graph, from OpenVINO in exact float32."""
    import openvino

    path = folder / "model.onnx"
    onnx.save(model, path)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    answer = compiled({"image": pixels[None]})
    return {output.any_name: np.array(answer[output]) for output in compiled.outputs}


def sigmoid(value: Array) -> Array:
    """1 / (1 + e^-x) in double precision."""
    return np.asarray(1 / (1 + np.exp(-value.astype(np.float64))))


def corners(boxes: Array) -> Array:
    """cx, cy, w, h -> x1, y1, x2, y2."""
    half = boxes[..., 2:4] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def best(boxes: Array, scores: Array, areas: Array | None = None, *, count: int = ROWS) -> Array:
    """The contract's rows, [K, 6 or 7], of boxes [N, 4] and scores [N, C]."""
    label, score = scores.argmax(axis=1), scores.max(axis=1)
    order = np.argsort(-score, kind="stable")[:count]
    columns = [boxes, score[:, None], label[:, None], *([] if areas is None else [areas[:, None]])]
    return np.concatenate(columns, axis=1)[order].astype(np.float32)


def same_rows(found: Array, wanted: Array, *, box_px: float = 0.01, score: float = 1e-4, share: float = 1.0) -> None:
    """Both hold the same boxes, classes and scores, best first; rows that tie with the last may differ.

    share: of the rows that must have a twin; in half precision two classes of a box may tie.
    """
    assert found.shape == wanted.shape
    assert (np.diff(found[:, 4]) <= 0).all()
    np.testing.assert_allclose(found[:, 4], wanted[:, 4], atol=score)
    free, lost = list(range(len(found))), []
    for row in wanted:
        if row[4] <= wanted[-1, 4] + 2 * score:
            continue
        gap = np.abs(found[free, :4] - row[:4]).max(axis=1)
        fits = (gap <= box_px) & (np.abs(found[free, 4] - row[4]) <= score) & (found[free, 5] == row[5])
        if found.shape[1] == 7:
            fits &= np.abs(found[free, 6] - row[6]) <= 0.01 * row[6] + 64
        if fits.any():
            free.pop(int(fits.argmax()))
        else:
            lost.append(f"no row like {row}; the nearest is {found[free][gap.argmin()]}")
    assert len(lost) <= (1 - share) * len(wanted), lost[0]


def spread_out(rows: Array) -> None:
    """A network is worth comparing on: its scores differ, its boxes are many and of every class."""
    assert len(np.unique(rows[:, 4])) > 0.9 * len(rows)
    assert np.ptp(rows[:, 4]) > 0.05
    assert np.ptp(rows[:, 0]) > 40
    assert len(np.unique(rows[:, 5])) > 1


CLASSES = 3
NAMES = "{0: 'scratch', 1: 'dent', 2: 'hole'}"
STRIDES = (8, 16, 32)
ANCHORS = np.array(
    [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]], [[116, 90], [156, 198], [373, 326]]]
)


def grid(size: tuple[int, int]) -> tuple[Array, Array]:
    """Upper left corners of all places in units of their stride, [N, 2], and the strides, [N, 1]."""
    places = [[(x, y, s) for y in range(size[0] // s) for x in range(size[1] // s)] for s in STRIDES]
    table = np.array([place for level in places for place in level], np.float32)
    return table[:, :2], table[:, 2:]


def _columns(
    net: Net, size: tuple[int, int], outs: int, *, gain: float, dynamic: bool = False, channels: int = 12
) -> str:
    """A convolution on each map, flattened and joined: [1, outs, N]."""
    maps = [net.conv(each, (channels, outs), kernel=1, gain=2.5) for each in net.backbone(gain=gain, channels=channels)]
    flat = []
    for each in maps:
        if dynamic:  # as torch traces `x.view(batch, outs, -1)`
            batch = net.op("Gather", net.op("Shape", each), net.constant(0), axis=0)
            parts = [net.op("Unsqueeze", batch, net.constant([0])), net.constant([outs]), net.constant([-1])]
            flat.append(net.op("Reshape", each, net.op("Concat", *parts, axis=0)))
        else:
            flat.append(net.op("Reshape", each, net.constant([1, outs, -1])))
    return net.op("Concat", *flat, axis=2)


def _v8_boxes(net: Net, raw: str, size: tuple[int, int]) -> str:
    """[1, 4, N] of distances to the four sides, in strides: positive, then cx, cy, w, h in pixels."""
    corner, stride = grid(size)
    centre = net.constant((corner + 0.5).T[None])
    near, far = net.ops("Split", net.op("Softplus", raw), net.constant([2, 2]), count=2, axis=1)
    first, second = net.op("Sub", centre, near), net.op("Add", centre, far)
    middle = net.op("Div", net.op("Add", first, second), net.constant(2.0))
    both = net.op("Concat", middle, net.op("Sub", second, first), axis=1)
    return net.op("Mul", both, net.constant(stride.T[None]))


def yolov8(
    *, size: tuple[int, int] = SIZE, dynamic: bool = False, metadata: bool = True, prototypes: int = 0,
    classes: int = CLASSES, last: bool = False, opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    """[1, 4 + C, N], decoded. Ultralytics traces its dynamic exports with anchors of the size it was exported at."""
    net = Net(8)
    raw = _columns(net, size, 4 + classes + prototypes, gain=8.0, dynamic=dynamic)
    sizes = [4, classes, *([prototypes] if prototypes else [])]
    parts = net.ops("Split", raw, net.constant(sizes), count=len(sizes), axis=1)
    joined = net.op("Concat", _v8_boxes(net, parts[0], size), net.op("Sigmoid", parts[1]), *parts[2:], axis=1)
    if last:
        joined = net.op("Transpose", joined, perm=[0, 2, 1])
    notes = {"task": "segment" if prototypes else "detect", "names": NAMES, "imgsz": str(list(size)), "stride": "32"}
    shape = ["batch", 4 + classes + prototypes, "anchors"] if dynamic else None
    outputs = {"output0": (joined, shape)}
    if prototypes:
        net_map = net.op("Relu", net.conv("images", (3, 8), stride=4, kernel=5, gain=8.0, even=True))
        outputs["output1"] = (net.conv(net_map, (8, prototypes), gain=2.0), None)
    return net.model(
        {"images": image_shape(size, dynamic=dynamic)}, outputs, metadata=notes if metadata else {}, opset=opset
    )


def yolov8_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """Boxes are cx, cy, w, h in pixels."""
    rows = outputs["output0"][0].T
    return (best(corners(rows[:, :4]), rows[:, 4 : 4 + CLASSES]),)


def yolov8_seg_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """With the areas of the masks of the best 100, row by row."""
    rows = outputs["output0"][0].T
    return (
        _with_areas(
            corners(rows[:, :4]), rows[:, 4 : 4 + CLASSES], rows[:, 4 + CLASSES :], outputs["output1"][0], size
        ),
    )


def _with_areas(boxes: Array, scores: Array, weights: Array, prototypes: Array, size: tuple[int, int]) -> Array:
    areas = np.zeros(len(boxes))
    order = np.argsort(-scores.max(axis=1), kind="stable")[:100]
    step = size[0] / prototypes.shape[1]
    y, x = np.mgrid[: prototypes.shape[1], : prototypes.shape[2]]
    for n in order:
        x1, y1, x2, y2 = boxes[n] / step
        mask = np.tensordot(weights[n], prototypes, 1) > 0
        areas[n] = (mask & (x >= x1) & (x < x2) & (y >= y1) & (y < y2)).sum() * step**2
    return best(boxes, scores, areas, count=100)


def yolov5(*, size: tuple[int, int] = SIZE, dynamic: bool = False, half: bool = False) -> onnx.ModelProto:
    """[1, 3 N, 5 + C], decoded with anchors; and the three raw maps, which YOLOv5 exports as well."""
    net, columns = Net(5), 5 + CLASSES
    decoded, raws = [], []
    for n, each in enumerate(net.backbone(channels=16)):
        h, w, stride = size[0] // STRIDES[n], size[1] // STRIDES[n], STRIDES[n]
        raw = net.op(
            "Reshape", net.conv(each, (16, 3 * columns), kernel=1, gain=2.5), net.constant([1, 3, columns, h, w])
        )
        raws.append(net.op("Transpose", raw, perm=[0, 1, 3, 4, 2]))
        centre, side, rest = net.ops(
            "Split", net.op("Sigmoid", raws[-1]), net.constant([2, 2, columns - 4]), count=3, axis=4
        )
        y, x = np.mgrid[:h, :w]
        places = net.constant((np.stack([x, y], -1) - 0.5)[None, None])
        centre = net.op(
            "Mul", net.op("Add", net.op("Mul", centre, net.constant(2.0)), places), net.constant(float(stride))
        )
        side = net.op("Pow", net.op("Mul", side, net.constant(2.0)), net.constant(2.0))
        side = net.op("Mul", side, net.constant(ANCHORS[n].reshape(1, 3, 1, 1, 2).astype(np.float32)))
        decoded.append(net.op("Reshape", net.op("Concat", centre, side, rest, axis=4), net.constant([1, -1, columns])))
    outputs = {"output0": (net.op("Concat", *decoded, axis=1), None)}
    outputs |= {f"raw{n}": (raw, None) for n, raw in enumerate(raws)}
    return net.model({"images": image_shape(size)}, outputs, producer="pytorch")


def yolov5_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """Objectness times class."""
    rows = outputs["output0"][0]
    return (best(corners(rows[:, :4]), rows[:, 4:5] * rows[:, 5:]),)


def yolox(*, size: tuple[int, int] = SIZE, dynamic: bool = False) -> onnx.ModelProto:
    """[1, N, 5 + C], relative to the grid; bytes as input."""
    net = Net(10)
    raw = _columns(net, size, 5 + CLASSES, gain=8.0 / 255)
    box, rest = net.ops("Split", raw, net.constant([4, 1 + CLASSES]), count=2, axis=1)
    joined = net.op("Concat", box, net.op("Sigmoid", rest), axis=1)
    return net.model({"images": image_shape(size)}, {"output": (net.op("Transpose", joined, perm=[0, 2, 1]), None)})


def yolox_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """demo_postprocess of the project, in NumPy."""
    rows = outputs["output"][0]
    corner, stride = grid(size)
    boxes = np.concatenate([(rows[:, :2] + corner) * stride, np.exp(rows[:, 2:4]) * stride], axis=1)
    return (best(corners(boxes), rows[:, 4:5] * rows[:, 5:]),)


def yolov10(*, size: tuple[int, int] = SIZE, dynamic: bool = False, prototypes: int = 0) -> onnx.ModelProto:
    """[1, 300, 6]: sorted out in the graph."""
    net = Net(26)
    raw = _columns(net, size, 4 + CLASSES + prototypes, gain=8.0)
    sizes = [4, CLASSES, *([prototypes] if prototypes else [])]
    parts = net.ops("Split", raw, net.constant(sizes), count=len(sizes), axis=1)
    rows = [net.op("Transpose", each, perm=[0, 2, 1]) for each in (_v8_boxes(net, parts[0], size), *parts[1:])]
    centre, side = net.ops("Split", rows[0], net.constant([2, 2]), count=2, axis=2)
    half = net.op("Div", side, net.constant(2.0))
    boxes = net.op("Concat", net.op("Sub", centre, half), net.op("Add", centre, half), axis=2)
    scores = net.op("Reshape", net.op("Sigmoid", rows[1]), net.constant([1, -1]))
    score, index = net.ops("TopK", scores, net.constant([300]), count=2, axis=1)
    label = net.op("Unsqueeze", net.op("Cast", net.op("Mod", index, net.constant(CLASSES)), to=1), net.constant([2]))
    place = net.op("Unsqueeze", net.op("Div", index, net.constant(CLASSES)), net.constant([2]))
    taken = []
    for each, width in ((boxes, 4), *([(rows[2], prototypes)] if prototypes else [])):
        wide = net.op("Expand", place, net.constant([1, 300, width]))
        taken.append(net.op("GatherElements", each, wide, axis=1))
    final = net.op("Concat", taken[0], net.op("Unsqueeze", score, net.constant([2])), label, *taken[1:], axis=2)
    outputs = {"output0": (final, None)}
    if prototypes:
        maps = net.op("Relu", net.conv("images", (3, 8), stride=4, kernel=5, gain=8.0, even=True))
        outputs["output1"] = (net.conv(maps, (8, prototypes), gain=2.0), None)
    return net.model(
        {"images": image_shape(size)}, outputs, metadata={"names": NAMES, "task": "detect", "end2end": "True"}
    )


def yolov10_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """As they are."""
    return (outputs["output0"][0],)


def yolov10_seg_answer(outputs: Outputs, size: tuple[int, int]) -> tuple[Array, ...]:
    """The best 100 as they are, with their areas."""
    rows = outputs["output0"][0][:100]
    areas = _with_areas(rows[:, :4], rows[:, 4:5], rows[:, 6:], outputs["output1"][0], size)[:, 6:]
    return (np.concatenate([rows[:, :6], areas], axis=1),)


LABELS = Hints(labels=("scratch", "dent", "hole"))
BYTES = Pixelwise(colour="bgr", scale=1.0)
ZOO: dict[str, Layout] = {
    "yolov8": Layout(head="yolov8", make=yolov8, answer=yolov8_answer),
    "yolov8-seg": Layout(head="yolov8-seg", make=partial(yolov8, prototypes=32), answer=yolov8_seg_answer),
    "yolov5": Layout(head="yolov5", make=yolov5, answer=yolov5_answer, hints=LABELS),
    "yolox": Layout(head="yolox", make=yolox, answer=yolox_answer, pixelwise=BYTES, hints=LABELS),
    "yolov10": Layout(head="yolov10", make=yolov10, answer=yolov10_answer),
    "yolov10-seg": Layout(head="yolov10-seg", make=partial(yolov10, prototypes=32), answer=yolov10_seg_answer),
}

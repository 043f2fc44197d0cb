"""A detector small enough to be compiled in a test, with everything in it that half precision would spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_inspector.models.folder import Engine, find
from edge_inspector.models.golden import make_golden
from edge_inspector.runners.openvino import OpenVinoRunner

SIZE, ROWS, CLASSES, BINS = 64, 20, 3, 16


class Graph:
    """Nodes and weights that grow; a node is named after what it makes, or not at all."""

    def __init__(self, *, named: bool = True, seed: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._named = named

    def weight(self, value: Any) -> str:
        """An initializer: floats become float32, integers int64."""
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, op: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        """Returns the first output."""
        made = outputs or (f"{op.lower()}{len(self.nodes)}",)
        self.nodes.append(helper.make_node(op, inputs, made, made[0] if self._named else "", **attributes))
        return made[0]

    def conv(self, value: str, into: int, out: int, *, stride: int = 1, gain: float = 1.0) -> str:
        """3 x 3 with learned weights."""
        kernel = self.random.normal(0, gain / np.sqrt(into * 9), (out, into, 3, 3))
        bias = self.random.normal(0, 0.1, out)
        sizes = {"kernel_shape": [3, 3], "strides": [stride, stride], "pads": [1, 1, 1, 1]}
        return self.add("Conv", value, self.weight(kernel), self.weight(bias), **sizes)

    def front(self) -> str:
        """From bytes to the network's input."""
        value = self.add("Cast", "image", to=TensorProto.FLOAT)
        return self.add("Div", self.add("Transpose", value, perm=[0, 3, 1, 2]), self.weight(255.0))

    def model(self, outputs: dict[str, list[int]]) -> onnx.ModelProto:
        """Closed and checked."""
        picture = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "tiny", [picture], ends, self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made


def detector(*, named: bool = True, seed: int = 3) -> onnx.ModelProto:
    """Like a YOLO: SiLU, a neck with Resize and Concat; distances by softmax and weighted mean, sides by exp, top K."""
    g = Graph(named=named, seed=seed)
    places = (SIZE // 8) ** 2
    value = g.conv(g.front(), 3, 16, stride=2, gain=6.0)
    value = g.add("Mul", value, g.add("Sigmoid", value))
    fine = g.add("Relu", g.conv(value, 16, 16, stride=2))
    coarse = g.add("Relu", g.conv(fine, 16, 16, stride=2, gain=1.5))
    up = g.add("Resize", coarse, "", g.weight([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    neck = g.add("Concat", up, fine, axis=1)
    shared = g.add("Relu", g.conv(neck, 32, 16, stride=2, gain=1.5))
    boxes = g.add("Reshape", g.conv(shared, 16, 4 * BINS, gain=3.0), g.weight([1, 4, BINS, places]))
    share = g.add("Softmax", g.add("Transpose", boxes, perm=[0, 2, 1, 3]), axis=1, outputs=("bins",))
    distance = g.add(
        "Conv", share, g.weight(np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)), outputs=("dfl",)
    )
    distance = g.add("Reshape", distance, g.weight([1, 4, places]))
    sides = g.add("Exp", g.add("Mul", distance, g.weight(0.2)), outputs=("sides",))
    y, x = np.mgrid[: SIZE // 8, : SIZE // 8] * 8.0 + 4.0
    signs = g.weight(np.array([-1.0, -1.0, 1.0, 1.0]).reshape(1, 4, 1))
    centres = g.weight(np.stack([x, y, x, y]).reshape(1, 4, places))
    corners = g.add("Add", centres, g.add("Mul", sides, signs), outputs=("corners",))
    logits = g.add("Reshape", g.conv(shared, 16, CLASSES, gain=0.6), g.weight([1, CLASSES, places]))
    scores = g.add("Sigmoid", logits, outputs=("scores",))
    best = g.add("ReduceMax", scores, axes=[1], keepdims=1, outputs=("best",))
    label = g.add("Cast", g.add("ArgMax", scores, axis=1, keepdims=1), to=TensorProto.FLOAT)
    top = g.add("TopK", best, g.weight([ROWS]), axis=2, outputs=("top", "index"))
    index = g.add("Expand", "index", g.weight([1, 4, ROWS]))
    taken = g.add("GatherElements", corners, index, axis=2)
    labels = g.add("GatherElements", label, "index", axis=2)
    rows = g.add("Concat", taken, top, labels, axis=1)
    g.add("Transpose", rows, perm=[0, 2, 1], outputs=("detections",))
    return g.model({"detections": [1, ROWS, 6]})


def engine(engines: Path, name: str = "tiny") -> Engine:
    """An engine folder with its golden pictures."""
    folder = engines / name
    folder.mkdir(parents=True)
    onnx.save(detector(), folder / "model.onnx")
    (folder / "model.toml").write_text('task = "detect"\nlabels = ["a", "b", "c"]\n')
    (folder / "recipe.toml").write_text("")
    made = find(name, engines)
    make_golden(made, OpenVinoRunner(made.model, "detect", precision="fp32"))
    return made


def pictures(count: int = 3) -> list[Any]:
    """uint8 [SIZE, SIZE, 3], coarse blobs."""
    random = np.random.default_rng(7)
    small = random.integers(0, 256, (count, SIZE // 8, SIZE // 8, 3), np.uint8)
    return list(small.repeat(8, axis=1).repeat(8, axis=2))

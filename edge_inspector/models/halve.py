"""FP16 for strongly typed builders: the network's tensors become float16, everything around it stays float32.

The network lies between the first and the last operators with learned weights. Before it are bytes, behind it boxes and
scores are decoded: half precision would move them. Within it stay what overflows or loses there (softmax, norms, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelRefused

Array = NDArray[Any]

LEARNED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# float16 where all that flows in is float16 as well; what is in neither set stays float32
CARRIERS = {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "DepthToSpace", "Div", "Dropout", "Einsum",
    "Elu", "Erf", "Expand", "Flatten", "Gather", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul",
    "Max", "MaxPool", "Min", "Mish", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
ALWAYS_FLOAT = {"Resize": (1, 2)}  # the operator asks for float32 at these inputs: region and scales
MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"}
LARGEST, SMALLEST = 65504.0, 2.0**-14  # of float16's numbers; below the smallest they lose digits
HALF = "inspector/half/"


def to_fp16(model: Path, into: Path) -> tuple[str, ...]:
    """Write the graph with its network in float16; inputs and outputs keep their types.

    Returns the names of the operators that stay float32. Raises ModelRefused where nothing can be halved.
    """
    import onnx

    whole = onnx.load(model)
    for n, node in enumerate(whole.graph.node):
        node.name = node.name or f"{node.op_type}_{n}"
    halver = _Halver(onnx, onnx.shape_inference.infer_shapes(whole, data_prop=True).graph)
    halves = halver.choose()
    if not halves:
        raise ModelRefused(f"{model}: has no operators for half precision; build it with --precision fp32")
    nodes, weights = halver.rewrite(halves)
    graph = whole.graph
    used = {name for node in nodes for name in _reads(node)} | {each.name for each in graph.output}
    weights += [each for each in graph.initializer if each.name in used]
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(node for node in nodes if node.op_type != "Constant" or node.output[0] in used)
    graph.initializer.extend(weights)
    onnx.save(whole, into)
    kept = (node for node in halver.nodes if node.name not in halves and node.op_type != "Constant")
    return tuple(node.name for node in kept if halver.floats(node) or halver.results(node))


class _Halver:
    """A graph whose tensors' types are known. A tensor's own name always means float32, HALF + name its float16."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self.nodes: Sequence[Any] = list(graph.node)
        self._constants: dict[str, Array] = {
            each.name: onnx.numpy_helper.to_array(each)
            for each in graph.initializer
            if each.data_type == onnx.TensorProto.FLOAT
        }
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Constant" and node.attribute[0].name in ("value_float", "value_floats"):
                value = onnx.helper.get_attribute_value(node.attribute[0])
                self._constants[node.output[0]] = np.array(value, np.float32)
        values = (*graph.value_info, *graph.input, *graph.output)
        self._float = {each.name for each in values if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
        self._float |= {name for name, value in self._constants.items() if value.dtype == np.float32}
        self._maker = {name: node for node in self.nodes for name in node.output}

    def floats(self, node: Any) -> list[str]:
        """The float32 tensors that a node computes with."""
        always = ALWAYS_FLOAT.get(node.op_type, ())
        return [name for n, name in enumerate(node.input) if name in self._float and n not in always]

    def results(self, node: Any) -> list[str]:
        """The float32 tensors that a node makes."""
        return [name for name in node.output if name in self._float]

    def choose(self) -> set[str]:
        """The names of the nodes that shall compute in float16."""
        leads: set[str] = set()  # tensors from which floats flow to learned weights
        for node in reversed(self.nodes):
            if self._learned(node) or leads.intersection(node.output):
                leads.update(self.floats(node))
        chosen, halved = set(), set()
        for node in self.nodes:
            flows = [name for name in self.floats(node) if name not in self._constants]
            carries = (
                node.op_type in CARRIERS
                and bool(leads.intersection(node.output))
                and all(name in halved or (node.op_type == "MatMul" and self._softmax(name)) for name in flows)
            )
            if flows and self.results(node) and (self._learned(node) or carries) and self._fits(node):
                chosen.add(node.name)
                halved.update(self.results(node))
        return chosen

    def rewrite(self, halves: set[str]) -> tuple[list[Any], list[Any]]:
        """The nodes, with casts where float16 begins and ends, and the weights in float16."""
        outside = {name for node in self.nodes if node.name not in halves for name in _reads(node)}
        outside |= {each.name for each in self._graph.output}
        outside |= {name for node in self.nodes for name in set(node.input) - set(self.floats(node))}
        nodes: list[Any] = []
        weights: dict[str, Any] = {}
        there: set[str] = set()
        for node in self.nodes:
            if node.name not in halves:
                nodes.append(node)
                continue
            floats, results = self.floats(node), self.results(node)
            for name in floats:
                if name in self._constants:
                    value = self._constants[name].astype(np.float16)
                    weights[name] = self._onnx.numpy_helper.from_array(value, HALF + name)
                elif name not in there:
                    nodes.append(self._cast(name, HALF + name, self._onnx.TensorProto.FLOAT16))
                    there.add(name)
            always = ALWAYS_FLOAT.get(node.op_type, ())
            _put(node.input, [n for n, name in enumerate(node.input) if name in floats and n not in always])
            _put(node.output, [n for n, name in enumerate(node.output) if name in results])
            nodes.append(node)
            there.update(results)
            back = [name for name in results if name in outside]
            nodes += [self._cast(HALF + name, name, self._onnx.TensorProto.FLOAT) for name in back]
        return nodes, list(weights.values())

    def _learned(self, node: Any) -> bool:
        """Whether it multiplies with weights; not so a weighted mean of a softmax, which decodes distances."""
        if node.op_type not in LEARNED or len(node.input) < 2 or not self.results(node):
            return False
        return node.input[1] in self._constants and not self._softmax(node.input[0])

    def _softmax(self, name: str) -> bool:
        """Whether a tensor is a softmax's result, at most moved about."""
        node = self._maker.get(name)
        while node is not None and node.op_type in MOVES:
            node = self._maker.get(node.input[0])
        return node is not None and node.op_type == "Softmax"

    def _fits(self, node: Any) -> bool:
        """Whether float16 can hold its constants, and it holds no graphs."""
        sizes = [np.abs(self._constants[name]) for name in self.floats(node) if name in self._constants]
        largest = [float(size.max(initial=0.0)) for size in sizes]
        return all(top == 0.0 or SMALLEST <= top <= LARGEST for top in largest) and not any(_bodies(node))

    def _cast(self, name: str, result: str, kind: int) -> Any:
        return self._onnx.helper.make_node("Cast", [name], [result], f"{HALF}cast/{result}", to=kind)


def _put(names: Any, places: Sequence[int]) -> None:
    for n in places:
        names[n] = HALF + names[n]


def _bodies(node: Any) -> list[Any]:
    return [graph for each in node.attribute for graph in (*([each.g] if each.HasField("g") else []), *each.graphs)]


def _reads(node: Any) -> set[str]:
    """What a node reads, its inner graphs included."""
    inner = {name for body in _bodies(node) for each in body.node for name in _reads(each)}
    return set(node.input) | inner | {each.name for body in _bodies(node) for each in body.output}

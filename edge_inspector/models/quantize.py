"""Turns an engine's graph into an INT8 one: Q/DQ pairs of ONNX Runtime's static quantiser.

Only layers with weights are quantised, at their inputs; what goes before and behind the network stays as it is.
An activation that also goes elsewhere (a short cut) is read as quantised there too: one tensor, one pair.
Symmetric, per output channel, biases in float: the form that TensorRT takes too.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import INPUT
from ..errors import ModelRefused
from ..types import Pixels

WEIGHTED = ("Conv", "Gemm", "MatMul")
SHAPES_ONLY = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")
# measured on the shipped detector and 300 real boards, agreement with 0, 2 and 5 layers kept: all values 0.982, 0.988,
# 0.988; entropy 0.984, 0.990, 0.992; 99.999 % 0.985, 0.987, 0.988; 99.9999 % 0.991, 0.989, 0.993 (each +- 0.003);
# 99.99 % cuts off what defects look like: 0.936
KEPT_PERCENT = 99.9999
# no int32 biases: TensorRT refuses them. No pairs behind a layer: they would stand before its activation, which then
# can not be fused, and cost accuracy as well (shipped detector: agreement 0.984 with them, 0.988 without)
FORM = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
}


class Quantizer:
    """A network on its way to INT8. layers: what can be quantised, in the graph's order. work: for temporary files."""

    def __init__(self, model: Path, work: Path) -> None:
        """Raises ModelRefused where there is nothing to quantise or it was done already."""
        import onnx

        graph = onnx.load(str(model))
        if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph.node):
            raise ModelRefused(f"{model}: is quantised already; import the float32 export of the network instead")
        if (opset := max(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx"))) < 13:
            raise ModelRefused(f"{model}: opset {opset} has no INT8 per channel; export it with opset 17 and import it")
        _tidy(graph.graph)
        self.layers = layers(graph.graph)
        if not self.layers:
            raise ModelRefused(f"{model}: no layer with constant float32 weights was found: nothing to quantise")
        self._work = work
        self._source = work / "float.onnx"
        onnx.save(graph, str(self._source))
        self._ends = _ends(graph.graph, self.layers)
        self._ranges: Any = None

    def calibrate(self, pictures: Iterable[Pixels]) -> Iterator[int]:
        """Learn each activation's range: what all but one in a million of its values lie in (KEPT_PERCENT).

        pictures: uint8 [H, W, 3] as the line gives them to the engine. Yields how many were taken, for progress.
        """
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        calibrator = create_calibrator(
            self._source,
            list(WEIGHTED),
            str(self._work / "ranges.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": True, "percentile": KEPT_PERCENT},
        )
        for number, picture in enumerate(pictures, 1):
            with contextlib.redirect_stdout(io.StringIO()):  # it prints, where the table is to be read
                calibrator.collect_data(_One(picture))
            yield number
        with contextlib.redirect_stdout(io.StringIO()):
            self._ranges = calibrator.compute_data()

    def write(self, into: Path, *, keep: Collection[str] = ()) -> None:
        """Write the INT8 graph, with the layers of `keep` left as they are."""
        self._write(into, [name for name in self.layers if name not in keep])

    def distortion(self, pictures: Sequence[Pixels]) -> Iterator[tuple[str, float]]:
        """For each layer, what quantising it alone does to the network: its name and a signal-to-noise ratio in dB.

        10 log10(sum x^2 / sum (x - q)^2) over all pictures, x and q an end of the network without and with it, the
        worst of all ends. An end is the output of a layer with weights that no other such layer follows.
        """
        wanted = self._answers(self._source, pictures)
        path = self._work / "one.onnx"
        for layer in self.layers:
            self._write(path, [layer])
            found = self._answers(path, pictures)
            noise = [float(((x - q) ** 2).sum()) for x, q in zip(wanted, found, strict=True)]
            signal = [float((x**2).sum()) for x in wanted]
            least = min(s / n if n else math.inf for s, n in zip(signal, noise, strict=True))
            yield layer, min(999.0, 10 * math.log10(least)) if least > 0 else -999.0

    def _write(self, into: Path, chosen: Sequence[str]) -> None:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        int8, model = QuantType.QInt8, load_model_with_shape_infer(self._source)
        if not chosen:  # the quantiser would take an empty list for all
            raise ModelRefused("every layer would be kept in higher precision: nothing is left to quantise")
        maker = QDQQuantizer(model, True, False, int8, int8, self._ranges, list(chosen), [], list(WEIGHTED), dict(FORM))
        root = logging.getLogger()
        was, root.level = root.level, max(root.level, logging.ERROR)  # it warns of ranges that nobody asked for
        try:
            maker.quantize_model()
        finally:
            root.level = was
        maker.model.save_model_to_file(str(into))

    def _answers(self, path: Path, pictures: Sequence[Pixels]) -> list[NDArray[np.float64]]:
        """The network's ends, all pictures in one array each."""
        import onnx
        import onnxruntime

        model = onnx.load(str(path))
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._ends)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        each = [session.run(self._ends, {INPUT: picture[None]}) for picture in pictures]
        return [
            np.concatenate([np.ravel(answer[n]) for answer in each]).astype(np.float64) for n in range(len(each[0]))
        ]


class _One:
    """One picture for ONNX Runtime's calibrator, which would hold the activations of all it is given at once."""

    def __init__(self, picture: Pixels) -> None:
        self._left = [{INPUT: picture[None]}]

    def get_next(self) -> dict[str, Pixels] | None:
        return self._left.pop() if self._left else None


def layers(graph: Any) -> tuple[str, ...]:
    """The nodes to quantise: with float32 weights that are constant, and not part of decoding.

    A layer that a softmax reaches through nothing but changes of shape is decoding: the expectation that YOLOv8 and
    later take over a box side's distribution is written as a convolution with the weights 0, 1, 2, ...
    """
    weights = {each.name: each for each in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}

    def source(name: str) -> str:
        while name in maker and maker[name].op_type in SHAPES_ONLY:
            name = maker[name].input[0]
        return str(maker[name].op_type) if name in maker else ""

    return tuple(
        node.name
        for node in graph.node
        if node.op_type in WEIGHTED
        and node.input[0] not in weights
        and (weight := weights.get(node.input[1])) is not None
        and weight.data_type == 1
        and (node.op_type == "Conv" or len(weight.dims) == 2)
        and source(node.input[0]) != "Softmax"
    )


def _tidy(graph: Any) -> None:
    """Give every node a name of its own, and make constants initializers, where the quantiser looks for weights."""
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}#{number}"
        seen.add(node.name)
    for node in [each for each in graph.node if each.op_type == "Constant" and each.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def _ends(graph: Any, chosen: Collection[str]) -> list[str]:
    """The outputs of those layers that no other of them follows."""
    before, ends = set[str](), []
    for node in reversed(graph.node):
        if not before.isdisjoint(node.output) or node.name in chosen:
            if before.isdisjoint(node.output):
                ends.append(str(node.output[0]))
            before.update(node.input)
    return ends

"""The vendor's own parser and builder, which TensorRT-RTX runs without a GPU: what it takes, and what it is told of."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_inspector.errors import EngineMissing, ModelRefused
from edge_inspector.models.compile import compile_plan
from edge_inspector.models.halve import to_fp16

from .test_halve import attention
from .tiny import Graph, detector

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
BOARDS = Path(__file__).parents[2] / "engines" / "boards" / "model.onnx"


def build(model: Path, folder: Path, *, capabilities: tuple[str, ...] = ("89",)) -> tuple[Path, tuple[str, ...]]:
    """The plan, and its tensors; the progress never goes back."""
    seen: list[float] = []
    plan = folder / "model.plan"
    tensors = compile_plan(
        model,
        plan,
        target="tensorrt-rtx",
        capabilities=capabilities,
        timing_cache=folder / "timing.cache",
        progress=lambda phase, share: seen.append(share),
    )
    assert len(seen) > 10
    assert all(a <= b for a, b in itertools.pairwise(seen))
    assert (seen[0] < 0.2, seen[-1]) == (True, 1.0)
    return plan, tensors


def quantised() -> onnx.ModelProto:
    """Two convolutions in static INT8: pairs of QuantizeLinear and DequantizeLinear, weights per channel."""
    g = Graph()
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    g.weights.append(zero)

    def int8(value: str, scale: float) -> str:
        factor = g.weight(scale)
        return g.add("DequantizeLinear", g.add("QuantizeLinear", value, factor, "zero"), factor, "zero")

    def conv(value: str, into: int) -> str:
        kernel = g.random.integers(-127, 128, (8, into, 3, 3)).astype(np.int8)
        g.weights.append(onnx.numpy_helper.from_array(kernel, f"kernel{into}"))
        g.weights.append(helper.make_tensor(f"zeros{into}", TensorProto.INT8, [8], [0] * 8))
        scales = g.weight(np.full(8, 0.004))
        weight = g.add("DequantizeLinear", f"kernel{into}", scales, f"zeros{into}", axis=0)
        sizes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        return g.add("Relu", g.add("Conv", int8(value, 0.01), weight, **sizes))

    value = g.add("ReduceMax", conv(conv(g.front(), 3), 8), axes=[2, 3], keepdims=0)
    g.add("Softmax", value, outputs=("scores",))
    return g.model({"scores": [1, 8]})


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", ["boards", "detector", "attention"])
def test_it_takes_the_contract_in_both_precisions(tmp_path: Path, name: str, half: bool) -> None:
    """For two generations of GPUs: bytes in, float32 out, by name."""
    model = tmp_path / "model.onnx"
    if name == "boards":
        model = BOARDS
    else:
        onnx.save({"detector": detector, "attention": lambda: attention(scale=6.0)}[name](), model)
    if half:
        model, whole = tmp_path / "half.onnx", model
        to_fp16(whole, model)
    plan, tensors = build(model, tmp_path, capabilities=("89", "120"))
    assert plan.read_bytes()[:4] == b"vtrt"  # how TensorRT-RTX's plans begin
    side, output = ("640, 640", "detections: float32 [1, 100, 6]") if name == "boards" else ("64, 64", tensors[1])
    assert tensors == (f"image: uint8 [1, {side}, 3]", output)
    assert ": float32 [1, " in output


def test_half_precision_reaches_the_plan(tmp_path: Path) -> None:
    """The plan of the same network is smaller, as its weights are."""
    to_fp16(BOARDS, tmp_path / "half.onnx")
    whole = build(BOARDS, tmp_path)[0].stat().st_size
    assert build(tmp_path / "half.onnx", tmp_path)[0].stat().st_size < 0.9 * whole


def test_it_takes_static_int8(tmp_path: Path) -> None:
    """Q/DQ pairs with fixed scales need nothing else."""
    onnx.save(quantised(), tmp_path / "int8.onnx")
    _, tensors = build(tmp_path / "int8.onnx", tmp_path)
    assert tensors == ("image: uint8 [1, 64, 64, 3]", "scores: float32 [1, 8]")


def dynamic() -> onnx.ModelProto:
    """Quantised while it runs."""
    g = Graph()
    g.add("DynamicQuantizeLinear", g.front(), outputs=("q", "scale", "zero"))
    kernel = g.random.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)
    g.weights.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    value = g.add("Cast", g.add("ConvInteger", "q", "kernel", "zero"), to=TensorProto.FLOAT)
    g.add("ReduceMax", value, axes=[2, 3], keepdims=0, outputs=("scores",))
    return g.model({"scores": [1, 4]})


def test_dynamic_quantisation_is_refused(tmp_path: Path) -> None:
    """With the operators it found, and the way to a static one."""
    onnx.save(dynamic(), tmp_path / "model.onnx")
    with pytest.raises(ModelRefused, match=r"ConvInteger, DynamicQuantizeLinear.*edge-inspector calibrate int8"):
        build(tmp_path / "model.onnx", tmp_path)


def test_the_parser_names_what_it_does_not_take(tmp_path: Path) -> None:
    """The operator, its node, TensorRT's reason, and what can be done; nothing is written."""
    g = Graph()
    g.nodes.append(helper.make_node("Wobble", [g.front()], ["wobbled"], "wobble-1", domain="com.example"))
    g.add("ReduceMax", "wobbled", axes=[2, 3], keepdims=0, outputs=("scores",))
    picture = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 64, 64, 3])
    end = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    graph = helper.make_graph(g.nodes, "odd", [picture], [end], g.weights)
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(ModelRefused, match=r"Wobble 'wobble-1'.*--target openvino"):
        build(tmp_path / "model.onnx", tmp_path)
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.parametrize("content", [b"no graph at all", BOARDS.read_bytes()[:100_000]], ids=["text", "truncated"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    """Not one word of protobuf's."""
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelRefused, match=r"is not an ONNX graph.*import the model again"):
        build(tmp_path / "model.onnx", tmp_path)


def test_an_unknown_gpu_is_named_with_those_known(tmp_path: Path) -> None:
    """Hopper, say."""
    with pytest.raises(EngineMissing, match=r"no compute capability 90: it has 75, 80, 86, 89, 120"):
        build(BOARDS, tmp_path, capabilities=("90",))


@pytest.mark.parametrize("after", [0, 100])
def test_ctrl_c_ends_the_build(tmp_path: Path, after: int) -> None:
    """An interrupt in the middle passes TensorRT's C++ unharmed, and leaves no plan."""
    calls = itertools.count()

    def interrupt(phase: str, share: float) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_plan(
            BOARDS,
            tmp_path / "model.plan",
            target="tensorrt-rtx",
            capabilities=("89",),
            timing_cache=None,
            progress=interrupt,
        )
    assert next(calls) == after + 1  # and nothing was told after it
    assert not (tmp_path / "model.plan").exists()

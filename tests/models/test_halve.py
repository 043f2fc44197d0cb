"""Half precision: what computes in float16 gives the same boxes, and what would not stays float32."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_inspector.errors import ModelRefused
from edge_inspector.models.halve import to_fp16

from .tiny import SIZE, Graph, detector, pictures

BOARDS = Path(__file__).parents[2] / "engines" / "boards"


def run(model: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The first output, without the batch, exactly as the graph says: nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options)
    return np.asarray(session.run(None, {"image": pixels[None]})[0][0])


def halve(model: onnx.ModelProto, folder: Path) -> tuple[Path, Path, tuple[str, ...], onnx.ModelProto]:
    """Original and half, as files; what was kept; the half, checked."""
    whole, half = folder / "whole.onnx", folder / "half.onnx"
    onnx.save(model, whole)
    kept = to_fp16(whole, half)
    made = onnx.load(half)
    onnx.checker.check_model(made, full_check=True)
    return whole, half, kept, made


def same_rows(found: NDArray[np.float32], wanted: NDArray[np.float32], *, score: float = 0.02) -> None:
    """Every row has a twin of its class within a pixel."""
    assert len(wanted)
    for row in wanted:
        twins = found[(found[:, 5] == row[5]) & (np.abs(found[:, :4] - row[:4]).max(axis=1) <= 1.0)]
        assert np.abs(twins[:, 4] - row[4]).min(initial=np.inf) <= score, f"no row like {row}"


def half_of(model: onnx.ModelProto) -> set[str]:
    """The names of all tensors in float16."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}


@pytest.mark.parametrize("picture", sorted((BOARDS / "golden").glob("*.png")), ids=lambda path: path.stem)
def test_the_shipped_detector_finds_the_same(picture: Path, tmp_path: Path) -> None:
    """On its golden pictures: the same boxes within a pixel, scores within 0.02, in half the bytes."""
    model, half = BOARDS / "model.onnx", tmp_path / "half.onnx"
    to_fp16(model, half)
    pixels = np.asarray(cv2.imread(str(picture)), np.uint8)
    wanted, found = run(model, pixels), run(half, pixels)
    same_rows(found, wanted[wanted[:, 4] > 0.05])
    same_rows(wanted, found[found[:, 4] > 0.05])
    assert half.stat().st_size < 0.55 * model.stat().st_size


@pytest.mark.parametrize("named", [True, False])
def test_a_detector_keeps_its_ends_in_float32(tmp_path: Path, named: bool) -> None:
    """Bytes in, float32 out; softmax, its weighted mean, exp, top K stay; every learned weight is float16."""
    whole, half, kept, made = halve(detector(named=named), tmp_path)
    for pixels in pictures():
        same_rows(run(half, pixels), run(whole, pixels)[:12])  # of the last, which ones are taken may differ
    halves = half_of(made)
    operators = {n.name: n.op_type for n in made.graph.node}
    assert {operators[name] for name in kept} >= {"Softmax", "Exp", "TopK", "GatherElements", "Sigmoid", "ArgMax"}
    for node in made.graph.node:
        if node.op_type == "Conv":
            assert (node.output[0] in halves) == (node.output[0] != "dfl")
        if node.op_type in ("Softmax", "Exp", "TopK", "GatherElements", "Transpose", "ReduceMax", "Div"):
            assert not halves & {*node.input, *node.output}, f"{node.op_type} computes in float16"
    casts = [node for node in made.graph.node if node.op_type == "Cast" and "inspector/half" in node.name]
    assert len(casts) == 3  # one in, two out: none between the network's own operators
    assert [(v.name, v.type.tensor_type.elem_type) for v in (*made.graph.input, *made.graph.output)] == [
        ("image", TensorProto.UINT8),
        ("detections", TensorProto.FLOAT),
    ]


def attention(*, scale: float) -> onnx.ModelProto:
    """A block of a transformer whose activations are so large that their squares are none of float16's numbers."""
    g = Graph()
    width, tokens = 16, 64
    value = g.conv(g.front(), 3, width, stride=8, gain=scale)
    value = g.add("Reshape", value, g.weight([1, width, tokens]))
    value = g.add("Transpose", value, perm=[0, 2, 1])
    mean = g.add("ReduceMean", value, axes=[2])
    centred = g.add("Sub", value, mean)
    square = g.add("Pow", centred, g.weight(2.0), outputs=("square",))
    spread = g.add("Sqrt", g.add("Add", g.add("ReduceMean", square, axes=[2]), g.weight(1e-12), outputs=("eps",)))
    normed = g.add("Div", centred, spread, outputs=("normed",))
    q, k, v = (g.add("MatMul", normed, g.weight(g.random.normal(0, 0.4, (width, width)))) for _ in range(3))
    mask = np.zeros((tokens, tokens))
    mask[:, 40:] = -3e38
    weights = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 2, 1]))
    weights = g.add("Softmax", g.add("Add", weights, g.weight(mask), outputs=("masked",)), outputs=("attend",))
    mixed = g.add("MatMul", weights, v, outputs=("mixed",))
    out = g.add("MatMul", mixed, g.weight(g.random.normal(0, 0.4, (width, 1))))
    g.add("Sigmoid", g.add("Reshape", out, g.weight([1, tokens])), outputs=("scores",))
    return g.model({"scores": [1, tokens]})


def test_what_overflows_stays_float32(tmp_path: Path) -> None:
    """A norm of squares beyond 65504 with an epsilon below float16's least, and a mask of -3e38, give no NaN."""
    whole, half, kept, made = halve(attention(scale=3000.0), tmp_path)
    for pixels in pictures():
        np.testing.assert_allclose(run(half, pixels), run(whole, pixels), atol=0.02)
    assert {"square", "eps", "normed", "masked", "attend"} <= set(kept)
    assert "inspector/half/mixed" in half_of(made)  # the sum of values by shares is the network's own again


def test_an_inner_graph_reads_the_float32(tmp_path: Path) -> None:
    """The branches of an If see outer tensors by name, and never those that became float16."""
    g = Graph()
    value = g.add("Relu", g.conv(g.front(), 3, 4, stride=8, gain=6.0), outputs=("outer",))

    def branch(op: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(op, TensorProto.FLOAT, [1, 4, 8, 8])
        return helper.make_graph([helper.make_node(op, ["outer"], [op])], op, [], [result])

    condition = g.add("Greater", g.add("ReduceMax", value, keepdims=0), g.weight(-1.0))
    chosen = g.add("If", condition, then_branch=branch("Neg"), else_branch=branch("Abs"))
    g.add("Reshape", g.add("Mul", g.conv(value, 4, 4), chosen), g.weight([1, 256]), outputs=("scores",))
    whole, half, _, _ = halve(g.model({"scores": [1, 256]}), tmp_path)
    for pixels in pictures():
        np.testing.assert_allclose(run(half, pixels), run(whole, pixels), rtol=0.02, atol=0.02)


def test_weights_beyond_float16_stay(tmp_path: Path) -> None:
    """A weight of 1e6 would be infinite, and a whole layer of 1e-7 would lose its digits."""
    g = Graph()
    value = g.add("Relu", g.conv(g.front(), 3, 4, stride=8, gain=6.0))
    value = g.add("Conv", value, g.weight(g.random.normal(0, 1e6, (4, 4, 1, 1))), outputs=("large",))
    value = g.add("Conv", value, g.weight(g.random.normal(0, 1e-7, (4, 4, 1, 1))), outputs=("small",))
    g.add("Reshape", g.conv(value, 4, 4), g.weight([1, 256]), outputs=("scores",))
    whole, half, kept, _ = halve(g.model({"scores": [1, 256]}), tmp_path)
    assert {"large", "small"} <= set(kept)
    for pixels in pictures():
        np.testing.assert_allclose(run(half, pixels), run(whole, pixels), rtol=0.02, atol=0.01)


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    """There would be nothing of half precision in it."""
    g = Graph()
    g.add("Identity", g.front(), outputs=("heatmap",))
    with pytest.raises(ModelRefused, match="--precision fp32"):
        halve(g.model({"heatmap": [1, 3, SIZE, SIZE]}), tmp_path)


STEPS = ("Relu", "Sigmoid", "Softmax", "Exp", "Conv", "Add", "Mul", "Concat", "ReduceMean", "Transpose", "Norm", "Clip")


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=10))
def test_any_graph_stays_valid_and_close(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However operators follow on each other, types fit, and the answer is that of float32 but for rounding."""
    g = Graph(named=False)
    values = [g.add("Tanh", g.conv(g.front(), 3, 4, stride=8))]
    for op, first, second in steps:
        left, right = values[first % len(values)], values[second % len(values)]
        if op == "Conv":
            values.append(g.add("Tanh", g.conv(left, 4, 4)))
        elif op in ("Add", "Mul"):
            values.append(g.add("Tanh", g.add(op, left, right)))
        elif op == "Concat":
            values.append(g.conv(g.add("Concat", left, right, axis=1), 8, 4, gain=0.5))
        elif op == "ReduceMean":
            values.append(g.add("Sub", left, g.add("ReduceMean", left, axes=[1])))
        elif op == "Transpose":
            values.append(g.add("Transpose", left, perm=[0, 1, 3, 2]))
        elif op == "Norm":
            values.append(g.add("Tanh", g.add("Pow", left, g.weight(2.0))))
        elif op == "Clip":
            values.append(g.add("Clip", left, g.weight(-0.5), g.weight(0.5)))
        else:
            values.append(g.add("Tanh", g.add(op, left)))
    g.add("Reshape", g.add("Tanh", g.conv(values[-1], 4, 4)), g.weight([1, 256]), outputs=("scores",))
    whole, half, _, _ = halve(g.model({"scores": [1, 256]}), tmp_path_factory.mktemp("half"))
    for pixels in pictures(1):
        np.testing.assert_allclose(run(half, pixels), run(whole, pixels), atol=0.02)

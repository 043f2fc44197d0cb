"""The INT8 graph: what is quantised in it and what is not, that it computes alike, and that TensorRT builds it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edge_inspector.errors import EngineMissing, ModelRefused
from edge_inspector.models import int8
from edge_inspector.models.compile import compile_plan
from edge_inspector.models.manifest import Machine, sha256
from edge_inspector.models.quantize import WEIGHTED, Quantizer, layers
from edge_inspector.runners.openvino import OpenVinoRunner

from . import tiny


@pytest.fixture(name="quantizer")
def _quantizer(tmp_path: Path) -> Quantizer:
    """The small detector, its ranges learned."""
    onnx.save(tiny.detector(), tmp_path / "model.onnx")
    made = Quantizer(tmp_path / "model.onnx", tmp_path)
    assert list(made.calibrate(tiny.pictures(4))) == [1, 2, 3, 4]
    return made


def graph_of(quantizer: Quantizer, folder: Path, keep: tuple[str, ...] = ()) -> tuple[onnx.GraphProto, Path]:
    """What it writes."""
    quantizer.write(folder / "int8.onnx", keep=keep)
    model = onnx.load(folder / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model.graph, folder / "int8.onnx"


def quantised_weights(graph: onnx.GraphProto) -> set[str]:
    """The nodes whose weights come from a DequantizeLinear."""
    made = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in made}


def quantised_inputs(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Convolution -> those of its inputs that come from a DequantizeLinear."""
    made = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    weighted = [node for node in graph.node if node.op_type in WEIGHTED]  # others may share a tensor with them
    found = {node.name: tuple(name for name in node.input if name in made) for node in weighted}
    return {name: inputs for name, inputs in found.items() if inputs}


def test_only_the_networks_layers_are_quantised(quantizer: Quantizer, tmp_path: Path) -> None:
    """Picture and weights of each convolution but the weighted mean of bins, which is decoding; nothing else."""
    convs = [node.name for node in tiny.detector().graph.node if node.op_type == "Conv"]
    assert set(quantizer.layers) == set(convs) - {"dfl"}
    graph, _ = graph_of(quantizer, tmp_path)
    found = quantised_inputs(graph)
    assert set(found) == set(quantizer.layers)
    assert all(len(inputs) == 2 for inputs in found.values())  # no bias among them


def test_the_form_is_what_tensorrt_takes(quantizer: Quantizer, tmp_path: Path) -> None:
    """Every number of a Q/DQ pair is int8 with zero point 0, and weights have a scale for each output channel."""
    graph, _ = graph_of(quantizer, tmp_path)
    known = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert {known[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}
    assert not any(known[node.input[2]].any() for node in pairs)
    weights = [node for node in pairs if node.input[0] in known]
    assert [known[node.input[1]].shape for node in weights] == [known[node.input[0]].shape[:1] for node in weights]


def test_a_kept_layer_stays_as_it_is(quantizer: Quantizer, tmp_path: Path) -> None:
    """It reads floats and has float weights; the others have not. All cannot be kept."""
    kept = quantizer.layers[0]
    graph, _ = graph_of(quantizer, tmp_path, keep=(kept,))
    assert quantised_weights(graph) == set(quantizer.layers[1:])
    assert kept not in quantised_inputs(graph)
    with pytest.raises(ModelRefused, match="nothing is left"):
        quantizer.write(tmp_path / "none.onnx", keep=quantizer.layers)


def test_it_computes_what_the_original_computes(quantizer: Quantizer, tmp_path: Path) -> None:
    """The best score of each picture is nearly the same, in OpenVINO, and not exactly: it was quantised."""
    _, path = graph_of(quantizer, tmp_path)
    best = []
    for model, precision in ((tmp_path / "model.onnx", "fp32"), (path, "int8")):
        runner = OpenVinoRunner(model, "detect", precision=precision)
        for picture in tiny.pictures(4):
            np.copyto(runner.inputs[0], picture)
            runner.submit(0)
            best.append(float(runner.collect(0)[0][0, 4]))
    off = np.abs(np.subtract(best[:4], best[4:]))
    assert 0.0 < off.max() < 0.1


def spoil(model: onnx.ModelProto, *, source: int, spoilt: tuple[int, ...]) -> list[str]:
    """Make INT8 useless in some convolutions, and nothing else: a channel that is always 0 has by far the largest
    weights, so that all others round to 0. source: the convolution that makes the channel. Returns their names.
    """
    convs = [node for node in model.graph.node if node.op_type == "Conv" and node.name != "dfl"]
    weights = {each.name: each for each in model.graph.initializer}

    def change(name: str, index: tuple[slice | int, ...], value: float) -> None:
        array = onnx.numpy_helper.to_array(weights[name]).copy()
        array[index] = value
        weights[name].CopyFrom(onnx.numpy_helper.from_array(array, name))

    change(convs[source].input[1], (0,), 0.0)
    change(convs[source].input[2], (0,), 0.0)
    for number in spoilt:
        change(convs[number].input[1], (slice(None), 0), 1e4)
    return [convs[number].name for number in spoilt]


def test_distortion_finds_the_layers_that_are_spoilt(tmp_path: Path) -> None:
    """They lose most when they alone are quantised: their results are noise. The others are far better."""
    model = tiny.detector()
    spoilt = spoil(model, source=3, spoilt=(4, 5))
    onnx.save(model, tmp_path / "model.onnx")
    made = Quantizer(tmp_path / "model.onnx", tmp_path)
    list(made.calibrate(tiny.pictures(4)))
    found = dict(made.distortion(tiny.pictures(2)))
    assert tuple(found) == made.layers
    assert all((found[name] < 15) == (name in spoilt) for name in found), found


def test_constants_and_nodes_without_names(tmp_path: Path) -> None:
    """Weights in Constant nodes are weights; nodes without names get some."""
    model = tiny.detector(named=False)
    graph = model.graph
    weights = list(graph.initializer)
    del graph.initializer[:]
    for weight in reversed(weights):
        graph.node.insert(0, onnx.helper.make_node("Constant", [], [weight.name], value=weight))
    onnx.save(model, tmp_path / "model.onnx")
    made = Quantizer(tmp_path / "model.onnx", tmp_path)
    assert len(made.layers) == len(set(made.layers)) == 6
    list(made.calibrate(tiny.pictures(2)))
    kinds = Counter(node.op_type for node in graph_of(made, tmp_path)[0].node)
    assert kinds["DequantizeLinear"] > len(made.layers)


def test_what_cannot_be_quantised_is_refused(quantizer: Quantizer, tmp_path: Path) -> None:
    """A graph that has been, one without weights, and one of an opset without scales per channel."""
    _, path = graph_of(quantizer, tmp_path)
    with pytest.raises(ModelRefused, match="is quantised already"):
        Quantizer(path, tmp_path)
    model = tiny.detector()
    model.opset_import[0].version = 12
    onnx.save(model, path)
    with pytest.raises(ModelRefused, match="opset 12"):
        Quantizer(path, tmp_path)
    g = tiny.Graph()
    g.add("Cast", "image", to=TensorProto.FLOAT, outputs=("detections",))
    onnx.save(g.model({"detections": [1, tiny.SIZE, tiny.SIZE, 3]}), path)
    with pytest.raises(ModelRefused, match="nothing to quantise"):
        Quantizer(path, tmp_path)


def test_a_product_of_two_activations_is_no_layer() -> None:
    """Attention multiplies what flows; only products with constant weights are quantised."""
    g = tiny.Graph()
    value = g.add("Reshape", g.add("Cast", "image", to=TensorProto.FLOAT), g.weight([1, 192, 64]))
    scores = g.add("MatMul", value, g.add("Transpose", value, perm=[0, 2, 1]))
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=2), value, outputs=("mixed",))
    g.add("MatMul", mixed, g.weight(np.ones((64, 6))), outputs=("detections",))
    assert layers(g.model({"detections": [1, 192, 6]}).graph) == ("detections",)


def test_tensorrt_rtx_builds_it(quantizer: Quantizer, tmp_path: Path) -> None:
    """The vendor's own parser and builder take the graph, all quantised or not all, and keep the contract."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    for keep in ((), quantizer.layers[:1]):
        _, path = graph_of(quantizer, tmp_path, keep=keep)
        tensors = compile_plan(
            path,
            tmp_path / "plan",
            target="tensorrt-rtx",
            capabilities=("89",),
            timing_cache=None,
            progress=lambda phase, share: None,
        )
        assert tensors == ("image: uint8 [1, 64, 64, 3]", f"detections: float32 [1, {tiny.ROWS}, 6]")
        assert (tmp_path / "plan").stat().st_size > 0


def test_installed_is_what_was_made_of_this_model(quantizer: Quantizer, tmp_path: Path) -> None:
    """Both files are there, and nothing else; another graph, another model or a damaged report is refused."""
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    _, path = graph_of(quantizer, tmp_path)
    report = int8.Report(
        engine="engine", made="", model_sha256=sha256((folder / "model.onnx").read_bytes()),
        int8_sha256=sha256(path.read_bytes()), pictures_sha256="", calibrated_on=1, measured_on=1, duplicates=0,
        machine=Machine("openvino", "1"), layers=1, kept={"a": 1.0}, table=(), agreement=1.0, min_agreement=0.9,
        recommended="int8",
    )  # fmt: skip
    with pytest.raises(EngineMissing, match="edge-inspector calibrate int8 engine"):
        int8.installed(folder)
    int8.install(folder, path, report)
    assert {each.name for each in folder.iterdir()} == {"model.onnx", "int8.onnx", "int8.json"}
    assert int8.installed(folder) == report
    int8.install(folder, path, replace(report, int8_sha256="0"))
    with pytest.raises(EngineMissing, match=r"not the file that int8\.json describes"):
        int8.installed(folder)
    int8.install(folder, path, report)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(EngineMissing, match=r"another model\.onnx"):
        int8.installed(folder)

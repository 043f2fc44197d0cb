"""The YOLO layouts: recognised from their structure, and the completed graph finds what the original does."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models import heads, source
from edge_inspector.models.graph import complete
from edge_inspector.models.heads.base import Hints, Signature

from . import zoo
from .zoo import ZOO, Layout


def signature_of(model: onnx.ModelProto, folder: Path) -> Signature:
    """As a file would be read."""
    onnx.save(model, folder / "model.onnx")
    return source.read(folder / "model.onnx").signature


def completed(layout: Layout, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """As a file would be imported."""
    onnx.save(model, folder / "exported.onnx")
    read = source.read(folder / "exported.onnx", size=layout.hints.size)
    found = heads.choose(read.signature, layout.hints)
    assert (found.head, found.pixelwise.colour) == (layout.head, layout.pixelwise.colour)
    return complete(read.model, found)


@pytest.mark.parametrize("name", ZOO)
def test_the_completed_graph_finds_what_the_original_finds(name: str, tmp_path: Path) -> None:
    """Boxes within 0.01 px and scores within 1e-4, in ONNX Runtime and in OpenVINO, against a NumPy decoder."""
    layout = ZOO[name]
    model = layout.make(size=layout.size)
    made = completed(layout, model, tmp_path)
    for pixels in zoo.pictures(layout.size):
        (wanted,) = layout.answer(zoo.run(model, {"images": zoo.network_input(pixels, layout.pixelwise)}), layout.size)
        zoo.spread_out(wanted)
        zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted)
        zoo.same_rows(zoo.run_openvino(made, pixels, tmp_path)["detections"][0], wanted)


@pytest.mark.parametrize("name", ["yolov8", "yolov8-seg"])
@pytest.mark.parametrize("opset", [13, 17, 19])
def test_open_sizes_and_other_opsets(name: str, opset: int, tmp_path: Path) -> None:
    """Batch, height and width open, as `dynamic=True` exports them; an opset below 17 is brought there."""
    layout = ZOO[name]
    model = layout.make(size=layout.size, dynamic=True, opset=opset)
    made = completed(layout, model, tmp_path)
    assert max(17, opset) == made.opset_import[0].version
    pixels = zoo.pictures(layout.size, 1)[0]
    (wanted,) = layout.answer(zoo.run(model, {"images": zoo.network_input(pixels, layout.pixelwise)}), layout.size)
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted)


@pytest.mark.parametrize("name", ZOO)
def test_half_precision(name: str, tmp_path: Path) -> None:
    """Input, weights and outputs in float16: the contract stays bytes in, float32 out."""
    from onnxruntime.transformers import float16

    layout = ZOO[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every weight it rounds
        model = float16.convert_float_to_float16(layout.make(size=layout.size), keep_io_types=False)
    for node in model.graph.node:
        if node.op_type == "Cast" and node.name.startswith("/Cast"):  # which the converter leaves as they were
            node.attribute[0].i = onnx.TensorProto.FLOAT16
    made = completed(layout, model, tmp_path)
    pixels = zoo.pictures(layout.size, 1)[0]
    given = zoo.network_input(pixels, layout.pixelwise, dtype="float16")
    outputs = {key: value.astype(np.float32) for key, value in zoo.run(model, {"images": given}).items()}
    (wanted,) = layout.answer(outputs, layout.size)
    found = zoo.run(made, {"image": pixels[None]})["detections"][0]
    zoo.same_rows(found, wanted, box_px=0.5, score=5e-3, share=0.97)


def test_quantised_with_scales(tmp_path: Path) -> None:
    """A Q/DQ file keeps its pairs, and finds what it found."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    layout = ZOO["yolov8"]
    onnx.save(layout.make(size=layout.size), tmp_path / "fp32.onnx")

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        """Two pictures."""

        def __init__(self) -> None:
            self.left = [zoo.network_input(each, layout.pixelwise) for each in zoo.pictures(layout.size, 2)]

        def get_next(self) -> dict[str, zoo.Array] | None:
            """The next one."""
            return {"images": self.left.pop()} if self.left else None

    quantize_static(
        tmp_path / "fp32.onnx", tmp_path / "int8.onnx", Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=True,  # eight bits overflow on processors without VNNI instructions
        op_types_to_quantize=["Conv"],
    )  # fmt: skip
    model = onnx.load(tmp_path / "int8.onnx")
    made = completed(layout, model, tmp_path)
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) >= 4
    pixels = zoo.pictures(layout.size, 1)[0]
    (wanted,) = layout.answer(zoo.run(model, {"images": zoo.network_input(pixels, layout.pixelwise)}), layout.size)
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted, box_px=1.0, score=0.02, share=0.97)


def test_rows_first_or_last_is_told_by_the_grids(tmp_path: Path) -> None:
    """A YOLOv8 transposed has as many numbers a row as a YOLOv6 of one class less: the user is asked, with both."""
    signature = signature_of(zoo.yolov8(metadata=False, last=True), tmp_path)
    with pytest.raises(ModelRefused, match=r"(?s)ambiguous.*--head yolov5: .*--head yolov8: "):
        heads.choose(signature, Hints())
    assert heads.choose(signature, Hints(head="yolov8")).classes == 3
    assert heads.choose(signature, Hints(labels=("a", "b", "c"))).head == "yolov8"
    assert heads.choose(signature, Hints(labels=("a", "b"))).head == "yolov5"


def test_a_transposed_export_finds_the_same(tmp_path: Path) -> None:
    """With the class names the ambiguity is gone, and the rows are read the right way round."""
    layout = replace(ZOO["yolov8"], hints=zoo.LABELS)
    model = zoo.yolov8(metadata=False, last=True)
    made = completed(layout, model, tmp_path)
    pixels = zoo.pictures(layout.size, 1)[0]
    outputs = zoo.run(model, {"images": zoo.network_input(pixels, layout.pixelwise)})
    (wanted,) = layout.answer({"output0": outputs["output0"].transpose(0, 2, 1)}, layout.size)
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted)


def test_one_class(tmp_path: Path) -> None:
    """A detector of a single class has no class to choose."""
    model = zoo.yolov8(classes=1, metadata=False)
    made = completed(replace(ZOO["yolov8"], hints=Hints()), model, tmp_path)
    pixels = zoo.pictures(zoo.SIZE, 1)[0]
    rows = zoo.run(model, {"images": zoo.network_input(pixels, zoo.Pixelwise())})["output0"][0].T
    wanted = zoo.best(zoo.corners(rows[:, :4]), rows[:, 4:])
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted)


def test_names_that_do_not_fit_are_not_taken(tmp_path: Path) -> None:
    """Four names for three classes: no head is sure, and the message says why."""
    signature = signature_of(zoo.yolov8(), tmp_path)
    with pytest.raises(ModelRefused, match="but 4 names for 3 classes"):
        heads.choose(signature, Hints(labels=("a", "b", "c", "d")))


def test_final_rows_need_class_names(tmp_path: Path) -> None:
    """Rows of score and class do not tell how many classes there are."""
    model = zoo.yolov10()
    del model.metadata_props[:]
    assert heads.choose(signature_of(model, tmp_path), Hints()).need == "--classes"


def test_a_raw_export_gets_its_sigmoid(tmp_path: Path) -> None:
    """Without a Sigmoid before the output the numbers are no probabilities: not sure, but possible with --head."""
    model = zoo.yolox()
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"
    with pytest.raises(ModelRefused, match="without a Sigmoid, which is then added"):
        completed(ZOO["yolox"], model, tmp_path)
    layout = replace(ZOO["yolox"], hints=replace(zoo.LABELS, head="yolox"))
    made = completed(layout, model, tmp_path)
    pixels = zoo.pictures(layout.size, 1)[0]
    (wanted,) = layout.answer(zoo.run(zoo.yolox(), {"images": zoo.network_input(pixels, zoo.BYTES)}), layout.size)
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], wanted)

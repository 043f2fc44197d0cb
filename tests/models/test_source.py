"""Reading a file: what is refused, with reason and remedy; what is merged, fixed and converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_inspector.errors import ModelRefused
from edge_inspector.models import source

from . import zoo


def saved(folder: Path, model: onnx.ModelProto, name: str = "part.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def outside(folder: Path, **changes: str) -> Path:
    """A model whose weights lie in part.bin beside it; changes: to the entries that say where."""
    model = zoo.yolov8()
    onnx.save(model, folder / "part.onnx", save_as_external_data=True, location="part.bin", size_threshold=64)
    model = onnx.load(folder / "part.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = changes.get(entry.key, entry.value)
    return saved(folder, model)


def refused(path: Path) -> str:
    """Why a file is refused."""
    with pytest.raises(ModelRefused) as caught:
        source.read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.onnx", b"", "is empty"),
        ("a.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "run: git lfs pull"),
        ("a.onnx", b"\x00\x01\x02 no protobuf at all", "truncated or no ONNX file"),
        ("a.onnx", b"PK\x03\x04archive/data.pkl", "is an archive, as PyTorch"),
        ("best.pt", b"\x00\x00\x00\x00 weights", "export it: torch.onnx.export"),
        ("part.engine", b"ftrt\x00\x00", "give the ONNX file that it was built from"),
        ("part.plan", b"anything", "give the ONNX file that it was built from"),
        ("part.tflite", b"\x1c\x00\x00\x00TFL3\x14\x00", "tf2onnx"),
        ("part.onnx", b"\x1c\x00\x00\x00TFL3\x14\x00", "tf2onnx"),
        ("part.xml", b"<?xml version='1.0'?>", "OpenVINO IR"),
    ],
)
def test_what_is_no_onnx_file(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    """The message says what it is instead, and where an ONNX file comes from."""
    (tmp_path / name).write_bytes(content)
    assert reason in refused(tmp_path / name)


def test_nothing_and_a_folder(tmp_path: Path) -> None:
    """A path that leads nowhere; a folder, with the files that could have been meant."""
    assert "found nothing there" in refused(tmp_path / "none.onnx")
    saved(tmp_path, zoo.yolov8())
    assert "give the .onnx file in it: part.onnx" in refused(tmp_path)


def test_a_truncated_file(tmp_path: Path) -> None:
    """At every length a file that was cut is refused, never half read."""
    content = zoo.yolov8().SerializeToString()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
        assert "export" in refused(tmp_path / "cut.onnx")


def test_weights_beside_it_become_part_of_it(tmp_path: Path) -> None:
    """One model, complete: nothing in it points to another file any more."""
    path = outside(tmp_path)
    read = source.read(path)
    assert not [each for each in read.model.graph.initializer if each.external_data]
    assert any("part.bin" in note for note in read.notes)
    wanted = {each.name: numpy_helper.to_array(each) for each in zoo.yolov8().graph.initializer}
    for each in read.model.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(each), wanted[each.name])


@pytest.mark.parametrize("location", ["../part.bin", "/etc/passwd", "", "a\x00b", "x" * 5000, "link.bin"])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    """A model does not get to read other people's files, through a link neither."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "link.bin").symlink_to("/etc/passwd")
    assert "point out of its folder" in refused(outside(folder, location=location))


def test_weights_that_are_not_here(tmp_path: Path) -> None:
    """Missing, cut, or a pointer instead of the content."""
    path = outside(tmp_path)
    content = (tmp_path / "part.bin").read_bytes()
    (tmp_path / "part.bin").write_bytes(content[:1000])
    assert "part.bin, which has 1000" in refused(path)
    (tmp_path / "part.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n".ljust(len(content)))
    assert "run: git lfs pull" in refused(path)
    (tmp_path / "part.bin").unlink()
    assert 'found no "part.bin" beside it' in refused(path)


def test_an_opset_that_is_too_new_or_cannot_be_raised(tmp_path: Path) -> None:
    """With the option to export with."""
    model = zoo.yolov8()
    model.opset_import[0].version = 99
    assert "export with opset_version=17" in refused(saved(tmp_path, model))
    node = helper.make_node("Pad", ["images"], ["padded"], paddings=[0] * 8)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("images", "padded")]
    graph = helper.make_graph([node], "old", values[:1], values[1:])
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1)], ir_version=3)
    assert "bringing it to 17 fails" in refused(saved(tmp_path, old))


def _output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 421


def _inner(model: onnx.ModelProto) -> None:
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Conv")
    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5, 64, 80]))


@pytest.mark.parametrize("change", [_output, _inner])
def test_shapes_that_contradict_the_graph(change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    """A declared shape that the graph cannot give is refused."""
    model = zoo.yolov8()
    change(model)
    assert "contradicts itself" in refused(saved(tmp_path, model))


def test_a_batch_of_several(tmp_path: Path) -> None:
    """A graph made for four pictures at once cannot be cut to one."""
    model = zoo.Net().model({"images": [4, 3, 64, 64]}, {"out": ("images", None)})
    assert "export with a batch of 1" in refused(saved(tmp_path, model))


def test_open_dimensions_are_fixed(tmp_path: Path) -> None:
    """--size comes first, then the metadata, then 640; and what was declared is inferred anew."""
    path = saved(tmp_path, zoo.yolov8(size=(96, 64), dynamic=True))
    read = source.read(path)
    assert read.signature.images[0].shape == (1, 3, 96, 64)
    assert read.signature.outputs[0].shape == (1, 7, 126)
    plain = zoo.Net()
    model = plain.model({"x": ["n", 3, "h", "w"]}, {"y": (plain.conv("x", (3, 4), stride=2), ["n", 4, "a", "b"])})
    path = saved(tmp_path, model)
    assert source.read(path).signature.outputs[0].shape == (1, 4, 320, 320)
    assert source.read(path).signature.open_size
    assert source.read(path, size=(64, 32)).signature.outputs[0].shape == (1, 4, 32, 16)


def test_a_fixed_size_cannot_be_asked_away(tmp_path: Path) -> None:
    """--size for a graph of another fixed size."""
    with pytest.raises(ModelRefused, match="leave --size away"):
        source.read(saved(tmp_path, zoo.yolov8()), size=(320, 320))


def test_the_tail_is_what_follows_the_last_weights(tmp_path: Path) -> None:
    """It tells a decoded output from a raw one."""
    tails = source.read(saved(tmp_path, zoo.yolox())).signature.tails
    assert tails["output"] == {"Transpose", "Concat", "Split", "Sigmoid", "Reshape"}
    assert "Mul" in source.read(saved(tmp_path, zoo.yolov8())).signature.tails["output0"]


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    """A plugin of one runtime is none of the other's business."""
    net = zoo.Net()
    value = net.op("DeformConv2d", net.conv("images", (3, 4)), domain="mmcv")
    model = net.model({"images": [1, 3, 64, 64]}, {"out": (value, [1, 4, 64, 64])}, domains=["mmcv"])
    read = source.read(saved(tmp_path, model))
    with pytest.raises(ModelRefused, match=r"mmcv::DeformConv2d.*export without plugins"):
        source.refuse_invalid(read.model, read.path)


def test_dynamic_quantisation_is_told(tmp_path: Path) -> None:
    """It is read, with a warning: slower than FP32 here, and nothing for TensorRT."""
    net = zoo.Net()
    value = net.conv("images", (3, 4))
    quantised, scale, zero = net.ops("DynamicQuantizeLinear", value, count=3)
    value = net.op("DequantizeLinear", quantised, scale, zero)
    model = net.model({"images": [1, 3, 64, 64]}, {"out": (value, None)})
    assert any("quantised dynamically" in note for note in source.read(saved(tmp_path, model)).notes)


def test_anomalibs_metadata_beside_the_file_is_read(tmp_path: Path) -> None:
    """Version 1 notes thresholds and ranges in a file of its own; what stands in the model comes first."""
    model = zoo.ZOO["yolov8"].make()
    helper.set_model_props(model, {"image_threshold": "3"})
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "metadata.json").write_text('{"image_threshold": 9, "pred_scores.min": 0.25, "other": "x"}')
    metadata = source.read(tmp_path / "model.onnx").signature.metadata
    assert metadata == {"image_threshold": "3", "pred_scores.min": "0.25"}


def test_nodes_in_any_order_are_put_in_theirs(tmp_path: Path) -> None:
    """As converters to half precision leave them: a cast at the end that the first convolution reads."""
    model = zoo.ZOO["yolov8"].make()
    wanted = [node.name for node in model.graph.node]
    shuffled = [*reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(shuffled)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = source.read(tmp_path / "model.onnx").model
    onnx.checker.check_model(found)
    assert sorted(node.name for node in found.graph.node) == sorted(wanted)

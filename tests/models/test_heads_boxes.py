"""Boxes, scores and labels apart: torchvision, TensorFlow, SSD, EfficientNMS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.graph import complete
from edge_inspector.models.heads import boxes, choose
from edge_inspector.models.heads.base import Hints
from edge_inspector.models.source import read

from .zoo import network_input, pictures, run
from .zoo_more import DYNAMIC, MORE, NAMES, apart, batched, check, completed, efficient_nms, signature_of, torchvision

HEADS = ("torchvision", "boxes", "ssd-labels", "efficient-nms", "tensorflow", "ssd", "boxes-scores")
LAYOUTS = [name for name, layout in MORE.items() if layout.head in HEADS]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_completed_graph_decodes_as_the_exporter_means_it(name: str, tmp_path: Path) -> None:
    """Boxes within 0.01 px and scores within 1e-4 of a plain decoder, in ONNX Runtime and in OpenVINO."""
    check(MORE[name], tmp_path)


def test_as_many_rows_as_there_are_boxes_become_a_fixed_number(tmp_path: Path) -> None:
    """What an NMS leaves differs from picture to picture; the rest is zeros, and what is beyond 300 is cut."""
    layout = MORE["torchvision"]
    original, found, made = completed(layout, tmp_path)
    assert found.outputs["boxes"].shape[0] is None
    kept = [len(run(original, {"images": network_input(p, layout.pixelwise)})[DYNAMIC]) for p in pictures(layout.size)]
    assert len(set(kept)) > 1
    for pixels, number in zip(pictures(layout.size), kept, strict=True):
        rows = run(made, {"image": pixels[None]})["detections"][0]
        assert rows.shape == (300, 6)
        assert (rows[number:] == 0).all()
        assert (rows[:number, 4] > 0).all()


def test_more_boxes_than_the_contract_keeps_are_cut(tmp_path: Path) -> None:
    """320 places, hardly anything suppressed: the best 300 stay."""
    model = torchvision(keep=320)
    (node,) = [each for each in model.graph.node if each.op_type == "NonMaxSuppression"]
    for name, value in ((node.input[3], 0.999), (node.input[4], 0.0)):
        (weight,) = [each for each in model.graph.initializer if each.name == name]
        weight.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    source = read(tmp_path / "model.onnx")
    made = complete(source.model, choose(source.signature, Hints(labels=NAMES)))
    rows = run(made, {"image": pictures((128, 160), 1)[0][None]})["detections"][0]
    assert rows.shape == (300, 6)
    assert rows[-1, 4] > 0


def test_nothing_is_suppressed_twice(tmp_path: Path) -> None:
    """Where an NMS is in the graph, or what is left was chosen already, none is left to do."""
    for name in LAYOUTS:
        _, found, made = completed(MORE[name], tmp_path)
        inside = any(node.op_type == "NonMaxSuppression" for node in made.graph.node)
        assert found.nms_iou == 1.0 or not inside
    assert completed(MORE["torchvision"], tmp_path)[1].nms_iou == 1.0
    assert completed(MORE["boxes"], tmp_path)[1].nms_iou < 1.0
    assert completed(MORE["ssd"], tmp_path)[1].nms_iou < 1.0


def test_where_labels_start_is_asked_where_the_file_does_not_tell(tmp_path: Path) -> None:
    """Batched boxes, scores and labels: pixels and from 0, or 0 to 1 and from 1; nothing in the file says which."""
    for scale, first in ((True, 0), (False, 1)):
        signature = signature_of(batched(scale=scale, first=first)(), tmp_path)
        with pytest.raises(ModelRefused, match=r"ambiguous(.|\n)*--head boxes: (.|\n)*--head ssd-labels: "):
            choose(signature, Hints(labels=NAMES))


def test_a_label_below_the_first_is_no_class(tmp_path: Path) -> None:
    """A head read with the wrong first label does not name another class: its rows are refused later, as class -1."""
    layout = MORE["torchvision, fixed"]
    model = layout.make(size=layout.size)
    (one,) = [each for each in model.graph.node if each.op_type == "Add" and each.output[0] in _into(model, "labels")]
    (weight,) = [each for each in model.graph.initializer if each.name == one.input[1]]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.array(-1, np.int64), weight.name))
    onnx.save(model, tmp_path / "model.onnx")
    source = read(tmp_path / "model.onnx")
    made = complete(source.model, choose(source.signature, layout.hints))
    rows = run(made, {"image": pictures(layout.size, 1)[0][None]})["detections"][0]
    assert rows[rows[:, 4] > 0, 5].min() == -1


def test_rows_beyond_the_count_are_nothing(tmp_path: Path) -> None:
    """EfficientNMS leaves anything behind its last box; its count says where."""
    layout = MORE["efficient-nms"]
    original, _, made = completed(layout, tmp_path)
    for pixels in pictures(layout.size):
        given = run(original, {"images": network_input(pixels, layout.pixelwise)})
        number = int(given["num_dets"][0, 0])
        assert 0 < number < 250
        assert given["det_scores"][0, number:].min() > 0
        rows = run(made, {"image": pixels[None]})["detections"][0]
        assert (rows[:number, 4] > 0).all()
        assert (rows[number:, 4:] == 0).all()


def test_a_plugin_of_tensorrt_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """EfficientNMS_TRT runs nowhere else, and the golden pictures could not be made."""
    model = efficient_nms()
    signature = signature_of(model, tmp_path)
    with_plugin = type(signature)(
        signature.inputs, signature.outputs, signature.operators | {"EfficientNMS_TRT"}, signature.metadata
    )
    (found,) = boxes.recognise(with_plugin, Hints(labels=NAMES))
    with pytest.raises(ModelRefused, match=r"EfficientNMS_TRT.*export without it"):
        complete(model, found)


def test_background_and_softmax_follow_from_what_ends_the_scores(tmp_path: Path) -> None:
    """A softmax at the end: SSD's, background first. None: logits. A sigmoid: every column is a class."""
    for end, head, classes, added in (("Softmax", "ssd", 5, False), ("", "ssd", 5, True)):
        found = choose(signature_of(apart(end, anchors=2)(), tmp_path), Hints())
        assert (found.head, found.classes, found.more["softmax"]) == (head, classes, added)
    found = choose(signature_of(apart("Sigmoid", anchors=2)(), tmp_path), Hints())
    assert (found.head, found.classes) == ("boxes-scores", 6)


def test_classes_must_be_named_where_only_labels_come(tmp_path: Path) -> None:
    """No shape says how many there are."""
    assert choose(signature_of(torchvision(), tmp_path), Hints()).need == "--classes"


def _into(model: onnx.ModelProto, output: str) -> set[str]:
    """The tensors that an output is made of."""
    wanted = {output}
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
    return wanted

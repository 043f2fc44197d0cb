"""The transformers: recognised by what tells them apart, and decoded as their own post-processing does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.heads import candidates, choose
from edge_inspector.models.heads.base import Hints
from edge_inspector.models.source import read

from .zoo import SIZE
from .zoo_more import (
    MORE,
    NAMES,
    check,
    completed,
    logits,
    rt_detr,
    rt_detr_joined,
    rt_detr_sorted,
    signature_of,
)

LAYOUTS = [name for name, layout in MORE.items() if "detr" in layout.head]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_completed_graph_decodes_as_the_exporter_means_it(name: str, tmp_path: Path) -> None:
    """Boxes within 0.01 px and scores within 1e-4 of a plain decoder, in ONNX Runtime and in OpenVINO."""
    check(MORE[name], tmp_path)


def test_nothing_is_left_to_suppress(tmp_path: Path) -> None:
    """A query stands for one thing: two boxes that overlap are two things."""
    for name in LAYOUTS:
        assert completed(MORE[name], tmp_path)[1].nms_iou == 1.0


def test_the_size_it_asks_for_is_width_before_height(tmp_path: Path) -> None:
    """RT-DETR's own exporter multiplies x by the first of orig_target_sizes; the input is not square here."""
    _, _, made = completed(MORE["rt-detr"], tmp_path)
    assert [each.name for each in made.graph.input] == ["image"]
    (sizes,) = [each for each in made.graph.initializer if each.name == "orig_target_sizes"]
    assert onnx.numpy_helper.to_array(sizes).tolist() == [[SIZE[1], SIZE[0]]]


def test_labels_alone_do_not_say_how_many_classes(tmp_path: Path) -> None:
    """Of labels, boxes and scores no shape tells the classes: the user has to name them."""
    signature = signature_of(rt_detr(), tmp_path)
    assert choose(signature, Hints()).need == "--classes"
    named = choose(signature, Hints(labels=NAMES))
    assert (named.need, named.classes) == ("", len(NAMES))


def test_a_score_and_a_class_are_not_taken_for_two_classes(tmp_path: Path) -> None:
    """Both forms of RT-DETR by Ultralytics may have six columns: what sorts them tells, and the number of names."""
    by_rows, by_classes = rt_detr_sorted(classes=2, said=False), rt_detr_joined(classes=2, said=False)
    assert choose(signature_of(by_rows, tmp_path), Hints()).need == "--classes"
    for labels in (NAMES[:2], NAMES):
        assert choose(signature_of(by_rows, tmp_path), Hints(labels=labels)).head == "rt-detr-sorted"
    for labels in ((), NAMES[:2]):
        assert choose(signature_of(by_classes, tmp_path), Hints(labels=labels)).head == "rt-detr-joined"


def test_sigmoid_or_softmax_is_asked_where_the_file_does_not_tell(tmp_path: Path) -> None:
    """Full attention and an unusual number of queries: DETR or a conditional one. Both are listed."""
    signature = signature_of(logits("pred_boxes", "pred_logits", deformable=False, stride=16)(), tmp_path)
    with pytest.raises(ModelRefused, match=r"ambiguous(.|\n)*--head detr: (.|\n)*softmax(.|\n)*--head rf-detr: "):
        choose(signature, Hints())
    assert choose(signature, Hints(head="rf-detr")).head == "rf-detr"


def test_boxes_and_logits_of_one_shape_are_told_by_their_names(tmp_path: Path) -> None:
    """RF-DETR of three classes has [1, N, 4] twice."""
    found = completed(MORE["rf-detr, three classes"], tmp_path)[1]
    assert found.outputs["boxes"].name == "dets"
    assert found.outputs["boxes"].shape == found.outputs["logits"].shape


def test_the_spare_column_goes_where_the_names_do_not_cover_it(tmp_path: Path) -> None:
    """RF-DETR allots one column more than there are classes; with as many names as columns all count."""
    signature = signature_of(logits("dets", "labels", columns=6)(), tmp_path)
    assert choose(signature, Hints(labels=NAMES)).classes == 5
    assert choose(signature, Hints(labels=(*NAMES, "rust"))).classes == 6
    with pytest.raises(ModelRefused, match=r"no head is surely recognised(.|\n)*; but 3 names for 6 classes"):
        choose(signature, Hints(labels=NAMES[:3]))


def test_masks_beside_the_boxes_are_left_out(tmp_path: Path) -> None:
    """RF-DETR-Seg gives masks as well; its boxes are what counts."""
    model = logits("dets", "labels")()
    queries = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, queries, 8, 8), np.float32), "m"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["m"], ["masks"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("masks", 1, [1, queries, 8, 8]))
    assert choose(signature_of(model, tmp_path), Hints()).head == "rf-detr"


def test_a_further_input_of_another_kind_is_no_size(tmp_path: Path) -> None:
    """Without an input of two whole numbers the same outputs are not RT-DETR's."""
    model = rt_detr()
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelRefused):
        read(tmp_path / "model.onnx")


def test_every_reading_says_what_it_relies_on(tmp_path: Path) -> None:
    """The outputs by name and shape, and how pixels are taken to go in."""
    for name in LAYOUTS:
        original, _, _ = completed(MORE[name], tmp_path)
        for each in candidates(signature_of(original, tmp_path), MORE[name].hints):
            assert any(str(tensor) in each.why for tensor in each.outputs.values()) or "labels" in each.why
            assert "RGB" in each.why

"""Classifiers, semantic segmentation, anomaly models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.heads import choose
from edge_inspector.models.heads.base import Hints
from edge_inspector.models.heads.pooling import CELLS, pooled

from .zoo import Layout, Net, run
from .zoo_more import MORE, SCALES, anomaly, check, classifier, completed, segmentation, signature_of

LAYOUTS = [name for name, layout in MORE.items() if layout.head in ("classifier", "segmentation", "anomaly")]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_completed_graph_gives_what_the_exporter_means(name: str, tmp_path: Path) -> None:
    """Every number within 1e-4 of a plain decoder (1e-3 where the network ends in half precision), in both runtimes."""
    check(MORE[name], tmp_path)


@pytest.mark.parametrize(
    ("end", "added"), [("", 1), ("Softmax", 0), ("LogSoftmax", 0), ("Sigmoid", 0)], ids=lambda v: str(v)
)
def test_a_softmax_is_added_only_where_there_is_none(end: str, added: int, tmp_path: Path) -> None:
    """Probabilities that go through it a second time would all come out alike."""
    layout = MORE["classifier"]
    model = type(layout)(
        head="classifier", make=classifier(end), answer=layout.answer, hints=layout.hints, pixelwise=layout.pixelwise
    )
    made = completed(model, tmp_path)[2]
    own = [node.op_type for node in made.graph.node if node.name.startswith("inspector/")]
    assert own.count("Softmax") == added
    assert own.count("Exp") == (end == "LogSoftmax")


def test_classes_without_a_good_one_are_not_imported(tmp_path: Path) -> None:
    """A word that means good, or --good; `--good ''` where every class is a defect."""
    signature = signature_of(classifier()(), tmp_path)
    names = ("scratch", "dent", "stain", "chip")
    assert choose(signature, Hints(labels=names)).need == "--good"
    for word in ("good", "OK", "Normal", "pass"):
        found = choose(signature, Hints(labels=(word, *names[1:])))
        assert (found.good, found.need) == ((word,), "")
    assert choose(signature, Hints(labels=names, good=())).good == ()
    assert choose(signature, Hints(labels=names, good=("stain",))).good == ("stain",)


def test_one_number_is_a_defect_only_if_the_user_says_so(tmp_path: Path) -> None:
    """A chance of what? Taken the wrong way round, every defect would pass."""
    signature = signature_of(classifier(columns=1)(), tmp_path)
    assert choose(signature, Hints()).need
    assert choose(signature, Hints(good=("good",), labels=("good",))).need
    assert choose(signature, Hints(good=(), labels=("defect",))).need == ""


def test_the_background_is_the_first_class_or_said(tmp_path: Path) -> None:
    """A class of another place called background is not taken for it."""
    signature = signature_of(segmentation()(), tmp_path)
    assert choose(signature, Hints(labels=("background", "scratch", "dent"))).good == ("background",)
    for labels in ((), ("scratch", "dent", "background")):
        assert choose(signature, Hints(labels=labels)).need == "--good"
    assert choose(signature, Hints(labels=("a", "b", "c"), good=("b",))).need == ""


def test_names_that_are_not_as_many_as_the_classes_are_refused(tmp_path: Path) -> None:
    """Three names, four classes."""
    with pytest.raises(ModelRefused, match="no head is surely recognised"):
        choose(signature_of(classifier()(), tmp_path), Hints(labels=("good", "scratch", "dent")))


@pytest.mark.parametrize("shape", [(256, 256), (257, 256), (512, 640), (1024, 1024), (296, 320), (509, 1021), (1, 9)])
def test_a_large_map_is_pooled_to_few_places(shape: tuple[int, int]) -> None:
    """At most 256 x 256, of the same proportions within a cell, and not at all where it is small enough."""
    rows, columns = pooled(*shape)
    assert rows * columns <= CELLS
    assert (rows, columns) == shape or shape[0] * shape[1] > CELLS
    assert abs(rows / columns - shape[0] / shape[1]) <= 2 / min(rows, columns)


def test_a_lone_map_may_be_either(tmp_path: Path) -> None:
    """Neither a Sigmoid nor anomalib's metadata: segmentation of one class or a raw anomaly map. The user says."""
    signature = signature_of(anomaly(1)(), tmp_path)
    with pytest.raises(ModelRefused, match=r"--head segmentation: (.|\n)*--head anomaly: "):
        choose(signature, Hints())
    assert "metadata.json" in choose(signature, Hints(head="anomaly")).need


def test_an_anomaly_score_without_a_scale_is_not_imported(tmp_path: Path) -> None:
    """Raw distances have no threshold at 0.5: what is missing is said."""
    found = choose(signature_of(anomaly(2, scaled=False)(), tmp_path), Hints())
    assert "image_threshold" in found.need
    assert choose(signature_of(anomaly(2)(), tmp_path), Hints()).need == ""
    for key in SCALES:
        some = {k: v for k, v in SCALES.items() if k != key}
        assert choose(signature_of(anomaly(1, metadata=some)(), tmp_path), Hints(head="anomaly")).need


def test_the_oldest_anomalib_keeps_one_range_and_its_transform(tmp_path: Path) -> None:
    """Version 0: min and max for both, and pixels that have to be normalised outside."""
    metadata = {"image_threshold": "1", "pixel_threshold": "2", "min": "0", "max": "4", "transform": "{}"}
    found = choose(signature_of(anomaly(1, metadata=metadata)(), tmp_path), Hints())
    assert found.more == {"map": (2.0, 4.0), "score": (1.0, 4.0)}
    np.testing.assert_allclose(found.pixelwise.mean, (0.485, 0.456, 0.406))


def test_a_crack_of_one_pixel_outlives_the_pooling(tmp_path: Path) -> None:
    """A large map of small values but for one line: the pooled map keeps it, as a mean would not."""
    size = (512, 640)

    def make(**_: object) -> onnx.ModelProto:
        net = Net()
        brightest = net.op("ReduceMax", "images", axes=[1], keepdims=1)
        steep = net.op("Mul", net.op("Sub", brightest, net.constant(0.5)), net.constant(20.0))
        return net.model({"images": [1, 3, *size]}, {"out": (net.op("Sigmoid", steep), None)})

    layout = Layout(
        head="segmentation", make=make, answer=lambda outputs, size: (), size=size,
        hints=Hints(head="segmentation", labels=("crack",), good=()),
    )  # fmt: skip
    made = completed(layout, tmp_path)[2]
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, 301] = 255
    heatmap = run(made, {"image": pixels[None]})["heatmap"][0, 0]
    assert heatmap.size < 512 * 640
    assert (heatmap.max(axis=1) > 0.9).all()

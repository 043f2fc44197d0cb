"""Completing a graph: pictures arrive as the network wants them, rows leave best first, names cannot collide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_inspector.errors import ModelRefused
from edge_inspector.models.graph import GraphBuilder, complete, tensor
from edge_inspector.models.heads.base import Builder, Found, Pixelwise

from . import zoo

Finish = Callable[[Builder, Found], None]


def found(model: onnx.ModelProto, finish: Finish, *, task: str = "detect", pixelwise: Pixelwise | None = None) -> Found:
    """As a head would recognise it."""
    return Found(
        head="test", why="", sure=1.0, task=task, classes=2, complete=finish, image=tensor(model.graph.input[0]),
        pixelwise=pixelwise or Pixelwise(), outputs={each.name: tensor(each) for each in model.graph.output},
    )  # fmt: skip


def echo(*, nhwc: bool = False, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph that gives its input back."""
    net = zoo.Net()
    shape = [1, 6, 5, 3] if nhwc else [1, 3, 6, 5]
    return net.model({"x": shape}, {"y": (net.op("Identity", "x"), shape)}, dtypes={"x": kind, "y": kind})


def score(builder: Builder, made: Found) -> None:
    """What the network got, as the contract's heatmap; to look at it."""
    value = "y" if made.image.shape[1] == 3 else builder.add("Transpose", "y", perm=[0, 3, 1, 2])
    builder.output("heatmap", value)


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8])
@pytest.mark.parametrize(
    "pixelwise",
    [
        Pixelwise(),
        Pixelwise(colour="bgr", scale=1.0),
        Pixelwise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Pixelwise(scale=1.0, mean=(123.675, 116.28, 103.53)),
    ],
)
def test_pixels_arrive_as_the_network_wants_them(nhwc: bool, kind: int, pixelwise: Pixelwise) -> None:
    """Every layout, number type and normalisation, against the formula in double precision."""
    if kind == TensorProto.UINT8:  # bytes can hold nothing else
        pixelwise = Pixelwise(colour=pixelwise.colour, scale=1.0)
    model = echo(nhwc=nhwc, kind=kind)
    made = complete(model, found(model, score, task="segment", pixelwise=pixelwise))
    onnx.checker.check_model(made, full_check=True)
    pixels = zoo.pictures((6, 5), 1)[0]
    wanted = zoo.network_input(pixels, pixelwise, dtype="float64")
    got = zoo.run(made, {"image": pixels[None]})["heatmap"]
    np.testing.assert_allclose(got, wanted, rtol=1e-3 if kind == TensorProto.FLOAT16 else 1e-6, atol=1e-6)


def test_nothing_is_added_that_does_nothing() -> None:
    """Bytes in BGR for a network that takes them: no arithmetic at all."""
    model = echo(nhwc=True, kind=TensorProto.UINT8)
    made = complete(model, found(model, score, task="segment", pixelwise=Pixelwise(colour="bgr", scale=1.0)))
    assert [node.op_type for node in made.graph.node if node.name.startswith("inspector/")] == [
        "Identity", "Identity", "Transpose", "Cast",
    ]  # fmt: skip


def _rows_model() -> onnx.ModelProto:
    net = zoo.Net()
    flat = net.op("Reshape", net.op("Slice", "x", *map(net.constant, ([0], [1], [1]))), net.constant([1, 5, 6]))
    return net.model({"x": [1, 3, 6, 5]}, {"y": (flat, None), "unused": (net.op("Relu", "x"), None)})


def _rows(builder: Builder, made: Found) -> None:
    boxes, scores = builder.split("y", [4, 2], axis=2)
    builder.rows(boxes, scores, extra=builder.split("y", [1, 5], axis=2)[0])


def test_rows_are_the_best_first_with_their_class() -> None:
    """Five rows of two classes, in NumPy and in the graph; what no output needs is gone."""
    model = _rows_model()
    made = complete(model, found(model, _rows, pixelwise=Pixelwise(colour="bgr", scale=1 / 255)))
    assert [output.name for output in made.graph.output] == ["detections"]
    assert not any(node.op_type == "Relu" for node in made.graph.node)
    pixels = np.random.default_rng(3).permutation(90).astype(np.uint8).reshape(1, 6, 5, 3)
    table = (pixels[0, :, :, 0] / 255).reshape(5, 6)
    got = zoo.run(made, {"image": pixels})["detections"][0]
    np.testing.assert_allclose(got, zoo.best(table[:, :4], table[:, 4:], table[:, 0]), rtol=1e-6)


@pytest.mark.parametrize("names", [("image", "detections"), ("detections", "image"), ("inspector/1/Cast", "scores")])
def test_names_of_the_contract_in_the_original(names: tuple[str, str]) -> None:
    """A network may call its own tensors what the contract calls its: nothing is mixed up."""
    net = zoo.Net()
    inner = net.op("Reshape", net.op("Relu", names[0]), net.constant([1, 15, 6]))
    model = net.model({names[0]: [1, 3, 6, 5]}, {names[1]: (inner, None)})

    def finish(builder: Builder, made: Found) -> None:
        boxes, scores = builder.split(names[1], [4, 2], axis=2)
        builder.rows(boxes, scores)

    made = complete(model, found(model, finish))
    onnx.checker.check_model(made, full_check=True)
    assert zoo.run(made, {"image": zoo.pictures((6, 5), 1)[0][None]})["detections"].shape == (1, 15, 6)


def test_a_further_input_needs_a_value() -> None:
    """It is refused by name, and done with once it is fed."""
    net = zoo.Net()
    flat = net.op("Reshape", net.op("Mul", "x", net.op("Cast", "sizes", to=1)), net.constant([1, 15, 6]))
    model = net.model({"x": [1, 3, 6, 5], "sizes": [1]}, {"y": (flat, None)}, dtypes={"sizes": TensorProto.INT64})

    def finish(builder: Builder, made: Found) -> None:
        boxes, scores = builder.split("y", [4, 2], axis=2)
        builder.rows(boxes, scores)

    def fed(builder: Builder, made: Found) -> None:
        builder.feed("sizes", np.array([3]))
        finish(builder, made)

    with pytest.raises(ModelRefused, match="nothing gives a value to: sizes"):
        complete(model, found(model, finish))
    assert [each.name for each in complete(model, found(model, fed)).graph.input] == ["image"]


def test_a_head_that_does_not_fit_is_refused() -> None:
    """A mistaken head fails where its operators meet the graph, not in a runtime."""
    model = _rows_model()

    def finish(builder: Builder, made: Found) -> None:
        boxes, scores = builder.split("y", [4, 3], axis=2)
        builder.rows(boxes, scores)

    with pytest.raises(ModelRefused, match="Split"):
        complete(model, found(model, finish))


def test_inner_graphs_keep_what_they_read() -> None:
    """What only the branch of an If needs is not thrown away, and follows when it is renamed."""
    net = zoo.Net()
    relu = net.op("Relu", "image")
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, [relu, "image"], [f"{name}_out"])], name, [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [1, 3, 6, 5])],
        )
        for name, op in (("then_branch", "Add"), ("else_branch", "Sub"))
    }  # fmt: skip
    chosen = net.op("If", net.constant(True), **branches)
    model = net.model({"image": [1, 3, 6, 5]}, {"y": (net.op("Reshape", chosen, net.constant([1, 15, 6])), [1, 15, 6])})

    def finish(builder: Builder, made: Found) -> None:
        boxes, scores = builder.split("y", [4, 2], axis=2)
        builder.rows(boxes, scores)

    made = complete(model, found(model, finish))
    pixels = zoo.pictures((6, 5), 1)[0]
    table = (2 * zoo.network_input(pixels, Pixelwise())).reshape(15, 6)
    zoo.same_rows(zoo.run(made, {"image": pixels[None]})["detections"][0], zoo.best(table[:, :4], table[:, 4:]))


def test_shapes_and_half_outputs() -> None:
    """The shape of anything can be asked for; an output in half precision arrives as float32."""
    model = echo(kind=TensorProto.FLOAT16)
    builder = GraphBuilder(model, image=tensor(model.graph.input[0]), pixelwise=Pixelwise())
    assert builder.size == (6, 5)
    assert builder.shape("y") == builder.shape(builder.add("Relu", "y")) == (1, 3, 6, 5)
    assert builder.dtype("y") == "float32"
    with pytest.raises(ModelRefused, match="the shape of nothing"):
        builder.shape("nothing")

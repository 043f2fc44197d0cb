"""The suite that makes a runner a runner: lanes, buffers, answers, refusals. On every runner that runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_inspector import runners
from edge_inspector.errors import EngineMissing
from edge_inspector.models.folder import Engine, ScriptStep, find
from edge_inspector.models.golden import drawn
from edge_inspector.runners.base import Runner
from edge_inspector.runners.openvino import OpenVinoRunner
from edge_inspector.runners.scripted import ScriptedRunner

ENGINES = Path(__file__).parents[2] / "engines"
SCRIPT = tuple(ScriptStep(boxes=((10.0 * n, 0, 10.0 * n + 5, 5, 0.5, 0),)) for n in range(1, 3))


def boards() -> Engine:
    """The engine that ships."""
    return find("boards", ENGINES)


MAKERS: dict[str, Callable[[], Runner]] = {
    "openvino": lambda: OpenVinoRunner(boards().model, "detect", precision="fp32"),
    "openvino, for a backlog": lambda: OpenVinoRunner(boards().model, "detect", precision="fp32", backlog=True),
    "scripted": lambda: ScriptedRunner(SCRIPT, (320, 320)),
}


@pytest.fixture(params=MAKERS)
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A runner that is open."""
    made = MAKERS[request.param]()
    yield made
    made.close()
    made.close()  # a second time is allowed


def infer(runner: Runner, lane: int) -> np.ndarray:
    """The rows of what lies in a lane's input."""
    runner.submit(lane)
    return np.array(runner.collect(lane)[0])


def test_two_lanes_with_inputs_of_their_own(runner: Runner) -> None:
    """uint8 [H, W, 3] each; writing to one is not seen in the other."""
    assert len(runner.inputs) >= 2
    for lane, view in enumerate(runner.inputs):
        assert view.dtype == np.uint8
        assert view.ndim == 3
        assert view.shape[2] == 3
        view[:] = lane
    assert [int(view.max()) for view in runner.inputs] == list(range(len(runner.inputs)))


def test_every_lane_gives_the_same_rows(runner: Runner) -> None:
    """One picture, one answer, whichever lane it goes through, and in flight beside another."""
    if runner.simulated:
        pytest.skip("a script answers by turns, not by pictures")
    first, second = list(drawn(runner.inputs[0].shape[:2], count=2))
    alone = []
    for picture in (first, second):
        runner.inputs[0][:] = picture
        alone.append(infer(runner, 0))
    assert not np.array_equal(alone[0], alone[1])
    runner.inputs[0][:], runner.inputs[1][:] = second, first
    runner.submit(0)
    runner.submit(1)
    assert np.allclose(runner.collect(0)[0], alone[1], atol=1e-4)
    assert np.allclose(runner.collect(1)[0], alone[0], atol=1e-4)


def test_an_answer_stays_until_the_lanes_next_submit(runner: Runner) -> None:
    """What was collected from one lane is not touched by what another lane does."""
    for lane, picture in enumerate(drawn(runner.inputs[0].shape[:2], count=2)):
        runner.inputs[lane][:] = picture
    runner.submit(0)
    held = runner.collect(0)[0]
    before = held.copy()
    infer(runner, 1)
    assert np.array_equal(held, before)


def test_rows_as_the_contract_says(runner: Runner) -> None:
    """float32 [K, 6], scores within 0..1, boxes not inside out."""
    rows = infer(runner, 0)
    assert rows.dtype == np.float32
    assert rows.ndim == 2
    assert rows.shape[1] == 6
    assert ((rows[:, 4] >= 0) & (rows[:, 4] <= 1)).all()
    assert (rows[:, :2] <= rows[:, 2:4]).all()


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07"])
def test_a_file_that_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    """With the file's name, before anything runs."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineMissing, match=r"model\.onnx"):
        OpenVinoRunner(path, "detect")


def test_a_graph_of_another_task_is_refused() -> None:
    """A detector is no classifier; both contracts are told."""
    with pytest.raises(EngineMissing, match=r"expected image: uint8 \[1, H, W, 3\], scores: float32 \[1, C\]; found"):
        OpenVinoRunner(boards().model, "classify")


def test_the_machine_is_described() -> None:
    """Runtime, version and processor, for the manifest of what is compiled."""
    machine = runners.machine("openvino")
    assert machine.runtime == "openvino"
    assert machine.version[0].isdigit()
    assert machine.device


def test_a_single_number_is_this_picture_s(tmp_path: Path) -> None:
    """An anomaly engine's score has no dimension but the batch: it must follow the picture, in every lane."""
    onnx = pytest.importorskip("onnx")
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 16, 16, 3])
    heat = onnx.helper.make_tensor_value_info("heatmap", onnx.TensorProto.FLOAT, [1, 16, 16])
    score = onnx.helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [1])
    most = onnx.numpy_helper.from_array(np.array(255.0, np.float32), "most")
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Div", ["floats", "most"], ["shares"]),
        onnx.helper.make_node("ReduceMax", ["shares"], ["heatmap"], axes=[3], keepdims=0),
        onnx.helper.make_node("ReduceMax", ["shares"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    graph = onnx.helper.make_graph(nodes, "brightest", [image], [heat, score], [most])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    runner = OpenVinoRunner(tmp_path / "model.onnx", "anomaly", precision="fp32")
    for level, lane in ((51, 0), (204, 1), (102, 0)):
        runner.inputs[lane][:] = level
        runner.submit(lane)
        assert float(runner.collect(lane)[1]) == pytest.approx(level / 255, abs=1e-6)

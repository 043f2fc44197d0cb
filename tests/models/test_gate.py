"""The gate lets through what its original was, in any precision; engines damaged on purpose it does not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_inspector import runners
from edge_inspector.cli import main
from edge_inspector.errors import EngineMissing, ModelRefused
from edge_inspector.models import gate, golden
from edge_inspector.models.folder import Engine, ScriptStep, find
from edge_inspector.models.manifest import Build, Machine, Manifest
from edge_inspector.runners.openvino import OpenVinoRunner
from edge_inspector.runners.scripted import ScriptedRunner

from .zoo import ZOO

Change = Callable[[onnx.GraphProto], None]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an engine that was imported from a file that sees colours."""
    folder = tmp_path_factory.mktemp("gate")
    onnx.save(ZOO["yolov8"].make(), folder / "best.onnx")
    options = ["--name", "small", "--engines", str(folder / "engines")]
    assert main(["import", str(folder / "best.onnx"), *options]) == 0
    return folder / "engines"


def damaged(engines: Path, into: Path, change: Change) -> Engine:
    """The engine with another graph, as a build that went wrong would have made it."""
    engine = find("small", engines)
    model = onnx.load(engine.model)
    change(model.graph)
    onnx.save(model, into / "model.onnx")
    manifest = Manifest(
        engine="small", target="openvino", precision="fp16", file="model.onnx", file_sha256="", model_sha256="",
        machine=Machine("openvino", ""), built="", build_s=0.0,
    )  # fmt: skip
    return dataclasses.replace(engine, build=Build(into, manifest))


def prove(engine: Engine) -> float:
    """In exact float32, so that only the damage is to be seen."""
    model = engine.build.file if engine.build else engine.model
    return gate.prove(engine, OpenVinoRunner(model, engine.tables.task, precision="fp32"))


def weights(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Of the convolutions, in their order."""
    names = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    return [each for name in names for each in graph.initializer if each.name == name]


def scale(graph: onnx.GraphProto, which: int, factor: float) -> None:
    """Multiply one convolution's weights."""
    tensor = weights(graph)[which]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))


def swap_colours(graph: onnx.GraphProto) -> None:
    """Red for blue in the first convolution."""
    tensor = weights(graph)[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))


def overflow(graph: onnx.GraphProto) -> None:
    """What half precision makes of numbers beyond 65504: infinite logits of the wrong sign, and no detection at all."""
    for node in graph.node:
        if node.op_type == "Sigmoid":
            graph.initializer.append(numpy_helper.from_array(np.float32(-np.inf), "minus_infinity"))
            at = list(graph.node).index(node)
            graph.node.insert(at, onnx.helper.make_node("Min", [node.input[0], "minus_infinity"], ["overflown"]))
            node.input[0] = "overflown"
            return
    raise AssertionError("no sigmoid to overflow")


def shift_boxes(graph: onnx.GraphProto) -> None:
    """Boxes a few pixels off, scores as they were."""
    split = next(node for node in reversed(graph.node) if node.op_type == "Concat")
    graph.initializer.append(numpy_helper.from_array(np.float32([[[9, 9, 9, 9, 0, 0]]]), "shift"))
    name = split.output[0]
    split.output[0] = "before_shift"
    graph.node.append(onnx.helper.make_node("Add", ["before_shift", "shift"], [name]))


def test_the_original_proves_itself(engines: Path) -> None:
    """In exact float32 its scores are off by next to nothing, as OpenVINO runs it by a little."""
    engine = find("small", engines)
    assert prove(engine) < 1e-3
    assert gate.prove(engine, runners.make(engine)) < gate.TOLERANCE["auto"][0]


def test_the_shipped_engine_proves_itself() -> None:
    """What lies in the repository gives its golden rows."""
    engine = find("boards", Path(__file__).parents[2] / "engines")
    assert prove(engine) < 1e-3
    assert gate.prove(engine, runners.make(engine)) < gate.TOLERANCE["auto"][0]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda graph: scale(graph, 1, 0.0), id="a zeroed layer"),
        pytest.param(lambda graph: scale(graph, -2, 0.0), id="a zeroed head"),
        pytest.param(lambda graph: scale(graph, 0, 255.0), id="another scale of pixels"),
        pytest.param(lambda graph: scale(graph, 0, 1 / 255), id="a scale applied twice"),
        pytest.param(swap_colours, id="wrong colour order"),
        pytest.param(overflow, id="overflow to no detections"),
        pytest.param(shift_boxes, id="boxes off by some pixels"),
        pytest.param(lambda graph: scale(graph, -1, np.nan), id="not numbers"),
    ],
)
def test_a_damaged_engine_is_refused(change: Change, engines: Path, tmp_path: Path) -> None:
    """Exit 3, with the command that mends it."""
    with pytest.raises(
        EngineMissing, match=r"does not do what it was imported to do.*edge-inspector build small"
    ) as told:
        prove(damaged(engines, tmp_path, change))
    assert told.value.exit_code == 3


def test_a_small_change_is_let_through(engines: Path, tmp_path: Path) -> None:
    """Rounding is no damage: the weights of a layer off by a ten-thousandth."""
    assert prove(damaged(engines, tmp_path, lambda graph: scale(graph, 0, 1.0001))) > 0.0


def test_an_engine_that_answers_nothing_is_refused() -> None:
    """All rows empty: the silent pass that this gate is for."""
    engine = find("boards", Path(__file__).parents[2] / "engines")
    with pytest.raises(EngineMissing, match=r"has a highest score of 0\.000, expected 0\.758"):
        gate.prove(engine, ScriptedRunner([ScriptStep()], (640, 640)))


@pytest.mark.parametrize("score", [0.0, 0.9])
def test_blindness_is_seen_even_where_golden_scores_hardly_differ(score: float, tmp_path: Path) -> None:
    """No row stands out from the floor, so none can be looked for; an engine without any, or sure of one, is off."""
    engine = find("boards", Path(__file__).parents[2] / "engines")
    shutil.copytree(engine.folder / "golden", tmp_path / "golden")
    for path in (tmp_path / "golden").glob("*.json"):
        golden_rows = {"image": f"{path.stem}.png", "floor": 0.299, "rows": [[1, 1, 9, 9, 0.3, 0]] * 3}
        path.write_text(json.dumps(golden_rows))
    engine = dataclasses.replace(engine, folder=tmp_path)
    same = ScriptStep(boxes=((1, 1, 9, 9, 0.3, 0),))
    assert gate.prove(engine, ScriptedRunner([same], (640, 640))) == 0.0
    with pytest.raises(EngineMissing, match=r"has a highest score of 0\.[09]00, expected 0\.300"):
        gate.prove(engine, ScriptedRunner([ScriptStep(boxes=((1, 1, 9, 9, score, 0),))], (640, 640)))


def copy_of_boards(into: Path) -> Path:
    """The shipped engine, to be spoiled."""
    shutil.copytree(Path(__file__).parents[2] / "engines" / "boards", into / "boards")
    return into / "boards"


def spoil(what: str) -> Callable[[Path], None]:
    """A way to damage golden/."""

    def no_json(folder: Path) -> None:
        for path in folder.glob("*.json"):
            path.unlink()

    def no_picture(folder: Path) -> None:
        next(folder.glob("*.png")).unlink()

    def garbage(folder: Path) -> None:
        next(folder.glob("*.json")).write_text("{")

    def emptied(folder: Path) -> None:
        for path in folder.glob("*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "rows": []}))

    return {"no_json": no_json, "no_picture": no_picture, "garbage": garbage, "emptied": emptied}[what]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no_json", "nothing to prove itself by"),
        ("no_picture", "is no golden answer"),
        ("garbage", "is no golden answer"),
        ("emptied", "nothing to prove itself by"),
    ],
)
def test_without_golden_answers_there_is_no_proof(what: str, told: str, tmp_path: Path) -> None:
    """An engine that nothing is known of does not start either."""
    folder = copy_of_boards(tmp_path)
    spoil(what)(folder / "golden")
    with pytest.raises(EngineMissing, match=told):
        prove(find("boards", tmp_path))


def test_check_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edge-inspector check` ends as the daemon would: exit 3, and why."""
    folder = copy_of_boards(tmp_path / "engines")
    model = onnx.load(folder / "model.onnx")
    scale(model.graph, 3, 0.0)
    onnx.save(model, folder / "model.onnx")
    line = tmp_path / "line.toml"
    line.write_text(
        '[line]\nname = "l"\n[[station]]\nname = "top"\nengine = "boards"\n[station.camera]\nkind = "boards"\n'
    )
    assert main(["check", str(line)]) == 3
    assert "does not do what it was imported to do" in capsys.readouterr().err


def test_a_model_that_finds_nothing_cannot_be_golden(engines: Path, tmp_path: Path) -> None:
    """It could not be told from one that is broken: pictures in which it finds something are asked for."""
    engine = dataclasses.replace(find("boards", Path(__file__).parents[2] / "engines"), folder=tmp_path)
    with pytest.raises(ModelRefused, match="--golden"):
        golden.make_golden(engine, ScriptedRunner(empty(), (64, 64)))


def empty() -> list[Any]:
    """One empty answer."""
    return [ScriptStep(boxes=((0, 0, 0, 0, 0.0, 0),))]


@pytest.mark.parametrize(("best_ms", "refused"), [(14.9, False), (15.1, True)])
def test_an_engine_that_became_slow_is_refused(best_ms: float, refused: bool, engines: Path, tmp_path: Path) -> None:
    """Half as long again as when it was built: a lower power mode, say."""
    engine = damaged(engines, tmp_path, lambda graph: None)
    assert engine.build is not None
    build = dataclasses.replace(engine.build, manifest=dataclasses.replace(engine.build.manifest, latency_ms=10.0))
    engine = dataclasses.replace(engine, build=build)
    if refused:
        with pytest.raises(EngineMissing, match=r"takes 15\.1 ms here, and took 10\.0 ms"):
            gate.refuse_slower(engine, best_ms)
    else:
        gate.refuse_slower(engine, best_ms)

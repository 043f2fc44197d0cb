"""The gate lets through what its original was, in any precision; engines damaged on purpose it does not."""

from __future__ import annotations

import dataclasses
import json
import re
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
from edge_inspector.models.manifest import Build, Machine, Manifest, sha256
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
    with pytest.raises(EngineMissing, match=r"has a highest score of 0, expected 0\.1599"):
        gate.prove(engine, ScriptedRunner([ScriptStep()], (640, 640)))


@pytest.mark.parametrize("score", [0.0, 0.9])
def test_blindness_is_seen_even_where_golden_scores_hardly_differ(score: float, tmp_path: Path) -> None:
    """No row stands out from the floor, so none can be looked for; an engine without any, or sure of one, is off."""
    engine = find("boards", Path(__file__).parents[2] / "engines")
    shutil.copytree(engine.folder / "golden", tmp_path / "golden")
    for path in (tmp_path / "golden").glob("*.json"):
        golden_rows = json.loads(path.read_text()) | {"floor": 0.299, "rows": [[1, 1, 9, 9, 0.3, 0]] * 3}
        path.write_text(json.dumps(golden_rows))
    engine = dataclasses.replace(engine, folder=tmp_path)
    same = ScriptStep(boxes=((1, 1, 9, 9, 0.3, 0),))
    assert gate.prove(engine, ScriptedRunner([same], (640, 640))) == 0.0
    with pytest.raises(EngineMissing, match=r"has a highest score of (0|0\.9), expected 0\.3;"):
        gate.prove(engine, ScriptedRunner([ScriptStep(boxes=((1, 1, 9, 9, score, 0),))], (640, 640)))


def copy_of_boards(into: Path) -> Path:
    """The shipped engine, to be spoiled."""
    shutil.copytree(Path(__file__).parents[2] / "engines" / "boards", into / "boards")
    return into / "boards"


def sign(folder: Path) -> None:
    """Let model.toml say of the model.onnx that is there now that it is the one that was imported."""
    text = (folder / "model.toml").read_text()
    digest = sha256((folder / "model.onnx").read_bytes())
    (folder / "model.toml").write_text(re.sub(r'sha256 = "\w*"', f'sha256 = "{digest}"', text))


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
    sign(folder)
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


BOARDS = Path(__file__).parents[2] / "engines" / "boards"
LABELS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("label", LABELS)
def test_blind_to_one_class(label: str, precision: str, tmp_path: Path) -> None:
    """The shipped engine's golden pictures show every class, so that none of them can be lost unseen."""
    engine = find("boards", BOARDS.parent)
    assert gate.doubts(engine) == []
    model = onnx.load(engine.model)
    (bias,) = [each for each in model.graph.initializer if list(each.dims) == [len(LABELS)]]
    values = numpy_helper.to_array(bias).copy()
    values[LABELS.index(label)] = -30.0
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "model.onnx")
    runner = OpenVinoRunner(tmp_path / "model.onnx", "detect", precision=precision)
    gate.prove(built(engine, precision), OpenVinoRunner(engine.model, "detect", precision=precision))
    with pytest.raises(EngineMissing, match="does not do what it was imported to do"):
        gate.prove(built(engine, precision), runner)


def built(engine: Engine, precision: str, latency_ms: float = 0.0) -> Engine:
    """The engine as if it had been built so."""
    manifest = Manifest(
        engine=engine.folder.name, target="openvino", precision=precision, file="model.onnx", file_sha256="",
        model_sha256="", machine=Machine("openvino", ""), built="", build_s=0.0, latency_ms=latency_ms,
    )  # fmt: skip
    return dataclasses.replace(engine, build=Build(engine.folder, manifest))


def rewritten(into: Path, rows: list[list[float]]) -> Engine:
    """The shipped engine with other golden rows, the same for every picture."""
    shutil.copytree(BOARDS / "golden", into / "golden")
    for path in (into / "golden").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"floor": rows[-1][4], "rows": rows}))
    return dataclasses.replace(find("boards", BOARDS.parent), folder=into)


def row(n: int, score: float, label: int) -> list[float]:
    """The n-th of boxes that do not meet."""
    return [20.0 * n, 0.0, 20.0 * n + 15, 15.0, score, float(label)]


def answers(rows: list[list[float]]) -> ScriptedRunner:
    """A runner that finds these in every picture."""
    return ScriptedRunner([ScriptStep(boxes=tuple((a, b, c, d, e, f) for a, b, c, d, e, f in rows))], (640, 640))


def test_a_class_that_is_lost_is_not_lost_among_many_others(tmp_path: Path) -> None:
    """One row in 30 is within what rounding may cost, but not where it was the only one of its kind."""
    rows = [row(n, 0.9 - n / 100, 0) for n in range(29)] + [row(29, 0.5, 4), row(30, 0.05, 0)]
    engine = rewritten(tmp_path, rows)
    assert gate.prove(engine, answers(rows)) < 1e-6
    assert gate.prove(engine, answers(rows[:20] + rows[21:])) < 1e-6
    with pytest.raises(EngineMissing, match="finds nothing of class copper that its original finds"):
        gate.prove(engine, answers([each for each in rows if each[5] != 4]))


def test_classes_that_no_picture_shows_are_named(tmp_path: Path) -> None:
    """By `import` and `build`: that they are blind to these would not be seen."""
    engine = rewritten(tmp_path, [row(0, 0.9, 0), row(1, 0.6, 1), row(2, 0.06, 4), row(3, 0.05, 5)])
    (doubt,) = gate.doubts(engine)
    assert "surely shows mousebite, spur, copper, pin-hole: " in doubt
    assert "--golden" in doubt


def test_flat_scores_are_compared_all_the_same(tmp_path: Path) -> None:
    """Where no row stands out from the floor, the best ones must be found: other boxes with the same scores are not."""
    rows = [row(n, 0.99 - n / 1e4, 0) for n in range(30)]
    engine = rewritten(tmp_path, rows)
    (doubt,) = gate.doubts(engine)
    assert "prove little" in doubt
    padded = [*rows, *([[0.0] * 6] * 270)]
    assert gate.prove(engine, answers(padded)) < 1e-6
    with pytest.raises(EngineMissing, match="does not find class 0"):
        gate.prove(engine, answers([[*(value + 100 for value in each[:4]), *each[4:]] for each in rows]))


@pytest.mark.parametrize("score", [3e-5, 0.3])
def test_golden_rows_keep_their_digits(score: float, engines: Path, tmp_path: Path) -> None:
    """A model whose best score is 0.00003 can be proven in FP32 as any other."""
    engine = dataclasses.replace(find("small", engines), folder=tmp_path)
    boxes = tuple((10.0 * n, 0.0, 10.0 * n + 9, 9.0, score * (1 - n / 7), 1.0) for n in range(4))
    runner = ScriptedRunner([ScriptStep(boxes=boxes)], (128, 160))
    golden.make_golden(engine, runner)
    assert gate.prove(built(engine, "fp32"), runner) < 1e-6
    damaged_rows = tuple((*box[:4], box[4] * 1.05, box[5]) for box in boxes)
    with pytest.raises(EngineMissing, match=f"has a highest score of {np.float32(score * 1.05):.4g}, expected"):
        gate.prove(built(engine, "fp32"), ScriptedRunner([ScriptStep(boxes=damaged_rows)], (128, 160)))


def test_scores_above_one_are_no_scores(engines: Path, tmp_path: Path) -> None:
    """What was taken for a score is something else: the head is not the one that it was taken for."""
    engine = dataclasses.replace(find("small", engines), folder=tmp_path)
    runner = ScriptedRunner([ScriptStep(boxes=((0, 0, 9, 9, 3.0, 0),))], (128, 160))
    with pytest.raises(ModelRefused, match=r"scores up to 3, more than 1.*--head"):
        golden.make_golden(engine, runner)


def test_swapped_names_are_noticed(tmp_path: Path) -> None:
    """A spur that is called copper would be judged by another rule."""
    folder = copy_of_boards(tmp_path)
    text = (folder / "model.toml").read_text()
    swapped = text.replace("spur", "?").replace("copper", "spur").replace("?", "copper")
    (folder / "model.toml").write_text(swapped)
    with pytest.raises(EngineMissing, match=r'labels are not those .*: "copper" where "spur" was; put them back'):
        prove(find("boards", tmp_path))


def test_another_graph_is_not_the_imported_one(tmp_path: Path) -> None:
    """A build would take the same damaged file: the message says what helps."""
    folder = copy_of_boards(tmp_path / "my engines")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    for command in (["build", "boards", "--target", "openvino"], ["calibrate", "int8", "boards", "--images", "."]):
        assert main([*command, "--engines", str(folder.parent)]) == 3
    with pytest.raises(EngineMissing, match=r"not the file that was imported.*--replace --name boards --engines '"):
        find("boards", folder.parent)

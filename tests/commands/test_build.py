"""`edge-inspector build` as its user runs it: what proves itself runs, and what does not changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from edge_inspector import cli, runners
from edge_inspector.codec import from_json
from edge_inspector.errors import EngineMissing
from edge_inspector.models import gate, int8, manifest
from edge_inspector.models.folder import find
from edge_inspector.models.manifest import Build, Machine, Manifest
from edge_inspector.models.quantize import Quantizer

from ..models import tiny
from ..models.test_compile import dynamic

BUILD = [sys.executable, "-m", "edge_inspector", "build", "tiny", "--engines"]
RTX = ["--target", "tensorrt-rtx", "--sm", "89"]


@pytest.fixture(name="engines")
def _engines(tmp_path: Path) -> Path:
    """A folder of one small engine."""
    tiny.engine(tmp_path / "engines")
    return tmp_path / "engines"


def build(engines: Path, *words: str) -> int:
    """The command in this process; returns its exit code."""
    return cli.main(["build", "tiny", "--engines", str(engines), *words])


def running(engines: Path, name: str = "tiny") -> Build:
    """The build that runs."""
    found = find(name, engines).build
    assert found is not None
    return found


def elsewhere(engines: Path) -> Build:
    """The one build for other machines."""
    (folder,) = [each for each in (engines / "tiny" / "builds").glob("2*") if not manifest.is_local(each)]
    return manifest.load(folder)


def proves_itself(engines: Path) -> bool:
    """Whether what runs now gives the golden rows again, in the runner the daemon would use."""
    engine = find("tiny", engines)
    return gate.prove(engine, runners.make(engine)) < 0.05


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_for_the_processor(engines: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Built, proved, current; the manifest says of what, by what and how fast."""
    assert build(engines, "--target", "openvino", "--precision", precision) == 0
    told = running(engines).manifest
    model = (engines / "tiny" / "model.onnx").read_bytes()
    assert (told.engine, told.target, told.precision, told.former) == ("tiny", "openvino", precision, "")
    assert told.model_sha256 == told.file_sha256 == manifest.sha256(model)
    assert told.machine == runners.machine("openvino")
    assert told.latency_ms > 0
    assert told.tensors == ("image: uint8 [1, 64, 64, 3]", "detections: float32 [1, 20, 6]")
    assert any("prove little" in warning for warning in told.warnings)  # untrained, and so it is said again
    assert proves_itself(engines)
    out = capsys.readouterr().out
    assert f"building for openvino in {precision}" in out
    assert "warning  its scores hardly differ" in out
    assert f"current  {running(engines).folder}" in out


def test_without_a_gpu_auto_is_the_processor(engines: Path) -> None:
    """What this machine can run, it builds for."""
    for target in ("tensorrt", "tensorrt-rtx"):
        try:
            runners.machine(target)
        except EngineMissing:
            continue
        pytest.skip(f"{target} has a GPU here")
    assert build(engines) == 0
    assert running(engines).manifest.target == "openvino"


def test_roll_back_and_return(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which build runs now; without a former one it exits with 3."""
    assert build(engines, "--rollback") == 3
    assert "no former build" in capsys.readouterr().err
    for precision in ("fp32", "fp16"):
        assert build(engines, "--target", "openvino", "--precision", precision) == 0
    for wanted in ("fp32", "fp16"):
        assert build(engines, "--rollback") == 0
        assert running(engines).manifest.precision == wanted
        assert f"openvino, {wanted}, built 20" in capsys.readouterr().out
        assert proves_itself(engines)


def test_the_gate_lets_nothing_else_through(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that finds other things than its golden rows: exit 3, the old build stays, nothing is left lying."""
    assert build(engines, "--target", "openvino", "--precision", "fp32") == 0
    before = running(engines)
    listing = sorted(path.name for path in before.folder.parent.iterdir())
    model = engines / "tiny" / "model.onnx"
    original = model.read_bytes()
    onnx.save(tiny.detector(seed=4), model)
    assert build(engines, "--target", "openvino", "--precision", "fp32") == 3
    told = capsys.readouterr().err
    assert "does not do what it was imported to do" in told
    assert "nothing was changed" in told
    assert "--rollback" not in told  # it would take away the build that is good
    assert running(engines) == before
    assert sorted(path.name for path in before.folder.parent.iterdir()) == listing
    model.write_bytes(original)
    assert proves_itself(engines)


def test_for_gpus_elsewhere(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TensorRT-RTX compiles without a GPU; who runs it will prove it, and this machine says that it cannot."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    assert build(engines, "--target", "openvino") == 0
    here = running(engines)
    for _ in range(2):  # the second takes the first one's place
        assert build(engines, "--sm", "89", "12.0", "89") == 0
    assert running(engines) == here  # what runs on this machine stays
    built = elsewhere(engines)
    told = built.manifest
    assert (told.target, told.precision, told.capabilities) == ("tensorrt-rtx", "fp16", ("89", "120"))
    assert told.machine == Machine("tensorrt-rtx", told.machine.version)
    assert told.machine.version[0].isdigit()
    assert told.latency_ms == 0.0
    assert told.tensors == ("image: uint8 [1, 64, 64, 3]", "detections: float32 [1, 20, 6]")
    assert {"bins", "dfl", "sides", "top"} <= set(told.kept_fp32)
    assert sorted(path.name for path in built.folder.iterdir()) == ["manifest.json", "model.plan"]
    said = capsys.readouterr().out
    assert "the daemon proves it there" in said
    assert f"ln -sfn {built.folder.name} tiny/builds/current" in said
    assert build(engines, "--target", "openvino") == 0  # a build for this machine leaves it alone
    assert elsewhere(engines) == built
    assert from_json((built.folder / "manifest.json").read_bytes(), Manifest) == told


def test_int8_is_what_calibrate_left(engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, the command to type; with it, its warnings go into the manifest; of another graph, refused."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    assert build(engines, *RTX, "--precision", "int8") == 3
    told = capsys.readouterr().err
    assert "run: edge-inspector calibrate int8 tiny" in told
    assert "Errno" not in told
    folder = engines / "tiny"
    quantizer = Quantizer(folder / "model.onnx", tmp_path)
    assert len(list(quantizer.calibrate(tiny.pictures(8)))) == 8
    others = [name for name in quantizer.layers if name != quantizer.layers[1]]
    quantizer.write(folder / "new.onnx", keep=others)  # untrained, it finds other things where all are INT8
    report = int8.Report(
        engine="tiny", made="", model_sha256=manifest.sha256((folder / "model.onnx").read_bytes()),
        int8_sha256=manifest.sha256((folder / "new.onnx").read_bytes()), pictures_sha256="", calibrated_on=1,
        measured_on=1, duplicates=0, machine=Machine("openvino", "1"), layers=2, kept={}, table=(),
        agreement=0.9, min_agreement=0.9, recommended="int8", warnings=("few pictures",),
    )  # fmt: skip
    int8.install(folder, folder / "new.onnx", report)
    assert build(engines, *RTX, "--precision", "int8") == 0
    assert elsewhere(engines).manifest.precision == "int8"
    assert elsewhere(engines).manifest.warnings == ("few pictures",)
    assert build(engines, "--target", "openvino", "--precision", "int8") == 0
    assert running(engines).file.read_bytes() == (folder / "int8.onnx").read_bytes()
    onnx.save(tiny.detector(seed=4), folder / "model.onnx")
    assert build(engines, *RTX, "--precision", "int8") == 3
    assert "another model.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--target", "openvino", "--sm", "89"], 2, "--sm is for --target tensorrt-rtx"),
        (["--sm", "ampere"], 2, "ampere is no compute capability"),
        ([*RTX[:-1], "90"], 3, "knows no compute capability 90"),
    ],
)
def test_wrong_words(engines: Path, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is said before anything is written."""
    try:
        found = build(engines, *words)
    except SystemExit as error:
        found = int(error.code or 0)
    assert found == code
    assert told in capsys.readouterr().err
    assert find("tiny", engines).build is None


def test_without_a_driver_it_says_what_can_be_typed(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no placeholder."""
    try:
        runners.machine("tensorrt-rtx")
    except EngineMissing:
        assert build(engines, "--target", "tensorrt-rtx") == 3
        assert " NAME" not in capsys.readouterr().err
    else:
        pytest.skip("there is a GPU here")


def test_dynamic_quantisation_is_not_for_tensorrt(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, and how to get a static one."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    onnx.save(dynamic(), engines / "tiny" / "model.onnx")
    assert build(engines, *RTX) == 1
    assert "edge-inspector calibrate int8 NAME" in capsys.readouterr().err
    assert find("tiny", engines).build is None


def test_a_shipped_engine_is_copied_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What came with the package stays as it is, and this is said."""
    words = ["build", "boards", "--engines", str(tmp_path / "mine"), "--target", "openvino", "--precision", "fp32"]
    assert cli.main(words) == 0
    assert "came with edge-inspector" in capsys.readouterr().out
    assert running(tmp_path / "mine", "boards").folder.parent.parent == tmp_path / "mine" / "boards"
    assert (tmp_path / "mine" / "boards" / "golden").is_dir()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["boards"]
    assert cli.main([*words, "--rollback"]) == 0  # to model.onnx itself, which ran before
    assert cli.main([*words, "--rollback"]) == 3
    assert "mine/boards/builds" in capsys.readouterr().err  # from now on it is the one in that folder


def test_a_damaged_build_is_mended_by_a_build(engines: Path) -> None:
    """The command that the error names does help, and makes what was there before."""
    assert build(engines, "--target", "openvino", "--precision", "fp32") == 0
    running(engines).file.write_bytes(b"half a graph")
    with pytest.raises(EngineMissing, match=r"run: edge-inspector build tiny .* --target openvino --precision fp32"):
        find("tiny", engines)
    assert build(engines, "--target", "openvino", "--precision", "fp32") == 0
    assert proves_itself(engines)


def test_a_script_is_nothing_to_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine that answers by a script has no graph."""
    (tmp_path / "tiny").mkdir()
    text = 'labels = ["a"]\ninput_size = [64, 64]\n[[script]]\nboxes = []\n'
    (tmp_path / "tiny" / "model.toml").write_text(text)
    assert build(tmp_path) == 1
    assert "nothing to build" in capsys.readouterr().err


STAGES = ["making", "making/half.onnx", "making/model.plan", "making/manifest.json", "current.new"]


@pytest.mark.parametrize("stage", STAGES)
def test_kill_in_the_middle(engines: Path, stage: str) -> None:
    """SIGKILL as soon as a file is seen: what runs is whole, the former or the new, and the next build tidies up."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    assert build(engines, "--target", "openvino", "--precision", "fp32") == 0
    before = running(engines)
    making, seen = before.folder.with_name("making"), before.folder.parent / stage
    command = [*BUILD, str(engines), *(["--target", "openvino"] if stage == "current.new" else RTX)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not os.path.lexists(seen) and process.poll() is None:
            pass
        process.kill()
    now = running(engines)
    if making.exists():
        assert now == before
        assert proves_itself(engines)
    else:  # the last stages take microseconds: it was through before the signal came
        assert stage not in STAGES[:2]
        assert now == before or (stage == "current.new" and now.manifest.former == before.folder.name)
    assert build(engines, "--target", "openvino") == 0
    assert proves_itself(engines)
    assert running(engines).manifest.former == now.folder.name
    kept = {running(engines).folder.name, now.folder.name, "current", "lock"}
    assert {path.name for path in making.parent.iterdir() if manifest.is_local(path)} == kept


def test_ctrl_c_leaves_what_runs(engines: Path) -> None:
    """Exit 130, and nothing half-made."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    making = engines / "tiny" / "builds" / "making"
    with subprocess.Popen([*BUILD, str(engines), *RTX], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not making.exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told.decode()
    assert not making.exists()
    assert find("tiny", engines).build is None

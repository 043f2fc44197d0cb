"""`edge-inspector import` as its user runs it: a real process, an engine complete or not at all, reasons in words."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import onnx
import pytest

from edge_inspector.commands.isolated import GB, isolated
from edge_inspector.errors import ModelRefused
from edge_inspector.models.folder import find
from tests.models import zoo

PROGRAM = [sys.executable, "-m", "edge_inspector"]
COMPLETE = {"README.md", "golden", "model.onnx", "model.toml", "recipe.toml"}


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=cwd, env=environment)


def saved(folder: Path, name: str = "yolov8", **options: object) -> Path:
    """A model of the zoo as a file."""
    path = folder / f"{name}.onnx"
    onnx.save(zoo.ZOO[name].make(**options), path)
    return path


def test_import_then_replay(tmp_path: Path) -> None:
    """A file becomes an engine with everything in it, and the daemon's threads inspect pictures with it."""
    file = saved(tmp_path, dynamic=True)
    made = run("import", file, "--name", "part", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for line in (
        "head       yolov8 (detect)",
        "classes    3: scratch, dent, hole",
        "edge-inspector build part",
        "proven  ",
    ):
        assert line in made.stdout
    assert "float32 [1, 7, 420]: 420 rows, as many as the grids" in made.stdout
    folder = tmp_path / "engines" / "part"
    assert {each.name for each in folder.iterdir()} == COMPLETE
    assert os.listdir(tmp_path / "engines") == ["part"]
    card = (folder / "README.md").read_text()
    assert "SHA-256 `" in card
    assert "yolov8.onnx" in card
    tables = find("part", tmp_path / "engines").tables
    assert (tables.labels, tables.task, tables.resize, tables.nms_iou) == (
        ("scratch", "dent", "hole"), "detect", "letterbox", 0.5,
    )  # fmt: skip
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n, pixels in enumerate(zoo.pictures((240, 320), 3)):
        cv2.imwrite(str(pictures / f"{n}.png"), pixels)
    replayed = run("replay", pictures, "--engine", "part", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    verdicts = [json.loads(line) for line in replayed.stdout.splitlines()]
    assert [verdict["outcome"] for verdict in verdicts] == ["reject"] * 3
    assert {defect["class"] for verdict in verdicts for defect in verdict["defects"]} <= {"scratch", "dent", "hole"}


def test_what_the_user_says_is_done(tmp_path: Path) -> None:
    """Names, size, resize and own pictures; and a single head by name."""
    file = saved(tmp_path, "yolov5", size=(96, 128))
    (tmp_path / "names.txt").write_text("crack\n\npore\ndrop\n")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n, pixels in enumerate(zoo.pictures((240, 320), 3)):
        cv2.imwrite(str(pictures / f"{n}.png"), pixels)
    made = run(
        "import", file, "--name", "part", "--classes", tmp_path / "names.txt", "--resize", "stretch", "--golden",
        pictures,
        "--engines", tmp_path / "here", "--bgr", "--scale", "1/128", "--mean", "1", "--std", "0.5", "--head", "yolov5",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "128 x 96 pixels, stretched, BGR, times 0.0078125, less 1 1 1, divided by 0.5 0.5 0.5" in made.stdout
    tables = find("part", tmp_path / "here").tables
    assert (tables.labels, tables.resize) == (("crack", "pore", "drop"), "stretch")
    assert len(list((tmp_path / "here" / "part" / "golden").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--head", "detr"], 1, 'it has no head "detr"; choose what it is:\n  --head yolov8: '),
        (["--classes", "a,b"], 1, "but 2 names for 3 classes"),
        (["--size", "320"], 1, "leave --size away"),
        (["--good", "a"], 1, "--good"),
        (["--golden", "nowhere"], 1, "expected pictures in it"),
        (["--classes", "a,a,b"], 2, "expected different names"),
        (["--std", "0"], 2, "no 0 to divide by"),
        (["--scale", "much"], 2, "such as 0.5 or 1/255"),
        (["--size", "0x7"], 2, "height x width"),
        (["--name", "../part"], 2, "expected letters"),
    ],
)
def test_what_does_not_fit_is_refused(options: list[str], code: int, reason: str, tmp_path: Path) -> None:
    """With a reason, and without leaving anything behind."""
    made = run("import", saved(tmp_path), "--name", "part", *options, cwd=tmp_path)
    assert made.returncode == code, made.stderr
    assert reason in made.stderr
    assert "Traceback" not in made.stderr
    assert not (tmp_path / "engines").exists() or not os.listdir(tmp_path / "engines")


def test_an_engine_is_replaced_only_when_asked_and_only_by_a_proven_one(tmp_path: Path) -> None:
    """Without --replace nothing happens; with it and a bad file neither."""
    file = saved(tmp_path)
    assert run("import", file, "--name", "part", cwd=tmp_path).returncode == 0
    was = find("part", tmp_path / "engines").identity
    again = run("import", file, "--name", "part", cwd=tmp_path)
    assert again.returncode == 1
    assert "add --replace" in again.stderr
    (tmp_path / "bad.onnx").write_bytes(file.read_bytes()[:5000])
    assert run("import", tmp_path / "bad.onnx", "--name", "part", "--replace", cwd=tmp_path).returncode == 1
    assert find("part", tmp_path / "engines").identity == was
    other = saved(tmp_path, "yolov10")
    assert run("import", other, "--name", "part", "--replace", cwd=tmp_path).returncode == 0
    assert find("part", tmp_path / "engines").identity != was
    assert os.listdir(tmp_path / "engines") == ["part"]


def test_replacing_keeps_what_people_made(tmp_path: Path) -> None:
    """The tuned recipe where the classes are the same, builds where the graph is; what cannot be kept is named."""
    file, part = saved(tmp_path), tmp_path / "engines" / "part"
    assert run("import", file, "--name", "part", cwd=tmp_path).returncode == 0
    tuned = "[default]\nthreshold = 0.71\n"
    (part / "recipe.toml").write_text(tuned)
    (part / "camera.toml").write_text("a lens")
    (part / "builds" / "old").mkdir(parents=True)
    again = run("import", file, "--name", "part", "--replace", cwd=tmp_path)
    assert "kept       recipe.toml" in again.stdout
    assert "gone" not in again.stdout
    assert ((part / "recipe.toml").read_text(), (part / "camera.toml").read_text()) == (tuned, "a lens")
    assert (part / "builds" / "old").is_dir()
    other = run(
        "import", file, "--name", "part", "--replace", "--classes", "a,b,c", "--rgb", "--mean", "1", cwd=tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert "gone       builds, made from another graph" in other.stdout
    assert "recipe.toml.former" in other.stdout
    assert "0.71" not in (part / "recipe.toml").read_text()
    assert (part / "recipe.toml.former").read_text() == tuned
    assert not (part / "builds").exists()


def test_a_full_disk_is_not_the_files_fault(tmp_path: Path) -> None:
    """What cannot be written is said, with no advice to export again; nothing is left. (A limit of 8 kB a file.)"""
    file = saved(tmp_path)
    words = [*PROGRAM, "import", str(file), "--name", "part", "--engines", str(tmp_path / "engines")]
    made = subprocess.run(
        ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", *words], capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert made.returncode == 1
    assert "File too large; see to it, then import again" in made.stderr
    assert "export" not in made.stderr
    assert not os.listdir(tmp_path / "engines")


def grey() -> onnx.ModelProto:
    """A network of one channel."""
    model = zoo.yolov8()
    (image,) = model.graph.input
    image.type.tensor_type.shape.dim[1].dim_value = 1
    (weight,) = [each for each in model.graph.initializer if list(each.dims)[1:2] == [3] and len(each.dims) == 4]
    array = onnx.numpy_helper.to_array(weight)[:, :1]
    weight.CopyFrom(onnx.numpy_helper.from_array(array.copy(), weight.name))
    return model


def rotated() -> onnx.ModelProto:
    """As Ultralytics exports rotated boxes."""
    model = zoo.yolov8()
    onnx.helper.set_model_props(model, {"task": "obb", "names": "{0: 'a', 1: 'b'}"})
    return model


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (grey, [], "takes pictures of one channel (images: float32 [1, 1, 128, 160])"),
        (rotated, [], "rotated boxes (task obb)"),
        (lambda: zoo.yolov8(dynamic=True), ["--size", "333"], "does not take pictures of 333x333; give another --size"),
        (zoo.yolov8, ["--classes", "a,b"], "; but 2 names for 3 classes"),
    ],
)
def test_the_reason_is_the_users(
    model: Callable[[], onnx.ModelProto], options: list[str], reason: str, tmp_path: Path
) -> None:
    """Not what a library says of it, and not another one."""
    onnx.save(model(), tmp_path / "model.onnx")
    made = run("import", tmp_path / "model.onnx", "--name", "part", *options, cwd=tmp_path)
    assert made.returncode == 1
    assert reason in made.stderr
    assert "ShapeInferenceError" not in made.stderr


def test_what_is_not_proven_is_said_and_written_down(tmp_path: Path) -> None:
    """Classes that no golden picture shows; and commands that can be typed though a folder has a space."""
    boards = Path(__file__).parents[2] / "engines" / "boards"
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "board.png").write_bytes((boards / "golden" / "board-000274.png").read_bytes())
    made = run(
        "import", boards / "model.onnx", "--name", "again", "--classes", "open,short,mousebite,spur,copper,pin-hole",
        "--golden", tmp_path / "one", "--engines", tmp_path / "my engines", cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "warning    no golden picture surely shows " in made.stdout
    shown = next(line for line in made.stdout.splitlines() if "surely shows" in line)
    assert "copper" in shown
    assert "open" not in shown.partition(": what")[0]
    assert (
        "Not proven: no golden picture surely shows " in (tmp_path / "my engines" / "again" / "README.md").read_text()
    )
    assert f"edge-inspector build again --engines '{tmp_path}/my engines'" in made.stdout


def test_a_killed_import_leaves_nothing_that_the_next_does_not_remove(tmp_path: Path) -> None:
    """Killed in the middle; killed between the two renames of --replace: the former engine is back."""
    engines = tmp_path / "engines"
    command = [*PROGRAM, "import", str(saved(tmp_path)), "--name", "part", "--engines", str(engines)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert killed.stderr is not None
    while b"completing" not in killed.stderr.readline():
        pass
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    (left,) = os.listdir(engines)
    assert left == f".part.importing-{killed.pid}"
    (engines / f".former.replaced-{killed.pid}").mkdir()
    (engines / f".former.replaced-{killed.pid}" / "model.toml").write_text("")
    assert run("import", saved(tmp_path), "--name", "part", "--engines", engines).returncode == 0
    assert sorted(os.listdir(engines)) == ["former", "part"]


def test_a_model_that_finds_nothing_or_no_numbers_is_refused(tmp_path: Path) -> None:
    """Weights of zero or of no number: such an engine would pass everything, or nothing."""
    for value, name in ((float("nan"), "nan"), (-1e30, "low")):
        model = zoo.yolov8()
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if tensor.data_type == onnx.TensorProto.FLOAT and array.shape == (7,):
                tensor.CopyFrom(onnx.numpy_helper.from_array(array * 0 + value, tensor.name))
        onnx.save(model, tmp_path / f"{name}.onnx")
        made = run("import", tmp_path / f"{name}.onnx", "--name", "part", cwd=tmp_path)
        assert made.returncode == 1, made.stdout
        assert not os.listdir(tmp_path / "engines")


def test_an_engine_of_our_own_is_taken_as_it_is(tmp_path: Path) -> None:
    """A graph that keeps the contract needs nothing but its names."""
    boards = Path(__file__).parents[2] / "engines" / "boards"
    made = run(
        "import", boards / "model.onnx", "--name", "again", "--classes", "open,short,mousebite,spur,copper,pin-hole",
        "--golden", boards / "golden", cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "head       ready (detect)" in made.stdout


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda tell: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)), r"signal 11 \(SIGSEGV\)"),
        (lambda tell: (tell("reading"), time.sleep(60)), "reading takes longer than 1 s"),
        (lambda tell: bytearray(8 * GB), "more than 2 GB of memory"),
        (lambda tell: 1 // 0, "ZeroDivisionError"),
        (lambda tell: os._exit(7), "it ended with 7"),
    ],
)
def test_native_code_that_crashes_or_hangs_is_a_refusal(work: object, reason: str) -> None:
    """It happens in a process of its own: done here for real."""
    with pytest.raises(ModelRefused, match=reason):
        isolated(work, lambda step: None, memory=2 * GB, step_s=1.0)  # type: ignore[arg-type]

"""calibrate int8 on real boards where they are here, and what it refuses: the command as a user types it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge_inspector.cli import main
from edge_inspector.models.compile import compile_plan
from edge_inspector.models.folder import find
from edge_inspector.models.quantize import Quantizer

from ..models import tiny
from ..models.test_quantize import spoil

ROOT = Path(__file__).parents[2]
BOARDS = ROOT.parent / "shared" / "data" / "deeppcb"


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """The shipped engine, in a folder that may be written to."""
    shutil.copytree(ROOT / "engines" / "boards", tmp_path / "engines" / "boards")
    return tmp_path / "engines"


def noise(folder: Path, count: int) -> Path:
    """So many different pictures that are no boards."""
    folder.mkdir()
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{n:03}.png"), pixels)
    return folder


def calibrate(engines: Path, pictures: Path, *more: str) -> int:
    """The exit code."""
    return main(["calibrate", "int8", "boards", "--engines", str(engines), "--images", str(pictures), *more])


def files(engines: Path) -> set[str]:
    """What lies in the engine's folder."""
    return {path.name for path in (engines / "boards").iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not BOARDS.is_dir(), reason="needs ../shared/data/deeppcb, real boards that are not part of this")
def test_from_real_boards_to_a_build(engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured, installed, built, proven; and NVIDIA's parser takes the graph."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in [
        *sorted((BOARDS / "images").glob("*.png"))[::84],
        *sorted((BOARDS / "templates").glob("*.png"))[::200],
    ]:
        shutil.copy(path, pictures / f"{path.parent.name}-{path.name}")
    assert calibrate(engines, pictures, "--few", "--min-agreement", "0.9") == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("fp32", "fp16", "int8", "agreement", "installed", "recommended on this"))
    assert f"next: edge-inspector build boards --engines {engines} --precision " in said
    report = json.loads((engines / "boards" / "int8.json").read_text())
    assert [row["precision"] for row in report["table"]] == ["fp32", "fp16", "int8"]
    assert report["agreement"] >= 0.9
    assert any("--few" in warning for warning in report["warnings"])
    assert main(["build", "boards", "--engines", str(engines), "--precision", "int8", "--target", "openvino"]) == 0
    build = find("boards", engines).build
    assert build is not None
    assert build.manifest.precision == "int8"
    assert any("--few" in warning for warning in build.manifest.warnings)
    operators = {node.op_type for node in onnx.load(engines / "boards" / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    pytest.importorskip("tensorrt_rtx")
    into = tmp_path / "plan"
    compile_plan(
        engines / "boards" / "int8.onnx", into, target="tensorrt-rtx", capabilities=("89",), timing_cache=None,
        progress=lambda what, share: None,
    )  # fmt: skip
    assert into.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("count", "more", "told"),
    [(99, (), "found 99 pictures; expected at least 100"), (9, ("--few",), "found 9 pictures; expected at least 10")],
)
def test_too_few_pictures(
    count: int, more: tuple[str, ...], told: str, engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and the engine's folder is as it was."""
    before = files(engines)
    assert calibrate(engines, noise(tmp_path / "few", count), *more) == 1
    assert told in capsys.readouterr().err
    assert files(engines) == before


def test_pictures_in_folders_need_no_labels(engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sorted by shift or by camera, say: nobody asked for classes."""
    (tmp_path / "sorted").mkdir()
    for name in ("a", "b"):
        noise(tmp_path / "sorted" / name, 5)
    assert calibrate(engines, tmp_path / "sorted", "--few") == 1
    assert "found 5 pictures, 5 more are copies" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_no_pictures_at_all(there: bool, engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder, or none: that is said, and nothing of labelled data."""
    if there:
        (tmp_path / "empty").mkdir()
    assert calibrate(engines, tmp_path / "empty", "--few") == 1
    told = capsys.readouterr().err
    assert "labelled" not in told
    assert ("found 0 pictures" if there else "is no folder") in told


def test_what_came_with_the_package_is_copied_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `build` does it; where nothing can be written, it says so."""
    assert calibrate(tmp_path / "mine", noise(tmp_path / "few", 3)) == 1
    assert "copied   " in capsys.readouterr().out
    assert (tmp_path / "mine" / "boards" / "golden").is_dir()
    (tmp_path / "file").write_text("")
    assert calibrate(tmp_path / "file", tmp_path / "few") == 3
    assert "cannot be written there: Not a directory; run it as who may" in capsys.readouterr().err


def test_copies_do_not_count(engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixty pictures twice are sixty."""
    folder = noise(tmp_path / "twice", 60)
    for path in sorted(folder.iterdir()):
        shutil.copy(path, folder / f"copy-{path.name}")
    assert calibrate(engines, folder) == 1
    assert "found 60 pictures, 60 more are copies" in capsys.readouterr().err


def test_broken_pictures_are_named(engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, the first three."""
    folder = noise(tmp_path / "broken", 110)
    for n in range(5):
        (folder / f"{n:03}.png").write_bytes(b"\x89PNG but no picture")
    assert calibrate(engines, folder) == 1
    assert "cannot read 5 of 110 pictures: 000.png, 001.png, 002.png, ..." in capsys.readouterr().err


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., int]:
    """Calibrates a tiny network, with a recipe and pictures; the exit code. Nothing may be left behind."""

    def calibrated(model: onnx.ModelProto, recipe: str, pictures: Sequence[NDArray[np.uint8]]) -> int:
        folder = tiny.engine(tmp_path / "engines").folder
        onnx.save(model, folder / "model.onnx")
        (folder / "recipe.toml").write_text(recipe)
        (tmp_path / "pictures").mkdir()
        for n, pixels in enumerate(pictures):
            cv2.imwrite(str(tmp_path / "pictures" / f"{n:02}.png"), pixels)
        before = {path.name for path in folder.iterdir()}
        words = ["tiny", "--engines", str(tmp_path / "engines"), "--images", str(tmp_path / "pictures"), "--few"]
        code = main(["calibrate", "int8", *words])
        assert {path.name for path in folder.iterdir()} == before
        return code

    return calibrated


def test_what_finds_nothing_is_not_certified(small: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Black pictures, in which FP32 finds nothing, prove nothing of INT8."""
    pictures = [np.zeros((64, 64, 3), np.uint8) for _ in range(12)]
    for n, pixels in enumerate(pictures):
        pixels[0, n] = 1
    assert small(tiny.detector(), "[default]\nthreshold = 0.99\nfloor = 0.98\n", pictures) == 1
    assert "finds nothing" in capsys.readouterr().err


def test_what_does_not_agree_is_not_installed(
    small: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that INT8 destroys: exit 1 with the figure, and nothing is left behind."""
    model, whole = tiny.detector(), tmp_path / "whole.onnx"
    onnx.save(model, whole)
    spoil(model, source=0, spoilt=tuple(range(1, len(Quantizer(whole, tmp_path).layers))))
    assert small(model, "[default]\nthreshold = 0.01\nfloor = 0.005\n", tiny.pictures(12)) == 1
    assert "INT8 agrees with FP32 by 0." in capsys.readouterr().err


def test_without_calibration_there_is_no_int8_build(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3, with the command that makes one."""
    assert main(["build", "boards", "--engines", str(engines), "--precision", "int8", "--target", "openvino"]) == 3
    assert "edge-inspector calibrate int8 boards" in capsys.readouterr().err

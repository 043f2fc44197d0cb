"""Calibrating on rendered views: what comes out is held against the camera they were rendered with."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from edge_inspector.commands import calibrate_camera
from edge_inspector.commands.camera_coverage import Coverage
from edge_inspector.commands.camera_pattern import Finder, Pattern, View
from edge_inspector.errors import ConfigError, InspectorError, ModelRefused
from edge_inspector.lens import Lens, parse_lens

from ..views import FLAT, POSES, Truth, charuco, chessboard

TRUTH = Truth()
MIDDLE = (60.0, 45.0)
TEXTURES = {"chessboard": lambda: chessboard(8, 6, 15.0), "charuco": lambda: charuco(8, 6, 15.0, marker_mm=11.0)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written without --out lies there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", params=list(TEXTURES))
def views(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named after the pattern, with a picture for each pose, and beside it the plane's."""
    folder = tmp_path_factory.mktemp("views") / request.param
    folder.mkdir()
    texture = TEXTURES[request.param]()
    for n, (tilt, at) in enumerate(POSES):
        cv2.imwrite(str(folder / f"{n:02}.png"), TRUTH.render(texture, *TRUTH.pose(MIDDLE, tilt, at)))
    cv2.imwrite(str(folder.parent / "flat.png"), TRUTH.render(texture, *TRUTH.pose(MIDDLE, *FLAT)))
    return folder


def command(*words: object, pattern: str, squares: str = "8x6") -> int:
    """As typed."""
    parser = argparse.ArgumentParser()
    calibrate_camera.arguments(parser)
    given = ["--pattern", pattern, "--squares", squares, "--square-mm", "15", "--marker-mm", "11"]
    return calibrate_camera.main(parser.parse_args([*given, *map(str, words)]))


def calibrated(folder: Path, out: Path) -> Lens:
    """The camera file that comes of a folder."""
    assert command("--images", folder, "--plane", folder.parent / "flat.png", "--out", out, pattern=folder.name) == 0
    return parse_lens(out, out.read_bytes())


class Calibration(NamedTuple):
    """What came of a folder of views. picture: of what it rests on. said: while it looked."""

    pattern: str
    lens: Lens
    picture: Path
    said: str


@pytest.fixture(scope="session")
def calibration(views: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Of each pattern, once."""
    out, said = tmp_path_factory.mktemp("calibrated") / "camera.toml", io.StringIO()
    with contextlib.redirect_stdout(said):
        lens = calibrated(views, out)
    return Calibration(views.name, lens, out.with_name("coverage.png"), said.getvalue())


def test_the_lens_and_the_plane_are_found(calibration: Calibration) -> None:
    """Focal length, centre, distortion over the field, scale, and lengths on the plane, against the truth."""
    lens, said = calibration.lens, calibration.said
    (fx, _, cx), (_, fy, cy), _ = lens.matrix
    assert (fx, fy) == pytest.approx(TRUTH.focal_px, rel=0.003)
    assert (cx, cy) == pytest.approx(TRUTH.centre_px, abs=2.0)
    truly = TRUTH.ideal(lens.grid()) * TRUTH.focal_px + TRUTH.centre_px
    missed = np.linalg.norm(lens.undistort(lens.grid()) - truly, axis=1)
    assert np.linalg.norm(truly - lens.grid(), axis=1).max() > 20  # there was something to find
    assert missed.mean() < 0.3
    assert missed.max() < 1.0
    pose = TRUTH.pose(MIDDLE, *FLAT)
    seen = lens.to_mm(TRUTH.show(np.array([(5, 5), (115, 5), (115, 85), (5, 85)], float), *pose))
    assert np.linalg.norm(np.diff(seen, axis=0), axis=1) == pytest.approx([110, 80, 110], rel=0.001)
    around = np.array([[400.0, 300.0]])
    (ax, ay), (bx, by) = TRUTH.show(lens_free_mm(around, pose) + np.eye(2), *pose) - around
    assert lens.px_per_mm == pytest.approx(abs(ax * by - ay * bx) ** 0.5, rel=0.005)
    assert lens.px_per_mm_lowest < lens.px_per_mm < lens.px_per_mm_highest
    assert lens.rms_px < 0.15
    assert f"px_per_mm = {lens.px_per_mm:.4g}" in said
    assert 'camera = "camera.toml"' in said


def lens_free_mm(px: np.ndarray, pose: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Where on the pattern a pixel looks, by the truth."""
    axes = cv2.Rodrigues(pose[0])[0]
    axes[:, 2] = pose[1]
    there = np.pad(TRUTH.ideal(px), ((0, 0), (0, 1)), constant_values=1.0) @ np.linalg.inv(axes).T
    return there[:, :2] / there[:, 2:]


def test_a_box_is_measured(calibration: Calibration) -> None:
    """8 mm on the plane, anywhere in the picture: within 1 %."""
    around = np.linspace(0, 2 * np.pi, 400)
    disc = 4.0 * np.stack([np.cos(around), np.sin(around)], axis=1)
    for middle in ((60, 45), (0, 0), (120, 0), (0, 90), (120, 90)):
        seen = TRUTH.show(disc + middle, *TRUTH.pose(MIDDLE, *FLAT))
        box = np.array([[*seen.min(axis=0), *seen.max(axis=0)]], np.float32)
        assert calibration.lens.sizes_mm(box)[0][0] == pytest.approx(8.0, rel=0.01)


def test_the_picture(calibration: Calibration) -> None:
    """It is there, as wide as its two halves, and not empty."""
    picture = cv2.imread(str(calibration.picture))
    assert picture.shape[1] == 1820
    assert min(half.std() for half in (picture[60:, :900], picture[60:, 920:])) > 5


@pytest.fixture
def charucos(views: Path, tmp_path: Path) -> Path:
    """A copy of the charuco views, to be spoilt."""
    if views.name != "charuco":
        pytest.skip("one pattern is enough")
    shutil.copytree(views.parent, tmp_path / "copy")
    return tmp_path / "copy" / "charuco"


def test_an_outlier_is_dropped(charucos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A view of a bent board does not spoil the rest, and is named."""
    texture = TEXTURES["charuco"]()
    rows, columns = np.indices(texture.shape, np.float32)
    bent = cv2.remap(texture, columns, rows + 14 * np.sin(columns / 500), cv2.INTER_LINEAR)
    cv2.imwrite(str(charucos / "05.png"), TRUTH.render(bent, *TRUTH.pose(MIDDLE, *POSES[5])))
    lens = calibrated(charucos, tmp_path / "camera.toml")
    assert "dropped: 05.png" in capsys.readouterr().out
    assert "05.png" not in lens.views
    assert lens.matrix[0][0] == pytest.approx(TRUTH.focal_px[0], rel=0.003)


def test_what_is_no_view_is_told(charucos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blurred, empty, of another size, the same again: each with its reason, and none is used."""
    sharp = cv2.imread(str(charucos / "00.png"))
    cv2.imwrite(str(charucos / "a.png"), cv2.GaussianBlur(sharp, (0, 0), 3))
    cv2.imwrite(str(charucos / "b.png"), np.full_like(sharp, 130))
    cv2.imwrite(str(charucos / "c.png"), cv2.resize(sharp, (400, 300)))
    cv2.imwrite(str(charucos / "d.png"), sharp)
    lens = calibrated(charucos, tmp_path / "camera.toml")
    assert not set(lens.views) & {"a.png", "b.png", "c.png", "d.png"}
    said = capsys.readouterr().out
    assert "a.png: not used: blurred" in said
    assert "b.png: not used: 0 markers" in said
    assert "c.png: not used: 400 x 300 pixels" in said
    assert "d.png: not used: nearly the same as 00.png" in said


def test_hints(calibration: Calibration) -> None:
    """After the first view everything but the middle is missing; after a tilted one, one wish less."""
    if calibration.pattern != "charuco":
        pytest.skip("one pattern is enough")
    lines = [line for line in calibration.said.splitlines() if "/12 " in line]
    assert "upper left" in lines[0]
    assert "left / right / upper / lower side" in lines[0]
    assert "left / right / lower side" in lines[1]  # 28 degrees around x: its upper side is nearer
    assert lines[-1].endswith("enough")


def test_which_side_is_nearer() -> None:
    """Turned around the y axis by +30 degrees the right side comes nearer; lean is the sine of the angle."""
    finder = Finder(Pattern("charuco", (8, 6), 15.0, 11.0))
    texture = TEXTURES["charuco"]()
    for tilt, lean in (((0, -30, 0), (-0.5, 0)), ((-30, 0, 0), (0, 0.5))):
        view = finder.find("", TRUTH.render(texture, *TRUTH.pose(MIDDLE, tilt, (0, 0, 210))))
        assert isinstance(view, View)
        assert view.lean == pytest.approx(lean, abs=0.15)


@pytest.mark.parametrize("legacy", [False, True])
def test_boards_of_older_opencv(legacy: bool) -> None:
    """With an even number of rows they were drawn otherwise; both are recognised, in whatever dictionary."""
    texture = charuco(8, 6, 15.0, marker_mm=11.0, legacy=legacy)
    picture = TRUTH.render(texture, *TRUTH.pose(MIDDLE, *POSES[6]))
    view = Finder(Pattern("charuco", (8, 6), 15.0, 11.0)).find("", picture)
    assert isinstance(view, View)
    missed = view.px - TRUTH.show(view.mm, *TRUTH.pose(MIDDLE, *POSES[6]))
    assert np.abs(missed.mean(axis=0)).max() < 0.6  # OpenCV 4.8 has its corners half a pixel lower right than 5.0:
    assert np.abs(missed - missed.mean(axis=0)).max() < 0.3  # that moves the lens's centre, and no size


def refused(*words: object, pattern: str, squares: str = "8x6") -> str:
    """The reason, of a command that must not write anything."""
    with pytest.raises(InspectorError) as error:
        command(*words, pattern=pattern, squares=squares)
    assert isinstance(error.value, ModelRefused)
    assert error.value.exit_code == 1
    return str(error.value)


def test_too_few_views(charucos: Path, tmp_path: Path) -> None:
    """Says how many, and how many are needed."""
    for file in sorted(charucos.iterdir())[4:]:
        file.unlink()
    why = refused("--images", charucos, "--plane", charucos.parent / "flat.png", "--out", tmp_path / "c.toml",
                  pattern="charuco")  # fmt: skip
    assert "4 usable views, at least 5 are needed" in why
    assert not (tmp_path / "c.toml").exists()


def test_parallel_views(charucos: Path) -> None:
    """However many: of views that are not tilted the focal length cannot be had."""
    texture = TEXTURES["charuco"]()
    for n, file in enumerate(sorted(charucos.iterdir())):
        at = (15 * (n % 3 - 1), 10 * (n // 3 % 3 - 1), 200 + 20 * (n // 3))
        cv2.imwrite(str(file), TRUTH.render(texture, *TRUTH.pose(MIDDLE, (12, 0, 15 * n), at)))
    why = refused("--images", charucos, "--plane", charucos.parent / "flat.png", pattern="charuco")
    assert "parallel" in why or "the focal length is known to" in why
    assert "tilt" in why


@pytest.mark.parametrize("squares", ["7x5", "6x8"])
def test_the_wrong_squares(views: Path, squares: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Inner corners instead of squares, or rows before columns: the board that is there is named."""
    if views.name == "chessboard" and squares == "6x8":
        pytest.skip("a chessboard is the same both ways")
    why = refused("--images", views, "--plane", views.parent / "flat.png", pattern=views.name, squares=squares)
    assert "--squares 8x6" in why
    assert ("counts squares" in why) == (squares == "7x5")
    assert views.name != "chessboard" or "7x5 squares (not inner corners)" in capsys.readouterr().out


def test_the_other_pattern(views: Path) -> None:
    """A chessboard is no charuco board: the likely reasons are said. (The squares of one are a chessboard.)"""
    if views.name == "charuco":
        pytest.skip("a charuco board has the corners of a chessboard")
    why = refused("--images", views, "--plane", views.parent / "flat.png", pattern="charuco")
    assert "or it is a chessboard" in why


def test_the_plane(charucos: Path) -> None:
    """Not given, without a pattern, of another size, or taken with another zoom: refused."""
    assert "no view of the plane" in refused("--images", charucos, pattern="charuco")
    flat = charucos.parent / "flat.png"
    picture = cv2.imread(str(flat))
    spoilt = {
        "cannot be used: 0 markers": np.full_like(picture, 90),
        "has 400 x 300 pixels, the views have 800 x 600": cv2.resize(picture, (400, 300)),
        "were zoom, focus": cv2.copyMakeBorder(picture[:, ::1], 0, 0, 0, 0, cv2.BORDER_CONSTANT),
    }
    spoilt["were zoom, focus"] = cv2.resize(picture[150:450], (800, 600))
    for says, each in spoilt.items():
        cv2.imwrite(str(flat), each)
        assert says in refused("--images", charucos, "--plane", flat, pattern="charuco")


LINE = """[line]
name = "line1"
[[station]]
name = "top"
engine = "boards"
[station.camera]
kind = "replay"
path = "{folder}"
"""


def test_with_a_stations_camera(charucos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are taken from the camera until they are enough, and the plane's view when Enter is pressed."""
    shutil.copy(charucos.parent / "flat.png", charucos / "zz.png")
    (charucos / "10-spoilt.png").write_bytes(b"no picture")
    line, out = tmp_path / "line.toml", tmp_path / "camera.toml"
    line.write_text(LINE.format(folder=charucos))
    assert command("--line", line, "--plane", charucos.parent / "flat.png", "--out", out, pattern="charuco") == 0
    assert len(parse_lens(out, out.read_bytes()).views) >= 10
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "nobody at the terminal" in refused("--line", line, pattern="charuco")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert command("--line", line, "--out", out, pattern="charuco") == 0
    with pytest.raises(ConfigError, match="expected one of top"):
        command("--line", line, "--station", "side", pattern="charuco")


def test_coverage_knows_where_nothing_was() -> None:
    """Points count in the ninth they lie in."""
    coverage = Coverage((300, 300))
    mm = np.arange(8, dtype=np.float32).reshape(4, 2)
    coverage.take(View("a", mm, np.full((4, 2), 250, np.float32), (0.0, 0.0)))
    assert coverage.cells.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 4]]
    assert "lower right" not in coverage.missing_places
    assert coverage.take(View("b", mm, np.full((4, 2), 252, np.float32), (0.5, 0.0))) == "nearly the same as a"
    assert coverage.take(View("c", mm, np.full((4, 2), 50, np.float32), (0.5, 0.0))) == ""
    assert coverage.missing_sides == ["left", "upper", "lower"]

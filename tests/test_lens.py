"""The lens against OpenCV's own formulas, and what no camera file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_inspector.errors import ConfigError
from edge_inspector.judge import judge
from edge_inspector.lens import Lens, parse_lens
from edge_inspector.recipe import RecipeTables, Rule, fit_recipe, load_recipe, refuse_for_frame
from edge_inspector.types import Detections, Outcome

from .views import FLAT, Truth

TRUTH = Truth()
TURN, SHIFT = TRUTH.pose((60, 45), *FLAT)


def true_lens(**changed: Any) -> Lens:
    """The lens of TRUTH, and the plane of FLAT."""
    axes = cv2.Rodrigues(TURN)[0]
    axes[:, 2] = SHIFT
    plane = np.linalg.inv(TRUTH.matrix @ axes)
    made: dict[str, Any] = {
        "width": TRUTH.size[1],
        "height": TRUTH.size[0],
        "matrix": tuple(map(tuple, TRUTH.matrix.tolist())),
        "distortion": TRUTH.distortion,
        "plane": tuple(map(tuple, (plane / plane[2, 2]).tolist())),
    }
    return Lens(**{**made, **changed})


def camera_file(lens: Lens) -> str:
    """The keys that must be there."""
    rows = {"width": lens.width, "height": lens.height, "matrix": [list(row) for row in lens.matrix],
            "distortion": list(lens.distortion), "plane": [list(row) for row in lens.plane]}  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in rows.items())


def test_distorting_is_what_opencv_does() -> None:
    """Points on the plane land where projectPoints puts them, and come back to the millimetre they came from."""
    lens = true_lens()
    mm = np.random.default_rng(1).uniform((-20, -20), (140, 110), (200, 2))
    seen = TRUTH.show(mm, TURN, SHIFT)
    assert np.abs(lens.from_mm(mm) - seen).max() < 1e-6
    assert np.abs(lens.to_mm(seen) - mm).max() < 1e-6


@pytest.mark.parametrize("distortion", [(0.0,) * 5, (-0.35, 0.12, 0.002, -0.003, 0.0), (0.4, 0.3, 0.0, 0.0, -0.1)])
def test_undistorting_is_the_inverse_everywhere(distortion: tuple[float, ...]) -> None:
    """Barrel, pincushion, none: within a thousandth of a pixel, up to the frame's corners."""
    lens = true_lens(distortion=distortion)
    assert np.abs(lens.distort(lens.undistort(lens.grid())) - lens.grid()).max() < 1e-3


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"distortion": (-2.0, 0.0, 0.0, 0.0, 0.0)}, "folds over"),
        ({"distortion": (float("nan"), 0.0, 0.0, 0.0, 0.0)}, "no number"),
        ({"plane": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -0.005, 1.0))}, "horizon"),
        ({"plane": ((1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (0.0, 0.0, 1.0))}, "horizon"),
        ({"matrix": ((-900.0, 0.0, 400.0), (0.0, 900.0, 300.0), (0.0, 0.0, 1.0))}, "focal length"),
        ({"width": 0}, "size of the frames"),
    ],
)
def test_a_lens_without_a_millimetre_for_every_pixel_is_refused(changed: dict[str, Any], says: str) -> None:
    """A size that is no number would be above no limit: it must be stopped at start."""
    with pytest.raises(ValueError, match=says):
        true_lens(**changed)


@pytest.mark.parametrize("middle_mm", [(60, 45), (5, 5), (118, 2), (0, 88), (120, 90)])
@pytest.mark.parametrize("side_mm", [3.0, 10.0])
def test_a_box_has_its_size_wherever_it_lies(middle_mm: tuple[float, float], side_mm: float) -> None:
    """Through distortion and in perspective, within 1 % of the side; one scale for the frame is far worse."""
    lens = true_lens()
    around = np.linspace(0, 2 * np.pi, 400)
    seen = TRUTH.show(middle_mm + side_mm / 2 * np.stack([np.cos(around), np.sin(around)], axis=1), TURN, SHIFT)
    box = np.array([[*seen.min(axis=0), *seen.max(axis=0)]], np.float32)
    longer, area = lens.sizes_mm(box)
    assert longer[0] == pytest.approx(side_mm, rel=0.01)
    assert area[0] == pytest.approx(side_mm**2, rel=0.02)


def test_the_scale_is_that_of_small_things() -> None:
    """Pixels per mm, from the areas of small squares at their places."""
    lens = true_lens()
    for x, y in ((60, 45), (0, 0), (115, 85)):
        seen = TRUTH.show(np.array([(x, y), (x + 0.1, y), (x, y + 0.1)], float), TURN, SHIFT)
        (ax, ay), (bx, by) = seen[1] - seen[0], seen[2] - seen[0]
        assert lens.scale_at(seen[:1])[0] == pytest.approx(10 * abs(ax * by - ay * bx) ** 0.5, rel=0.002)


def test_the_judge_measures_with_the_lens() -> None:
    """Two boxes of the same pixels, near and far: only the one of 9 mm or more is a defect, and areas are true."""
    lens = true_lens(plane=((0.2, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0005, 1.0)), distortion=(0.0,) * 5)
    boxes = np.array([[100, 100, 150, 150], [100, 500, 150, 550]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int16))
    tables = RecipeTables(default=Rule(min_mm=9.0), camera="camera.toml")
    verdict = judge(found, fit_recipe("test", "0" * 64, tables, ("short",), lens))
    assert verdict.outcome is Outcome.REJECT
    assert [defect.box_px[1] for defect in verdict.defects] == [100.0]
    assert verdict.suppressed == 1
    assert verdict.defects[0].area_mm2 == pytest.approx(float(lens.sizes_mm(boxes)[1][0]))
    assert judge(Detections.none(), fit_recipe("test", "0" * 64, tables, ("short",), lens)).outcome is Outcome.PASS


def test_a_recipe_reads_the_camera_beside_it(tmp_path: Path) -> None:
    """The lens arrives; another camera file is another recipe for those who trace verdicts."""
    (tmp_path / "recipe.toml").write_text('camera = "camera.toml"\n[default]\nmin_mm = 0.5\n')
    (tmp_path / "camera.toml").write_text(camera_file(true_lens()))
    recipe = load_recipe(tmp_path / "recipe.toml", ("short",))
    assert recipe.lens == true_lens()
    (tmp_path / "camera.toml").write_text(camera_file(true_lens()) + 'made = "later"\n')
    assert load_recipe(tmp_path / "recipe.toml", ("short",)).sha256 != recipe.sha256


def test_a_camera_file_for_other_frames_is_refused(tmp_path: Path) -> None:
    """The millimetres of another picture size are wrong ones."""
    tables = RecipeTables(camera="camera.toml")
    recipe = fit_recipe("test", "0" * 64, tables, ("short",), true_lens())
    refuse_for_frame(recipe, tmp_path / "recipe.toml", TRUTH.size)
    with pytest.raises(ConfigError, match=r"made for frames of 800 x 600, expected 1280 x 1024 pixels"):
        refuse_for_frame(recipe, tmp_path / "recipe.toml", (1024, 1280))


@pytest.mark.parametrize(
    ("recipe", "camera", "says"),
    [
        ('camera = "camera.toml"', None, r"camera\.toml: cannot be read"),
        ('camera = "camera.toml"', "width = 3", r"camera\.toml: height: found nothing"),
        ('camera = "camera.toml"', "breadth = 3", r'unknown key "breadth"'),
        ('camera = "camera.toml"\npx_per_mm = 3.0', "", r"px_per_mm: found it beside camera"),
    ],
)
def test_wrong_camera_files(tmp_path: Path, recipe: str, camera: str | None, says: str) -> None:
    """Each says which file and what is wrong."""
    (tmp_path / "recipe.toml").write_text(recipe)
    if camera is not None:
        (tmp_path / "camera.toml").write_text(camera)
    with pytest.raises(ConfigError, match=says):
        load_recipe(tmp_path / "recipe.toml", ("short",))


def test_what_does_not_fit_a_lens_is_a_configuration_error(tmp_path: Path) -> None:
    """The check of the values speaks with the file's name."""
    text = camera_file(true_lens()).replace("distortion = [-0.18", "distortion = [-9.0")
    with pytest.raises(ConfigError, match=r"camera\.toml: distortion: found a lens that folds over"):
        parse_lens(tmp_path / "camera.toml", text.encode())

"""`explain` shows the place that a verdict depends on, where that place is known; and says which method it used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from edge_inspector.cameras.boards import Boards
from edge_inspector.cli import main
from edge_inspector.commands.heat import HeatMap, eigen_cam, heat_of
from edge_inspector.commands.heat_picture import draw_heat
from edge_inspector.commands.labelled_parts import meet
from edge_inspector.commands.occlusion import LEAST_SCORE
from edge_inspector.models.folder import Engine, find
from edge_inspector.recipe import load_recipe
from edge_inspector.runners.openvino import activations
from edge_inspector.types import Outcome, Pixels

from ..models import tiny, zoo, zoo_more

ROOT = Path(__file__).parents[2]
TOP, RIGHT = slice(0, 32), slice(32, 64)  # the quadrant that the classifier looks at, of 64 pixels a side
SHIPPED = ROOT / "engines"
SCRIPT = 'labels = ["dent"]\ninput_size = [64, 64]\n[[script]]\nboxes = []\n'


def save(graph: onnx.ModelProto, folder: Path, toml: str) -> Engine:
    """As an engine with a recipe that says nothing."""
    folder.mkdir(parents=True)
    onnx.save(graph, folder / "model.onnx")
    (folder / "model.toml").write_text(toml)
    (folder / "recipe.toml").write_text("")
    return find(folder.name, folder.parent)


def quadrant(engines: Path) -> Engine:
    """A classifier that says "dent" where the upper right quadrant is bright, and looks at nothing else."""
    g = tiny.Graph()
    mask = np.zeros((1, 1, 8, 8), np.float32)
    mask[..., :4, 4:] = 1.0
    mean = g.weight(np.full((8, 3, 8, 8), 1 / 192) * np.linspace(0.5, 1.0, 8).reshape(8, 1, 1, 1))
    value = g.add("Relu", g.add("Conv", g.front(), mean, strides=[8, 8]))
    value = g.add("Flatten", g.add("GlobalAveragePool", g.add("Mul", value, g.weight(mask))))
    weight = np.array([[-1.0, 1.0]] * 8) * 16 / 8
    g.add("Softmax", g.add("Gemm", value, g.weight(weight), g.weight([1.0, -1.0])), outputs=("scores",), axis=1)
    return save(g.model({"scores": [1, 2]}), engines / "quadrant", 'task = "classify"\nlabels = ["good", "dent"]\n'
                'good = ["good"]\nresize = "stretch"\n')  # fmt: skip


def segmenter(engines: Path) -> Engine:
    """Says "crack" as far as a pixel is bright. It has no layer with weights."""
    g = tiny.Graph()
    bright = g.add("ReduceMean", g.front(), axes=[1], keepdims=1)
    g.add("Concat", g.add("Sub", g.weight(1.0), bright), bright, axis=1, outputs=("heatmap",))
    toml = 'task = "segment"\nlabels = ["background", "crack"]\ngood = ["background"]\n'
    return save(g.model({"heatmap": [1, 2, 64, 64]}), engines / "cracks", toml)


def lit(rows: slice, columns: slice) -> Pixels:
    """A dark picture of 64 x 64 with one bright place."""
    pixels = np.full((64, 64, 3), 10, np.uint8)
    pixels[rows, columns] = 200
    return pixels


def explained(engine: Engine, pixels: Pixels, **more: Any) -> HeatMap:
    """With the engine's own recipe."""
    return heat_of(engine, pixels, recipe=load_recipe(engine.recipe, engine.tables.labels), **more)


def share_in(heat: HeatMap, box: tuple[float, ...], pixels: Pixels, *, margin: float = 0.0) -> float:
    """How much of all heat lies in a box of the picture."""
    high, wide = pixels.shape[:2]
    values = cv2.resize(heat.values, (wide, high), interpolation=cv2.INTER_NEAREST)
    x1, y1, x2, y2 = (round(each) for each in np.clip(np.array(box) + margin * np.array([-1, -1, 1, 1]), 0, None))
    return float(values[y1:y2, x1:x2].sum() / values.sum())


@pytest.fixture(scope="module")
def board() -> tuple[Pixels, tuple[int, int, int, int]]:
    """A board with one defect, and where it was planted."""
    pixels = np.empty((640, 640, 3), np.uint8)
    planted = Boards(3, 1.0, defects=(1, 1), layouts=1).draw(4, pixels)
    return pixels, planted[0].box_px


def test_the_heat_of_a_board_is_in_its_defect(board: tuple[Pixels, tuple[int, int, int, int]]) -> None:
    """One is planted: covering it takes all of the score, covering anything else hardly any."""
    pixels, box = board
    heat = explained(find("boards", SHIPPED), pixels)
    claim = max(heat.claims, key=lambda each: each.score)
    assert heat.method == "occlusion"
    assert meet(box, claim.box_px)
    assert claim.lost > 0.9 * claim.score
    assert box[0] <= claim.at_px[0] <= box[2]
    assert box[1] <= claim.at_px[1] <= box[3]
    y, x = ((np.argwhere(heat.values > 0.25 * claim.score) + 0.5) * 640 / heat.values.shape[0]).T
    assert (box[0] - 40 < x).all() and (x < box[2] + 40).all()  # noqa: PT018
    assert (box[1] - 40 < y).all() and (y < box[3] + 40).all()  # noqa: PT018
    assert heat.top == pytest.approx(heat.values.max())


def test_eigen_cam_is_not_of_the_verdict(board: tuple[Pixels, tuple[int, int, int, int]]) -> None:
    """It lights what stands out, all over the board; the claims are the same, and nothing is taken from them."""
    pixels, box = board
    heat = explained(find("boards", SHIPPED), pixels, method="eigen-cam")
    assert heat.method == "eigen-cam"
    assert heat.values.max() == pytest.approx(1.0)
    assert heat.values.min() >= 0.0
    assert [claim.lost for claim in heat.claims] == [0.0] * len(heat.claims)
    assert share_in(heat, box, pixels, margin=40) < 0.5


@pytest.mark.parametrize("method", ["occlusion", "eigen-cam"])
def test_the_heat_of_a_classifier_is_where_it_looks(method: str, tmp_path: Path) -> None:
    """In the upper right quadrant; a light elsewhere is nothing to it."""
    pixels = lit(TOP, RIGHT)
    pixels[40:56, 8:24] = 255
    heat = explained(quadrant(tmp_path), pixels, method=method)
    assert heat.verdict.defects[0].label == "dent"
    assert [claim.label for claim in heat.claims] == ["dent"]
    assert share_in(heat, (32, 0, 64, 32), pixels) > 0.8  # patches and layers are coarse: their edges reach over it


def test_of_a_good_part_the_good_class_is_explained(tmp_path: Path) -> None:
    """Nothing speaks against it: what speaks for it. The quadrant is dark, and a patch of the mean colour lights it."""
    pixels = lit(slice(32, 64), slice(0, 64))
    heat = explained(quadrant(tmp_path), pixels)
    assert heat.verdict.outcome is Outcome.PASS
    assert heat.claims[0].label == "good"
    assert heat.claims[0].lost > 0.0
    assert share_in(heat, (32, 0, 64, 32), pixels) > 0.8


def test_a_classifier_that_rests_on_no_single_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A patch of the quadrant's own colour takes nothing away: that is said, and next to nothing is not bright."""
    quadrant(tmp_path)
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((64, 64, 3), 200, np.uint8))
    assert run(tmp_path, "quadrant", "bright.png") == 0
    said = capsys.readouterr().out
    assert "no place alone costs it more than 0.00" in said
    assert explained(find("quadrant", tmp_path), lit(TOP, RIGHT) * 0 + np.uint8(200)).top == pytest.approx(0.1)


def test_where_nothing_is_found_the_likeliest_is_explained(tmp_path: Path) -> None:
    """Below the recipe's floor, so that the verdict is a pass."""
    engine = tiny.engine(tmp_path)
    (engine.folder / "recipe.toml").write_text("[default]\nthreshold = 1.0\nfloor = 1.0\n")
    heat = explained(engine, tiny.pictures(1)[0])
    assert heat.verdict.outcome is Outcome.PASS
    assert len(heat.claims) == 1
    assert heat.claims[0].score >= LEAST_SCORE


def run(engines: Path, name: str, image: str, *more: str) -> int:
    """The command as it is typed, with everything in one folder."""
    words = ["explain", name, str(engines / image), "--engines", str(engines), "--out", str(engines / "heat.png")]
    return main([*words, *more])


def test_a_segmentation_shows_its_own_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the engine made it, over the picture as it is, whatever its shape."""
    segmenter(tmp_path)
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:20, 60:70] = 255
    cv2.imwrite(str(tmp_path / "part.png"), pixels)
    assert run(tmp_path, "cracks", "part.png") == 0
    assert "method: map" in capsys.readouterr().out
    heat = explained(find("cracks", tmp_path), pixels)
    assert share_in(heat, (60, 10, 70, 20), pixels, margin=1) > 0.95
    assert heat.values.max() == pytest.approx(1.0)
    assert run(tmp_path, "cracks", "part.png", "--method", "occlusion") == 1
    assert "is made for the task segment: --method occlusion is not for it" in capsys.readouterr().err
    assert run(tmp_path, "cracks", "part.png", "--method", "eigen-cam") == 1
    assert "no activations to show" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["occlusion", "eigen-cam"])
def test_the_picture_says_what_it_is(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A PNG with a head and a foot; the terminal names verdict, method and place."""
    quadrant(tmp_path)
    cv2.imwrite(str(tmp_path / "part.png"), lit(TOP, RIGHT))
    assert run(tmp_path, "quadrant", "part.png", "--method", method) == 0
    said = capsys.readouterr().out
    assert "quadrant, model.onnx in FP32: reject (dent 0." in said
    assert f"method: {method}" in said
    assert ("dent 0.94: loses 0." in said) == (method == "occlusion")
    drawn = cv2.imread(str(tmp_path / "heat.png"))
    assert drawn is not None
    assert drawn.shape[0] > drawn.shape[1] == 640


def test_no_colour_of_the_part_is_taken_for_heat(tmp_path: Path) -> None:
    """Where there is no heat the picture is grey, however colourful the part."""
    pixels = lit(TOP, RIGHT)
    pixels[40:, :24] = (255, 0, 0)
    drawn = draw_heat(pixels, explained(quadrant(tmp_path), pixels), name="quadrant").astype(int)
    cold, hot = drawn[-200:-100, 20:200], drawn[120:300, 400:600]
    assert np.ptp(cold, axis=2).max() <= 12
    assert np.ptp(hot, axis=2).min() > 60


def test_evaluate_puts_it_beside_the_worst_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One part is a dent and passed: the page has two pictures of it. A script is refused before it is measured."""
    quadrant(tmp_path)
    for name, pixels in (("good/0.png", lit(slice(0, 8), slice(0, 8))), ("dent/1.png", lit(slice(40, 48), RIGHT))):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name), pixels)
    words = ["evaluate", "quadrant", "--engines", str(tmp_path), "--data", str(tmp_path / "data")]
    assert main([*words, "--out", str(tmp_path / "out"), "--explain"]) == 0
    assert [path.name for path in sorted((tmp_path / "out" / "worst").iterdir())] == ["01-1-heat.png", "01-1.png"]
    assert (tmp_path / "out" / "report.html").read_text().count("<img") == 2
    (tmp_path / "quadrant" / "model.toml").write_text(SCRIPT)
    assert main([*words, "--explain"]) == 1
    assert 'engine "quadrant" is a script' in capsys.readouterr().err


def test_maps_of_an_imported_detector(tmp_path: Path) -> None:
    """Of three scales one each, before the layers that predict; those ahead of the softmax of sides are no maps."""
    layouts = {**zoo.ZOO, **zoo_more.MORE}
    for name, channels in (("yolov8", 12), ("nanodet", 12)):
        made = zoo_more.completed(layouts[name], tmp_path)[2]
        onnx.save(made, tmp_path / "model.onnx")
        maps = activations(tmp_path / "model.onnx", zoo.pictures(zoo.SIZE, 1)[0])
        assert [each.shape for each in maps] == [(channels, 16, 20), (channels, 8, 10), (channels, 4, 5)]
        assert all(each.min() >= 0.0 for each in maps)  # behind their activation
        assert eigen_cam(maps).shape == (16, 20)


def test_what_cannot_be_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script, a file that is no picture, a name that is no PNG's, a place that is not there."""
    cv2.imwrite(str(tmp_path / "part.png"), lit(TOP, RIGHT))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "model.toml").write_text(SCRIPT)
    (tmp_path / "script" / "recipe.toml").write_text("")
    quadrant(tmp_path)
    for words, code, told in (
        (("script", "part.png"), 1, 'engine "script" is a script'),
        (("quadrant", "text.png"), 3, "is not a whole picture that OpenCV can read"),
        (("quadrant", "none.png"), 3, "is not a whole picture that OpenCV can read"),
        (("nobody", "part.png"), 3, 'no engine "nobody"'),
        (("quadrant", "part.png", "--out", "heat.jpg"), 78, "expected the name of a PNG file"),
        (("quadrant", "part.png", "--out", str(tmp_path / "no" / "heat.png")), 78, "cannot be written"),
    ):
        assert run(tmp_path, *words) == code
        assert told in capsys.readouterr().err

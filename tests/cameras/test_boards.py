"""The synthetic line: boards by number, defects that are what they are called, likeness to real boards, the rhythm."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_inspector.cameras.boards import LABELS, Boards, BoardsCamera, Planted
from edge_inspector.errors import CameraFault, EndOfStream
from edge_inspector.types import Pixels, Shot

REAL = Path(__file__).parents[3] / "shared" / "data" / "deeppcb"
Mask = NDArray[np.bool_]


def board(boards: Boards, number: int, *, flawless: bool = False) -> Pixels:
    """One board in a buffer of its own, one channel, uint8 [640, 640]."""
    into = np.empty((640, 640, 3), np.uint8)
    boards.draw(number, into, flawless=flawless)
    assert (into == into[:, :, :1]).all()
    return into[:, :, 0]


@pytest.fixture(scope="module")
def planted() -> dict[str, list[tuple[Planted, Mask, Mask]]]:
    """Every class's defects on 100 boards: copper without and with them, bool, in a window around the box."""
    boards, found = Boards(5, 1.0), {label: [] for label in LABELS}
    for number in range(1, 101):
        clean, real = board(boards, number, flawless=True), board(boards, number)
        for defect in boards.truth(number):
            x1, y1, x2, y2 = defect.box_px
            window = slice(max(0, y1 - 14), y2 + 14), slice(max(0, x1 - 14), x2 + 14)
            flawed = clean.copy()  # of this one only, should there be another in the window
            flawed[y1:y2, x1:x2] = real[y1:y2, x1:x2]
            found[defect.label].append((defect, clean[window] == 0, flawed[window] == 0))
    return found


def test_same_number_same_bytes() -> None:
    """A board depends on its number and on nothing that was drawn before."""
    once, again = Boards(3, 0.5), Boards(3, 0.5)
    expected = {n: board(once, n) for n in range(1, 13)}
    for n in (12, 5, 1, 9, 5):
        assert np.array_equal(board(again, n), expected[n])
        assert again.truth(n) == once.truth(n)
    again.warm_up()
    assert np.array_equal(board(again, 7), expected[7])


def test_draw_says_the_truth() -> None:
    """What draw returns is what truth says later, and the other way round."""
    boards, into = Boards(3, 0.5), np.empty((640, 640, 3), np.uint8)
    said = [boards.draw(n, into) for n in range(1, 20)]
    assert said == [boards.truth(n) for n in range(1, 20)]
    assert any(said)


def test_other_seed_other_boards() -> None:
    """Another seed is another line."""
    assert not np.array_equal(board(Boards(1), 1), board(Boards(2), 1))


def test_no_two_boards_are_alike() -> None:
    """Neither two defect-free boards nor two defective ones are the same picture."""
    boards = Boards(1, 0.2)
    assert len({board(boards, n).tobytes() for n in range(1, 401)}) == 400


def test_edges_are_its_own() -> None:
    """Even two boards that chance to be cut out of one place have other edges."""
    boards = Boards(1, 0.0)
    first = boards._bare_board(1, np.random.default_rng(0)).copy()
    assert 0 < (first != boards._bare_board(2, np.random.default_rng(0))).mean() < 0.03


def test_two_colours_only() -> None:
    """A board is binarised: copper 0 or substrate 255."""
    assert set(np.unique(board(Boards(2, 1.0), 4))) == {0, 255}


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_share_of_defective_boards(rate: float) -> None:
    """As many boards as asked for are defective, each with one to four defects (0.2 of 1000: within 4 sigma)."""
    boards = Boards(1, rate)
    counts = [len(boards.truth(n)) for n in range(1, 1001 if 0 < rate < 1 else 101)]
    share = sum(count > 0 for count in counts) / len(counts)
    assert abs(share - rate) <= 4 * (rate * (1 - rate) / len(counts)) ** 0.5
    assert all(count <= 4 for count in counts)
    if rate:
        assert set(counts) - {0} == {1, 2, 3, 4}


def test_every_class_is_planted(planted: dict[str, list[tuple[Planted, Mask, Mask]]]) -> None:
    """No class is rare: the scarcest has at least half as many defects as the most frequent."""
    counts = [len(planted[label]) for label in LABELS]
    assert min(counts) >= 0.5 * max(counts)


def test_nothing_outside_of_the_boxes() -> None:
    """The defective board is the flawless one but for its boxes; these are apart, and in each enough differs."""
    boards = Boards(6, 1.0)
    for number in range(1, 40):
        differs = board(boards, number) != board(boards, number, flawless=True)
        for a, b in itertools.combinations(boards.truth(number), 2):
            assert max(a.box_px[0], b.box_px[0]) >= min(a.box_px[2], b.box_px[2]) or (
                max(a.box_px[1], b.box_px[1]) >= min(a.box_px[3], b.box_px[3])
            )
        for defect in boards.truth(number):
            x1, y1, x2, y2 = defect.box_px
            assert 0 <= x1 < x2 <= 640
            assert 0 <= y1 < y2 <= 640
            assert differs[y1:y2, x1:x2].sum() >= 18
            differs[y1:y2, x1:x2] = False
        assert not differs.any()


def test_boxes_fit(planted: dict[str, list[tuple[Planted, Mask, Mask]]]) -> None:
    """A box is its defect with 7 to 12 px of margin, unless the picture ends there."""
    for defect, clean, flawed in itertools.chain(*planted.values()):
        x1, y1, x2, y2 = defect.box_px
        rows, columns = np.nonzero(clean != flawed)
        left, top = columns.min() + max(0, x1 - 14) - x1, rows.min() + max(0, y1 - 14) - y1
        assert 7 <= left <= 12 or x1 == 0
        assert 7 <= top <= 12 or y1 == 0
        right, bottom = x2 - max(0, x1 - 14) - columns.max() - 1, y2 - max(0, y1 - 14) - rows.max() - 1
        assert 7 <= right <= 12 or x2 == 640
        assert 7 <= bottom <= 12 or y2 == 640


def test_open_and_short(planted: dict[str, list[tuple[Planted, Mask, Mask]]]) -> None:
    """An open parts a piece of copper in two; a short makes one piece of two that were apart."""
    for _, clean, flawed in planted["open"]:
        assert parts_of_one(clean, flawed) >= 2
    for _, clean, flawed in planted["short"]:
        assert parts_of_one(flawed, clean) >= 2


def test_mousebite_and_spur(planted: dict[str, list[tuple[Planted, Mask, Mask]]]) -> None:
    """A mousebite takes copper off an edge, a spur adds it to one; neither parts copper nor joins it."""
    for label, sign in (("mousebite", 1), ("spur", -1)):
        for _, clean, flawed in planted[label]:
            own, then = (clean, flawed) if sign > 0 else (~clean, ~flawed)
            changed = own & ~then
            assert not (then & ~own).any()
            assert (grown(changed) & ~own).any(), "starts at an edge"
            assert parts_of_one(own, then, at_rim=True) < 2  # a scribbled outline may leave an islet inside of it
            assert parts_of_one(~then, ~own, at_rim=True) < 2


def test_spot_and_hole(planted: dict[str, list[tuple[Planted, Mask, Mask]]]) -> None:
    """A spot of copper lies in bare substrate, a pin-hole in copper, and neither touches an edge."""
    for label, sign in (("pin-hole", 1), ("copper", -1)):
        for _, clean, flawed in planted[label]:
            own, then = (clean, flawed) if sign > 0 else (~clean, ~flawed)
            changed = own & ~then
            assert not (then & ~own).any()
            assert (own | ~grown(changed)).all()


def test_bare_board_has_no_place() -> None:
    """Where a class finds no place another is taken, and what cannot be drawn is not claimed: all copper, no copper."""
    for colour, possible in ((0, {"pin-hole"}), (255, {"copper"})):
        boards = Boards(1, 1.0, layouts=1)
        boards._layouts = [np.full((1024, 1024), 160 * (colour > 0), np.uint8)]
        for number in range(1, 15):
            assert {d.label for d in boards.truth(number)} <= possible


def test_memory() -> None:
    """All that a line keeps is its layouts and one field of noise: less than 40 MB."""
    boards = Boards(1)
    boards.warm_up()
    kept = [boards._ragged, *(layout for layout in boards._layouts if layout is not None)]
    assert len(kept) == 25
    assert sum(array.nbytes for array in kept) < 40e6


@pytest.mark.parametrize("arguments", [{"defect_rate": 1.5}, {"defect_rate": -0.1}, {"size": 100}, {"seed": -1}])
def test_nonsense_is_refused(arguments: dict[str, float]) -> None:
    """A setting that makes no sense is refused by name."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Boards(**arguments)  # type: ignore[arg-type]


# --- likeness to real boards ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Callable[[], Iterator[Pixels]]:
    """Some real boards, one channel each."""
    files = sorted((REAL / "images").glob("*.png"))[::10]
    if not files:
        pytest.skip(f"no real boards to compare with: {REAL} is absent")
    return lambda: (np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8) for file in files)


@pytest.mark.parametrize("figure", ["copper", "edges", "regions"])
def test_likeness(real: Callable[[], Iterator[Pixels]], figure: str) -> None:
    """The middle half of all synthetic boards overlaps that of real ones, and both medians lie within a factor of 2."""
    measure: dict[str, Callable[[Pixels], float]] = {
        "copper": lambda grey: float((grey == 0).mean()),
        "edges": lambda grey: float((np.diff(grey, axis=0) != 0).mean() + (np.diff(grey, axis=1) != 0).mean()),
        "regions": lambda grey: float(cv2.connectedComponents((grey == 0).astype(np.uint8))[0]),
    }
    boards = Boards(4, 1.0, layouts=50, defects=(3, 11))
    ours = np.percentile([measure[figure](board(boards, n)) for n in range(1, 101)], (25, 50, 75))
    theirs = np.percentile([measure[figure](np.where(grey < 128, 0, 255)) for grey in real()], (25, 50, 75))
    assert max(ours[0], theirs[0]) < min(ours[2], theirs[2])
    assert 0.5 < ours[1] / theirs[1] < 2.0


def test_likeness_of_boxes() -> None:
    """The median side of each class's boxes is within a quarter of the real one, and 90 % lie in the real range."""
    if not (REAL / "annotations.json").exists():
        pytest.skip(f"no real boards to compare with: {REAL} is absent")
    notes, boards = json.loads((REAL / "annotations.json").read_text()), Boards(4, 1.0)
    names = {c["id"]: c["name"] for c in notes["categories"]}
    ours = [(d.label, d.box_px) for n in range(1, 201) for d in boards.truth(n)]
    for label in LABELS:
        theirs = np.array([a["bbox"][2:] for a in notes["annotations"] if names[a["category_id"]] == label])
        sides = np.array([(x2 - x1, y2 - y1) for name, (x1, y1, x2, y2) in ours if name == label])
        assert np.median(sides) == pytest.approx(np.median(theirs), rel=0.25)
        assert ((sides >= 0.9 * theirs.min()) & (sides <= 1.1 * theirs.max())).mean() > 0.9


# --- the camera -------------------------------------------------------------------------------------------------------


def take(camera: BoardsCamera, into: Pixels) -> Shot:
    """The next board, however long it rests."""
    while (shot := camera.read(into)) is None:
        pass
    return shot


def test_numbers_and_pixels() -> None:
    """The camera shows boards 1, 2, 3 of its seed and names them; opened again it goes on; it ends, and stays so."""
    camera, into, boards = BoardsCamera(rate=0, seed=8, count=3, defect_rate=0.5), buffer(), Boards(8, 0.5)
    assert camera.open() == (640, 640)
    for number in (1, 2, 3):
        assert take(camera, into).part_id == f"board-{number:06d}"
        assert np.array_equal(into[:, :, 0], board(boards, number))
        camera.close()
        camera.open()
    for _ in range(2):
        with pytest.raises(EndOfStream):
            camera.read(into)


def test_waits_only_at_full_speed() -> None:
    """A line with a rhythm does not wait for its reader."""
    assert (BoardsCamera(rate=0).waits, BoardsCamera(rate=5).waits) == (True, False)
    assert BoardsCamera.simulated


def test_rhythm() -> None:
    """A board that is taken late, by less than a period, does not put off those after it."""
    camera, into, stamps = BoardsCamera(rate=4), buffer(), []
    camera.open()
    for pause_s in (0.0, 0.38, 0.0, 0.38, 0.0, 0.0):
        stamps.append(take(camera, into).t_grab_ns)
        time.sleep(pause_s)
    assert (stamps[-1] - stamps[0]) / 1e9 == pytest.approx(1.25, abs=0.1)


def test_says_when_it_rests() -> None:
    """Between slow boards a read comes back with nothing, after 0.2 s at the most."""
    camera, into = BoardsCamera(rate=2), buffer()
    camera.open()
    begin = time.monotonic()
    assert camera.read(into) is None
    assert 0.1 < time.monotonic() - begin < 0.45


def test_no_burst_after_a_pause() -> None:
    """After standing still it takes up its rhythm from now on, and misses no number."""
    camera, into = BoardsCamera(rate=20), buffer()
    camera.open()
    take(camera, into)
    time.sleep(0.4)
    stamps = [take(camera, into) for _ in range(4)]
    assert [s.part_id for s in stamps] == [f"board-{n:06d}" for n in (2, 3, 4, 5)]
    assert min(b.t_grab_ns - a.t_grab_ns for a, b in itertools.pairwise(stamps)) > 0.03e9


def test_closed_camera_is_a_fault() -> None:
    """Who reads a closed camera is told so."""
    with pytest.raises(CameraFault, match="closed"):
        BoardsCamera().read(buffer())


# --- helpers ----------------------------------------------------------------------------------------------------------


def buffer() -> Pixels:
    """Room for one board."""
    return np.empty((640, 640, 3), np.uint8)


def grown(mask: Mask) -> Mask:
    """The mask and its eight neighbours."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def parts_of_one(whole: Mask, pieces: Mask, *, at_rim: bool = False) -> int:
    """Into how many regions of `pieces` the most divided region of `whole` falls (8-connected).

    Regions of less than 20 px do not count, nor, with `at_rim`, those that do not reach the rim of the window.
    """
    before = cv2.connectedComponents(whole.astype(np.uint8))[1]
    after = cv2.connectedComponents((whole & pieces).astype(np.uint8))[1]
    rim = set(np.concatenate((after[0], after[-1], after[:, 0], after[:, -1])).tolist())
    pairs = Counter(zip(before[after > 0].tolist(), after[after > 0].tolist(), strict=True))
    counted = (a for (a, b), size in pairs.items() if size >= 20 and (b in rim or not at_rim))
    return max(Counter(counted).values(), default=0)

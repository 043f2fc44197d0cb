"""The simulated plant's camera, beyond the contract: what it shows, its faults, and the mark that tells the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_inspector import cameras
from edge_inspector.cameras.boards import Boards
from edge_inspector.cameras.plant import PlantCamera
from edge_inspector.config import PlantConfig, StationConfig
from edge_inspector.errors import CameraFault, CameraMissing, EngineFault, MissingError
from edge_inspector.grab import Sameness
from edge_inspector.models.folder import ModelTables, ScriptStep
from edge_inspector.plant.lens import Lens
from edge_inspector.runners.scripted import ScriptedRunner
from edge_inspector.types import Pixels, Shot

from .lenses import Belt, plant_lens

DEFECTIVE = next(n for n in range(1, 50) if Boards().truth(n))
GOOD = next(n for n in range(1, 50) if not Boards().truth(n))


@pytest.fixture
def belt(tmp_path: Path) -> Iterator[Belt]:
    """A lens, under which nothing moves; no strobe."""
    with plant_lens(tmp_path / "lens.sock", strobe_s=1e9) as made:
        made.moves = False
        yield made


@pytest.fixture
def camera(belt: Belt, tmp_path: Path) -> Iterator[PlantCamera]:
    """Open, and it marks its pictures."""
    made = PlantCamera(address=tmp_path / "lens.sock", marked=True)
    made.open()
    yield made
    made.close()


def read(camera: PlantCamera) -> tuple[Shot, Pixels]:
    """One picture."""
    into = np.full((640, 640, 3), 7, np.uint8)
    shot = camera.read(into)
    assert shot is not None
    return shot, into


def test_it_draws_the_board_under_the_lens(belt: Belt, camera: PlantCamera) -> None:
    """The very board, but for the mark and some noise at the lower edge; and of no board, a bare picture."""
    board = np.zeros((640, 640, 3), np.uint8)
    Boards().draw(DEFECTIVE, board)
    belt.number = DEFECTIVE
    shot, seen = read(camera)
    assert shot.part_id == f"board-{DEFECTIVE:06d}"
    assert np.array_equal(seen[48:632], board[48:632])
    assert np.abs(seen[632:].astype(int) - board[632:]).max() <= 3
    belt.number = 0
    shot, seen = read(camera)
    assert shot.part_id == "empty"
    assert (seen[48:632] == 255).all()


def test_a_picture_is_never_the_one_before_unless_the_camera_is_frozen(belt: Belt, camera: PlantCamera) -> None:
    """As the grab thread looks at it."""
    sameness = Sameness((640, 640))
    for number in (GOOD, GOOD, 0, 0, 0):
        belt.number = number
        sameness.look(read(camera)[1])
        assert sameness.run == 1
    belt.lens.frozen = True
    belt.number = GOOD
    for run in (2, 3, 4):
        shot, seen = read(camera)
        sameness.look(seen)
        assert (sameness.run, shot.part_id) == (run, "empty")
    belt.lens.frozen = False
    assert read(camera)[0].part_id == f"board-{GOOD:06d}"


def test_a_dark_camera_is_a_fault_and_cannot_be_opened(belt: Belt, camera: PlantCamera) -> None:
    """Until it has light again."""
    belt.lens.dark = True
    with pytest.raises(CameraFault, match="does not answer"):
        read(camera)
    with pytest.raises(CameraMissing, match="does not answer"):
        camera.open()
    belt.lens.dark = False
    camera.open()
    read(camera)


def test_a_strobed_camera_notices_that_the_plant_is_gone(belt: Belt, tmp_path: Path) -> None:
    """It need not see a part for that."""
    camera = PlantCamera(address=tmp_path / "lens.sock", strobe=True)
    camera.open()
    into = np.zeros((640, 640, 3), np.uint8)
    assert camera.read(into) is None
    belt.lens.dark = True
    with pytest.raises(CameraFault, match="does not answer"):
        any(camera.read(into) is not None for _ in range(20))
    camera.close()


def test_no_plant(tmp_path: Path) -> None:
    """Says where it looked."""
    camera = cameras.make(PlantConfig(address="nowhere.sock"), base=tmp_path)
    with pytest.raises(CameraMissing, match=r"nowhere\.sock"):
        camera.open()


def test_the_lens_takes_over_a_socket_that_was_left_behind_but_no_other(belt: Belt, tmp_path: Path) -> None:
    """Two plants at one address would mix up two belts."""
    with pytest.raises(MissingError, match=r"lens\.address"):
        Lens(tmp_path / "lens.sock")
    left = Lens(tmp_path / "left.sock")
    left.socket.close()
    Lens(tmp_path / "left.sock").close()


def test_nonsense_is_not_answered(belt: Belt, camera: PlantCamera) -> None:
    """And harms nothing."""
    assert camera._socket is not None
    for datagram in (b"", b"expose", b"expose x", b"\xff" * 200, b"picture 1 2 3 4", b"expose 99999999999999999999"):
        camera._socket.send(datagram)
    belt.number = GOOD
    assert read(camera)[0].part_id == f"board-{GOOD:06d}"


SCRIPT = (ScriptStep(), ScriptStep(boxes=((100, 100, 140, 140, 0.99, 0),)), ScriptStep(error="nothing there"))


def test_a_scripted_engine_can_go_by_the_mark(belt: Belt, camera: PlantCamera) -> None:
    """So it finds what there is, in any order; what has no mark is a fault, never the first step."""
    runner = ScriptedRunner(SCRIPT, (640, 640), by_mark=True)

    def found() -> int:
        runner.submit(0)
        return len(runner.collect(0)[0])

    for number, boxes in ((DEFECTIVE, 1), (GOOD, 0), (DEFECTIVE, 1)):
        belt.number = number
        runner.inputs[0][:] = read(camera)[1]
        assert found() == boxes
    belt.number = 0
    runner.inputs[0][:] = read(camera)[1]
    with pytest.raises(EngineFault, match="nothing there"):
        found()
    for grey in (0, 255, 240, 64 + 20):
        runner.inputs[0][24, 24] = grey
        with pytest.raises(EngineFault, match="no mark"):
            found()
    runner.close()


def test_by_mark_needs_its_three_steps() -> None:
    """And an input as large as the picture, or the mark would be elsewhere."""
    ModelTables(labels=("open",), input_size=(640, 640), script=SCRIPT, by_mark=True)
    for script, size in ((SCRIPT[:2], (640, 640)), (SCRIPT, (320, 320))):
        with pytest.raises(ValueError, match="by_mark"):
            ModelTables(labels=("open",), input_size=size, script=script, by_mark=True)


def test_its_table() -> None:
    """An address it must have; and without strobe it needs someone who says when."""
    with pytest.raises(ValueError, match="address"):
        PlantConfig(address="")
    camera = PlantConfig(address="lens.sock")
    assert StationConfig(name="a", engine="b", camera=camera, trigger="gateway").frozen_frames == 5
    with pytest.raises(ValueError, match="strobe"):
        StationConfig(name="a", engine="b", camera=camera)

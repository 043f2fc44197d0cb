"""What every camera promises (edge_inspector/cameras/base.py), asked of each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector import cameras
from edge_inspector.cameras.base import Camera
from edge_inspector.config import BoardsConfig, CameraConfig, OpenCVConfig, PlantConfig, ReplayConfig
from edge_inspector.errors import CameraFault, CameraMissing, EndOfStream
from edge_inspector.types import Pixels, Shot

from . import servers
from .lenses import plant_lens
from .mjpeg_server import draw

COUNT = 6
SLACK_S = 1.0  # for a busy machine


@dataclass(frozen=True)
class Case:
    """A camera and what is to be expected of it. longest_s: how long one read may take.

    named: what it shows has a name of its own (a file, a board).
    """

    make: Callable[[], Camera]
    size: tuple[int, int]
    finite: bool = True
    named: bool = True
    simulated: bool = True
    waits: bool = False
    longest_s: float = 0.2


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with numbered pictures in pictures/ and a video of the same, line.avi."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "pictures").mkdir()
    video = cv2.VideoWriter(str(folder / "line.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for n in range(COUNT):
        cv2.imwrite(str(folder / "pictures" / f"part-{n}.png"), draw(n))
        video.write(draw(n))
    video.release()
    return folder


def _case(config: CameraConfig, base: Path, size: tuple[int, int], **more: object) -> Case:
    return Case(lambda: cameras.make(config, base=base), size, **more)  # type: ignore[arg-type]


def _boards(rate: float) -> Callable[[Path], Iterator[Case]]:
    def start(media: Path) -> Iterator[Case]:
        yield _case(BoardsConfig(rate=rate, count=COUNT), media, (640, 640), waits=rate == 0)

    return start


def _replay(path: str, rate: float) -> Callable[[Path], Iterator[Case]]:
    def start(media: Path) -> Iterator[Case]:
        yield _case(ReplayConfig(path=path, rate=rate), media, (240, 320), waits=rate == 0)

    return start


def _file(media: Path) -> Iterator[Case]:
    yield _case(OpenCVConfig(source="line.avi"), media, (240, 320), waits=True)


def _live(source: int | str, media: Path, size: tuple[int, int]) -> Case:
    config = OpenCVConfig(source=source, read_timeout_ms=1500)
    return _case(config, media, size, finite=False, named=False, simulated=False, longest_s=2.0 if source == 0 else 1.5)


def _plant(strobe: bool) -> Callable[[Path], Iterator[Case]]:
    def start(media: Path) -> Iterator[Case]:
        with plant_lens(media / "lens.sock"):
            config = PlantConfig(address="lens.sock", strobe=strobe)
            yield _case(config, media, (640, 640), finite=False, waits=not strobe)

    return start


def _mjpeg(media: Path) -> Iterator[Case]:
    with servers.mjpeg() as server:
        yield _live(server.url, media, server.size)


def _rtsp(media: Path) -> Iterator[Case]:
    if lacks := servers.rtsp_lacks():
        pytest.skip(lacks)
    with servers.rtsp() as server:
        yield _live(server.url, media, server.size)


def _v4l2(media: Path) -> Iterator[Case]:
    if not Path("/dev/video0").exists():
        pytest.skip("no V4L2 camera here: /dev/video0 is absent (modprobe vivid makes a virtual one)")
    camera = cameras.make(OpenCVConfig(source=0), base=media)
    size = camera.open()
    camera.close()
    yield _live(0, media, size)


CASES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "boards": _boards(0),
    "boards-paced": _boards(20),
    "folder": _replay("pictures", 0),
    "folder-paced": _replay("pictures", 20),
    "folder-slow": _replay("pictures", 3),
    "video": _replay("line.avi", 0),
    "video-paced": _replay("line.avi", 20),
    "plant": _plant(strobe=False),
    "plant-strobe": _plant(strobe=True),
    "opencv-file": _file,
    "opencv-mjpeg": _mjpeg,
    "opencv-rtsp": _rtsp,
    "opencv-v4l2": _v4l2,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, media: Path) -> Iterator[Case]:
    """One kind of camera after the other, with its server where it needs one."""
    yield from CASES[request.param](media)


@pytest.fixture
def camera(case: Case) -> Iterator[Camera]:
    """A camera that is open."""
    made = case.make()
    assert made.open() == case.size
    yield made
    made.close()


def take(camera: Camera, into: Pixels) -> Shot:
    """The next frame, however often the camera says that there is none yet."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if (shot := camera.read(into)) is not None:
            return shot
    pytest.fail("no frame within 10 s")


def buffer(case: Case) -> Pixels:
    """A buffer for one frame, with a pattern that no camera shows."""
    return np.full((*case.size, 3), 7, np.uint8)


def test_says_what_it_is(case: Case) -> None:
    """Whether it is simulated and whether it waits is known before it is opened."""
    camera = case.make()
    assert (camera.simulated, camera.waits) == (case.simulated, case.waits)


def test_fills_exactly_the_buffer(case: Case, camera: Camera) -> None:
    """A frame covers its buffer and not one byte around it, nor a frame read before."""
    pool = np.full((4, *case.size, 3), 7, np.uint8)
    take(camera, pool[1])
    first = pool[1].copy()
    take(camera, pool[2])
    assert (pool[0] == 7).all()
    assert (pool[3] == 7).all()
    assert np.array_equal(pool[1], first)
    for frame in (pool[1], pool[2]):
        assert (frame[0, 0] != 7).any()
        assert (frame[-1, -1] != 7).any()


def test_stamps(case: Case, camera: Camera) -> None:
    """Stamps lie between call and return of the read, and increase; no frame waited for less than nothing."""
    stamps, into = [0], buffer(case)
    for _ in range(4):
        shot = None
        while shot is None:
            before = time.monotonic_ns()
            shot = camera.read(into)
        assert before <= shot.t_grab_ns <= time.monotonic_ns()
        assert shot.lag_ns >= 0
        stamps.append(shot.t_grab_ns)
    assert stamps == sorted(set(stamps))


def test_no_two_frames_alike(case: Case, camera: Camera) -> None:
    """A source that moves never shows the same picture twice in a row."""
    seen = [buffer(case)]
    for _ in range(5):
        seen.append(buffer(case))
        take(camera, seen[-1])
        assert not np.array_equal(seen[-1], seen[-2])


def test_read_is_bounded(case: Case, camera: Camera) -> None:
    """Every read comes back in time. Only a source that rests between frames says "none yet", after 0.2 s at most."""
    into = buffer(case)
    for _ in range(5):
        before = time.monotonic()
        shot = camera.read(into)
        assert time.monotonic() - before < case.longest_s + SLACK_S
        assert shot is not None or not case.waits


def test_close(case: Case) -> None:
    """close() is allowed before open() and twice; a closed camera gives no frame."""
    camera = case.make()
    camera.close()
    camera.close()
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises((CameraFault, CameraMissing)):
        take(camera, buffer(case))


def test_open_again(case: Case, camera: Camera) -> None:
    """After close() it can be opened again and has the same size; a finite source goes on behind its last frame."""
    into = buffer(case)
    names = [take(camera, into).part_id for _ in range(2)]
    camera.close()
    assert camera.open() == case.size
    names += [take(camera, into).part_id for _ in range(2)]
    if case.named:
        assert len(set(names)) == 4
    else:
        assert names == [None] * 4


def test_open_twice(case: Case, camera: Camera) -> None:
    """open() without close() is an opening like any other."""
    assert camera.open() == case.size
    take(camera, buffer(case))


def test_the_end(case: Case, camera: Camera) -> None:
    """A finite source gives every frame once, each with a name of its own, then says that it is at its end."""
    if not case.finite:
        pytest.skip("has no end")
    into = buffer(case)
    names = [take(camera, into).part_id for _ in range(COUNT)]
    assert len(set(names)) == COUNT
    assert names == sorted(names)
    for _ in range(2):
        with pytest.raises(EndOfStream):
            take(camera, into)

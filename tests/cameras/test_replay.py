"""What is special about replaying pictures and videos: order, rhythm, broken files."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cameras.replay import SUFFIXES, ReplayCamera, decoded
from edge_inspector.errors import CameraMissing, EndOfStream, FrameFault

from .mjpeg_server import draw
from .servers import number

SIZE = (240, 320)


@pytest.fixture
def into() -> np.ndarray:
    """A buffer for one frame."""
    return np.zeros((*SIZE, 3), np.uint8)


def pictures(folder: Path, count: int, suffix: str = ".png") -> Path:
    """A folder of numbered pictures, a0 a1 and so on."""
    for n in range(count):
        cv2.imwrite(str(folder / f"a{n}{suffix}"), draw(n))
    return folder


def video(folder: Path, count: int, suffix: str = ".avi") -> Path:
    """A video of numbered frames."""
    path = folder / f"line{suffix}"
    codec = cv2.VideoWriter_fourcc(*("mp4v" if suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), codec, 25, (320, 240))
    for n in range(count):
        writer.write(draw(n))
    writer.release()
    return path


def test_folder_in_the_order_of_names(tmp_path: Path, into: np.ndarray) -> None:
    """Pictures come by name, others' files and folders are left out, and part_id is the name."""
    for name, n in (("b.PNG", 2), ("a.png", 1), ("c.bmp", 3), ("d.webp", 4), ("e.tif", 5), ("f.jpeg", 6)):
        cv2.imwrite(str(tmp_path / name), draw(n))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "more").mkdir()
    pictures(tmp_path / "more", 1)
    camera = ReplayCamera(tmp_path)
    assert camera.open() == SIZE
    for n, name in enumerate("abcdef", start=1):
        assert camera.read(into).part_id == name
        assert number(into) == n
    with pytest.raises(EndOfStream):
        camera.read(into)


def test_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    """A folder without pictures, and a path where nothing is, cannot be opened."""
    with pytest.raises(CameraMissing, match=r"holds no pictures.*\.jpg"):
        ReplayCamera(tmp_path).open()
    with pytest.raises(CameraMissing, match="nothing"):
        ReplayCamera(tmp_path / "nothing").open()


@pytest.mark.parametrize("rate", [0.0, 50.0])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_broken_picture_is_a_part(tmp_path: Path, into: np.ndarray, suffix: str, rate: float) -> None:
    """A truncated, an empty and a senseless file each raise FrameFault with their name; the next read goes on."""
    pictures(tmp_path, 5, suffix)
    whole = (tmp_path / f"a1{suffix}").read_bytes()
    (tmp_path / f"a1{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / f"a2{suffix}").write_bytes(b"")
    (tmp_path / f"a3{suffix}").write_bytes(b"senseless" * 100)
    camera, seen = ReplayCamera(tmp_path, rate=rate), []
    camera.open()
    for _ in range(5):
        before, error = time.monotonic_ns(), None
        try:
            shot = camera.read(into)
        except FrameFault as fault:
            error, shot = str(fault), fault.shot
        assert before <= shot.t_grab_ns <= time.monotonic_ns()
        assert error is None or f"{shot.part_id}{suffix}: " in error
        seen.append((shot.part_id, number(into) if error is None else None))
    assert seen == [("a0", 0), ("a1", None), ("a2", None), ("a3", None), ("a4", 4)]
    with pytest.raises(EndOfStream):
        camera.read(into)


def test_a_picture_of_another_size_is_a_part(tmp_path: Path, into: np.ndarray) -> None:
    """The message names both sizes, and opening again (which is not needed) goes on behind it."""
    cv2.imwrite(str(pictures(tmp_path, 3) / "a1.png"), draw(1)[:100])
    camera = ReplayCamera(tmp_path)
    camera.open()
    camera.read(into)
    with pytest.raises(FrameFault, match=r"a1.png.*320 x 100.*320 x 240"):
        camera.read(into)
    camera.close()
    assert camera.open() == SIZE
    assert camera.read(into).part_id == "a2"


def test_the_first_picture_may_be_broken(tmp_path: Path, into: np.ndarray) -> None:
    """The size is that of the first picture that can be read; the broken one is still a part."""
    (pictures(tmp_path, 2) / "a0.png").write_bytes(b"")
    camera = ReplayCamera(tmp_path)
    assert camera.open() == SIZE
    with pytest.raises(FrameFault, match=r"a0.png.*empty"):
        camera.read(into)
    assert camera.read(into).part_id == "a1"


def test_only_broken_pictures(tmp_path: Path) -> None:
    """Where no picture can be read there is no size to give: it cannot be opened."""
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(CameraMissing, match="none of its 1"):
        ReplayCamera(tmp_path).open()


def test_a_file_that_vanished(tmp_path: Path, into: np.ndarray) -> None:
    """A picture that was listed and is gone when its turn comes is a part as well."""
    camera = ReplayCamera(pictures(tmp_path, 2))
    camera.open()
    (tmp_path / "a0.png").unlink()
    with pytest.raises(FrameFault, match=r"a0.png: cannot be read: No such file"):
        camera.read(into)
    assert camera.read(into).part_id == "a1"


def test_grey_and_16_bit_pictures(tmp_path: Path, into: np.ndarray) -> None:
    """Every picture arrives as 8 bit BGR."""
    grey = np.full(SIZE, 100, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    cv2.imwrite(str(tmp_path / "b.png"), grey.astype(np.uint16) * 257)
    camera = ReplayCamera(tmp_path)
    camera.open()
    for _ in range(2):
        camera.read(into)
        assert (into == 100).all()
        into[:] = 0


@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 3), (*SIZE, 4)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_grey_files_are_read_faster_and_the_same(suffix: str, shape: tuple[int, ...]) -> None:
    """Grey, colour or with transparency: what OpenCV reads in colour."""
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    raw = cv2.imencode(suffix, pixels)[1]
    read = decoded(raw.tobytes(), cv2)
    assert read is not None
    assert np.array_equal(read, cv2.imdecode(raw, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("make", [pictures, video])
def test_loop(tmp_path: Path, into: np.ndarray, make: object) -> None:
    """With `loop` the first frame follows the last."""
    camera = ReplayCamera(make(tmp_path, 3), loop=True)
    camera.open()
    seen = []
    for _ in range(7):
        camera.read(into)
        seen.append(number(into))
    assert seen == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_every_frame_of_a_video_once(tmp_path: Path, into: np.ndarray, suffix: str) -> None:
    """The frame that open() had to look at is not lost; closing in between loses none either."""
    camera = ReplayCamera(video(tmp_path, 8, suffix))
    assert camera.open() == SIZE
    seen = []
    for n in range(8):
        if n in (3, 4):
            camera.close()
            camera.open()
        shot = camera.read(into)
        seen.append(number(into))
        assert shot.part_id == f"line-{n + 1:06d}"
    assert seen == list(range(8))
    camera.close()
    assert camera.open() == SIZE
    with pytest.raises(EndOfStream):
        camera.read(into)
    camera.close()
    camera.open()
    camera.read(into)
    assert number(into) == 0


def test_rate(tmp_path: Path, into: np.ndarray) -> None:
    """Frames come at their rate, however fast they are asked for."""
    camera = ReplayCamera(pictures(tmp_path, 9), rate=20.0)
    camera.open()
    stamps = [camera.read(into).t_grab_ns for _ in range(9)]
    assert 0.4 <= (stamps[-1] - stamps[0]) / 1e9 < 1.5


def test_a_slow_rate_lets_the_reader_look_around(tmp_path: Path, into: np.ndarray) -> None:
    """Between two frames that are 0.5 s apart read() says "none yet" at least twice, and copies nothing."""
    camera = ReplayCamera(pictures(tmp_path, 2), rate=2.0)
    camera.open()
    while camera.read(into) is None:
        pass
    into[:] = 7
    nothing = 0
    while camera.read(into) is None:
        assert (into == 7).all()
        nothing += 1
    assert nothing >= 2
    assert number(into) == 1


def test_no_burst_after_a_pause(tmp_path: Path, into: np.ndarray) -> None:
    """A reader that was away for 20 periods gets one frame at once and the next ones in the old rhythm."""
    camera = ReplayCamera(pictures(tmp_path, 6), rate=20.0)
    camera.open()
    camera.read(into)
    time.sleep(1.0)
    before = time.monotonic()
    seen = []
    for _ in range(4):
        camera.read(into)
        seen.append(number(into))
    assert seen == [1, 2, 3, 4]
    assert time.monotonic() - before >= 0.13

"""What is special about cameras behind OpenCV: time-outs, old frames, settings, and what its failures mean."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cameras.opencv import OpenCVCamera, Pauses, StreamClock
from edge_inspector.config import OpenCVConfig
from edge_inspector.errors import CameraFault, CameraMissing, EndOfStream, FrameFault

from . import servers
from .mjpeg_server import draw

SLACK_S = 3.0  # beyond a time-out, for a busy machine; without the time-out it would be 30 s
MS = 1_000_000


@pytest.fixture
def into() -> np.ndarray:
    """A buffer for one frame."""
    return np.zeros((240, 320, 3), np.uint8)


@pytest.fixture(params=["mjpeg", "rtsp"])
def serve(request: pytest.FixtureRequest) -> Callable[[], contextlib.AbstractContextManager[servers.Server]]:
    """Each kind of network camera."""
    if request.param == "rtsp" and (lacks := servers.rtsp_lacks()):
        pytest.skip(lacks)
    return getattr(servers, request.param)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 numbered frames, MJPG, 25 per second, 320 x 240."""
    path = tmp_path_factory.mktemp("video") / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (320, 240))
    for n in range(40):
        writer.write(draw(n))
    writer.release()
    return path


def make(source: int | str, **more: object) -> OpenCVCamera:
    """A camera with short time-outs."""
    return OpenCVCamera(OpenCVConfig(source=source, **{"open_timeout_ms": 5000, "read_timeout_ms": 700, **more}))


def read_until_fault(camera: OpenCVCamera, into: np.ndarray) -> tuple[str, float]:
    """Read what is still under way, until the camera fails: the message, and how long the failing read took."""
    for _ in range(1000):
        before = time.monotonic()
        try:
            camera.read(into)
        except CameraFault as error:
            return str(error), time.monotonic() - before
    pytest.fail("the camera goes on")


def test_a_camera_that_hangs(serve: Callable, into: np.ndarray) -> None:
    """A frozen server is a fault after the read time-out; once it goes on, the camera can be opened again."""
    with serve() as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        camera.read(into)
        server.freeze()
        message, waited_s = read_until_fault(camera, into)
        assert "no frame after" in message
        assert 0.5 < waited_s < 0.7 + SLACK_S
        server.wake()
        assert camera.open() == server.size
        camera.read(into)


def test_a_camera_that_is_gone(serve: Callable, into: np.ndarray) -> None:
    """A killed server is a fault, and opening it says that nobody answers."""
    with serve() as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        server.kill()
        read_until_fault(camera, into)
        with pytest.raises(CameraMissing, match="nobody answers"):
            camera.open()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_black_hole(scheme: str) -> None:
    """Where connections are taken but nobody speaks, opening ends at its time-out; the password is not told."""
    with servers.black_hole() as address:
        camera, before = make(f"{scheme}://me:secret@{address}/cam", open_timeout_ms=500), time.monotonic()
        with pytest.raises(CameraMissing, match=r"open_timeout_ms = 500") as caught:
            camera.open()
        assert time.monotonic() - before < 0.5 + SLACK_S
        assert "secret" not in str(caught.value)


def test_a_dead_camera_does_not_hold_up_the_others() -> None:
    """While one camera is waited for, another can be opened: OpenCV's own lock would keep it waiting as well."""
    with servers.black_hole() as address, servers.mjpeg() as server, concurrent.futures.ThreadPoolExecutor() as pool:
        dead = pool.submit(make(f"rtsp://{address}/cam", open_timeout_ms=2500).open)
        time.sleep(0.3)
        camera = make(server.url)
        assert camera.open() == server.size
        assert not dead.done()
        camera.close()
        assert isinstance(dead.exception(), CameraMissing)


def test_nobody_listens() -> None:
    """A port that is closed is a missing camera at once."""
    with pytest.raises(CameraMissing, match="nobody answers"):
        make(f"rtsp://{servers.closed_port()}/cam").open()


def test_a_stream_that_ends_is_a_fault(into: np.ndarray) -> None:
    """A live source has no end: when the server stops sending, the camera failed."""
    with servers.mjpeg(query="stop=20") as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        assert "no frame after" in read_until_fault(camera, into)[0]


def test_frames_are_fresh_after_opening(serve: Callable, into: np.ndarray) -> None:
    """What gathered while opening (up to a second of video) is dropped: every frame has to be waited for."""
    with serve() as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        stamps = [camera.read(into).t_grab_ns for _ in range(16)]
        assert stamps[-1] - stamps[0] > 300 * MS  # 15 intervals of 33 ms; a backlog comes within a few milliseconds


def test_frames_that_waited_say_so(serve: Callable, into: np.ndarray) -> None:
    """After a pause of the reader frames are late by that pause; when the backlog is gone, they are not."""
    with serve() as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        for _ in range(5):
            camera.read(into)
        time.sleep(1.0)
        assert 700 * MS < camera.read(into).lag_ns < 3000 * MS
        lags = [camera.read(into).lag_ns for _ in range(60)]
        assert max(lags[-5:]) < 300 * MS


def test_repeated_frames(into: np.ndarray) -> None:
    """The test camera that repeats a frame for ever is read like any other: to notice it is the daemon's part."""
    with servers.mjpeg(query="still=20") as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        seen = [(camera.read(into), servers.number(into))[1] for _ in range(40)]
        assert seen == sorted(seen)
        assert seen[-10:] == [20] * 10


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"width": 1000}, "width: asked for 1000, the camera gives 320"),
        ({"height": 480}, "height: asked for 480, the camera gives 240"),
        ({"fps": 60.0}, "fps: asked for 60, the camera gives 25"),
        ({"fourcc": "YUYV"}, "fourcc: asked for YUYV, the camera gives MJPG"),
    ],
)
def test_a_setting_that_is_not_taken(video: Path, asked: dict, message: str) -> None:
    """Settings are read back; the message says what was asked for and what there is."""
    with pytest.raises(CameraMissing, match=message):
        make(str(video), **asked).open()


def test_settings_that_fit(video: Path, into: np.ndarray) -> None:
    """What the camera has anyway may be asked for."""
    with contextlib.closing(make(str(video), width=320, height=240, fps=25.1, fourcc="MJPG")) as camera:
        assert camera.open() == (240, 320)
        camera.read(into)


def test_a_relative_path(video: Path) -> None:
    """The path of a video starts from the given folder."""
    camera = OpenCVCamera(OpenCVConfig(source=video.name), base=video.parent)
    assert camera.open() == (240, 320)
    camera.close()


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there and one that is no video are told apart."""
    with pytest.raises(CameraMissing, match="no such file"):
        make(str(tmp_path / "line.mp4")).open()
    (tmp_path / "line.mp4").write_text("no video")
    with pytest.raises(CameraMissing, match="no video"):
        make(str(tmp_path / "line.mp4")).open()


def test_a_damaged_video(video: Path, tmp_path: Path, into: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    """A video that ends early says so in the log: its number of frames is not what it promised."""
    whole = video.read_bytes()
    (tmp_path / "short.avi").write_bytes(whole[: len(whole) * 6 // 10])
    camera, count = make(str(tmp_path / "short.avi")), 0
    camera.open()
    with caplog.at_level(logging.WARNING), contextlib.suppress(EndOfStream):
        for count in range(41):  # noqa: B007 - used below
            camera.read(into)
    assert 10 < count < 40
    assert f"ends after {count} of 40 frames" in caplog.text


def test_a_picture_of_another_size(video: Path, into: np.ndarray) -> None:
    """In a file it is one bad frame and the next comes; in a live stream the camera must be opened again."""
    small = np.zeros((120, 160, 3), np.uint8)
    with contextlib.closing(make(str(video))) as camera:
        camera.open()
        with pytest.raises(FrameFault, match=r"320 x 240 pixels, expected 160 x 120") as caught:
            camera.read(small)
        assert caught.value.shot.part_id == "line-000001"
        assert camera.read(into).part_id == "line-000002"
    assert not small.any()
    with servers.mjpeg() as server, contextlib.closing(make(server.url)) as camera:
        camera.open()
        with pytest.raises(CameraFault, match="expected 160 x 120") as live:
            camera.read(small)
        assert not isinstance(live.value, FrameFault)


class Picture:
    """A capture that always shows one picture, as cv2 returns it when it does not fit the buffer."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def isOpened(self) -> bool:  # noqa: N802 - named by cv2
        """It is."""
        return True

    def grab(self) -> bool:
        """There is always a frame."""
        return True

    def retrieve(self, into: np.ndarray | None = None) -> tuple[bool, np.ndarray]:
        """Not written to `into`."""
        return True, self.image

    def release(self) -> None:
        """Nothing is held."""


def test_pictures_that_cv2_does_not_write_in_place(
    video: Path, into: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey ones become BGR, BGR ones are copied, 16 bit and four channels are refused."""
    camera = make(str(video))
    colour = draw(3)
    for image, expected in (
        (colour, colour),
        (colour[:, :, 0], np.repeat(colour[:, :, :1], 3, axis=2)),
        (colour[:, :, :1], np.repeat(colour[:, :, :1], 3, axis=2)),
    ):
        monkeypatch.setattr(camera, "_new_capture", lambda image=image: Picture(image))
        camera.open()
        camera.read(into)
        assert np.array_equal(into, expected)
    for image, message in ((colour.astype(np.uint16), "uint16"), (np.dstack([colour, colour])[:, :, :4], "4 channels")):
        monkeypatch.setattr(camera, "_new_capture", lambda image=image: Picture(image))
        camera.open()
        with pytest.raises(CameraFault, match=message):
            camera.read(into)


def test_a_device_that_is_absent() -> None:
    """The message names the device, by number as by path."""
    for source in (97, "/dev/video97"):
        with pytest.raises(CameraMissing, match="/dev/video97: there is no such device"):
            make(source).open()


@pytest.mark.parametrize(
    ("error", "message"), [(errno.EACCES, "group video"), (errno.EBUSY, "busy"), (errno.ENODEV, "No such device")]
)
def test_a_device_that_cannot_be_opened(error: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing permission, another user and a dead device are told apart."""

    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CameraMissing, match=message):
        make(0).open()


def test_a_pipeline_without_gstreamer() -> None:
    """An OpenCV without GStreamer says where to get one that has it."""
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(CameraMissing, match=r"without GStreamer.*apt"):
        make("videotestsrc ! videoconvert ! appsink").open()


def test_a_pipeline(into: np.ndarray) -> None:
    """A GStreamer pipeline is a live camera."""
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV was built without GStreamer, as all of PyPI are: apt-get install python3-opencv")
    pipeline = "videotestsrc is-live=true ! video/x-raw,format=BGR,width=320,height=240 ! appsink drop=true"
    with contextlib.closing(make(pipeline)) as camera:
        assert camera.open() == (240, 320)
        assert not camera.waits
        assert camera.read(into).part_id is None
        assert into.any()


def test_opencv_is_silent() -> None:
    """What OpenCV and FFmpeg would print is in the exception instead. In a process that has not used FFmpeg before."""
    code = (
        "from edge_inspector.cameras.opencv import *\n"
        f"try: OpenCVCamera(OpenCVConfig(source='http://{servers.closed_port()}/cam')).open()\n"
        "except CameraMissing: print('missing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("missing\n", "")


def clocked(clock: StreamClock, frames: list[tuple[float, float]]) -> list[int]:
    """Lags in ms of frames that were grabbed at and carry a stream time of so many ms."""
    return [round(clock.lag_ns(0, round(grab * MS), 0, at) / MS) for grab, at in frames]


def test_stream_clock_backlog() -> None:
    """A backlog is seen from the first frame on and shrinks as it is read away."""
    assert clocked(StreamClock(), [(1000, 0), (1033, 33), (3033, 66), (3034, 100), (3035, 2035)]) == [
        0,
        0,
        1967,
        1934,
        0,
    ]


def test_stream_clock_drift() -> None:
    """A camera's clock that is 100 ppm slow is not a growing backlog, not even over a day."""
    clock, day_ms = StreamClock(), 86_400_000
    assert max(clocked(clock, [(t, t * (1 - 100e-6)) for t in range(0, day_ms, 60_000)])) == 0


def test_stream_clock_set_back() -> None:
    """When the stream's clock is set back or stands still, what was known of the backlog stays."""
    frames = [(1000, 0), (1033, 33), (2033, 66), (2066, 5), (2099, 38), (2132, 38), (2133, 1038)]
    assert clocked(StreamClock(), frames) == [0, 0, 967, 967, 967, 967, 0]


def test_pauses() -> None:
    """After the reader was away every frame may be as old as that, until it has to wait for frames again."""
    delay, lags, now = Pauses(), [], 0
    for away, rested in ((0, 30), (1, 30), (2000, 0), (1, 0), (1, 30), (1, 30), (1, 30)):
        now += away + rested
        lags.append(delay.lag_ns((now - rested) * MS, now * MS, rested * MS, 0.0) // MS)
    assert lags == [0, 0, 2000, 2001, 2032, 0, 0]

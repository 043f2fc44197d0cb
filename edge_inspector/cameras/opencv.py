"""Cameras that OpenCV opens: V4L2 devices, RTSP and HTTP streams, GStreamer pipelines, video files.

Owns what was measured about cv2.VideoCapture: the backend for a source, its time-outs, which frames are old, what it
says it set, and what a failure of it means.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import numpy as np

from ..config import OpenCVConfig
from ..errors import CameraFault, CameraMissing, EndOfStream, FrameFault
from ..types import Pixels, Shot

Kind = Literal["v4l2", "pipeline", "rtsp", "http", "file"]

_ARRIVED_NS = 3_000_000  # a grab that rested so long without using the CPU had nothing to fetch: its frame is new
_PAUSE_NS = 100_000_000  # a reader that stayed away so long may have left frames behind it
_DRIFT = 200e-6  # two quartz clocks differ by less (typically 20 to 100 ppm each)

_log = logging.getLogger(__name__)


class OpenCVCamera:
    """A camera behind cv2.VideoCapture; which of its backends, the source says.

    After a time-out the same capture never delivers again (measured), so a CameraFault must be followed by `open`. A
    decoder for a live stream gets one thread: FFmpeg keeps one frame back for each (8 threads at 30 fps: 0.2 s more). A
    stream that changes its size is stretched by OpenCV's FFmpeg backend to the size it opened with, and nothing tells.
    """

    def __init__(self, config: OpenCVConfig, *, base: Path | None = None) -> None:
        """base: the folder that the path of a video file starts from; without one, the current folder."""
        self._config = config
        self._kind, self._source = _recognise(config.source)
        if self._kind == "file":
            self._source = str((base or Path()) / self._source)
        self._name = re.sub(r"//[^/@]*@", "//***@", self._source)  # an address may hold a password
        self.simulated = self.waits = self._kind == "file"
        self._cv2: Any = None
        self._capture: Any = None
        self._delay: StreamClock | Pauses | None = None
        self._ahead = False  # open() has grabbed a file's next frame already
        self._given = 0  # frames of a file that were given out: open() goes on behind them
        self._ended = False

    def open(self) -> tuple[int, int]:
        """Open and throw away what is old. Raises CameraMissing, within the time-outs for opening and for a frame."""
        self.close()
        self._cv2 = load_cv2()
        self._check_source()
        began = time.monotonic()
        self._capture = self._new_capture()
        try:
            if not self._capture.isOpened():
                raise CameraMissing(self._why_not_opened(time.monotonic() - began))
            self._set()
            return self._first_frame()
        except BaseException:
            self.close()
            raise

    def read(self, into: Pixels) -> Shot:
        """Fetch the next frame, within `read_timeout_ms` (V4L2: rounded up to seconds); see base.Camera."""
        capture = self._capture
        if capture is None:
            raise CameraFault(f"{self._name}: is not open")
        began_ns, busy_ns = time.monotonic_ns(), time.thread_time_ns()
        if not (self._ahead or (not self._ended and capture.grab())):
            self._no_frame(began_ns)
        t_grab_ns = time.monotonic_ns()
        self._ahead = False
        shot = self._shot(began_ns, t_grab_ns, t_grab_ns - began_ns - (time.thread_time_ns() - busy_ns))
        arrived, image = capture.retrieve(into)
        problem = self._put(image, into) if arrived else "a frame cannot be decoded"
        if problem is None:
            return shot
        if self._kind == "file":
            raise FrameFault(f"{self._name}: {problem}", shot)
        raise CameraFault(f"{self._name}: {problem}")

    def close(self) -> None:
        """Release the capture. A file goes on behind its last frame when it is opened again."""
        capture, self._capture = self._capture, None
        self._ahead = False
        if capture is not None:
            capture.release()

    def _shot(self, began_ns: int, t_grab_ns: int, rested_ns: int) -> Shot:
        if self._kind == "file":
            self._given += 1
            return Shot(t_grab_ns, f"{Path(self._source).stem}-{self._given:06d}")
        if self._delay is None:
            return Shot(t_grab_ns)
        position_ms = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
        return Shot(t_grab_ns, None, self._delay.lag_ns(began_ns, t_grab_ns, rested_ns, position_ms))

    def _put(self, image: Any, into: Pixels) -> str | None:
        """See to it that the picture is in `into`: cv2 decodes there if it fits, else it returns another array."""
        if image is into:
            return None
        if image.dtype != np.uint8:
            return f"delivers {image.dtype} pixels, expected uint8"
        if image.shape[:2] != into.shape[:2]:
            found, expected = (f"{shape[1]} x {shape[0]}" for shape in (image.shape, into.shape))
            return f"the picture is now {found} pixels, expected {expected}"
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels == 1:
            into[:] = self._cv2.cvtColor(image, self._cv2.COLOR_GRAY2BGR)
        elif channels == 3:
            np.copyto(into, image)
        else:
            return f"delivers {channels} channels, expected 1 or 3"
        return None

    def _no_frame(self, began_ns: int) -> NoReturn:
        waited_s = (time.monotonic_ns() - began_ns) / 1e9
        if self._kind != "file":
            raise CameraFault(
                f"{self._name}: no frame after {waited_s:.2f} s (read_timeout_ms = {self._config.read_timeout_ms}): "
                "camera, cable or network failed, or the stream has ended"
            )
        if not self._ended:
            self._ended = True
            promised = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
            if self._given + 1 < promised:  # some containers only estimate their number: one less is no damage
                _log.warning("%s: ends after %d of %d frames; is it damaged?", self._name, self._given, promised)
        raise EndOfStream(f"{self._name}: all {self._given} frames are delivered")

    def _check_source(self) -> None:
        """Say what can be known before OpenCV is asked, which only ever answers "no"."""
        if self._kind == "file" and not Path(self._source).is_file():
            raise CameraMissing(f"{self._name}: there is no such file")
        if self._kind == "v4l2":
            _check_device(Path(self._source))
        if self._kind == "pipeline" and not self._cv2.videoio_registry.hasBackend(self._cv2.CAP_GSTREAMER):
            raise CameraMissing(
                f"{self._name}: is a GStreamer pipeline, but this OpenCV {self._cv2.__version__} was built without "
                "GStreamer, as all of PyPI are. Use JetPack's, or python3-opencv from apt (4.8 or later), in a virtual "
                "environment made with --system-site-packages and without opencv-python-headless; or build it: "
                'CMAKE_ARGS="-DWITH_GSTREAMER=ON" pip install --no-binary opencv-python-headless opencv-python-headless'
            )

    def _new_capture(self) -> Any:
        cv2, config = self._cv2, self._config
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, config.open_timeout_ms]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, config.read_timeout_ms]
        if self._kind == "v4l2":  # its only time-out is one for the process, in seconds, read once
            seconds = str(math.ceil(config.read_timeout_ms / 1000))
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", seconds)
            return cv2.VideoCapture(self._source, cv2.CAP_V4L2)
        if self._kind == "pipeline":
            began = time.monotonic()
            capture = cv2.VideoCapture(self._source, cv2.CAP_GSTREAMER, timeouts)
            if not capture.isOpened() and time.monotonic() - began < config.open_timeout_ms / 2000:
                capture = cv2.VideoCapture(self._source, cv2.CAP_GSTREAMER)
                if capture.isOpened():  # measured with 4.6.0, which refuses parameters that it does not know
                    _log.warning("%s: OpenCV %s knows no time-outs for pipelines", self._name, cv2.__version__)
            return capture
        if self._kind == "file":
            return cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, timeouts)
        return cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, [*timeouts, cv2.CAP_PROP_N_THREADS, 1])

    def _why_not_opened(self, waited_s: float) -> str:
        after = f"{self._name}: not opened after {waited_s:.1f} s"
        if self._kind == "v4l2":
            return f"{after}: busy, or no camera (who uses it: fuser -v {self._source}; what it is: v4l2-ctl --all)"
        if self._kind == "pipeline":
            return f'{after}: try it with gst-launch-1.0; it must end in "appsink drop=true max-buffers=1 sync=false"'
        if self._kind == "file":
            return f"{after}: is no video that FFmpeg can read, or it is damaged"
        return f"{after} (open_timeout_ms = {self._config.open_timeout_ms}): nobody answers there, or not with a video"

    def _set(self) -> None:
        """Set what the configuration asks for, then compare with what the camera says it has. Raises CameraMissing."""
        cv2, config, capture = self._cv2, self._config, self._capture
        asked: dict[str, tuple[int, float]] = {}  # in the order in which V4L2 wants them
        if config.fourcc is not None:
            asked["fourcc"] = (cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*config.fourcc))
        if config.width is not None or config.height is not None:  # V4L2 takes only both together
            for name, prop in (("width", cv2.CAP_PROP_FRAME_WIDTH), ("height", cv2.CAP_PROP_FRAME_HEIGHT)):
                asked[name] = (prop, getattr(config, name) or capture.get(prop))
        if config.fps is not None:
            asked["fps"] = (cv2.CAP_PROP_FPS, config.fps)
        for prop, value in asked.values():
            if capture.get(prop) != value:
                capture.set(prop, value)
        for name, (prop, value) in asked.items():
            found = capture.get(prop)
            if not math.isclose(found, value, rel_tol=0.01 if name == "fps" else 0.0):  # 29.97 may be called 30
                shown = (_fourcc(v) if name == "fourcc" else f"{v:g}" for v in (value, found))
                raise CameraMissing("{}: {}: asked for {}, the camera gives {}".format(self._name, name, *shown))

    def _first_frame(self) -> tuple[int, int]:
        """(height, width) of a frame. A file keeps it for read(); a live source drops it and what came before it."""
        cv2, capture = self._cv2, self._capture
        self._delay = _DELAYS[self._kind]()
        if self._ended:
            self._ended, self._given = False, 0
        old = self._given if self._kind == "file" else 0
        grabbed = all(capture.grab() for _ in range(old + 1))
        if grabbed and self._kind in ("rtsp", "http"):
            grabbed = self._drain()
        if not grabbed and not (self._kind == "file" and self._given):
            raise CameraMissing(f"{self._name}: can be opened, but delivers no frame")
        if not grabbed:  # it was closed behind its last frame, before it had said so
            return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        decoded, image = capture.retrieve()
        if not decoded:
            raise CameraMissing(f"{self._name}: can be opened, but its first frame cannot be decoded")
        self._ahead = self._kind == "file"
        return cast("tuple[int, int]", image.shape[:2])

    def _drain(self) -> bool:
        """Drop what gathered while FFmpeg probed the stream (1 s of video, measured): until frames must be awaited.

        Twice, as a busy machine may look once as if it had waited. False where the stream fails meanwhile.
        """
        limit_ns = time.monotonic_ns() + self._config.open_timeout_ms * 1_000_000
        awaited = 0
        while awaited < 2:
            began_ns, busy_ns = time.monotonic_ns(), time.thread_time_ns()
            if not self._capture.grab():
                return False
            now_ns = time.monotonic_ns()
            awaited += now_ns - began_ns - (time.thread_time_ns() - busy_ns) >= _ARRIVED_NS
            if now_ns > limit_ns and not awaited:
                raise CameraMissing(
                    f"{self._name}: its frames are still old {self._config.open_timeout_ms} ms after opening: it sends "
                    "faster than this machine decodes (lower its rate or size), or is a recording (save it as a file)"
                )
        return True


class StreamClock:
    """How long frames had been waiting, from the time stamps the stream gives them.

    The way from the camera takes at least as long as the fastest frame took; what a frame took longer, it waited.
    """

    def __init__(self) -> None:
        self._base_ns: float | None = None
        self._t_grab_ns = 0
        self._position_ms = 0.0
        self._lag_ns = 0

    def lag_ns(self, began_ns: int, t_grab_ns: int, rested_ns: int, position_ms: float) -> int:
        """Nanoseconds that the frame grabbed at `t_grab_ns` with the stream's time `position_ms` is late."""
        offset_ns = t_grab_ns - position_ms * 1e6
        if self._base_ns is None:
            self._base_ns = offset_ns
        elif position_ms <= self._position_ms:  # that clock stands still or was set back: keep what was known
            self._base_ns = offset_ns - self._lag_ns
        else:
            self._base_ns = min(offset_ns, self._base_ns + (t_grab_ns - self._t_grab_ns) * _DRIFT)
        self._t_grab_ns, self._position_ms = t_grab_ns, position_ms
        self._lag_ns = round(offset_ns - self._base_ns)
        return self._lag_ns


class Pauses:
    """For a stream without a clock (MJPEG): the most that frames can have waited, after the reader had stayed away.

    What lies ready then may have come at any time since the last read; as soon as frames must be awaited, they are new.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._away_ns: int | None = None
        self._awaited = 0

    def lag_ns(self, began_ns: int, t_grab_ns: int, rested_ns: int, position_ms: float) -> int:
        """Nanoseconds since the reader went away, or 0; `rested_ns` is how long the grab waited without working."""
        if self._last_ns is not None and began_ns - self._last_ns > _PAUSE_NS:
            self._away_ns, self._awaited = self._away_ns or self._last_ns, 0
        elif self._away_ns is not None:
            self._awaited += rested_ns >= _ARRIVED_NS
            if self._awaited >= 2:
                self._away_ns = None
        self._last_ns = t_grab_ns
        return 0 if self._away_ns is None else t_grab_ns - self._away_ns


_DELAYS: dict[Kind, Callable[[], StreamClock | Pauses | None]] = {
    "v4l2": StreamClock,
    "rtsp": StreamClock,
    "http": Pauses,
    "pipeline": lambda: None,  # its own appsink drops what is old
    "file": lambda: None,
}


def _recognise(source: int | str) -> tuple[Kind, str]:
    """What a source is, and its name for OpenCV."""
    if isinstance(source, int):
        return "v4l2", f"/dev/video{source}"
    if source.startswith(("/dev/video", "/dev/v4l/")):
        return "v4l2", source
    if "!" in source:
        return "pipeline", source
    if "://" in source:
        return "rtsp" if source.startswith("rtsp") else "http", source
    return "file", source


def _check_device(device: Path) -> None:
    """Raises CameraMissing with the reason why a device file cannot be used, as far as it can be seen from outside."""
    if not device.exists():
        others = ", ".join(sorted(str(path) for path in device.parent.glob("video*"))) or "none"
        raise CameraMissing(f"{device}: there is no such device (there are: {others}); is the camera plugged in?")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except PermissionError:
        raise CameraMissing(f"{device}: no permission; add the service's user to the group video") from None
    except OSError as error:
        what = "is busy: another program uses it" if error.errno == errno.EBUSY else error.strerror
        raise CameraMissing(f"{device}: {what} (see who: fuser -v {device})") from None


def load_cv2() -> Any:
    """cv2, with what it takes only from the process's environment; what is set there already stays.

    RTSP over TCP: over UDP a lost packet smears the picture and nobody is told. No lock around FFmpeg (it needs none
    since 4.0): with it, a camera that does not answer keeps the others from being opened until its time-out. No
    chatter on standard error: exceptions say what went wrong. Raises CameraMissing where there is no OpenCV.
    """
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    try:
        import cv2
    except ImportError as error:
        raise CameraMissing(f"OpenCV is not here ({error}): pip install opencv-python-headless") from error
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logger: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4, OpenCV 5
        logger.setLogLevel(0)
    return cv2


def _fourcc(code: float) -> str:
    """The four characters of a code, or its number where they cannot be printed."""
    text = int(code).to_bytes(4, "little", signed=int(code) < 0).decode("latin-1")
    return text if text.isprintable() else f"{code:g}"

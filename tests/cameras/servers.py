"""Network cameras as processes of their own, which tests start, freeze, wake and kill."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from .mjpeg_server import BITS, BLOCK

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's GObject bindings are made for it
RTSP_PACKAGES = (
    "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)


@dataclass(frozen=True)
class Server:
    """A camera that runs. url: where. size: (height, width) of its frames."""

    url: str
    size: tuple[int, int]
    process: subprocess.Popen[str]

    def freeze(self) -> None:
        """The camera hangs: its connections stay, but nothing comes."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on where it was frozen."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """The camera is unplugged: every connection breaks."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def rtsp(fps: int = 30) -> Iterator[Server]:
    """H.264 over RTSP, a ball that moves, /cam."""
    size = (240, 320)
    command = [SYSTEM_PYTHON, str(HERE / "rtsp_server.py"), str(size[1]), str(size[0]), str(fps)]
    with _running(command) as (process, port):
        yield Server(f"rtsp://127.0.0.1:{port}/cam", size, process)


@contextlib.contextmanager
def mjpeg(fps: float = 30.0, query: str = "", port: int = 0) -> Iterator[Server]:
    """MJPEG over HTTP, numbered frames, /cam; `query` as in mjpeg_server.py, such as "still=10"."""
    with _running([sys.executable, str(HERE / "mjpeg_server.py"), str(fps), str(port)]) as (process, port):
        yield Server(f"http://127.0.0.1:{port}/cam" + (f"?{query}" if query else ""), (240, 320), process)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """127.0.0.1:port where connections are made and then nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """127.0.0.1:port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def number(pixels: NDArray) -> int:
    """The number that a frame of the MJPEG camera carries."""
    middle = BLOCK // 2
    return sum(int(pixels[middle, bit * BLOCK + middle, 1] > 127) << bit for bit in range(BITS))


@functools.cache
def rtsp_lacks() -> str | None:
    """Why there can be no RTSP server here, with the command that mends it; None where there can."""
    needs = ("videotestsrc", "x264enc", "rtph264pay")
    code = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        f"assert all(Gst.ElementFactory.find(name) for name in {needs})"
    )
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", code], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return f"no gst-rtsp-server here: {RTSP_PACKAGES}"
    return None


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that says its port on its first line, killed in the end, frozen or not."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().isdigit(), f"{command} did not start"
        yield process, int(line)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

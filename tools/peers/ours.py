"""edge-inspector as a contestant: its engine alone for boxes, its daemon's threads for messages.

python -m tools.peers.ours FOLDER FRAMES.npy ADDRESS
FOLDER has engines/yolov8n and recipe.toml. The commands are those of turns.py; every turn of messages is a line of its
own, started anew, so that between two turns nothing runs.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edge_inspector import runners
from edge_inspector.commands.looking import Looker
from edge_inspector.config import load
from edge_inspector.errors import EndOfStream
from edge_inspector.line import Line
from edge_inspector.models.folder import find
from edge_inspector.preprocess import use_one_thread
from edge_inspector.types import Pixels, Shot

from .turns import Turn, boxes_turn, obey, own_answers, paced

ENGINE = "yolov8n"
LINE = """[line]
name = "peers"
engines = "{folder}/engines"
[publish]
verdicts = "{address}"
gateway = "{address}-gateway"
[[station]]
name = "top"
engine = "{engine}"
recipe = "{folder}/recipe.toml"
deadline_ms = 600000
[station.camera]
kind = "boards"
"""
RECIPE = "[default]\nthreshold = {confidence}\nfloor = {confidence}\n"
PACKAGES = ("edge-inspector", "openvino", "opencv-python-headless", "numpy", "pyzmq")
THREADS = "the defaults: OpenVINO on every core, one stream (two where frames wait), OpenCV on one"


def main() -> None:
    """Take turns until standard input ends."""
    folder, frames_path, address = sys.argv[1:]
    answers, frames = own_answers(), list(np.load(frames_path))
    engine = find(ENGINE, Path(folder, "engines"))
    use_one_thread()
    looker = Looker(engine.tables, runners.make(engine))
    with tempfile.TemporaryDirectory(prefix="peers-line-") as place:
        line = Path(place, "line.toml")
        line.write_text(LINE.format(folder=folder, address=address, engine=ENGINE))
        turns: dict[str, Turn] = {
            "boxes": lambda seconds: {"ms": boxes_turn(lambda frame: looker.look(frame, floor=0.25), frames, seconds)},
            "messages": lambda seconds, rate: serve(line, MemoryCamera(frames, seconds, rate)),
        }
        obey(turns, {"versions": {name: version(name) for name in PACKAGES}, "threads": THREADS}, answers)


class MemoryCamera:
    """Frames from memory for so many seconds. rate: in a second; 0: as fast as they are taken."""

    simulated = True

    def __init__(self, frames: list[Pixels], seconds: float, rate: float) -> None:
        self.waits = rate == 0.0
        self.sent = 0
        self._frames, self._seconds, self._rate = frames, seconds, rate

    def open(self) -> tuple[int, int]:
        """The frames' size; waits for the word that the subscriber hears us."""
        sys.stdin.readline()
        self._coming = paced(self._frames, self._seconds, self._rate)
        height, width = self._frames[0].shape[:2]
        return height, width

    def read(self, into: Pixels) -> Shot:
        """The next frame, copied as a driver would, and stamped when it is handed over."""
        frame, _ = next(self._coming, (None, 0))
        if frame is None:
            raise EndOfStream("the turn is over")
        np.copyto(into, frame)
        self.sent += 1
        return Shot(time.monotonic_ns())

    def close(self) -> None:
        """Nothing is open."""


def serve(line: Path, camera: MemoryCamera) -> dict[str, Any]:
    """Run the line until the camera has no more frames and every part has its verdict."""
    running = Line(load(line), given={"top": camera})
    running.start(lambda: False)
    while not running.finished:
        time.sleep(0.05)
        running.check()
    running.stop(5.0)
    gc.unfreeze()  # what a line makes it keeps for ever, as no process has two; here the next one throws it away
    return {"sent": camera.sent}


if __name__ == "__main__":
    main()

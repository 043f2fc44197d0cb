"""The daemon's threads in a process of their own, for the benchmark: fed from memory, in turns that it asks for.

Each line on standard input is a turn, `COUNT RATE`: so many frames of every station, so many a second (0: as fast as
they are taken). The end of the input ends the line.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codec import from_json
from ..config import BoardsConfig, LineConfig, PublishConfig, load
from ..errors import EndOfStream
from ..line import Line
from ..types import Pixels, Shot
from .bench_frames import SIZE, frames


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. line: of its first station so many are made. waits: frames are taken, they do not come by time."""

    line: str
    folder: str
    stations: int
    waits: bool
    deadline_ms: float


@dataclass(frozen=True, slots=True)
class Turn:
    """So many frames, one every period (0: as fast as they are taken)."""

    count: int
    period_s: float


class MemoryCamera:
    """Frames from memory, when a turn asks for them."""

    simulated = True

    def __init__(self, pictures: list[Pixels], *, waits: bool) -> None:
        self.waits = waits
        self.turns: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._pictures, self._shown = pictures, 0
        self._turn, self._left, self._due_s = Turn(0, 0.0), 0, 0.0

    def open(self) -> tuple[int, int]:
        """The frames' size."""
        return SIZE

    def read(self, into: Pixels) -> Shot:
        """The next frame. Raises EndOfStream after the last turn."""
        while not self._left:
            turn = self.turns.get()
            if turn is None:
                raise EndOfStream("all frames are delivered")
            self._turn, self._left, self._due_s = turn, turn.count, time.monotonic()
        self._left -= 1
        if self._turn.period_s:
            self._due_s += self._turn.period_s
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._shown += 1
        np.copyto(into, self._pictures[self._shown % len(self._pictures)])  # as a driver hands a frame over
        return Shot(time.monotonic_ns())

    def close(self) -> None:
        """Nothing is open."""


def config_of(order: Order) -> LineConfig:
    """The line's file, with sockets of its own and cameras in memory."""
    config = load(Path(order.line))
    first = config.station[0]
    changes: dict[str, Any] = {
        "trigger": "camera",
        "camera": BoardsConfig(),
        "deadline_ms": order.deadline_ms,
        "max_age_ms": None,
    }
    stations = [dataclasses.replace(first, name=f"{first.name}-{n}", keep=(), **changes) for n in range(order.stations)]
    at = f"ipc://{order.folder}"
    # a history that is soon full, so that its growth is not taken for a leak
    publish = PublishConfig(verdicts=f"{at}/verdicts", gateway=f"{at}/gateway", history=256)
    return dataclasses.replace(config, publish=publish, station=tuple(stations))


def serve(order: Order) -> None:
    """Run the line until the input ends and every part has its verdict."""
    config, pictures = config_of(order), frames()
    cameras = {station.name: MemoryCamera(pictures, waits=order.waits) for station in config.station}
    line = Line(config, given={**cameras})

    def listen() -> None:
        for text in sys.stdin:
            count, rate = text.split()
            for camera in cameras.values():
                camera.turns.put(Turn(int(count), 1 / float(rate) if float(rate) else 0.0))
        for camera in cameras.values():
            camera.turns.put(None)

    threading.Thread(target=listen, name="turns", daemon=True).start()
    line.start(lambda: False)
    while not line.finished:
        time.sleep(0.1)
        line.check()
    line.stop(5.0)


if __name__ == "__main__":
    serve(from_json(sys.argv[1].encode(), Order))

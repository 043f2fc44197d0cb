"""A plant's lens without its belt: another board at each picture."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_inspector.plant.lens import Lens


@dataclass
class Belt:
    """number: of the board under the lens. moves: whether each picture shows the next one."""

    lens: Lens
    number: int = 0
    moves: bool = True

    def under_lens(self) -> int:
        """The number."""
        self.number += self.moves
        return self.number


@contextlib.contextmanager
def plant_lens(address: Path, *, strobe_s: float = 0.05) -> Iterator[Belt]:
    """Answers at once, and fires the strobe so often."""
    belt = Belt(Lens(address))
    stop = threading.Event()

    def serve() -> None:
        due_s = time.monotonic()
        while not stop.is_set():
            if select.select([belt.lens.socket], [], [], 0.005)[0]:
                belt.lens.serve(belt.under_lens, time.monotonic_ns)
            if time.monotonic() >= due_s:
                due_s += strobe_s
                belt.lens.strobe(belt.under_lens(), time.monotonic_ns())

    thread = threading.Thread(target=serve)
    thread.start()
    yield belt
    stop.set()
    thread.join()
    belt.lens.close()

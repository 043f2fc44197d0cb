"""Between threads: FramePool (fixed buffers), Intake (waiting frames, by station), Outbox (events to the publisher),
Shelf (pictures to be kept).

Every drop policy has a name here: `Intake.put` refuses when full, `Intake.put_latest` lets the newest win and counts,
`Shelf.place` refuses when full.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from typing import Generic, TypeVar

import numpy as np

from .errors import OutboxFull
from .types import Frame, Pixels, Shot

T = TypeVar("T")


class FramePool:
    """A fixed number of picture buffers, allocated once; a buffer is out while a Frame holds it."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.size = size
        block = np.empty((count, *size, 3), np.uint8)  # in one piece: from 4 MB on NumPy asks for huge pages
        block.fill(0)  # and all of them there now, not when a part needs them
        self._free: deque[Pixels] = deque(block)

    def take(self) -> Pixels | None:
        """A free buffer, uint8 [height, width, 3], or None where all are out."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def give(self, pixels: Pixels) -> None:
        """Put a buffer back that did not become a frame."""
        self._free.append(pixels)

    def frame(self, pixels: Pixels, shot: Shot) -> Frame:
        """A Frame that gives `pixels` back to this pool when it is left."""
        return Frame(pixels, shot, self.give)

    def __len__(self) -> int:
        return len(self._free)


class Intake(Generic[T]):
    """What waits for one infer thread: a box for each station, emptied in turn so that no station starves."""

    def __init__(self, stations: tuple[str, ...], *, capacity: int) -> None:
        self._boxes: dict[str, deque[T]] = {station: deque() for station in stations}
        self._order = deque(stations)
        self._capacity = capacity
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self.skipped = dict.fromkeys(stations, 0)

    def put(self, station: str, item: T) -> bool:
        """Queue an item; False, and the item stays with the caller, where the station's box is full or closed."""
        with self._changed:
            box = self._boxes[station]
            if self._closed or len(box) >= self._capacity:
                return False
            box.append(item)
            self._changed.notify_all()
            return True

    def put_latest(self, station: str, item: T) -> T | None:
        """Let the newest win; returns the item that lost (counted in `skipped`), for its owner to release."""
        with self._changed:
            if self._closed:
                return item
            box = self._boxes[station]
            old = box.pop() if box else None
            self.skipped[station] += old is not None
            box.append(item)
            self._changed.notify_all()
            return old

    def wait_for_room(self, station: str, timeout_s: float) -> bool:
        """For sources that can stand still: True as soon as nothing of this station waits."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._boxes[station], timeout_s)

    def get(self, timeout_s: float) -> T | None:
        """The next item, stations taking turns; None where there is none within the time (0: do not wait)."""
        with self._changed:
            if timeout_s and not any(self._boxes.values()) and not self._closed:
                self._changed.wait(timeout_s)
            for _ in range(len(self._order)):
                box = self._boxes[self._order[0]]
                self._order.rotate(-1)
                if box:
                    item = box.popleft()
                    if not box:
                        self._changed.notify_all()
                    return item
            return None

    def __len__(self) -> int:
        return sum(map(len, self._boxes.values()))

    def ahead_of(self, station: str) -> int:
        """How many are taken before one that is put now. Stations take turns: of another no more than wait of this one,
        and one more where it is that one's turn first.
        """
        with self._changed:
            mine = len(self._boxes[station])
            turn = self._order.index(station)
            return sum(min(len(self._boxes[name]), mine + (n < turn)) for n, name in enumerate(self._order))

    def close(self) -> None:
        """Take nothing more in; what waits can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Outbox(Generic[T]):
    """From any thread to the publisher, in order, never dropping. `fileno()` becomes readable when something waits.

    Full means that the publisher stands still: `put` raises OutboxFull, and the process must end.
    """

    def __init__(self, capacity: int = 65_536) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """A descriptor to poll for reading."""
        return self._bell

    def put(self, item: T, *, ring: bool = True) -> None:
        """Append, and ring the bell, unless it is early enough when the next one rings. Raises OutboxFull."""
        if len(self._items) >= self._capacity:
            raise OutboxFull(f"{self._capacity} events wait for the publisher, which takes none")
        self._items.append(item)
        if ring:
            os.eventfd_write(self._bell, 1)

    def drain(self) -> list[T]:
        """Everything that waits, oldest first. The bell is silenced first, so nothing put meanwhile is overheard."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._bell)


class Shelf(Generic[T]):
    """What waits for the keep thread. Never more frames than there are places, and nobody waits for one."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)
        self._items: queue.SimpleQueue[T] = queue.SimpleQueue()

    def place(self, frame: Frame) -> Frame | None:
        """The same buffer in another Frame, whose release frees the place; None, and the frame is as before: full."""
        return frame.handed_on(then=self._places.release) if self._places.acquire(blocking=False) else None

    def put(self, item: T) -> None:
        """Hand an item to the keep thread; its frame has a place."""
        self._items.put(item)

    def get(self, timeout_s: float) -> T | None:
        """The next item; None where there is none within the time."""
        try:
            return self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None

"""The file of records: one JSON line for each part, ten files of 10 MB. Owns writing and rotating.

A line is in the file whole or not at all. What cannot be written (a full disk) is counted, and the next one is tried.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading
from pathlib import Path

from ..codec import to_json
from ..errors import ConfigError
from .base import GateStatus, PartRecord

log = logging.getLogger(__name__)

LARGEST = 10_000_000  # bytes of a file
FILES = 10  # the path itself, and path.1 (the youngest of the old ones) to path.9
WAITING = 10_000  # records: at 20 parts a second, a disk may hang for eight minutes
TURN_S = 0.1
CLOSE_S = 0.8
MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # no reason not to begin


class Records:
    """A Watcher that keeps what became of each part. dropped: records that are in no file."""

    def __init__(self, path: Path) -> None:
        self.dropped = 0
        self._path = path
        self._counting = threading.Lock()  # two threads drop: the caller's, and the one that writes
        self._failing = False
        self._waiting: queue.Queue[PartRecord] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    def start(self) -> None:
        """Begin. Raises ConfigError where there can be no such file."""
        try:
            self._path.open("ab").close()
        except OSError as error:
            if error.errno not in MAY_PASS:
                mend = "expected a file that this user may write, in a folder that exists"
                raise ConfigError(f"gateway.records: {self._path}: {error.strerror}; {mend}") from None
        self._thread.start()

    def verdict(self, message: dict[str, object]) -> None:
        """Not kept: the part's record says what became of it."""

    def part(self, record: PartRecord) -> None:
        """Queue a record."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._drop()

    def status(self, status: GateStatus) -> None:
        """Not kept."""

    def close(self) -> None:
        """Write what waits, for less than a second."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            try:
                record = self._waiting.get(timeout=TURN_S)
            except queue.Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._write(to_json(record) + b"\n")
            except OSError as error:
                self._drop()
                if not self._failing:
                    self._failing = True
                    log.error("records are lost", extra={"file": str(self._path), "reason": error.strerror})
                continue
            if self._failing:
                self._failing = False
                log.info("records are written again", extra={"file": str(self._path), "lost": self.dropped})

    def _write(self, line: bytes) -> None:
        """Append; where that fails halfway, take back what was written. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(line) > LARGEST:
                self._rotate()
        # opened anew each time: a file that was moved or a disk that was mounted again needs no special care
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # the power went while a line was written: it must not spoil the next
            written = 0
            try:
                while written < len(line):
                    written += os.write(file, line[written:])
            except OSError:
                if written:
                    os.ftruncate(file, size)
                raise
        finally:
            os.close(file)

    def _rotate(self) -> None:
        """Every file becomes one older, and the oldest goes."""
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, FILES))]
        for older, younger in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                younger.replace(older)

    def _drop(self) -> None:
        with self._counting:
            self.dropped += 1

"""A folder of kept pictures: how files are named, what stands beside a picture, and that it stays within its limit.

`<UTC time>-<station>-<part>-<kind>.bmp`, and a .json of the same name: the published verdict and what it was judged by.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .codec import Mismatch, from_json
from .config import KEEP
from .wire import VerdictMessage

PICTURE, RECORD, UNFINISHED = ".bmp", ".json", ".part"
OURS = re.compile(rf"(\d{{8}}T\d{{6}}\.\d{{6}}Z-[A-Za-z0-9_.-]+-(?:{'|'.join(KEEP)}))\.(?:bmp|json)(?:\.part)?")
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")
LONGEST = 60  # characters of a part's name that go into a file's
ROOM = 0.1  # of the limit is made free at once, so that not every picture has the folder looked through


class Record(VerdictMessage):
    """What stands beside a picture: its verdict as published; kind: as what it was kept.

    labels and thresholds: the engine's classes, and the recipe's threshold for each. size_px: width, height.
    """

    kind: str
    labels: list[str]
    thresholds: list[float]
    camera: str
    size_px: tuple[int, int]


def name_of(message: VerdictMessage, kind: str) -> str:
    """A file's name without its ending; names sort by the time of the trigger."""
    came = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=message["t_trigger_us"])
    part = NOT_IN_A_NAME.sub("_", message["part_id"] or str(message["trigger_id"]))[:LONGEST]
    return f"{came:%Y%m%dT%H%M%S.%fZ}-{message['station']}-{part}-{kind}"


def records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Every picture with its record, oldest first. A record that is none is left out: the power may have gone."""
    for path in sorted(each for each in folder.glob(f"*{RECORD}") if OURS.fullmatch(each.name)):
        with contextlib.suppress(Mismatch, OSError):
            yield path.with_suffix(PICTURE), from_json(path.read_bytes(), Record)


def stored(folder: Path) -> dict[str, tuple[list[Path], int]]:
    """What lies there that is ours: by name, the files, finished or not, and their bytes."""
    found: dict[str, tuple[list[Path], int]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            ours = OURS.fullmatch(entry.name)
            with contextlib.suppress(FileNotFoundError):  # somebody tidies up meanwhile
                if ours and entry.is_file(follow_symlinks=False):
                    paths, size = found.get(ours[1], ([], 0))
                    found[ours[1]] = [*paths, Path(entry.path)], size + entry.stat().st_size
    return found


class KeptFolder:
    """Writes pairs of files, each whole or not at all. Nothing but files named as above is ever deleted there."""

    def __init__(self, path: Path, limit: int) -> None:
        """limit: bytes of all its files together."""
        self._path = path
        self._limit = limit
        self._used: int | None = None  # not known before it has been looked through

    def add(self, name: str, picture: bytes | memoryview, record: bytes) -> None:
        """Write a pair, after making room for it. Raises OSError, and then there is none of it."""
        size = len(picture) + len(record)
        if size > self._limit:
            raise OSError(errno.EFBIG, "a single picture is larger than keep_mb")
        self._path.mkdir(parents=True, exist_ok=True)
        if self._used is None or self._used + size > self._limit:
            self._used = self._make_room(size)
        files = {f"{name}{RECORD}": record, f"{name}{PICTURE}": picture}  # whoever sees the picture finds its record
        try:
            for file, content in files.items():
                (self._path / f"{file}{UNFINISHED}").write_bytes(content)
            for file in files:
                os.replace(self._path / f"{file}{UNFINISHED}", self._path / file)
        except OSError:
            for file in files:
                for path in (self._path / f"{file}{UNFINISHED}", self._path / file):
                    with contextlib.suppress(OSError):
                        path.unlink()
            raise
        self._used += size

    def _make_room(self, size: int) -> int:
        """Take the oldest out where there is no room for so many bytes; returns how many are left."""
        files = stored(self._path)
        used = sum(pair_size for _, pair_size in files.values())
        if used + size <= self._limit:
            return used
        for paths, pair_size in (files[name] for name in sorted(files)):
            if used + size <= self._limit * (1 - ROOM):
                break
            for path in paths:
                path.unlink(missing_ok=True)
            used -= pair_size
        return used

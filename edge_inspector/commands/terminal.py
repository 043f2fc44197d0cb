"""What commands draw on a terminal: a block that is drawn over itself, and a progress bar. Quiet where nobody looks."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import time
from typing import TextIO


class Block:
    """Lines that replace the lines shown before; on anything but a terminal, the first line about once in 2 s."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0
        self._next_s = 0.0

    @property
    def due(self) -> bool:
        """Whether show() would draw."""
        return time.monotonic() >= self._next_s

    def show(self, lines: list[str], *, at_most_every_s: float = 0.1) -> None:
        """Draw, unless it was drawn a moment ago."""
        if not self.due:
            return
        if not self._stream.isatty():
            self._next_s = time.monotonic() + 2.0
            print(lines[0], file=self._stream, flush=True)
            return
        self._next_s = time.monotonic() + at_most_every_s
        width = shutil.get_terminal_size().columns
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\r\x1b[K{_cut(line, width - 1)}\n" for line in lines)
        self._stream.write(f"{up}{body}")
        self._stream.flush()
        self._drawn = len(lines)

    def final(self, lines: list[str]) -> None:
        """Draw the last state for certain."""
        self._next_s = 0.0
        self.show(lines)


def _cut(line: str, width: int) -> str:
    """The first columns of a line; what only sets a colour takes none."""
    pieces = re.split(r"(\x1b\[\d*m)", line)
    for n in range(0, len(pieces), 2):
        pieces[n] = pieces[n][:width]
        width -= len(pieces[n])
    return "".join(pieces)


def one_or_more(text: str) -> int:
    """An argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def zero_or_more(text: str) -> float:
    """An argument that may be 0, but is a number."""
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


def bar(done: int, total: int, *, width: int = 30) -> str:
    """`[=====     ]  50 %`."""
    share = done / total if total else 1.0
    return f"[{'=' * int(width * share):{width}}] {share:4.0%}"


def columns(values: list[int], *, height: str = " ▁▂▃▄▅▆▇█") -> str:
    """A row of little columns, the highest full."""
    top = max(values, default=0) or 1
    return "".join(height[-(-value * (len(height) - 1) // top)] for value in values)

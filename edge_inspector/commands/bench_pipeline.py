"""A whole pipeline in another process, told what to do turn by turn, and heard by a subscriber in this one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..client import Message, Subscriber
from ..codec import to_json
from ..errors import FailedError
from ..wire import Clock
from .bench_heard import Heard
from .bench_serve import Order
from .bench_usage import Usage, resident_mb

SAMPLES = 512  # of memory, thinned out when there are more
SAMPLE_S = 0.2
SILENT_S = 60.0  # beyond the pace; then it hangs


class Pipeline:
    """Stations of one line. Starts at once, and is ready when the `with` is entered."""

    def __init__(self, line: Path, *, waits: bool, deadline_ms: float = 600_000.0, stations: int = 1) -> None:
        """waits: frames are taken as fast as they are judged, so that nothing is lost; else they come by time."""
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-inspector-")))
        self._order = Order(str(line.resolve()), str(folder), stations, waits, deadline_ms)
        self._seq: Counter[str] = Counter()
        self._clock = Clock()

    def __enter__(self) -> Pipeline:
        self._subscriber = self._stack.enter_context(Subscriber(f"ipc://{self._order.folder}/verdicts"))
        module = [sys.executable, "-m", "edge_inspector.commands.bench_serve"]
        words = [*module, to_json(self._order).decode()]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
        self._stack.callback(self._end)
        ready, until_s = set[str](), time.monotonic() + SILENT_S
        while len(ready) < self._order.stations:
            _refuse_silence(until_s)
            message = self._next(1.0)
            if message is not None and message["type"] == "heartbeat" and message["ready"]:
                ready.add(message["station"])
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def usage(self) -> Usage:
        """Of its process, so far."""
        return Usage.of(self.pid)

    def turn(
        self,
        count: int,
        rate: float = 0.0,
        *,
        heard: Heard,
        memory_mb: list[float] | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> float:
        """So many parts of every station at `rate` a second (0: as fast as it can), added to `heard`.

        memory_mb: gets its resident memory, evenly spaced in time. Returns verdicts per second, from the order to the
        last of them. Raises FailedError where a verdict is missing, or is a fault although nothing came by time.
        """
        started_s = now_s = time.monotonic()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count} {rate}\n")
        self._process.stdin.flush()
        wanted, sample_s, every_s = count * self._order.stations, started_s + SAMPLE_S, SAMPLE_S
        allowed_s = SILENT_S + (2 / rate if rate else 0.0)
        done, until_s = 0, started_s + allowed_s
        while done < wanted:
            message = self._next(1.0)
            _refuse_silence(until_s)
            if message is None or message["type"] != "verdict":
                continue
            now_ns = time.monotonic_ns()
            self._check(message)
            heard.take(message, self._clock.utc_us(now_ns))
            done += 1
            now_s = now_ns / 1e9
            until_s = now_s + allowed_s
            if now_s > sample_s:
                progress(done)
                if memory_mb is not None:
                    memory_mb.append(resident_mb(self._process.pid))
                    if len(memory_mb) > SAMPLES:
                        del memory_mb[1::2]
                        every_s *= 2
                sample_s = now_s + every_s
        return done / (now_s - started_s)

    def _next(self, timeout_s: float) -> Message | None:
        message = self._subscriber.receive(timeout_s)
        if message is None and self._process.poll() is not None:
            raise FailedError(f"the pipeline ended with {self._process.returncode}")
        return message

    def _check(self, message: Message) -> None:
        station = message["station"]
        self._seq[station] += 1
        if message["seq"] != self._seq[station]:
            raise FailedError(f"{station}: verdict {self._seq[station]} is missing, {message['seq']} came")
        if self._order.waits and message["outcome"] == "fault":
            raise FailedError(f"{station}: verdict {message['seq']} is a fault: {message['reason']}")

    def _end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _refuse_silence(until_s: float) -> None:
    """Heartbeats alone are no progress."""
    if time.monotonic() > until_s:
        raise FailedError(f"the pipeline lives, but has given no verdict for {SILENT_S:g} s")

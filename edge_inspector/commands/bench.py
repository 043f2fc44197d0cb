"""Measure this machine: the bare engine beside the whole pipeline, what is added to a part, latency, memory.

Ratios come from one run in which bare engine and pipeline take turns; their spread is given with them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import runners
from ..cameras.boards import Boards
from ..client import Subscriber
from ..config import load
from ..errors import EndOfStream, FailedError
from ..line import Line
from ..metrics import Histogram
from ..models.folder import find
from ..preprocess import Letterbox, use_one_thread
from ..types import Pixels, Shot
from . import bench_gateway

SIZE = (1024, 1280)  # height, width of the frames
LINE = """[line]
name = "bench"
[publish]
verdicts = "ipc://{folder}/verdicts"
gateway = "ipc://{folder}/gateway"
[[station]]
name = "top"
engine = "{engine}"
deadline_ms = 600000
[station.camera]
kind = "boards"
"""
NOTHING = 'labels = ["short"]\ninput_size = [640, 640]\n[[script]]\n'
PACED_HZ = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and how to report."""
    parser.add_argument("--engine", default="boards", help="which engine (boards)")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="so often the two take turns (7)")
    parser.add_argument("--parts", type=int, default=100_000, metavar="N", help="for the memory's growth (100000)")
    parser.add_argument("--plc-seconds", type=float, default=20.0, metavar="S", help="of 100 parts each, to a PLC (20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Measure and print."""
    use_one_thread()
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} x {_processor()}",
        "python": platform.python_version(),
        "engine": args.engine,
        "frame": f"{SIZE[1]}x{SIZE[0]}",
        "load_before": os.getloadavg()[0],
        **_throughput(args),
        **_paced(args),
        **_null_engine(args.parts),
        "to_the_plc": _to_the_plc(args.plc_seconds),
    }
    print(json.dumps(result) if args.json else "\n".join(f"{key:20} {value}" for key, value in result.items()))
    return 0


def _throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Frames per second, bare engine with two requests in flight and the whole pipeline, taking turns."""
    bare, whole = [], []
    engine = Bare(args, backlog=True)
    parts = max(60, round(3 * engine.full_speed(60)))  # about three seconds a turn
    for n in range(args.rounds):
        _say(f"full speed, turn {n + 1} of {args.rounds}")
        bare.append(engine.full_speed(parts))
        with Pipeline(args.engine, args.engines, rate=0.0, count=parts) as pipeline:
            whole.append(pipeline.listen().per_second())
    ratios = [b / a for a, b in zip(bare, whole, strict=True)]
    return {
        "bare_fps": _spread(bare),
        "pipeline_fps": _spread(whole),
        "pipeline_to_bare": _spread(ratios),
    }


def _paced(args: argparse.Namespace) -> dict[str, Any]:
    """Ten parts a second: frame to received message, beside letterbox and inference alone at the same pace."""
    bare, whole = [], []
    engine, seconds = Bare(args), 4.0
    added = Histogram()
    for n in range(args.rounds):
        _say(f"{PACED_HZ:g} parts per second, turn {n + 1} of {args.rounds}")
        bare.append(statistics.median(engine.paced(round(PACED_HZ * seconds))))
        with Pipeline(args.engine, args.engines, rate=PACED_HZ, count=round(PACED_HZ * seconds)) as pipeline:
            heard = pipeline.listen()
        whole.append(heard.latency.percentile(0.5) / 1000)
        for value_us in heard.added_us:
            added.add(value_us)
    return {
        "bare_ms_paced": _spread(bare),
        "pipeline_ms_paced": _spread(whole),
        "paced_to_bare": _spread([b / a for a, b in zip(bare, whole, strict=True)]),
        "added_ms": {"p50": added.percentile(0.5) / 1000, "p99": added.percentile(0.99) / 1000},
    }


def _null_engine(parts: int) -> dict[str, Any]:
    """An engine that costs nothing: what the rest can do, and whether memory grows."""
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder:
        _write_nothing(Path(folder))
        with Pipeline("nothing", Path(folder), rate=0.0, count=parts) as pipeline:
            heard = pipeline.listen(progress=True)
    return {"null_engine_fps": round(heard.per_second(), 1), "parts": heard.count, "rss_growth_mb": heard.growth_mb()}


def _to_the_plc(seconds: float) -> dict[str, Any]:
    """The same engine, a gateway, and a PLC that polls it."""
    _say(f"a hundred parts per second to a PLC, for {seconds:g} s")
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder:
        _write_nothing(Path(folder, "engines"))
        return bench_gateway.measure(Path(folder), rate=100.0, seconds=seconds)


def _write_nothing(engines: Path) -> None:
    """An engine that costs nothing, and finds nothing."""
    folder = engines / "nothing"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(NOTHING)
    (folder / "recipe.toml").write_text("")


class Bare:
    """The engine alone, through the same runner as the line, on the same frames."""

    def __init__(self, args: argparse.Namespace, *, backlog: bool = False) -> None:
        engine = find(args.engine, args.engines)
        self._runner = runners.make(engine, backlog=backlog)
        self._frames = _frames()
        self._fit = Letterbox.fit(SIZE, self._runner.inputs[0].shape[:2])
        for lane, buffer in enumerate(self._runner.inputs):
            self._fit.clear(buffer)
            self._fit.apply(self._frames[lane], buffer)
            self._runner.submit(lane)
            self._runner.collect(lane)

    def full_speed(self, parts: int) -> float:
        """Inferences per second with two in flight, without any preprocessing."""
        started = time.perf_counter()
        self._runner.submit(0)
        for n in range(1, parts):
            self._runner.submit(n % 2)
            self._runner.collect((n - 1) % 2)
        self._runner.collect((parts - 1) % 2)
        return parts / (time.perf_counter() - started)

    def paced(self, parts: int) -> list[float]:
        """Milliseconds of letterbox and inference, at the pace of the paced pipeline."""
        took, due = [], time.perf_counter()
        for n in range(parts):
            due += 1 / PACED_HZ
            time.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            self._fit.apply(self._frames[n % len(self._frames)], self._runner.inputs[0])
            self._runner.submit(0)
            self._runner.collect(0)
            took.append(1000 * (time.perf_counter() - started))
        return took


@dataclass(slots=True)
class Heard:
    """What the subscriber saw of one pipeline. Times are its own, of arrival."""

    count: int = 0
    latency: Histogram = field(default_factory=Histogram)
    added_us: list[int] = field(default_factory=list)
    first_s: float = 0.0
    last_s: float = 0.0
    memory_mb: list[float] = field(default_factory=list)

    def per_second(self) -> float:
        """Verdicts per second, between the first and the last."""
        return (self.count - 1) / (self.last_s - self.first_s)

    def growth_mb(self) -> float:
        """Resident memory at the end less that after 5,000 parts."""
        return round(self.memory_mb[-1] - self.memory_mb[0], 2) if len(self.memory_mb) > 1 else 0.0


class Pipeline:
    """The daemon's threads in a process of their own, fed from memory, listened to from this one."""

    def __init__(self, engine: str, engines: Path, *, rate: float, count: int) -> None:
        self._stack = contextlib.ExitStack()
        self._engine, self._engines, self._rate, self._count = engine, engines, rate, count

    def __enter__(self) -> Pipeline:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-inspector-")))
        line = folder / "line.toml"
        engines = json.dumps(str(self._engines.resolve()))
        line.write_text(f"{LINE.format(folder=folder, engine=self._engine)}".replace(
            'name = "bench"', f'name = "bench"\nengines = {engines}'))  # fmt: skip
        self._subscriber = self._stack.enter_context(Subscriber(f"ipc://{folder}/verdicts"))
        code = f"from edge_inspector.commands.bench import serve; serve({str(line)!r}, {self._rate}, {self._count})"
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        self._stack.callback(self._process.kill)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        with self._stack:
            if kind is None:
                self._process.wait(10)

    def listen(self, *, progress: bool = False) -> Heard:
        """Until the last verdict. Raises FailedError where any of them is a fault, or missing."""
        heard = Heard()
        while self._subscriber.receive(0.1) is None:  # its first heartbeat
            if self._process.poll() is not None:
                raise FailedError(f"the pipeline ended with {self._process.returncode} before it had begun")
        assert self._process.stdin is not None
        self._process.stdin.close()  # we hear it: now it may begin
        while heard.count < self._count:
            message = self._subscriber.receive(1.0)
            if message is None and self._process.poll() is not None:
                raise FailedError(f"the pipeline ended with {self._process.returncode} after {heard.count} verdicts")
            if message is None or message["type"] != "verdict":
                continue
            heard.last_s = time.perf_counter()
            now_us = time.time_ns() // 1000
            heard.count += 1
            if message["seq"] != heard.count or message["outcome"] == "fault":
                raise FailedError(f"verdict {heard.count} came as {message['seq']}, {message['reason']}")
            heard.first_s = heard.first_s or heard.last_s
            total_us = now_us - message["t_grab_us"]
            heard.latency.add(total_us)
            if self._rate:
                heard.added_us.append(total_us - message["latency_us"]["infer"])
            if heard.count % 5000 == 0:
                heard.memory_mb.append(_resident_mb(self._process.pid))
                if progress:
                    _say(f"an engine that costs nothing: {heard.count} of {self._count} parts")
        return heard


class MemoryCamera:
    """Frames from memory. rate: in a second; 0: as fast as they are taken."""

    simulated = True

    def __init__(self, *, rate: float, count: int) -> None:
        self.waits = rate == 0.0
        self._rate, self._left, self._due_s = rate, count, 0.0
        self._frames = _frames()

    def open(self) -> tuple[int, int]:
        """The frames' size; waits until standard input is closed, which says that the subscriber hears us."""
        sys.stdin.read()
        return SIZE

    def read(self, into: Pixels) -> Shot:
        """The next frame."""
        if not self._left:
            raise EndOfStream("all frames are delivered")
        self._left -= 1
        if self._rate:
            self._due_s = (self._due_s or time.monotonic()) + 1 / self._rate
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        np.copyto(into, self._frames[self._left % len(self._frames)])  # what a driver does before it hands a frame over
        return Shot(time.monotonic_ns())

    def close(self) -> None:
        """Nothing is open."""


def serve(line: str, rate: float, count: int) -> None:
    """In the pipeline's process: run the line to its end."""
    running = Line(load(Path(line)), given={"top": MemoryCamera(rate=rate, count=count)})
    running.start(lambda: False)
    while not running.finished:
        time.sleep(0.05)
        running.check()
    running.stop(5.0)


def _frames() -> list[Pixels]:
    """Eight different boards, uint8 [1024, 1280, 3], one in four with a defect or more."""
    boards, square = Boards(seed=1, defect_rate=0.25, size=1280, layouts=4), np.empty((1280, 1280, 3), np.uint8)
    frames = []
    for number in range(1, 9):
        boards.draw(number, square)
        frames.append(square[: SIZE[0], : SIZE[1]].copy())
    return frames


def _spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in named.items()}


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor() -> str:
    lines: Iterator[str] = iter(Path("/proc/cpuinfo").read_text().splitlines())
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

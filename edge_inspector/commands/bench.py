"""Measure this machine: the bare engine beside the whole pipeline, what is added to a part, tails, misses, memory.

Ratios come from one run in which both take turns; their spread is given with them. `--soak 1h` goes on for so long, and
says whether anything leaks, drifts, or has a tail that the engine alone has not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import load
from ..metrics import Histogram
from ..models.folder import Engine, find
from ..preprocess import use_one_thread
from . import bench_gateway, bench_soak
from .bench_bare import Bare
from .bench_figures import LOAD, ms, ratio, spread
from .bench_frames import SIZE
from .bench_heard import Heard
from .bench_picture import picture
from .bench_pipeline import Pipeline
from .bench_table import table
from .bench_usage import slope_mb
from .terminal import Block, bar, one_or_more

LINE = """[line]
name = "bench"
engines = {engines}
[[station]]
name = "top"
engine = {engine}
deadline_ms = {deadline_ms}
[station.camera]
kind = "boards"
"""
NOTHING = 'labels = ["short"]\ninput_size = [640, 640]\n[[script]]\n'
TURN_S = 1.0  # one turn at full speed
DEADLINE_MS, SLOW = 100.0, 4  # without LINE.toml: this deadline, or so many times what the engine takes
PAUSES_S = {1: 5, 10: 2, 60: 1}  # seconds of idling, and how often
MANY = (4, 8)  # stations on one engine
OVERLOAD_PARTS = 80  # of each station; half of them can be judged
PLC_RATE, PLC_S = 100.0, 20.0
EARLY = 5000  # parts after which memory is looked at: by then everything has been used once


def arguments(parser: argparse.ArgumentParser) -> None:
    """Of what, how long, and how to report."""
    parser.add_argument("line", nargs="?", type=Path, metavar="LINE.toml", help="measure its first station's engine")
    parser.add_argument("--engine", default="boards", help="without LINE.toml: which engine (boards)")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--rounds", type=one_or_more, default=10, metavar="N", help="so often all take turns (10)")
    parser.add_argument("--rate", type=float, metavar="HZ", help="parts per second for the latencies (70 %% load)")
    parser.add_argument("--parts", type=one_or_more, default=100_000, metavar="N", help="without an engine (100000)")
    parser.add_argument("--soak", type=_duration, metavar="TIME", help="only this: run for 90s, 10m, 1h; exit 1 if bad")
    parser.add_argument("--picture", type=Path, default=Path("bench.svg"), metavar="FILE.svg", help="(bench.svg)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Measure, draw, print. Exit 1 where a soak finds something."""
    use_one_thread()
    with _line(args) as line:
        config = load(line)
        engine = find(config.station[0].engine, config.resolve(config.line.engines))
        result: dict[str, Any] = about(engine)
        if args.soak:
            result |= bench_soak.measure(line, engine, seconds=args.soak, rate=args.rate, say=_say)
        else:
            result |= _all(args, line, engine)
    result["load_after"] = os.getloadavg()[0]
    timed = result.pop("timed")
    args.picture.write_text(picture(result, timed))
    print(json.dumps(result) if args.json else f"{table(result)}\n\ndrawn: {args.picture}")
    return 0 if result.get("ok", True) else 1


def about(engine: Engine) -> dict[str, Any]:
    """What is measured, where, with which versions."""
    return {
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{len(os.sched_getaffinity(0))} x {_processor()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": dict(_libraries()),
        "engine": engine.identity["name"],
        "frame": f"{SIZE[1]}x{SIZE[0]}",
        "load_before": os.getloadavg()[0],
    }


def _all(args: argparse.Namespace, line: Path, engine: Engine) -> dict[str, Any]:
    result = _throughput(args, line, engine)
    rate = args.rate or LOAD * result["bare_one_lane_fps"]["median"]
    return {
        **result,
        **_paced(args, line, engine, rate),
        **_stations(args, line, result["bare_fps"]["median"]),
        **_null_engine(args.parts),
        "to_the_plc": _to_the_plc(),
    }


def _throughput(args: argparse.Namespace, line: Path, engine: Engine) -> dict[str, Any]:
    """Frames per second: bare with one lane, with two in flight, with letterbox; and the whole pipeline."""
    single, bare, heard = Bare(engine, backlog=False), Bare(engine, backlog=True), Heard()
    parts = max(20, round(TURN_S * bare.full_speed(20)))
    found: dict[str, list[float]] = {name: [] for name in ("bare_one_lane", "bare", "preprocessed", "pipeline")}
    with Pipeline(line, waits=True) as pipeline:
        runs: dict[str, Callable[[], float]] = {
            "bare_one_lane": lambda: single.full_speed(parts, lanes=1),
            "bare": lambda: bare.full_speed(parts),
            "preprocessed": lambda: bare.full_speed(parts, preprocess=True),
            "pipeline": lambda: pipeline.turn(parts, heard=heard),
        }
        pipeline.turn(20, heard=Heard())
        before = pipeline.usage
        for n in range(args.rounds):
            _say(f"full speed, round {n + 1} of {args.rounds}")
            for name in sorted(runs, reverse=bool(n % 2)):  # what comes first in one round comes last in the next
                found[name].append(runs[name]())
        after = pipeline.usage
    return {
        **{f"{name}_fps": spread(values) for name, values in found.items()},
        "noise": round(max(found["bare"]) / min(found["bare"]) - 1, 3),
        "pipeline_to_bare": ratio(found["pipeline"], found["bare"]),
        "pipeline_to_preprocessed": ratio(found["pipeline"], found["preprocessed"]),
        "cpu_ms_per_part": round(1000 * (after.cpu_s - before.cpu_s) / heard.count, 2),
        "switches_per_part": round((after.switches - before.switches) / heard.count, 1),
    }


def _paced(args: argparse.Namespace, line: Path, engine: Engine, rate: float) -> dict[str, Any]:
    """At a rate: each stage's latency, what is added to the engine's own, misses, and the first part after a rest."""
    bare, own, heard = Bare(engine, backlog=False), Histogram(), Heard()
    parts = max(20, round(2 * TURN_S * rate))
    deadline_ms = load(line).station[0].deadline_ms
    with Pipeline(line, waits=False, deadline_ms=deadline_ms) as pipeline:
        pipeline.turn(20, rate, heard=Heard())
        before, ratios = pipeline.usage, []
        for n in range(args.rounds):
            _say(f"{rate:.3g} parts per second, round {n + 1} of {args.rounds}")
            mine, theirs = Heard(), Histogram()
            bare.paced(parts, rate, theirs)
            pipeline.turn(parts, rate, heard=mine)
            ratios.append(mine.total.percentile(0.5) / theirs.percentile(0.5))
            own.merge(theirs)
            heard.merge(mine)
        after = pipeline.usage
        rests = {pause: _after_rest(pipeline, pause, times, rate) for pause, times in PAUSES_S.items()}
    median = heard.total.percentile(0.5)
    return {
        "rate": round(rate, 2),
        "deadline_ms": deadline_ms,
        "deadline_misses": heard.misses,
        "parts_at_rate": heard.count,
        "latency_ms": ms(heard.total),
        "bare_latency_ms": ms(own),
        "latency_to_bare": spread(ratios),
        "added_ms": ms(heard.added),
        "stages_ms": {name: ms(histogram) for name, histogram in heard.stages.items()},
        "first_after_rest": {str(pause): round(took / median, 2) for pause, took in rests.items()},
        "paced_cpu_ms_per_part": round(1000 * (after.cpu_s - before.cpu_s) / heard.count, 2),
        "timed": heard.timed,
        "curves": {"bare": own.curve(), "pipeline": heard.total.curve()},
    }


def _after_rest(pipeline: Pipeline, pause: int, times: int, rate: float) -> float:
    """The median latency of the first part after so many seconds of nothing, in us."""
    took = []
    for n in range(times):
        _say(f"first part after {pause} s, {n + 1} of {times}")
        time.sleep(pause)
        heard = Heard()
        pipeline.turn(1, heard=heard)
        took.append(float(heard.total.max_us))
    return statistics.median(took)


def _stations(args: argparse.Namespace, line: Path, fps: float) -> dict[str, Any]:
    """One engine for several cameras: what a frame costs beside one camera's, and who starves under overload."""
    parts = max(20, round(TURN_S * fps))
    found: dict[int, list[float]] = {count: [] for count in (1, *MANY)}
    with contextlib.ExitStack() as stack:
        pipelines = {n: stack.enter_context(Pipeline(line, waits=True, stations=n)) for n in found}
        for n in range(args.rounds):
            _say(f"1, {', '.join(map(str, MANY))} stations, round {n + 1} of {args.rounds}")
            for count in sorted(pipelines, reverse=bool(n % 2)):
                found[count].append(pipelines[count].turn(-(-parts // count), heard=Heard()))
    return {"stations": {str(count): {"cost_per_frame": ratio(found[1], found[count]), **_overload(line, count, fps)}
                         for count in MANY}}  # fmt: skip


def _overload(line: Path, stations: int, fps: float) -> dict[str, Any]:
    """Twice as many parts as the engine can do: how many each station had judged, and what became of the rest."""
    _say(f"{stations} stations, twice as many parts as the engine can do")
    heard = Heard()
    with Pipeline(line, waits=False, deadline_ms=load(line).station[0].deadline_ms, stations=stations) as pipeline:
        pipeline.turn(OVERLOAD_PARTS, 2 * fps / stations, heard=heard)
    judged = [heard.judged[station] for station in heard.judged]
    return {"overload_outcomes": dict(heard.outcomes), "least_to_most_judged": round(min(judged) / max(judged), 3)}


def _null_engine(parts: int) -> dict[str, Any]:
    """An engine that costs nothing: what the rest can do, and whether memory, descriptors or threads grow."""
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder:
        line = write_line(Path(folder), nothing(Path(folder)), "nothing")
        with Pipeline(line, waits=True) as pipeline:
            pipeline.turn(min(EARLY, parts), heard=Heard())
            before, memory_mb, heard, block = pipeline.usage, [pipeline.usage.rss_mb], Heard(), Block(sys.stderr)
            fps = pipeline.turn(
                parts, heard=heard, memory_mb=memory_mb,
                progress=lambda done: block.show([f"an engine that costs nothing: {bar(done, parts)}"]),
            )  # fmt: skip
            after = pipeline.usage
    return {
        "null_engine_fps": round(fps, 1),
        "parts": heard.count,
        "rss_slope_mb": round(slope_mb([*memory_mb, after.rss_mb]), 2),
        "rss_growth_mb": round(after.rss_mb - before.rss_mb, 2),
        "descriptors_growth": after.descriptors - before.descriptors,
        "threads_growth": after.threads - before.threads,
        "null_cpu_us_per_part": round(1e6 * (after.cpu_s - before.cpu_s) / heard.count),
        "null_switches_per_part": round((after.switches - before.switches) / heard.count, 1),
    }


def _to_the_plc() -> dict[str, Any]:
    """The same without an engine, through a gateway, to the register that a PLC reads."""
    _say(f"{PLC_RATE:g} parts per second to a PLC, for {PLC_S:g} s")
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder:
        nothing(Path(folder))
        return bench_gateway.measure(Path(folder), rate=PLC_RATE, seconds=PLC_S)


def nothing(folder: Path) -> Path:
    """A folder of engines in which one, `nothing`, costs nothing and finds nothing."""
    engine = folder / "engines" / "nothing"
    engine.mkdir(parents=True)
    (engine / "model.toml").write_text(NOTHING)
    (engine / "recipe.toml").write_text("")
    return folder / "engines"


def write_line(folder: Path, engines: Path, engine: str, deadline_ms: float = DEADLINE_MS) -> Path:
    """A line of one station."""
    path, names = folder / "line.toml", {"engines": json.dumps(str(engines.resolve())), "engine": json.dumps(engine)}
    path.write_text(LINE.format(**names, deadline_ms=deadline_ms))
    return path


@contextlib.contextmanager
def _line(args: argparse.Namespace) -> Iterator[Path]:
    if args.line is not None:
        yield args.line
        return
    took_ms = 1000 / Bare(find(args.engine, args.engines), backlog=False).full_speed(20, lanes=1)
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder:
        yield write_line(Path(folder), args.engines, args.engine, max(DEADLINE_MS, round(SLOW * took_ms)))


def _duration(text: str) -> float:
    """Seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text} is no time such as 90s, 10m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _libraries() -> Iterator[tuple[str, str]]:
    for name in ("openvino", "numpy", "opencv-python-headless", "opencv-python", "pyzmq"):
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


def _processor() -> str:
    lines = iter(Path("/proc/cpuinfo").read_text().splitlines())
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""A long run at a steady rate, and whether anything leaks, drifts or has a tail that the engine alone has not.

The bare engine has its turns in between, so that what the machine does to both is not taken for the pipeline's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import load
from ..metrics import Histogram
from ..models.folder import Engine
from .bench_bare import Bare
from .bench_figures import LOAD, ms
from .bench_heard import Heard
from .bench_pipeline import Pipeline
from .bench_usage import slope_mb

BLOCKS = 40  # so many points of time
BARE_SHARE = 0.25
WARM = 1 / 8  # of the blocks: what grows only at the beginning is no leak
LEAK_MB = 5.0
TAIL, BARE_TAIL = 1.5, 1.3  # p99.9 over p50: of the pipeline at most so much where the engine's own is at most that
DRIFT = 1.1  # of the pipeline's median over the engine's, last quarter over first


def measure(
    line: Path, engine: Engine, *, seconds: float, rate: float | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run for so long. `ok` and `found` are the verdict."""
    bare = Bare(engine, backlog=False)
    rate = rate or LOAD * bare.full_speed(50, lanes=1)
    block_s, blocks = seconds / BLOCKS, [(Heard(), Histogram()) for _ in range(BLOCKS)]
    parts, bare_parts = (max(2, round(share * block_s * rate)) for share in (1 - BARE_SHARE, BARE_SHARE))
    deadline_ms = load(line).station[0].deadline_ms
    usages = []
    began = time.monotonic()
    with Pipeline(line, waits=False, deadline_ms=deadline_ms) as pipeline:
        pipeline.turn(20, rate, heard=Heard())
        for n, (heard, own) in enumerate(blocks):
            say(f"{rate:.3g} parts per second for {seconds:g} s: {n / BLOCKS:.0%}")
            pipeline.turn(parts, rate, heard=heard)
            bare.paced(bare_parts, rate, own)
            usages.append(pipeline.usage)
    heard, own = Heard(), Histogram()
    for part, bare_part in blocks:
        heard.merge(part)
        own.merge(bare_part)
    warm = usages[round(WARM * BLOCKS) :]
    over = [part.total.percentile(0.5) / bare_part.percentile(0.5) for part, bare_part in blocks]
    quarter = BLOCKS // 4
    result = {
        "seconds": round(time.monotonic() - began),
        "rate": round(rate, 2),
        "deadline_ms": deadline_ms,
        "deadline_misses": heard.misses,
        "parts_at_rate": heard.count,
        "outcomes": dict(heard.outcomes),
        "latency_ms": ms(heard.total),
        "bare_latency_ms": ms(own),
        "added_ms": ms(heard.added),
        "stages_ms": {name: ms(histogram) for name, histogram in heard.stages.items()},
        "tail": _tail(heard.total),
        "bare_tail": _tail(own),
        "drift": round(statistics.median(over[-quarter:]) / statistics.median(over[:quarter]), 3),
        "rss_mb": [round(usage.rss_mb, 1) for usage in usages],
        "rss_slope_mb": round(slope_mb([usage.rss_mb for usage in warm]), 2),
        "descriptors_growth": warm[-1].descriptors - warm[0].descriptors,
        "threads_growth": warm[-1].threads - warm[0].threads,
    }
    found = findings(result)
    curves = {"bare": own.curve(), "pipeline": heard.total.curve()}
    return {**result, "found": found, "ok": not found, "timed": heard.timed, "curves": curves}


def findings(result: dict[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    allowed_tail = TAIL * max(1.0, result["bare_tail"] / BARE_TAIL)
    checks = (
        (result["deadline_misses"], f"{result['deadline_misses']} verdicts missed their deadline"),
        (result["rss_slope_mb"] > LEAK_MB, f"memory grew by {result['rss_slope_mb']:g} MB ({LEAK_MB:g} allowed)"),
        (result["descriptors_growth"] > 0, f"{result['descriptors_growth']} descriptors more than at first"),
        (result["threads_growth"] > 0, f"{result['threads_growth']} threads more than at first"),
        (result["drift"] > DRIFT, f"slower with time: {result['drift']:g} times beside the engine alone"),
        (result["tail"] > allowed_tail,
         f"p99.9 is {result['tail']:g} times p50 ({allowed_tail:.2f} allowed; the engine's: {result['bare_tail']:g})"),
    )  # fmt: skip
    return [words for wrong, words in checks if wrong]


def _tail(histogram: Histogram) -> float:
    return round(histogram.percentile(0.999) / max(1, histogram.percentile(0.5)), 3)

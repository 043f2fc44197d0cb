"""How the benchmark says what it has measured."""

from __future__ import annotations

import statistics

from ..metrics import Histogram

LOAD = 0.7  # of what the bare engine does with one part after the other, where no rate is asked for


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in named.items()}


def ratio(these: list[float], those: list[float]) -> dict[str, float]:
    """Round by round."""
    return spread([a / b for a, b in zip(these, those, strict=True)])


def ms(histogram: Histogram) -> dict[str, float]:
    """p50, p90, p99, p999 and max."""
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: histogram.percentile(share) / 1000 for name, share in shares.items()}

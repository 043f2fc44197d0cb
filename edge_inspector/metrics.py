"""Histogram: latencies in a fixed number of buckets, so that a million parts take no more memory than ten."""

from __future__ import annotations

import itertools
import math

GROWTH = 1.02  # each bucket's upper edge is so much above the one before: a percentile is right within 2 %
PER_E = 1 / math.log(GROWTH)  # buckets for every factor of e
BUCKETS = 1024  # up to GROWTH ** BUCKETS us, ten minutes


class Histogram:
    """Counts of durations in microseconds. The largest is kept exactly."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0
        self.max_us = 0

    def add(self, value_us: int) -> None:
        """Count one."""
        bucket = int(math.log(value_us) * PER_E) if value_us > 1 else 0
        self.counts[min(bucket, BUCKETS - 1)] += 1
        self.total += 1
        self.max_us = max(self.max_us, value_us)

    def merge(self, other: Histogram) -> None:
        """Count what another has counted as well."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        self.max_us = max(self.max_us, other.max_us)

    def curve(self) -> list[tuple[float, int]]:
        """(which share of all does not exceed it, a duration), for each duration that has occurred."""
        seen = itertools.accumulate(self.counts)
        return [
            (upto / self.total, min(round(GROWTH ** (bucket + 1)), self.max_us))
            for bucket, (count, upto) in enumerate(zip(self.counts, seen, strict=True))
            if count
        ]

    def percentile(self, share: float) -> int:
        """The duration that `share` (0 to 1) of all do not exceed; 0 where there are none."""
        wanted = math.ceil(share * self.total)
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min(round(GROWTH ** (bucket + 1)), self.max_us)
        return 0

    def summary_us(self) -> dict[str, int]:
        """p50, p99, p999 and max."""
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return {**{name: self.percentile(share) for name, share in shares.items()}, "max": self.max_us}

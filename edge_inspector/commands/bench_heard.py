"""What a subscriber in another process hears of a pipeline's turn: how many verdicts, how late, stage by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..metrics import Histogram

STAGES = ("wait", "preprocess", "infer", "decide", "publish", "deliver")
MOST_TIMED = 16  # parts whose stages are drawn one by one


@dataclass(frozen=True, slots=True)
class Timed:
    """One part: when its frame came, and how long each of STAGES took after that, in microseconds."""

    grab_us: int
    took_us: tuple[int, ...]


@dataclass(slots=True)
class Heard:
    """Times are in microseconds. total: from the frame to the received message; added: that without the inference.

    misses: verdicts that came to the subscriber after their deadline, or said so themselves.
    """

    total: Histogram = field(default_factory=Histogram)
    added: Histogram = field(default_factory=Histogram)
    stages: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in STAGES})
    outcomes: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    misses: int = 0
    timed: list[Timed] = field(default_factory=list)

    def take(self, message: dict[str, Any], now_us: int) -> None:
        """Count a verdict."""
        self.outcomes[message["reason"]] += 1
        self.judged[message["station"]] += message["outcome"] != "fault"
        self.misses += now_us > message["deadline_us"] or message["reason"] in ("timeout", "overload")
        latency, total_us = message["latency_us"], now_us - message["t_grab_us"]
        published_us = message["t_publish_us"] - message["t_grab_us"]
        known = [latency[name] for name in STAGES[:4]]
        took_us = (*known, max(0, published_us - sum(known)), total_us - published_us)
        for histogram, value_us in zip(self.stages.values(), took_us, strict=True):
            histogram.add(value_us)
        self.total.add(total_us)
        self.added.add(total_us - latency["infer"])
        if len(self.timed) < MOST_TIMED:
            self.timed.append(Timed(message["t_grab_us"], took_us))

    @property
    def count(self) -> int:
        """Verdicts so far."""
        return self.outcomes.total()

    def merge(self, other: Heard) -> None:
        """Add what was heard of another turn."""
        for mine, theirs in ((self.total, other.total), (self.added, other.added)):
            mine.merge(theirs)
        for name, histogram in self.stages.items():
            histogram.merge(other.stages[name])
        self.outcomes += other.outcomes
        self.judged += other.judged
        self.misses += other.misses
        self.timed = self.timed or other.timed

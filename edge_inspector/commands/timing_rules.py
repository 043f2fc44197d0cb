"""From the latencies of many parts to a deadline, and from it to the distance an ejector needs. Pure.

A part that ran out of time counts as slower than any other: left out, it would make the line look fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..ledger import guard_for
from ..types import Reason

SHARE = 0.999  # of all parts that are to have their verdict in time
CONFIDENCE = 0.95
MARGIN = 1.2  # for what was not seen while measuring: heat, another load, another engine
MOST_FAULTS = 0.01  # a line with more is to be mended, not measured
OUT_OF_TIME = (Reason.TIMEOUT, Reason.OVERLOAD, Reason.STALE_FRAME)
STAGES = ("wait", "preprocess", "infer", "decide", "rest", "total")
SHOWN = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


@dataclass(slots=True)
class Timing:
    """One station's verdicts. stages: microseconds of every part that was judged; travel: from publishing to here."""

    stages: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in STAGES})
    travel_us: list[int] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    allowed_us: int = 0

    @property
    def judged(self) -> int:
        """How many parts were inspected in time."""
        return len(self.stages["total"])

    @property
    def parts(self) -> int:
        """How many verdicts were heard, faults among them."""
        return self.judged + self.faults.total()

    @property
    def out_of_time(self) -> int:
        """How many parts took longer than was allowed."""
        return sum(self.faults[reason.value] for reason in OUT_OF_TIME)

    def shown_us(self, stage: str) -> dict[str, int]:
        """The quantiles of a stage; 0 where nothing was judged."""
        return quantiles(self.stages[stage])

    @property
    def bound_us(self) -> int | None:
        """What 99.9 % of all parts stay below with 95 % confidence; None where these parts cannot tell."""
        times = sorted(self.stages["total"])
        place = upper_place(len(times) + self.out_of_time)
        return times[place - 1] if place is not None and place <= len(times) else None

    @property
    def refusal(self) -> str:
        """Why no deadline can be had from these parts; "" where one can."""
        if not self.judged:
            return "no part was inspected in time"
        if self.faults.total() > MOST_FAULTS * self.parts:
            return (f"{self.faults.total() / self.parts:.1%} of the parts are faults, more than {MOST_FAULTS:.0%}: "
                    "mend the line first (`edge-inspector doctor`)")  # fmt: skip
        if self.out_of_time and self.bound_us is None:
            return (f"{self.out_of_time} of {self.parts} parts ran out of time, and how long they would have taken is "
                    "not known: raise deadline_ms, measure again, then lower it")  # fmt: skip
        return ""

    @property
    def deadline_ms(self) -> int | None:
        """The least whole number of ms that leaves MARGIN and the ledger's guard; None where it is refused."""
        if self.refusal:
            return None
        needed_ns = (self.bound_us or max(self.stages["total"])) * MARGIN * 1e3
        deadline_ms = math.ceil(needed_ns / 1e6)
        while deadline_ms * 1_000_000 - guard_for(deadline_ms * 1_000_000) < needed_ns:
            deadline_ms += 1
        return deadline_ms


def quantiles(values: Sequence[int]) -> dict[str, int]:
    """The smallest value that such a share of all do not exceed."""
    ordered = sorted(values)
    return {
        name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0 for name, share in SHOWN.items()
    }


def upper_place(count: int) -> int | None:
    """Which of `count` sorted values, from 1, is an upper confidence bound for the quantile SHARE; None: none is.

    Distribution-free: the number of values below the quantile is binomial, so the value at place k is above it with
    probability P(B(count, SHARE) < k) (David and Nagaraja, Order Statistics, 7.1). Parts must not hang together.
    """
    place, chance, above = None, SHARE**count, 0.0
    for k in range(count, 0, -1):  # above: P(B >= k)
        above += chance
        if above > 1 - CONFIDENCE:
            return place
        place, chance = k, chance * k / (count - k + 1) * (1 - SHARE) / SHARE
    return place


def parts_needed() -> int:
    """The fewest parts whose slowest is a bound."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(SHARE))


def distance_mm(belt_mm_s: float, deadline_ms: float, ejector_ms: float) -> float:
    """How far the belt carries a part from its trigger until the ejector has acted, at the latest."""
    return belt_mm_s * (deadline_ms + ejector_ms) / 1000

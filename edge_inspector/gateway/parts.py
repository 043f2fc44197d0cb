"""What the gate knows of each part between photo-eye and ejector, and of all parts together. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .base import PartRecord
from .daemon_side import Message


@dataclass(slots=True)
class Part:
    """One part between photo-eye and ejector. settled: what the PLC is to be told stands, unless it becomes worse.

    earliest_us, latest_us: when it was at the photo-eye. result: the number under which the PLC was told.
    paired: a picture was found for it. verdict: the daemon's, once it was taken; it is acknowledged when the PLC has
    the result.
    """

    key: int
    record: PartRecord
    earliest_us: int | None
    latest_us: int
    deadline_us: int
    settled: bool = False
    paired: bool = False
    result: int = 0
    verdict: Message | None = None


@dataclass(slots=True)
class Counts:
    """What became of the parts, and what went wrong on the way."""

    parts: int = 0
    passed: int = 0
    rejected: int = 0
    faulted: int = 0
    late: int = 0
    line_stops: int = 0
    unmatched: int = 0
    why: Counter[str] = field(default_factory=Counter)

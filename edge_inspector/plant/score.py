"""The final score: which part fell into which bin, against the truth, and what each disturbance has cost. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Disturbance:
    """One event of the schedule. Times: seconds of the plant. until_s: its cause has gone; None: not yet.

    passes_s: when the first part after that came to the photo-eye which then fell into the good bin. cost: good parts
    that it sent to the reject bin.
    """

    kind: str
    name: str
    since_s: float
    until_s: float | None = None
    passes_s: float | None = None
    cost: int = 0

    def told(self) -> dict[str, Any]:
        """For the summary."""
        again = None if self.until_s is None or self.passes_s is None else round(1000 * (self.passes_s - self.until_s))
        until_s = None if self.until_s is None else round(self.until_s, 3)
        return {"kind": self.kind, "name": self.name, "at_s": round(self.since_s, 3), "until_s": until_s,
                "cost": self.cost, "passes_ms": again}  # fmt: skip


@dataclass(slots=True)
class Score:
    """defective: the truth of a part by its number. unexplained: good parts rejected while nothing was disturbed."""

    defective: Callable[[int], bool]
    good_bin: int = 0
    reject_bin: int = 0
    good_rejected: int = 0
    unexplained: int = 0
    escaped: list[int] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    _seen_s: dict[int, float] = field(default_factory=dict)

    @property
    def fallen(self) -> int:
        """Parts that have left the belt."""
        return self.good_bin + self.reject_bin

    def began(self, kind: str, name: str, t_s: float) -> Disturbance:
        """Something is amiss from now on."""
        self.disturbances.append(Disturbance(kind, name, t_s))
        return self.disturbances[-1]

    def seen(self, number: int, t_s: float) -> None:
        """The part is at the photo-eye."""
        self._seen_s.setdefault(number, t_s)

    def fell(self, number: int, t_s: float, *, good_bin: bool) -> None:
        """The part has left the belt."""
        defective, seen_s = self.defective(number), self._seen_s.pop(number, t_s)
        if good_bin:
            self.good_bin += 1
            if defective:
                self.escaped.append(number)
            for each in self.disturbances:
                if each.passes_s is None and each.until_s is not None and seen_s >= each.until_s:
                    each.passes_s = seen_s
            return
        self.reject_bin += 1
        if not defective:
            self.good_rejected += 1
            self._blame(seen_s)

    def _blame(self, seen_s: float) -> None:
        """The latest disturbance after which parts did not pass again yet when this one came."""
        for each in reversed(self.disturbances):
            if each.passes_s is None or seen_s < each.passes_s:
                each.cost += 1
                return
        self.unexplained += 1

    def told(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "parts": self.fallen,
            "good_bin": self.good_bin,
            "reject_bin": self.reject_bin,
            "escapes": len(self.escaped),
            "good_rejected": self.good_rejected,
            "unexplained": self.unexplained,
            "escaped": self.escaped[:20],
            "events": [each.told() for each in self.disturbances],
        }

"""Virtual time, and links in it that delay, drop, double, reorder and fall silent."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

MS = 1_000_000


class Events:
    """Virtual time, and what is to happen when."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, t_ns: int, call: Callable[..., None], *args: Any) -> None:
        """Call it then, or now where that is over."""
        heapq.heappush(self._heap, (max(t_ns, self.now_ns), next(self._order), call, args))

    def after(self, ms: float, call: Callable[..., None], *args: Any) -> None:
        """Call it so much later."""
        self.at(self.now_ns + round(ms * MS), call, *args)

    def run(self, until_ns: int) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until_ns:
            self.now_ns, _, call, args = heapq.heappop(self._heap)
            call(*args)
        self.now_ns = until_ns


class Wire:
    """Carries messages one way. orderly: none overtakes another. silent: they are lost; held: they wait until then."""

    def __init__(self, events: Events, random: Random) -> None:
        self._events, self._random = events, random
        self._last_ns = 0
        self.heal()

    def heal(self) -> None:
        """Be well."""
        self.delay_ms = (0.2, 1.0)
        self.drop = self.double = 0.0
        self.orderly, self.silent = True, False
        self.held_ns = 0

    def carry(self, deliver: Callable[..., None], *args: Any) -> None:
        """Deliver later, or never, or twice."""
        if self.silent or (self.drop and self._random.random() < self.drop):
            return
        for _ in range(1 + (self.double > 0 and self._random.random() < self.double)):
            t_ns = max(self._events.now_ns + round(self._random.uniform(*self.delay_ms) * MS), self.held_ns)
            if self.orderly:
                t_ns = self._last_ns = max(t_ns, self._last_ns)
            self._events.at(t_ns, deliver, *args)

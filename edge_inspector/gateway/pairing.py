"""Which part a picture shows: a hardware-triggered camera's pictures and the PLC's triggers, paired by time. Pure.

A picture fits every part that may have been at the photo-eye so long before it as `picture_ms` says. It waits until
every such trigger must have been heard. Times are microseconds on our clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from .clocks import Clocks
from .daemon_side import Message
from .parts import Part

WAITING_AT_MOST = 64


class Pairing:
    """Verdicts that wait for their part. blind_us: of parts that came before then, nothing is known."""

    def __init__(self, picture_ms: tuple[float, float]) -> None:
        self._least_us, self._most_us = (round(ms * 1000) for ms in picture_ms)
        self._waiting: deque[tuple[Message, int]] = deque()  # and until when to keep it
        self.blind_us = 0

    def put(self, verdict: Message, until_us: int) -> None:
        """Take one in, to be kept until then."""
        self._waiting.append((verdict, until_us))

    def given_up(self, now_us: int) -> Iterator[Message]:
        """Those whose time is over, and those that are too many."""
        while self._waiting and (self._waiting[0][1] < now_us or len(self._waiting) > WAITING_AT_MOST):
            yield self._waiting.popleft()[0]

    def matched(
        self, parts: Iterable[Part], clocks: Clocks, *, known_us: int | None
    ) -> Iterator[tuple[Message, list[Part]]]:
        """Each verdict whose turn has come, and the parts that its picture fits. known_us: every trigger until then
        was heard.
        """
        while self._waiting:
            verdict = self._waiting[0][0]
            taken = None if verdict["t_grab_us"] is None else clocks.ours(verdict["t_grab_us"])
            if taken is not None and (known_us is None or known_us + self._least_us <= taken[1]):
                return  # a trigger that we have not heard yet could be the one
            self._waiting.popleft()
            yield verdict, [] if taken is None else [part for part in parts if self._fits(part, *taken)]

    def _fits(self, part: Part, earliest_us: int, latest_us: int) -> bool:
        """Whether a picture that was taken between these times may show it, and no part from before our time."""
        if earliest_us <= self.blind_us + self._most_us or earliest_us > part.latest_us + self._most_us:
            return False
        return part.earliest_us is None or part.earliest_us + self._least_us <= latest_us

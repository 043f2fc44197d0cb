"""The reject window: the parts between photo-eye and ejector, and what is decided of each. Pure: no clock, no I/O.

The belt has a coordinate, unbounded: encoder counts, or milliseconds. A part has the coordinate that stood at the
photo-eye when the part did, within `tolerance`; it is at the ejector when the coordinate is `distance` more. Where two
windows are open the ejector must reject, and where none is: a pass is good for a window that is open alone.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

Rejected = tuple[tuple[int, str], ...]  # key and why, each part once


@dataclass(frozen=True, slots=True)
class Opened:
    """From here on the action stands. why: a reject's reason; "" where the verdict itself is the reason."""

    key: int
    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The part has left the belt."""

    key: int


class Unwrap:
    """A counter that wraps at 2**bits, made unbounded: whatever is nearest to the last one, half way round is ahead."""

    def __init__(self, bits: int) -> None:
        self._size = 1 << bits
        self._value: int | None = None

    @property
    def value(self) -> int:
        """The last one; 0 before the first."""
        return self._value or 0

    def take(self, value: int) -> int:
        """The counter has gone there, forward or back; the first one is taken as it is."""
        self._value = self.near(value)
        return self._value

    def near(self, value: int) -> int:
        """The same without going there: something that was counted not long ago, or soon will be."""
        if self._value is None:
            return value % self._size
        half = self._size // 2
        return self._value + half - (self._value + half - value) % self._size


@dataclass(slots=True)
class _Part:
    """passed: by its verdict. why: it is rejected whatever its verdict. opened: that was said."""

    key: int
    at: float
    opens: float
    closes: float
    passed: bool | None = None
    why: str | None = None
    opened: bool = False

    def action(self) -> Opened:
        if self.why is not None or self.passed is None:
            return Opened(self.key, False, "no_verdict" if self.why is None else self.why)
        return Opened(self.key, self.passed, "")


class Window:
    """A FIFO by position. most: so many parts stay after a `move`; of more, the furthest upstream are dropped.

    A part can no longer be changed once the furthest position heard of, by `move` or by `enter`, is in its window.

    What has been at the eye is known by its coordinate, for that of a new part is always greater than that of every
    former one. So a part is "repeated" at or behind the last one, or behind where the belt was before it ran back by
    more than two tolerances; with it every part is rejected whose window meets its own, as that is the same one, seen
    within the tolerance. Ahead of the last one, a part whose window meets another's is "too_close", and both are. So
    it is with parts that nobody saw: up to the first position ever heard of, and where `unseen` says so.
    """

    def __init__(self, *, distance: float, tolerance: float, most: int = 1024) -> None:
        if not 0 <= tolerance < distance < math.inf:
            raise ValueError(f"distance: found {distance:g}, expected more than the tolerance {tolerance:g}, 0 or more")
        self._before, self._after, self._most = distance - tolerance, distance + tolerance, most
        self.clear()

    def clear(self) -> None:
        """Forget everything, the position too: there may be parts on the belt of which nothing is known."""
        self._fifo: list[_Part] = []  # by position
        self._parts: dict[int, _Part] = {}
        self._furthest = self._last = self._turned = self._unseen = -math.inf

    def __len__(self) -> int:
        return len(self._fifo)

    def enter(self, key: int, at: float) -> Rejected:
        """A part was at the eye. Returns what is now rejected whatever its verdict, this one or former ones.

        To be told before the belt has moved into its window, where until then a former one's pass may be open.
        A key that is on the belt makes no second part: that part is rejected, and what is near `at`. `at`: finite.
        """
        if not math.isfinite(at):
            raise ValueError(f"at: found {at}, expected a finite position")
        self._reach(at)
        near, again = self._meeting(at, at), self._parts.get(key)
        why = self._doubt(at, again=again is not None, crowded=bool(near))
        self._last = max(self._last, at)
        if again is not None:
            self._unseen = max(self._unseen, at)
            return self._mark([again, *near], why)
        self._parts[key] = new = _Part(key, at, at + self._before, at + self._after, why=why or None)
        insort(self._fifo, new, key=lambda part: part.at)
        return ((key, why), *self._mark(near, why)) if why else ()

    def unseen(self, until: float) -> Rejected:
        """Parts of which nothing is known may have been at the eye, after the last one entered and up to here."""
        self._reach(until)
        self._unseen = max(self._unseen, self._turned, until)
        return self._mark(self._meeting(self._last, self._unseen), "too_close")

    def decide(self, key: int, passed: bool) -> bool:
        """The verdict is there. False where it does not count: the window has opened, the part is not on the belt, or
        a pass comes after a fail or another reason to reject. A fail overrides a pass.
        """
        part = self._parts.get(key)
        if part is None or part.opens <= self._furthest:
            return False
        if passed and (part.why is not None or part.passed is False):
            return False
        part.passed = passed
        return True

    def reject(self, key: int, why: str) -> bool:
        """Reject this part whatever its verdict; False where its window has opened. The first reason stays."""
        part = self._parts.get(key)
        if part is None or part.opens <= self._furthest:
            return False
        self._mark([part], why)
        return True

    def reject_all(self, why: str) -> list[int]:
        """Reject every part whose window has not opened; returns those that had no reason to be before."""
        return [key for key, _ in self._mark(self._fifo, why)]

    def move(self, at: float) -> list[Opened | Closed]:
        """The belt is there; what that opens and closes, in the order of the belt. It may run back: nothing follows."""
        if self._furthest - at > self._after - self._before:
            self._turned = self._furthest
        self._reach(at)
        events: list[tuple[float, bool, Opened | Closed]] = []
        for part in self._fifo:
            if part.opens > self._furthest:
                break
            if not part.opened:
                part.opened = True
                events.append((part.opens, False, part.action()))
            if part.closes <= self._furthest:
                events.append((part.closes, True, Closed(part.key)))
                del self._parts[part.key]
        if events:
            self._fifo = [part for part in self._fifo if part.closes > self._furthest]
        return [event for _, _, event in sorted(events, key=lambda each: each[:2])] + self._drop()

    def _drop(self) -> list[Opened | Closed]:
        events: list[Opened | Closed] = []
        for part in self._fifo[self._most :]:
            self._unseen = max(self._unseen, part.at)
            if not part.opened:
                self._mark([part], "overload")
                events.append(part.action())
            events.append(Closed(part.key))
            del self._parts[part.key]
        del self._fifo[self._most :]
        return events

    def _reach(self, at: float) -> None:
        if self._furthest == -math.inf:
            self._unseen = at
        self._furthest = max(self._furthest, at)

    def _meeting(self, first: float, last: float) -> list[_Part]:
        """The parts whose window meets that of a part anywhere from first to last."""
        opens, closes = first + self._before, last + self._after
        return [part for part in self._fifo if opens <= part.closes and part.opens <= closes]

    def _doubt(self, at: float, *, again: bool, crowded: bool) -> str:
        """Why a part at this position is rejected; "" where only its verdict counts."""
        if again or at <= max(self._last, self._turned):
            return "repeated"
        if crowded or at + self._before <= self._unseen + self._after:
            return "too_close"
        return "overload" if len(self._fifo) >= self._most else ""

    def _mark(self, parts: Iterable[_Part], why: str) -> Rejected:
        """Reject those that can still be changed; returns those that had no reason to be before."""
        marked = []
        for part in parts:
            if part.why is None and part.opens > self._furthest:
                part.why = why
                marked.append((part.key, why))
        return tuple(marked)

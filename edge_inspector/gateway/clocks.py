"""Between two clocks: how far the daemon's is from ours, as bounds that hold whatever the link did. Pure.

A message that they stamped at T and that arrives here at R was on its way for R - T - offset, which is not negative: so
the offset (ours - theirs) is at most R - T. A message of ours, sent at S and stamped by them at T: at least S - T.
"""

from __future__ import annotations

from dataclasses import dataclass, field

APART = 500e-6  # so fast two clocks may move apart: the most by which Linux slews one (adjtimex)


@dataclass(slots=True)
class Bound:
    """The tightest of the values seen, each looser the older it is. sign: 1 for the least, -1 for the greatest."""

    sign: int
    _value: int | None = None
    _since_us: int = 0

    def add(self, value: int, now_us: int) -> None:
        """One more observation."""
        known = self.at(now_us)
        if known is None or value * self.sign <= known * self.sign:
            self._value, self._since_us = value, now_us

    def at(self, now_us: int) -> int | None:
        """What holds now; None before the first."""
        if self._value is None:
            return None
        return self._value + self.sign * round(max(0, now_us - self._since_us) * APART)

    def forget(self) -> None:
        """Begin anew."""
        self._value = None


@dataclass(slots=True)
class Clocks:
    """Turns times on the daemon's clock into times on ours. All in microseconds.

    Where the bounds contradict each other one of the clocks has stood still, as in a machine that was suspended: then
    what was known before counts for nothing.
    """

    _most: Bound = field(default_factory=lambda: Bound(1))
    _least: Bound = field(default_factory=lambda: Bound(-1))
    _now_us: int = 0

    def received(self, theirs_us: int, ours_us: int) -> int:
        """A message stamped by them has arrived now; returns how much longer it took than the fastest one lately."""
        self._now_us = ours_us
        self._most.add(ours_us - theirs_us, ours_us)
        most, least = self._most.at(ours_us), self._least.at(ours_us)
        assert most is not None
        if least is not None and least > most:
            self._least.forget()
        return ours_us - theirs_us - most

    def answered(self, sent_us: int, theirs_us: int, ours_us: int) -> None:
        """They stamped something, which has arrived now, after a message that we sent at `sent_us`."""
        most = self._most.at(ours_us)
        if most is not None and sent_us - theirs_us > most:
            self._most.forget()
        self._least.add(sent_us - theirs_us, ours_us)
        self.received(theirs_us, ours_us)

    def ours(self, theirs_us: int) -> tuple[int, int] | None:
        """Not before and not after, on our clock; None where nothing is known yet."""
        most, least = self._most.at(self._now_us), self._least.at(self._now_us)
        if most is None or least is None:
            return None
        return theirs_us + least, theirs_us + most

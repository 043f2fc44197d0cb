"""The result queue: eight results that the PLC has not acknowledged yet, and those that wait for a place. Pure.

A result keeps its place until the PLC acknowledges its number: nothing is ever overwritten before the PLC has it.
Of those that wait, only the newest are kept: a PLC that never acknowledges must not fill the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .registers import SLOTS, U32, Result

WAITING_AT_MOST = 1024


@dataclass(slots=True)
class ResultQueue:
    """Numbers results from 1 within a session. overruns: results that found no free place; they wait for one.

    lost: results that waited and that nobody will be told; one may be a Fail after a Pass that the PLC has.
    """

    number: int = 0
    overruns: int = 0
    overrun: bool = False
    lost: int = 0
    _slots: list[Result | None] = field(default_factory=lambda: [None] * SLOTS)
    _waiting: deque[Callable[[int], Result]] = field(default_factory=deque)

    @property
    def slots(self) -> tuple[Result | None, ...]:
        """What stands in the registers."""
        return tuple(self._slots)

    @property
    def valid(self) -> bool:
        """Whether anything waits for the PLC."""
        return any(self._slots)

    def put(self, make: Callable[[int], Result]) -> None:
        """Queue the result that `make` gives for the number it gets."""
        if self._waiting or not self._place(make):
            self._waiting.append(make)
            self.overruns += 1
            self.overrun = True
            if len(self._waiting) > WAITING_AT_MOST:
                self._waiting.popleft()
                self.lost += 1

    def acknowledge(self, number: int) -> list[Result]:
        """The PLC has everything up to this number; returns what is new, oldest first. A number never given counts for
        nothing, nor does 0, which is what the registers of a PLC hold that has started anew.
        """
        if number == 0 or (self.number - number) % U32 > SLOTS:
            return []
        taken = [r for r in self._slots if r is not None and (number - r.number) % U32 < U32 // 2]
        for result in taken:
            self._slots[result.number % SLOTS] = None
        while self._waiting and self._place(self._waiting[0]):
            self._waiting.popleft()
        return sorted(taken, key=lambda result: (number - result.number) % U32, reverse=True)

    def clear(self) -> None:
        """Forget what waits and what stands there: the PLC it was meant for has started anew."""
        self._slots = [None] * SLOTS
        self._waiting.clear()

    def _place(self, make: Callable[[int], Result]) -> bool:
        number = (self.number + 1) % U32 or 1  # 0 means none
        if self._slots[number % SLOTS] is not None:
            return False
        self._slots[number % SLOTS] = make(number)
        self.number = number
        return True

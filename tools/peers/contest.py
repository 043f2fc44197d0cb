"""The contest: all take turns, round after round, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from .bare import NAME as BARE
from .contestant import Contestant, Heard
from .environments import NotRun, say

SHARE = 0.7  # of what the slowest can do: the pace where that is less than the pace asked for


@dataclass(slots=True)
class Turns:
    """What one contestant did, by round: pictures to boxes, messages at full speed, messages at the common pace."""

    image_ms: list[list[float]] = field(default_factory=list)
    full: list[Heard] = field(default_factory=list)
    paced: list[Heard] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """turns: by contestant; bare_fps: of the network alone, by round; not_run: why, by contestant."""

    turns: dict[str, Turns] = field(default_factory=dict)
    bare_fps: list[float] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    pace_hz: float = 0.0


class Contest:
    """Turns of so many seconds. Who fails is out, with the reason."""

    def __init__(
        self, contestants: Sequence[Contestant], *, seconds: float, pace_hz: float = 10.0, rest_s: float = 0.3
    ) -> None:
        """rest_s: between two turns, so that threads that spin for a while after their work have come to rest."""
        self.result = Result(pace_hz=pace_hz)
        self._running, self._seconds, self._rest_s = list(contestants), seconds, rest_s

    def hold(self, rounds: int, bare: Callable[[float], float] | None = None) -> Result:
        """All rounds. bare: seconds -> frames per second of the network alone, a turn of its own in every round."""
        self._each(Contestant.ready)
        speeds: list[float] = []
        self._each(lambda one: speeds.append(1e3 / median(one.boxes(self._seconds))))
        pace_hz = self.result.pace_hz = round(min([self.result.pace_hz, *(SHARE * speed for speed in speeds)]), 1)
        self.result.turns = turns = {one.name: Turns() for one in self._running}
        for n in range(rounds):
            say(f"round {n + 1} of {rounds}")
            self._running = self._running[1:] + self._running[:1]  # nobody is always the first
            self._each(lambda one: turns[one.name].image_ms.append(one.boxes(self._seconds)))
            self._each(lambda one: turns[one.name].full.append(one.messages(self._seconds, 0.0)))
            self._each(lambda one: turns[one.name].paced.append(one.messages(self._seconds, pace_hz)))
            if bare is not None and BARE not in self.result.not_run:
                self._bare(bare)
        return self.result

    def _bare(self, bare: Callable[[float], float]) -> None:
        try:
            self.result.bare_fps.append(bare(self._seconds))
        except NotRun as error:
            self.result.bare_fps.clear()
            self.result.not_run[BARE] = str(error)

    def _each(self, turn: Callable[[Contestant], None]) -> None:
        for one in tuple(self._running):
            try:
                turn(one)
            except NotRun as error:
                say(f"{one.name}: {error}")
                self._running.remove(one)
                self.result.turns.pop(one.name, None)
                self.result.not_run[one.name] = str(error)
            time.sleep(self._rest_s)

"""The promise: every trigger gets exactly one verdict, by its deadline. Pure: no I/O, and the clock is an argument.

One Ledger a station, used by one thread. triggers == passed + rejected + faulted + open, at every moment.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from dataclasses import dataclass, field

from .types import Outcome, Reason, Shot, Verdict


class Stage(enum.IntEnum):
    """How far a part has come; what it waits for says why it timed out."""

    AWAITING_FRAME = 0
    QUEUED = 1
    RUNNING = 2


@dataclass(slots=True, eq=False)
class Part:
    """One part on its way: made by whoever saw the trigger, filled in by the thread that holds it.

    `closed` is the ledger's alone; other threads read it, to save work on a part that has its verdict.
    All times are `time.monotonic_ns()`; 0 where that stage was not reached.
    """

    station: str
    trigger_id: int
    t_trigger_ns: int
    deadline_ns: int
    part_id: str | None = None
    encoder: int | None = None
    shot: Shot | None = None
    stage: Stage = Stage.AWAITING_FRAME
    closed: bool = False
    t_taken_ns: int = 0
    t_submit_ns: int = 0
    t_collect_ns: int = 0
    t_decided_ns: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A part and the one verdict it got. seq: from 1 without gaps, in the order in which verdicts are given."""

    part: Part
    verdict: Verdict
    seq: int
    t_ns: int


@dataclass(slots=True)
class Counts:
    """What the heartbeat says. late: answers that came after their part already had its verdict."""

    triggers: int = 0
    passed: int = 0
    rejected: int = 0
    faulted: int = 0
    open: int = 0
    late: int = 0

    def add_up(self) -> bool:
        """The invariant."""
        return self.triggers == self.passed + self.rejected + self.faulted + self.open


@dataclass(slots=True)
class Ledger:
    """Opens parts and settles each once. guard_ns: so long before its deadline a part is given up, so that the fault
    verdict is still out in time. memory: how many trigger ids are remembered to recognise a duplicate.
    """

    guard_ns: int = 0
    memory: int = 16_384
    counts: Counts = field(default_factory=Counts)
    last_trigger_id: int = 0
    _due: list[tuple[int, int, Part]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    _seen_order: deque[int] = field(default_factory=deque)

    @property
    def last_seq(self) -> int:
        """The number of verdicts given, which is the seq of the last one."""
        return self.counts.triggers - self.counts.open

    def open(self, part: Part) -> bool:
        """Take a part in. False where its trigger id was seen before: then there is no second part."""
        if part.trigger_id in self._seen:
            return False
        self._seen.add(part.trigger_id)
        self._seen_order.append(part.trigger_id)
        if len(self._seen_order) > self.memory:
            self._seen.discard(self._seen_order.popleft())
        self.last_trigger_id = max(self.last_trigger_id, part.trigger_id)
        self.counts.triggers += 1
        self.counts.open += 1
        heapq.heappush(self._due, (part.deadline_ns - self.guard_ns, self.counts.triggers, part))
        return True

    def settle(self, part: Part, verdict: Verdict, now_ns: int) -> Settled | None:
        """Give the part its verdict; None where it already has one. At or after its time a part only gets a fault."""
        if part.closed:
            self.counts.late += 1
            return None
        if verdict.outcome is not Outcome.FAULT and now_ns >= part.deadline_ns - self.guard_ns:
            verdict = Verdict.fault(Reason.TIMEOUT)
        part.closed = True
        self.counts.open -= 1
        if verdict.outcome is Outcome.PASS:
            self.counts.passed += 1
        elif verdict.outcome is Outcome.REJECT:
            self.counts.rejected += 1
        else:
            self.counts.faulted += 1
        return Settled(part, verdict, self.last_seq, now_ns)

    def due(self, now_ns: int) -> list[Part]:
        """The open parts whose time is up, by deadline; each is returned once, and must be settled."""
        parts = []
        while self._due and (self._due[0][0] <= now_ns or self._due[0][2].closed):
            part = heapq.heappop(self._due)[2]
            if not part.closed:
                parts.append(part)
        return parts

    def next_due_ns(self) -> int | None:
        """When `due` must be asked again, or None where nothing is open."""
        while self._due and self._due[0][2].closed:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def open_parts(self) -> list[Part]:
        """Everything still open, oldest deadline first."""
        return [part for _, _, part in sorted(self._due, key=lambda entry: entry[:2]) if not part.closed]


def guard_for(deadline_ns: int) -> int:
    """How long before its deadline a part is given up: a tenth of the time allowed, between 1 and 25 ms.

    The publisher wakes to a millisecond and needs less than one to send; the rest is for a busy processor.
    """
    return min(max(deadline_ns // 10, 1_000_000), 25_000_000)

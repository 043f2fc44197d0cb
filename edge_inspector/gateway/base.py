"""What the gate asks of the side of the PLC, and what it tells those who only watch.

One thread, the gate's, decides. Everything else has a thread of its own and cannot make it wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .registers import PlcBlock, Registers


@dataclass(frozen=True, slots=True)
class Heard:
    """The PLC has said this. t_ns: monotonic, on arrival. age_ns: at the most so old is what it says; None: unknown."""

    block: PlcBlock
    t_ns: int
    age_ns: int | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The link to the PLC does not work at the moment, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Shown:
    """So far the PLC can read what we show: the result with this number stands in its (or our) registers since t_ns."""

    number: int
    t_ns: int


PlcEvent = Heard | Lost | Shown


class Plc(Protocol):
    """The link to a PLC. Called by the gate's thread; nothing here waits. What happens becomes PlcEvents in a mailbox.

    A link that fails is tried again after 0.1 s, then after twice as long each time, 2 s at the most, for ever.
    """

    def start(self) -> None:
        """Begin. Raises MissingError where it can never work (a port that is taken)."""
        ...

    def show(self, registers: Registers, number: int) -> None:
        """Let the PLC see this vision block, whose newest result is `number`; the newest block wins."""
        ...

    def close(self) -> None:
        """End, within a second."""
        ...


@dataclass(slots=True)
class PartRecord:
    """What became of one part: written once, when its window has closed. Times: UTC microseconds on our Clock, but for
    t_publish_us, the daemon's.

    id, tag, encoder: as the PLC said. trigger_id, epoch, seq: how the daemon names it. outcome, reason: the daemon's
    verdict, None where none came. action: what the PLC was told. why: the reason of the action, by REASONS.
    """

    id: int
    tag: int
    encoder: int
    trigger_id: int = 0
    epoch: str = ""
    seq: int | None = None
    outcome: str | None = None
    reason: str | None = None
    action: str = "reject"
    why: str = "no_verdict"
    t_trigger_us: int = 0
    t_publish_us: int | None = None
    t_verdict_us: int | None = None
    t_shown_us: int | None = None
    t_written_us: int | None = None
    t_opened_us: int | None = None
    t_closed_us: int | None = None


@dataclass(frozen=True, slots=True)
class GateStatus:
    """What the gate is now. state: OPC 40100-1's number. reason: why it is not healthy, "" where it is."""

    healthy: bool
    reason: str
    state: int
    line_stop: bool
    epoch: str
    simulated: bool
    counts: dict[str, int] = field(default_factory=dict)


class Watcher(Protocol):
    """Somebody who looks on (OPC UA, MQTT, a file of records): never on the reject path. Calls return at once.

    What cannot be kept up with is dropped and counted in `dropped`.
    """

    dropped: int

    def start(self) -> None:
        """Begin. Raises ConfigError or MissingError where it can never work."""
        ...

    def verdict(self, message: dict[str, object]) -> None:
        """A verdict as the daemon sent it (wire.VerdictMessage)."""
        ...

    def part(self, record: PartRecord) -> None:
        """A part has left its window."""
        ...

    def status(self, status: GateStatus) -> None:
        """Ten times a second, and whenever it changes."""
        ...

    def close(self) -> None:
        """End, within a second."""
        ...

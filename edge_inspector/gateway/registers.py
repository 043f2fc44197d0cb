"""The Modbus register map, both blocks: its definition, values <-> registers, and the page of the docs made of it.

`vision` is what the gateway says, `plc` what the PLC says. Each fits one PDU and ends with a copy of a number that
stands before it: where the two differ, the block was read while it was being written, and counts for nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAP_VERSION = 1
SLOTS = 8  # results, and triggers, that may wait for the other side
U16, U32 = 1 << 16, 1 << 32
VISION_AT, PLC_AT = 0, 128  # the first register of each block

Registers = list[int]  # each 0 to 65535


class Status(enum.IntFlag):
    """Bits of `vision.status`."""

    ONLINE = 1 << 0
    TRIGGER_READY = 1 << 1
    BUSY = 1 << 2
    RESULTS_VALID = 1 << 3
    OVERRUN = 1 << 4
    WARNING = 1 << 5
    FAULT = 1 << 6
    VISION_OK = 1 << 7
    LINE_STOP = 1 << 8
    SIMULATED = 1 << 9


class Verdict(enum.IntFlag):
    """Bits of a result's `verdict`. Neither: no result. Both never."""

    PASS = 1 << 0
    FAIL = 1 << 1


class Control(enum.IntFlag):
    """Bits of `plc.control`."""

    ENABLE = 1 << 0


BITS: dict[str, dict[enum.IntFlag, str]] = {
    "status": {
        Status.ONLINE: "the gateway runs and hears the daemon",
        Status.TRIGGER_READY: "a part that comes now will be inspected",
        Status.BUSY: "parts wait for their verdict",
        Status.RESULTS_VALID: "results stand in the queue that were not acknowledged",
        Status.OVERRUN: "a result found the queue full; stays until `clear` changes",
        Status.WARNING: "the daemon is degraded, or a part was rejected for want of a verdict in the last 5 s",
        Status.FAULT: "the daemon is in fault or not heard, or results are lost",
        Status.VISION_OK: "everything is healthy. Where it is 0, eject every part, whatever its result says",
        Status.LINE_STOP: "too many parts in a row had no verdict: stop the belt; stays until `clear` changes",
        Status.SIMULATED: "pictures or verdicts come from a simulation",
    },
    "verdict": {
        Verdict.PASS: "the part may pass, and only then",
        Verdict.FAIL: "the part is to be ejected, also where a result before said Pass",
    },
    "control": {
        Control.ENABLE: "the PLC wants parts inspected; while 0, every part is rejected and nothing is a fault"
    },
}

# reason codes of a result: the daemon's reasons first, then the gateway's own
REASONS: dict[str, int] = {
    "": 0,
    "ok": 1,
    "defect": 2,
    "timeout": 3,
    "no_frame": 4,
    "stale_frame": 5,
    "frozen_frame": 6,
    "overload": 7,
    "engine_fault": 8,
    "camera_fault": 9,
    "shutdown": 10,
    "no_verdict": 20,
    "late_verdict": 21,
    "too_close": 22,
    "not_healthy": 23,
    "late_picture": 24,
    "not_accepted": 25,
    "stale_trigger": 26,
    "line_stop": 27,
    "unpaired": 28,
    "disabled": 29,
    "repeated": 30,
}


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a block. words: 1, or 2 for 32 bits."""

    name: str
    words: int
    meaning: str


VISION = (
    Field("version", 1, f"of this map: {MAP_VERSION}"),
    Field("status", 1, "bits, below"),
    Field("heartbeat", 1, "counts every 100 ms; where it stands still for 500 ms, eject every part"),
    Field("clock", 1, "milliseconds of the gateway; copy it into `plc.echo`"),
    Field("session", 1, "drawn at the gateway's start, never 0; copy it into `plc.session`"),
    Field(
        "state", 1, "of the vision system by OPC 40100-1: 1 preoperational, 3 error, 6 ready, 8 continuous execution"
    ),
    Field("result", 2, "number of the newest result in the queue; 0: none yet in this session"),
    Field("trigger", 2, "id of the last trigger that the gateway has taken over"),
    Field("passed", 2, "parts passed"),
    Field("rejected", 2, "parts rejected for a defect"),
    Field("faulted", 2, "parts rejected for any other reason"),
    Field("late", 2, "verdicts refused because they came too late"),
    Field("too_close", 2, "parts rejected because another was within their window"),
    Field("overruns", 1, "results that found the queue full"),
    Field("lost_triggers", 1, "triggers that were overwritten before the gateway could read them"),
    Field("heartbeat_again", 1, "a copy of `heartbeat`"),
)
RESULT = (
    Field("number", 2, "counts results within the session; acknowledge by it"),
    Field("id", 2, "of the part, as its trigger said"),
    Field("tag", 2, "of the part, as its trigger said"),
    Field("encoder", 2, "of the part, as its trigger said"),
    Field("verdict", 1, "bits, below; both 0: no result"),
    Field("reason", 1, "code, below"),
    Field("grade", 1, "of the verdict: 1 A (nothing found), 2 B (minor), 3 C (major), 4 D (critical defects); 0: none"),
    Field("number_again", 1, "the low word of `number`"),
)
PLC = (
    Field("control", 1, "bits, below"),
    Field("heartbeat", 1, "change it at least every 100 ms"),
    Field("echo", 1, "`vision.clock` as last read: it tells how old what stands here can be"),
    Field("session", 1, "`vision.session` as last read"),
    Field("encoder", 2, "counts now"),
    Field("acknowledged", 2, "number of the newest result taken over"),
    Field("clear", 1, "change it to clear LineStop and Overrun"),
    Field("boot", 1, "another number after each start of the PLC"),
    Field("trigger", 2, "id of the newest trigger; counts every part"),
)
TRIGGER = (
    Field("id", 2, "counts every part at the photo-eye"),
    Field("tag", 2, "any number of yours, or 0"),
    Field("encoder", 2, "counts when the part was at the photo-eye; without an encoder, milliseconds"),
)
PLC_END = (Field("trigger_again", 1, "the low word of `trigger`, written last"),)


def width(fields: Iterable[Field]) -> int:
    """Registers that they take."""
    return sum(field.words for field in fields)


HEADER_WORDS, RESULT_WORDS = width(VISION), width(RESULT)
PLC_WORDS, TRIGGER_WORDS = width(PLC), width(TRIGGER)
VISION_SIZE = HEADER_WORDS + SLOTS * RESULT_WORDS
PLC_SIZE = PLC_WORDS + SLOTS * TRIGGER_WORDS + width(PLC_END)


@dataclass(frozen=True, slots=True)
class Result:
    """What is said of one part. number: by the queue. id, tag, encoder: as the trigger said them, unsigned 32 bits."""

    number: int
    id: int
    tag: int
    encoder: int
    verdict: Verdict
    reason: str
    grade: int = 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """A part at the photo-eye."""

    id: int
    tag: int
    encoder: int


@dataclass(frozen=True, slots=True)
class VisionBlock:
    """The gateway's block, read. header: by field name. results: those that are whole, by number."""

    header: Mapping[str, int]
    results: tuple[Result, ...]

    @property
    def status(self) -> Status:
        """The bits."""
        return Status(self.header["status"])


@dataclass(frozen=True, slots=True)
class PlcBlock:
    """The PLC's block, read."""

    control: Control
    heartbeat: int
    echo: int
    session: int
    encoder: int
    acknowledged: int
    clear: int
    boot: int
    trigger: int
    triggers: tuple[Trigger, ...]


class Codec:
    """Values <-> registers. high_first: whether the high word of 32 bits comes first, as is usual."""

    def __init__(self, *, high_first: bool = True) -> None:
        self._high_first = high_first

    def pack(self, fields: Sequence[Field], values: Mapping[str, int]) -> Registers:
        """Registers of these fields; values are cut to their width."""
        registers: Registers = []
        for field in fields:
            value = values[field.name]
            if field.words == 1:
                registers.append(value % U16)
            else:
                high, low = divmod(value % U32, U16)
                registers += (high, low) if self._high_first else (low, high)
        return registers

    def unpack(self, fields: Sequence[Field], registers: Sequence[int]) -> dict[str, int]:
        """The values that stand in so many registers."""
        values, at = {}, 0
        for field in fields:
            if field.words == 1:
                values[field.name] = registers[at]
            else:
                one, other = registers[at], registers[at + 1]
                values[field.name] = one * U16 + other if self._high_first else other * U16 + one
            at += field.words
        return values

    def result(self, result: Result | None) -> Registers:
        """One slot of the queue."""
        if result is None:
            return [0] * RESULT_WORDS
        values = {
            "number": result.number,
            "id": result.id,
            "tag": result.tag,
            "encoder": result.encoder,
            "verdict": int(result.verdict),
            "reason": REASONS.get(result.reason, REASONS["no_verdict"]),
            "grade": result.grade,
            "number_again": result.number,
        }
        return self.pack(RESULT, values)

    def read_vision(self, registers: Sequence[int]) -> VisionBlock | None:
        """The gateway's block; None where it is not one, or was read while it was being written."""
        if len(registers) < VISION_SIZE:
            return None
        header = self.unpack(VISION, registers)
        if header["version"] != MAP_VERSION or header["heartbeat"] != header["heartbeat_again"]:
            return None
        return VisionBlock(header, tuple(sorted(self._results(registers), key=lambda r: r.number)))

    def _results(self, registers: Sequence[int]) -> Iterator[Result]:
        for slot in range(SLOTS):
            at = HEADER_WORDS + slot * RESULT_WORDS
            found = self.unpack(RESULT, registers[at : at + RESULT_WORDS])
            whole = found["number"] % U16 == found["number_again"] and found["number"] % SLOTS == slot
            if found["number"] and whole and found["verdict"] in (Verdict.PASS, Verdict.FAIL):
                yield Result(
                    found["number"], found["id"], found["tag"], found["encoder"], Verdict(found["verdict"]),
                    _NAMES.get(found["reason"], ""), found["grade"],
                )  # fmt: skip

    def plc(self, values: Mapping[str, int], triggers: Iterable[Trigger]) -> Registers:
        """The PLC's block. values: of the fields in PLC; `trigger` as well."""
        slots: dict[int, Registers] = {}
        for trigger in triggers:
            named = {"id": trigger.id, "tag": trigger.tag, "encoder": trigger.encoder}
            slots[trigger.id % SLOTS] = self.pack(TRIGGER, named)
        ring = [word for slot in range(SLOTS) for word in slots.get(slot, [0] * TRIGGER_WORDS)]
        return self.pack(PLC, values) + ring + self.pack(PLC_END, {"trigger_again": values["trigger"]})

    def read_plc(self, registers: Sequence[int]) -> PlcBlock | None:
        """The PLC's block; None where it is not one, or was read while it was being written."""
        if len(registers) < PLC_SIZE:
            return None
        found = self.unpack(PLC, registers)
        if self.unpack(PLC_END, registers[PLC_SIZE - 1 :])["trigger_again"] != found["trigger"] % U16:
            return None
        triggers = []
        for slot in range(SLOTS):
            at = PLC_WORDS + slot * TRIGGER_WORDS
            one = Trigger(**self.unpack(TRIGGER, registers[at : at + TRIGGER_WORDS]))
            if one.id % SLOTS == slot:
                triggers.append(one)
        control = Control(found.pop("control") & Control.ENABLE)
        return PlcBlock(control=control, triggers=tuple(triggers), **found)


_NAMES = {code: reason for reason, code in REASONS.items()}

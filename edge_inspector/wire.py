"""The wire protocol `ei1`: messages <-> bytes. The definitions below are the protocol; JSON Schemas are made of them.

Two endpoints. `verdicts` (XPUB): frames topic, payload. `gateway` (ROUTER): one frame each way. A payload is one JSON
object. `t_*_us` are UTC microseconds on the daemon's clock (see Clock); durations come from the monotonic clock.
Readers ignore keys they do not know; within `ei1` keys are only ever added.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

from .codec import Mismatch, convert, from_json, json_schema, to_json
from .ledger import Counts, Part, Settled
from .types import Defect

PREFIX = "ei1"
LARGEST = 65_536  # bytes of a message that a gateway may send
LARGEST_INT = 2**53  # beyond it, a JavaScript reader rounds
LONGEST = 200  # characters of a part_id or a gateway's name


DefectMessage = TypedDict(
    "DefectMessage",
    {
        "class": str,
        "score": float,
        "box_px": list[float],
        "area_mm2": float | None,
        "zone": str | None,
        "severity": str,
    },
)


class Identity(TypedDict):
    """Which engine or recipe: name, and SHA-256 of its file."""

    name: str
    sha256: str


class LatencyMessage(TypedDict):
    """Microseconds each stage took; 0 for a stage that was not reached. total: from the trigger to publishing."""

    wait: int
    preprocess: int
    infer: int
    decide: int
    total: int


class _VerdictExtras(TypedDict, total=False):
    replay: bool


class VerdictMessage(_VerdictExtras):
    """One for every part, on both endpoints; `replay` is true where it is sent again because someone asked."""

    v: Literal[1]
    type: Literal["verdict"]
    line: str
    station: str
    epoch: str
    seq: int
    trigger_id: int
    part_id: str | None
    encoder: int | None
    outcome: Literal["pass", "reject", "fault"]
    reason: str
    grade: str | None
    defects: list[DefectMessage]
    near_misses: list[DefectMessage]
    suppressed: int
    t_trigger_us: int
    t_grab_us: int | None
    t_publish_us: int
    deadline_us: int
    latency_us: LatencyMessage
    engine: Identity
    recipe: Identity
    simulated: bool


CountsMessage = TypedDict("CountsMessage", {"triggers": int, "pass": int, "reject": int, "fault": int, "open": int})


class HeartbeatMessage(TypedDict):
    """Every 100 ms, always. `counters`: what was dropped, refused or late, by name."""

    v: Literal[1]
    type: Literal["heartbeat"]
    line: str
    station: str
    epoch: str
    last_seq: int
    ready: bool
    state: Literal["starting", "ready", "degraded", "fault", "stopping"]
    reason: str
    counts: CountsMessage
    counters: dict[str, int]
    t_us: int


class _HelloExtras(TypedDict, total=False):
    t_us: int | None


class HelloMessage(_HelloExtras):
    """A gateway registers; it is answered with `welcome` and receives every verdict from then on.

    t_us: on the gateway's clock; comes back as `echo_us`, so that it can tell how far the two clocks are apart.
    """

    type: Literal["hello"]
    gateway: str
    epoch: str | None
    last_seq: int


class StationWelcome(TypedDict):
    """deadline_us: the time allowed from the trigger. last_trigger_id: so that a restarted gateway can count on."""

    station: str
    last_seq: int
    oldest_seq: int
    deadline_us: int
    ready: bool
    last_trigger_id: int


class WelcomeMessage(TypedDict):
    """The answer to `hello`."""

    v: Literal[1]
    type: Literal["welcome"]
    line: str
    epoch: str
    stations: list[StationWelcome]
    t_us: int
    echo_us: int | None


class _TriggerExtras(TypedDict, total=False):
    part_id: str | None
    encoder: int | None
    t_us: int | None


class TriggerMessage(_TriggerExtras):
    """A part is before the camera. Its time counts from the arrival of this message."""

    type: Literal["trigger"]
    station: str
    trigger_id: int


class TriggerAckMessage(TypedDict):
    """Whether there will be a verdict for this trigger; `reason` says why not."""

    v: Literal[1]
    type: Literal["trigger_ack"]
    station: str
    epoch: str
    trigger_id: int
    accepted: bool
    reason: str


class AckMessage(TypedDict):
    """The gateway has the verdict; t_written_us: when its PLC had it."""

    type: Literal["ack"]
    station: str
    epoch: str
    seq: int
    t_written_us: int | None


class ReplayMessage(TypedDict):
    """A reader lost something: send the verdicts from `from_seq` on again."""

    type: Literal["replay"]
    station: str
    epoch: str
    from_seq: int


class GapMessage(TypedDict):
    """The answer to a `replay` that cannot be served whole: what is kept begins at `oldest_seq` of `epoch`."""

    v: Literal[1]
    type: Literal["gap"]
    station: str
    epoch: str
    oldest_seq: int


class ErrorMessage(TypedDict):
    """The answer to anything that is none of the above."""

    v: Literal[1]
    type: Literal["error"]
    reason: str


MESSAGES: dict[str, Any] = {
    "verdict": VerdictMessage,
    "heartbeat": HeartbeatMessage,
    "hello": HelloMessage,
    "welcome": WelcomeMessage,
    "trigger": TriggerMessage,
    "trigger_ack": TriggerAckMessage,
    "ack": AckMessage,
    "replay": ReplayMessage,
    "gap": GapMessage,
    "error": ErrorMessage,
}
FROM_GATEWAY = ("hello", "trigger", "ack", "replay")


class Clock:
    """UTC as it was at the start, advanced by the monotonic clock: it never steps while the process lives."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def utc_us(self, monotonic_ns: int) -> int:
        """A monotonic time as UTC microseconds."""
        return (monotonic_ns + self._offset_ns) // 1000


@dataclass(frozen=True, slots=True)
class Origin:
    """What every message of one station says of where it comes from."""

    line: str
    station: str
    epoch: str
    engine: Identity
    simulated: bool

    def topic(self, kind: str) -> bytes:
        """`verdict/pass`, `verdict/reject`, `verdict/fault` or `heartbeat` -> the topic frame."""
        return f"{PREFIX}/{self.line}/{self.station}/{kind}".encode()


def verdict_message(settled: Settled, origin: Origin, recipe: Identity, clock: Clock) -> VerdictMessage:
    """The message for a settled part."""
    part, verdict = settled.part, settled.verdict
    return {
        "v": 1,
        "type": "verdict",
        "line": origin.line,
        "station": origin.station,
        "epoch": origin.epoch,
        "seq": settled.seq,
        "trigger_id": part.trigger_id,
        "part_id": part.part_id,
        "encoder": part.encoder,
        "outcome": cast(Any, verdict.outcome.value),
        "reason": verdict.reason.value,
        "grade": verdict.grade,
        "defects": [_defect(defect) for defect in verdict.defects],
        "near_misses": [_defect(defect) for defect in verdict.near_misses],
        "suppressed": verdict.suppressed,
        "t_trigger_us": clock.utc_us(part.t_trigger_ns),
        "t_grab_us": None if part.shot is None else clock.utc_us(part.shot.t_grab_ns),
        "t_publish_us": clock.utc_us(settled.t_ns),
        "deadline_us": clock.utc_us(part.deadline_ns),
        "latency_us": _latency(part, settled.t_ns),
        "engine": origin.engine,
        "recipe": recipe,
        "simulated": origin.simulated,
    }


def counts_message(counts: Counts) -> CountsMessage:
    """The ledger's counts, as the heartbeat and `demo` tell them."""
    return {
        "triggers": counts.triggers,
        "pass": counts.passed,
        "reject": counts.rejected,
        "fault": counts.faulted,
        "open": counts.open,
    }


def encode(message: object) -> bytes:
    """One JSON object, UTF-8."""
    return to_json(message)


def sent_again(verdict: bytes) -> bytes:
    """An encoded verdict, marked as a replay."""
    return verdict[:-1] + b',"replay":true}'


def decode(raw: bytes) -> dict[str, Any]:
    """Any message, checked against the definition that its `type` names. Raises Mismatch."""
    message = from_json(raw, dict)
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in MESSAGES:
        raise Mismatch("unknown type", "type")
    checked: dict[str, Any] = convert(message, MESSAGES[kind])
    return checked


def decode_from_gateway(raw: bytes) -> dict[str, Any]:
    """A message that a gateway may send. Raises Mismatch, whose text is the `reason` of the error answer."""
    if len(raw) > LARGEST:
        raise Mismatch(f"too large: {len(raw)} bytes, at most {LARGEST}", "")
    message = decode(raw)
    if message["type"] not in FROM_GATEWAY:
        raise Mismatch(f"{message['type']} is not for a gateway to send", "type")
    for key in MESSAGES[message["type"]].__annotations__:  # what is kept and said again must be small, and sayable
        value = message.get(key)
        if isinstance(value, int) and abs(value) > LARGEST_INT:
            raise Mismatch("an integer beyond 2^53, which not every reader can hold", key)
        if isinstance(value, str) and (len(value) > LONGEST or not value.isprintable()):
            raise Mismatch(f"text with more than {LONGEST} or with unprintable characters", key)
    return message


def schemas() -> dict[str, bytes]:
    """File name -> JSON Schema of each message, as they lie in `edge_inspector/schemas/`."""
    import json

    return {
        f"{name}.schema.json": (json.dumps(json_schema(kind), indent=1, sort_keys=True) + "\n").encode()
        for name, kind in MESSAGES.items()
    }


def _defect(defect: Defect) -> DefectMessage:
    return {
        "class": defect.label,
        "score": round(defect.score, 4),
        "box_px": [round(value, 1) for value in defect.box_px],
        "area_mm2": None if defect.area_mm2 is None else round(defect.area_mm2, 4),
        "zone": defect.zone,
        "severity": defect.severity.value,
    }


def _latency(part: Part, t_publish_ns: int) -> LatencyMessage:
    def between(start_ns: int, end_ns: int) -> int:
        return (end_ns - start_ns) // 1000 if start_ns and end_ns else 0

    return {
        "wait": between(part.t_trigger_ns, part.t_taken_ns),
        "preprocess": between(part.t_taken_ns, part.t_submit_ns),
        "infer": between(part.t_submit_ns, part.t_collect_ns),
        "decide": between(part.t_collect_ns, part.t_decided_ns),
        "total": between(part.t_trigger_ns, t_publish_ns),
    }

"""What must hold in every scenario, whatever went wrong in it."""

from __future__ import annotations

from collections import Counter, defaultdict

from edge_inspector.gateway.base import PartRecord

from .belt import Thing
from .events import MS
from .host import UTC_US, held
from .plan import RECOVERED_MS
from .plant import Plant

HELD_AT_MOST, RESTING_AT_MOST = 1500, 150  # things in all containers of a gate; the registers alone are 96


def judged(plant: Plant) -> list[str]:
    """What must not be, in this scenario that has been run."""
    return [*_escapes(plant), *_records(plant), *_promises(plant), *_liveness(plant), *_memory(plant)]


def _escapes(plant: Plant) -> list[str]:
    return [f"ESCAPE: {thing}" for thing in plant.belt.things if thing.bad and thing.good_bin]


def _records(plant: Plant) -> list[str]:
    """Each part that a gate has heard of has one record, which says what became of it."""
    found, host, plan = [], plant.host, plant.plan
    kinds = {fault.kind for fault in plan.faults}
    seen = Counter((t.id, t.tag, t.encoder) for thing in plant.belt.things for t in thing.triggers)
    by_part = {(t.id, t.tag, t.encoder): thing for thing in plant.belt.things for t in thing.triggers}
    named = [(record.id, record.tag, record.encoder) for record in host.records]
    found += [f"RECORD: one part, two records: {part}" for part in Counter(named) - seen]
    if not kinds & {"plc restarts", "gate restarts", "encoder set back"}:
        lost = host.gate.plc.lost
        if len(host.records) + lost != plant.plc.issued:
            found.append(f"RECORD: {len(host.records)} and {lost} lost of {plant.plc.issued}")
    passed: dict[int, bool] = defaultdict(bool)
    if host.gate.status().counts["on_the_belt"]:
        found.append("RECORD: parts remain on the belt")
    for part, record in zip(named, host.records, strict=True):
        thing = by_part.get(part)
        if thing is None:
            continue
        if record.action == "pass" and (thing.bad or record.outcome != "pass" or record.why != "ok"):
            found.append(f"RECORD: {record} of {thing}")
        if record.action == "reject" and record.why == "ok":
            found.append(f"RECORD: rejected as ok: {record}")
        passed[id(thing)] |= record.outcome == "pass" and (record.action == "pass" or bool(kinds))
        if not kinds and record.action == "pass" and not thing.good_bin:
            found.append(f"RECORD: passed, and not in the good bin: {record} of {thing}")
    # with a fault a pass may have been taken back too late for the PLC to hear of it
    good = [thing for thing in plant.belt.things if thing.good_bin and "gate restarts" not in kinds]
    found += [f"RECORD: in the good bin, and not passed: {thing}" for thing in good if not passed[id(thing)]]
    return found


def _promises(plant: Plant) -> list[str]:
    """What docs/protocol.md and docs/modbus-map.md say of the gateway."""
    found, host = [f"WRONG: {each}" for each in plant.wrong[:3]], plant.host
    for record in host.records:
        if record.action != "pass":
            continue
        assert record.t_verdict_us is not None
        trigger_ns, verdict_ns = ((us - UTC_US) * 1000 for us in (record.t_trigger_us, record.t_verdict_us))
        if any(begin_ns <= verdict_ns and end_ns >= trigger_ns for begin_ns, end_ns in host.unwell):
            found.append(f"WRONG: a Fault between trigger and pass: {record}")
        taken_ns = plant.plc.taken.get((record.id, record.tag, record.encoder))
        if record.t_written_us is not None and (
            taken_ns is None or taken_ns > (record.t_written_us - UTC_US + 1) * 1000
        ):
            found.append(f"WRONG: acknowledged, but the PLC does not have it: {record}")
        if record.t_verdict_us - record.t_trigger_us > plant.plan.deadline_ms * 1000:
            found.append(f"WRONG: a pass after the deadline: {record}")
        if record.t_opened_us is not None and record.t_verdict_us > record.t_opened_us:
            found.append(f"WRONG: a pass after the window has opened: {record}")
    kinds = [fault.kind for fault in plant.plan.faults]
    if not any("gate" in kind or "plc" in kind or "set back" in kind for kind in kinds):
        found += [f"WRONG: a fail after the deadline: {record}" for record in host.records if _is_late(plant, record)]
        found += [f"WRONG: passed, but not enabled: {record}" for record in host.records if _is_disabled(plant, record)]
    for what, why in (("PLC", ("plc restarts", "encoder set back")), ("daemon", ("daemon restarts",))):
        started = sum(text == f"the {what} was started anew" for _, text, _ in host.alarms)
        # registers that are 0 at first look like one more start
        if started > sum(kind in why for kind in kinds) * (1 + (what == "PLC")) + (what == "PLC"):
            found.append(f"WRONG: {started} new starts of the {what} seen")
    return found


def _is_late(plant: Plant, record: PartRecord) -> bool:
    shown_us = record.t_opened_us if record.t_shown_us is None else record.t_shown_us
    return shown_us is None or shown_us - record.t_trigger_us > (plant.plan.deadline_ms + 50) * 1000


def _is_disabled(plant: Plant, record: PartRecord) -> bool:
    trigger_ns = (record.t_trigger_us - UTC_US) * 1000
    begin_ns, end_ns = plant.disabled_ns
    return record.action == "pass" and begin_ns + 50 * MS < trigger_ns < end_ns


def _liveness(plant: Plant) -> list[str]:
    first_ns = plant.begin_ns + round(min((fault.at_ms for fault in plant.plan.faults), default=10**6) * MS)
    again_ns = plant.calm_ns + round(RECOVERED_MS * MS)

    def must(thing: Thing) -> bool:
        if thing.bad or not thing.clear or thing.fell_ns is None or thing.eye_ns is None:
            return False
        return thing.fell_ns < first_ns or thing.eye_ns >= again_ns

    return [f"REFUSED: {thing}" for thing in plant.belt.things if must(thing) and not thing.good_bin]


def _memory(plant: Plant) -> list[str]:
    """What a gate holds is bounded, and with an empty belt it is next to nothing."""
    most, rest = plant.host.most, held(plant.host.gate)
    return [f"MEMORY: {most} things held, {rest} at the end"] if most > HELD_AT_MOST or rest > RESTING_AT_MOST else []

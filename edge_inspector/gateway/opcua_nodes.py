"""The OPC UA address space: which nodes there are, and what they say of a status and of a part. Owns their names.

Names and state numbers are those of OPC 40100-1 where it has them; no conformance is claimed. NodeIds are paths, as in
`ns=2;s=VisionSystem.Gateway.Healthy`, so that they stay what they are from version to version.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..codec import to_json
from .base import GateStatus, PartRecord

if TYPE_CHECKING:
    from asyncua import Node, Server, ua
    from asyncua.server.event_generator import EventGenerator

NAMESPACE = "urn:edge-inspector:vision"

# OPC 40100-1, tables 82 and 97: those from 5 on are within Operational
STATES = {
    1: "Preoperational", 2: "Halted", 3: "Error", 4: "Operational",
    5: "Initialized", 6: "Ready", 7: "SingleExecution", 8: "ContinuousExecution",
}  # fmt: skip
PREOPERATIONAL, ERROR, OPERATIONAL = 1, 3, 4
COMPLETED, ABORTED, FAILED = 1, 3, 4  # of ResultState, OPC 40100-1

# of a result: a variable each, and all in the event. As far as EndTime they are OPC 40100-1's, the others are ours
RESULT = {
    "ResultId": "String", "PartId": "String", "IsPartial": "Boolean", "IsSimulated": "Boolean", "ResultState": "Int32",
    "InternalRecipeId": "String", "CreationTime": "DateTime", "AcquisitionDuration": "Double",
    "ProcessingDuration": "Double", "StartTime": "DateTime", "EndTime": "DateTime",
    "Station": "String", "Outcome": "String", "Reason": "String", "Defects": "String", "Action": "String",
    "Why": "String", "Tag": "UInt32", "Encoder": "UInt32",
}  # fmt: skip
GATEWAY = {
    "Healthy": "Boolean", "Reason": "String", "LineStop": "Boolean", "Epoch": "String", "IsSimulated": "Boolean",
    "Heartbeat": "UInt32", "Dropped": "UInt32",
}  # fmt: skip
ALARM = {"Alarm": "String", "Active": "Boolean", "Reason": "String"}

SYSTEM, MACHINE = "VisionSystem", "VisionSystem.VisionStateMachine"
MODE, COUNTS = f"{MACHINE}.AutomaticModeStateMachine", "VisionSystem.Gateway.Counts"
LATEST = "VisionSystem.ResultManagement.Results.Latest"
ORDINARY, SEVERE = 100, 900  # severities of events, 1 to 1000
U32 = 1 << 32


class Nodes:
    """The nodes of one server, by their paths. Everything here runs in the server's loop."""

    def __init__(self, server: Server) -> None:
        from asyncua import ua

        self._ua: Any = ua
        self._server = server
        self._variables: dict[str, tuple[ua.NodeId, ua.VariantType]] = {}
        self._events: dict[str, EventGenerator] = {}
        self._shown: GateStatus | None = None
        self._index = 0

    async def make(self) -> None:
        """Create them all; they say that the gateway is not healthy yet."""
        self._index = await self._server.register_namespace(NAMESPACE)
        system = await self._object(SYSTEM)
        await system.set_event_notifier([self._ua.EventNotifier.SubscribeToEvents])
        for path in (MACHINE, MODE):
            await self._object(path)
            await self._variable(f"{path}.CurrentState", "LocalizedText")
            await self._variable(f"{path}.CurrentState.Number", "UInt32")
        for path in (f"{SYSTEM}.ResultManagement", LATEST.rpartition(".")[0], LATEST, f"{SYSTEM}.Gateway", COUNTS):
            await self._object(path)
        for name, kind in RESULT.items():
            await self._variable(f"{LATEST}.{name}", kind)
        for name, kind in GATEWAY.items():
            await self._variable(f"{SYSTEM}.Gateway.{name}", kind)
        self._events["ResultReady"] = await self._event_type("ResultReadyEventType", RESULT, system)
        self._events["Alarm"] = await self._event_type("GatewayAlarmEventType", ALARM, system)
        await self.show_status(GateStatus(False, "starting", PREOPERATIONAL, False, "", False), beat=0, dropped=0)

    async def show_status(self, status: GateStatus, *, beat: int, dropped: int) -> None:
        """What the gate is now; an alarm where something went wrong, or is over."""
        within = status.state > OPERATIONAL
        await self._show_state(MACHINE, OPERATIONAL if within else status.state)
        await self._show_state(MODE, status.state if within else None)
        values: dict[str, object] = {
            "Healthy": status.healthy, "Reason": status.reason, "LineStop": status.line_stop, "Epoch": status.epoch,
            "IsSimulated": status.simulated, "Heartbeat": beat % U32, "Dropped": dropped % U32,
        }  # fmt: skip
        await self._show(f"{SYSTEM}.Gateway", values)
        for name in status.counts:
            if f"{COUNTS}.{name}" not in self._variables:
                await self._variable(f"{COUNTS}.{name}", "Int64")
        await self._show(COUNTS, status.counts)
        before, self._shown = self._shown, status
        if before is not None and before.line_stop != status.line_stop:
            await self._alarm("LineStop", status.line_stop, status.reason)
        if before is not None and before.healthy != status.healthy:
            await self._alarm("NotHealthy", not status.healthy, status.reason)

    async def show_result(self, values: Mapping[str, object]) -> None:
        """The newest result."""
        await self._show(LATEST, values)

    async def tell_result(self, values: Mapping[str, object]) -> None:
        """The event ResultReady."""
        await self._tell("ResultReady", values, f"{values['PartId']}: {values['Action']}, {values['Why']}", ORDINARY)

    async def _alarm(self, alarm: str, active: bool, reason: str) -> None:
        values = {"Alarm": alarm, "Active": active, "Reason": reason}
        text = f"{alarm}: {reason}" if active else f"{alarm} is over"
        await self._tell("Alarm", values, text, SEVERE if active else ORDINARY)

    async def _tell(self, kind: str, values: Mapping[str, object], text: str, severity: int) -> None:
        """To those who listen at the server, and to those who listen at the vision system."""
        generator = self._events[kind]
        event = generator.event
        for name, value in values.items():
            setattr(event, name, value)
        event.Severity = severity
        event.emitting_node = self._server.nodes.server.nodeid
        await generator.trigger(message=text)
        event.emitting_node = event.SourceNode
        await self._server.iserver.subscription_service.trigger_event(event)

    async def _show_state(self, machine: str, number: int | None) -> None:
        """None: the machine is in no state, as the state that it belongs to is not active."""
        path, code = f"{machine}.CurrentState", self._ua.StatusCodes.Good
        if number is None:
            number, code = 0, self._ua.StatusCodes.BadStateNotActive
        await self._write(path, self._ua.LocalizedText(STATES.get(number, "")), code)
        await self._write(f"{path}.Number", number, code)

    async def _show(self, folder: str, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            await self._write(f"{folder}.{name}", value, self._ua.StatusCodes.Good)

    async def _write(self, path: str, value: object, code: int) -> None:
        node, kind = self._variables[path]
        ua, now = self._ua, datetime.now(timezone.utc)
        data = ua.DataValue(ua.Variant(value, kind), ua.StatusCode(code), SourceTimestamp=now, ServerTimestamp=now)
        await self._server.iserver.write_attribute_value(node, data)

    def _names(self, path: str) -> tuple[ua.NodeId, ua.QualifiedName]:
        """NodeId and browse name; those which OPC UA itself defines are in its own namespace."""
        name = path.rpartition(".")[2]
        index = 0 if name in ("CurrentState", "Number") else self._index
        return self._ua.NodeId(path, self._index), self._ua.QualifiedName(name, index)

    def _parent(self, path: str) -> Node:
        above = path.rpartition(".")[0]
        return self._server.get_node(self._names(above)[0]) if above else self._server.nodes.objects

    async def _object(self, path: str) -> Node:
        return await self._parent(path).add_object(*self._names(path))

    async def _variable(self, path: str, kind: str) -> None:
        variant = self._ua.VariantType[kind]
        parent = self._parent(path)
        add = parent.add_property if path.endswith(".Number") else parent.add_variable
        node = await add(*self._names(path), self._ua.get_default_value(variant), variant)
        self._variables[path] = node.nodeid, variant

    async def _event_type(self, name: str, fields: Mapping[str, str], source: Node) -> EventGenerator:
        base = self._server.get_node(self._ua.ObjectIds.BaseEventType)
        kind = await base.add_object_type(*self._names(name))
        for field, type_name in fields.items():
            variant = self._ua.VariantType[type_name]
            await kind.add_property(*self._names(f"{name}.{field}"), self._ua.get_default_value(variant), variant)
        generator = await self._server.get_event_generator(kind, self._server.nodes.server.nodeid)
        generator.event.SourceNode, generator.event.SourceName = source.nodeid, SYSTEM
        return generator


def result_values(
    record: PartRecord, message: dict[str, Any] | None, *, station: str, simulated: bool
) -> dict[str, Any]:
    """What is told of a part, by the names in RESULT. message: the daemon's verdict, None where none is known.

    What is to become of the part is the record's word alone. Defects: DefectMessages of wire.py, as JSON.
    """
    known = message or {}
    latency = known.get("latency_us") or {}
    end_us = known.get("t_publish_us") or record.t_verdict_us or record.t_closed_us or record.t_trigger_us
    grab_us = known.get("t_grab_us")
    state = {None: ABORTED, "fault": FAILED}.get(record.outcome, COMPLETED)
    return {
        "ResultId": f"{record.epoch}-{record.seq}" if record.seq is not None else f"none-{record.id}",
        "PartId": known.get("part_id") or str(record.id),
        "IsPartial": False,
        "IsSimulated": bool(known.get("simulated", simulated)),
        "ResultState": state,
        "InternalRecipeId": (known.get("recipe") or {}).get("sha256", ""),
        "CreationTime": _time(end_us),
        "AcquisitionDuration": (grab_us - record.t_trigger_us) / 1000 if grab_us else 0.0,
        "ProcessingDuration": sum(latency.get(stage, 0) for stage in ("preprocess", "infer", "decide")) / 1000,
        "StartTime": _time(record.t_trigger_us),
        "EndTime": _time(end_us),
        "Station": station,
        "Outcome": record.outcome or "",
        "Reason": record.reason or "",
        "Defects": to_json(known["defects"]).decode() if "defects" in known else "",
        "Action": record.action,
        "Why": record.why,
        "Tag": record.tag % U32,
        "Encoder": record.encoder % U32,
    }


def _time(utc_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=utc_us)

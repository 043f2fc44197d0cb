"""What the gate tells those who look on: a verdict, a part, a status; and a configuration without a PLC."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_inspector.gateway.base import GateStatus, PartRecord
from edge_inspector.gateway.config import GatewayConfig, GatewayTable, PlcTable, WindowTable

EPOCH = "9f2c1a7be0d45831"
T_US = 1_790_000_000_000_000


def config(folder: Path, **tables: Any) -> GatewayConfig:
    """A gateway's configuration, as if its file were in `folder`. tables: opcua, mqtt, and records."""
    records = tables.pop("records", "")
    return GatewayConfig(
        path=folder / "gateway.toml",
        gateway=GatewayTable(name="g1", daemon="ipc:///nowhere", station="top", records=records),
        window=WindowTable(distance=4000, tolerance=150),
        plc=PlcTable(kind="modbus-server", address="127.0.0.1:1502"),
        **tables,
    )


def verdict(seq: int, outcome: str = "reject", *, station: str = "top") -> dict[str, object]:
    """As the daemon sends it (wire.VerdictMessage)."""
    defect = {
        "class": "short", "score": 0.974, "box_px": [454.0, 300.5, 493.0, 396.2], "area_mm2": 1.62, "zone": "edge",
        "severity": "critical",
    }  # fmt: skip
    return {
        "v": 1, "type": "verdict", "line": "line1", "station": station, "epoch": EPOCH, "seq": seq, "trigger_id": seq,
        "part_id": f"A-{seq:06}", "encoder": 9_918_273, "outcome": outcome,
        "reason": "defect" if outcome == "reject" else "ok", "grade": None,
        "defects": [defect] if outcome == "reject" else [], "near_misses": [], "suppressed": 0,
        "t_trigger_us": T_US, "t_grab_us": T_US + 1200, "t_publish_us": T_US + 13_900, "deadline_us": T_US + 80_000,
        "latency_us": {"wait": 210, "preprocess": 310, "infer": 11_800, "decide": 160, "total": 13_900},
        "engine": {"name": "pcb", "sha256": "e" * 64}, "recipe": {"name": "pcb", "sha256": "f" * 64},
        "simulated": False,
    }  # fmt: skip


def part(seq: int, outcome: str = "reject") -> PartRecord:
    """What became of the part with that verdict."""
    record = PartRecord(id=seq, tag=77, encoder=2**32 - 5, trigger_id=seq, epoch=EPOCH, seq=seq, outcome=outcome)
    record.reason, record.why = ("ok", "ok") if outcome == "pass" else ("defect", "defect")
    record.action = "pass" if outcome == "pass" else "reject"
    record.t_trigger_us, record.t_verdict_us, record.t_closed_us = T_US, T_US + 14_000, T_US + 400_000
    return record


def status(*, healthy: bool = True, state: int = 8, line_stop: bool = False, **counts: int) -> GateStatus:
    """What the gate is."""
    return GateStatus(healthy, "" if healthy else "the daemon is not heard", state, line_stop, EPOCH, False, counts)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(is_so: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for something that must become so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, "it has not become so"
        time.sleep(0.01)

"""How fast a verdict is where the PLC can read it: daemon, gateway and a polling PLC, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import FailedError
from ..gateway.registers import PLC, SLOTS, U16, Codec, Control, Status, Trigger
from ..metrics import Histogram
from ..plant import ports
from .bench_usage import resident_mb

LINE = """[line]
name = "bench"
[publish]
verdicts = "ipc://{folder}/verdicts"
gateway = "ipc://{folder}/daemon"
[[station]]
name = "top"
engine = "nothing"
trigger = "gateway"
deadline_ms = 200
[station.camera]
kind = "boards"
rate = 0.0
"""
GATEWAY = """[gateway]
name = "bench"
daemon = "ipc://{folder}/daemon"
station = "top"
picture_ms = [0.0, 1000.0]
records = "{folder}/records.jsonl"
[window]
distance = 1000
tolerance = {tolerance}
[plc]
kind = "modbus-server"
address = "127.0.0.1:{port}"
"""
COUNTS_PER_S = 1000  # of the encoder: the ejector is a second behind the photo-eye


def measure(folder: Path, *, rate: float, seconds: float) -> dict[str, Any]:
    """So many parts a second, for so long; an engine that costs nothing must lie in folder/engines/nothing.

    parts: of which there are still records. rejected: by reason; too_close is this PLC's own unsteadiness.
    publish_to_register_ms: from the daemon's t_publish_us to the moment from which the PLC's next poll finds it.
    gate_ms: of that, the gateway's own share. Raises FailedError where the line does not come up.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tolerance = min(2.0, 0.2 * COUNTS_PER_S / rate)
    for name, text in (("line.toml", LINE), ("gateway.toml", GATEWAY)):
        (folder / name).write_text(text.format(folder=folder, port=port, tolerance=tolerance))
    with _started("run", folder / "line.toml"), _started("gateway", folder / "gateway.toml") as gateway:
        grown_mb = _drive(port, gateway.pid, rate=rate, seconds=seconds)
    return {"rate": rate, "rss_growth_mb": grown_mb, **_tell(folder / "records.jsonl")}


def _tell(records: Path) -> dict[str, Any]:
    """What the gateway wrote of the parts."""
    whole, own, why = Histogram(), Histogram(), Counter[str]()
    for line in (line for path in records.parent.glob(f"{records.name}*") for line in path.open()):
        record = json.loads(line)
        why[record["why"]] += 1
        if record["t_shown_us"] is not None and record["t_publish_us"] is not None:
            whole.add(record["t_shown_us"] - record["t_publish_us"])
            own.add(record["t_shown_us"] - record["t_verdict_us"])
    return {
        "parts": why.total(),
        "passed": why.pop("ok", 0),
        "rejected": dict(why),
        "publish_to_register_ms": {name: us / 1000 for name, us in whole.summary_us().items()},
        "gate_ms": {name: us / 1000 for name, us in own.summary_us().items()},
    }


@contextlib.contextmanager
def _started(command: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "edge_inspector", command, str(path)]
    with (path.parent / f"{command}.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _drive(port: int, pid: int, *, rate: float, seconds: float) -> float:
    """Play the PLC: a trigger at every turn, every result acknowledged. Returns how many MB the gateway has grown."""
    codec, link = Codec(), ports.make(ports.ModbusTable(address=f"127.0.0.1:{port}"))
    values = dict.fromkeys((field.name for field in PLC), 0) | {"control": int(Control.ENABLE), "boot": 1}
    triggers: list[Trigger] = []
    turn_s = started_s = time.monotonic()
    begun_s = math.inf
    early_mb: float | None = None
    link.start()
    while turn_s < begun_s + seconds + 1.5:  # the last parts reach the ejector
        registers = link.take()
        block = None if registers is None else codec.read_vision(registers)
        now_s = time.monotonic()
        values["encoder"] = round((now_s - started_s) * COUNTS_PER_S)
        values["heartbeat"] = (values["heartbeat"] + 1) % U16
        if block is not None:
            values |= {"echo": block.header["clock"], "session": block.header["session"]}
            values["acknowledged"] = max([result.number for result in block.results], default=values["acknowledged"])
            if begun_s == math.inf and Status.VISION_OK in block.status and now_s > started_s + 1:
                begun_s = now_s
        if begun_s == math.inf and now_s > started_s + 30:
            raise FailedError(f"the line does not come up: {link.problem or block}")
        if begun_s <= now_s < begun_s + seconds:
            values["trigger"] += 1
            triggers = [*triggers, Trigger(values["trigger"], 0, values["encoder"])][-SLOTS:]
        if early_mb is None and now_s > begun_s + min(30.0, seconds / 5):
            early_mb = resident_mb(pid)
        link.put(codec.plc(values, triggers))
        turn_s = max(turn_s + 1 / rate, now_s)
        time.sleep(max(0.0, turn_s - time.monotonic()))
    link.close()
    return round(resident_mb(pid) - (early_mb or 0.0), 2)

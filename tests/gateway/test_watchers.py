"""Who is asked to look on, and what is said where a library for it is not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_inspector.gateway import watchers
from edge_inspector.gateway.config import MqttTable, OpcUaTable

from .samples import config

ROOT = Path(__file__).parents[2]
TABLES = {
    "opcua": OpcUaTable(endpoint="opc.tcp://127.0.0.1:4840", anonymous=True),
    "mqtt": MqttTable(broker="127.0.0.1:1883"),
}


def test_those_that_are_configured(tmp_path: Path) -> None:
    """No more than that, and none of them has begun."""
    assert watchers.make(config(tmp_path)) == []
    (records,) = watchers.make(config(tmp_path, records="parts.jsonl"))
    assert type(records).__name__ == "Records"
    made = watchers.make(config(tmp_path, records="parts.jsonl", **TABLES))
    assert [type(each).__name__ for each in made] == ["OpcUa", "Mqtt", "Records"]
    assert list(tmp_path.iterdir()) == []
    for each in made:
        each.close()  # of what has not begun


@pytest.mark.parametrize(("extra", "library"), [("opcua", "asyncua"), ("mqtt", "paho")])
def test_a_library_that_is_not_here(tmp_path: Path, extra: str, library: str) -> None:
    """It is said at the start, with the command that installs it."""
    code = f"""
import sys
sys.modules[{library!r}] = None
from pathlib import Path
from edge_inspector.errors import MissingError
from edge_inspector.gateway import watchers
from tests.gateway.samples import config
from tests.gateway.test_watchers import TABLES
try:
    watchers.make(config(Path({str(tmp_path)!r}), {extra}=TABLES[{extra!r}]))
except MissingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"{extra}: needs a library" in done.stdout
    assert done.stdout.endswith(f"run: pip install 'edge-inspector[{extra}]'\n")

"""The units as systemd itself reads them, without one that runs: every key known, the sandbox as tight as ever."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
LINE, GATEWAY = "edge-inspector@.service", "edge-inspector-gateway@.service"
EXPOSURE = 2.0  # 1.8 measured of each with systemd 252, others count a little differently; no sandbox at all: 9.6

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze here: apt-get install systemd"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with what `verify` looks for: the units, their executable, and the units and programs they name."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in (LINE, GATEWAY):
        shutil.copy(UNITS / unit, units)
    for name in ("network-online", "time-sync", "sysinit", "basic", "shutdown", "multi-user"):
        (units / f"{name}.target").write_text("[Unit]\n")
    for program in ("opt/edge-inspector/bin/edge-inspector", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    return tmp_path


def verify(root: Path, unit: str = LINE) -> str:
    """What systemd-analyze has to say about a unit; nothing where it is well."""
    # whether manual pages are installed is none of our business
    command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", unit.replace("@", "@line1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    return said or (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("drop_in", [None, "gpu.conf", "realtime.conf"])
def test_systemd_understands_every_line(installed: Path, drop_in: str | None) -> None:
    """`systemd-analyze verify` has nothing to say about the unit, alone and with each drop-in."""
    if drop_in is not None:
        folder = installed / "etc/systemd/system/edge-inspector@line1.service.d"
        folder.mkdir()
        shutil.copy(UNITS / drop_in, folder)
    assert verify(installed) == ""


def test_systemd_understands_every_line_of_the_gateway(installed: Path) -> None:
    """The same of the gateway's unit."""
    assert verify(installed, GATEWAY) == ""


@pytest.mark.parametrize("unit", [LINE, GATEWAY])
def test_a_misspelt_key_would_be_found(installed: Path, unit: str) -> None:
    """The checks above can fail."""
    path = installed / "etc/systemd/system" / unit
    path.write_text(path.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in verify(installed, unit)


def test_nothing_ties_the_gateway_to_its_line() -> None:
    """It starts without the daemon, is not stopped with it, and comes back from everything but a wrong file."""
    keys = re.findall(r"^(\w+)=(.*)$", (UNITS / GATEWAY).read_text(), re.MULTILINE)
    ties = {"Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Wants", "After", "Before", "Conflicts"}
    assert {value for key, value in keys if key in ties} == {"network-online.target"}
    values = dict(keys)
    assert (values["Restart"], values["RestartPreventExitStatus"]) == ("always", "78")
    assert values["StartLimitIntervalSec"] == "0"
    assert (values["Type"], values["PrivateDevices"], values["MemoryDenyWriteExecute"]) == ("notify", "yes", "yes")
    assert values["CapabilityBoundingSet"] == values["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"


@pytest.mark.parametrize("unit", [LINE, GATEWAY])
def test_the_sandbox_is_as_tight_as_it_was(installed: Path, unit: str) -> None:
    """`systemd-analyze security` gives an exposure that is not above the one measured."""
    path = installed / "etc/systemd/system" / unit
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here: apt-get install systemd")
def test_the_users_are_made_and_may_do_what_they_must(tmp_path: Path) -> None:
    """systemd-sysusers takes the file: edge-inspector, in the groups that own cameras, and the gateway in its group."""
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", UNITS / "edge-inspector.sysusers"], check=True)
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^edge-inspector:[^:]*:\d+:\d+:Edge inspector:", passwd, re.MULTILINE)
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^video:.*[:,]edge-inspector$", groups, re.MULTILINE)
    assert re.search(r"^edge-inspector-gateway:[^:]*:\d+:\d+:Edge inspector gateway:", passwd, re.MULTILINE)
    assert re.search(r"^edge-inspector:.*[:,]edge-inspector-gateway$", groups, re.MULTILINE)
    assert not re.search(r"^video:.*edge-inspector-gateway", groups, re.MULTILINE)

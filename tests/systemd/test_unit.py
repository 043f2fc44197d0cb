"""The unit as systemd itself reads it, without a systemd that runs: every key known, the sandbox as tight as it was."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
EXPOSURE = 2.0  # 1.8 measured with systemd 252, other versions count a little differently; no sandbox at all: 9.6

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze here: apt-get install systemd"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with what `verify` looks for: the unit, its executable, and the units and programs it names."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(UNITS / "edge-inspector@.service", units)
    for name in ("network-online", "time-sync", "sysinit", "basic", "shutdown", "multi-user"):
        (units / f"{name}.target").write_text("[Unit]\n")
    for program in ("opt/edge-inspector/bin/edge-inspector", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    return tmp_path


def verify(root: Path) -> str:
    """What systemd-analyze has to say about the unit; nothing where it is well."""
    # whether manual pages are installed is none of our business
    command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "edge-inspector@line1.service"]
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


def test_a_misspelt_key_would_be_found(installed: Path) -> None:
    """The check above can fail."""
    unit = installed / "etc/systemd/system/edge-inspector@.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in verify(installed)


def test_the_sandbox_is_as_tight_as_it_was(installed: Path) -> None:
    """`systemd-analyze security` gives an exposure that is not above the one measured."""
    unit = installed / "etc/systemd/system/edge-inspector@.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here: apt-get install systemd")
def test_the_user_is_made_and_may_use_cameras(tmp_path: Path) -> None:
    """systemd-sysusers takes the file: a user and group edge-inspector, in the groups that own cameras."""
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", UNITS / "edge-inspector.sysusers"], check=True)
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^edge-inspector:[^:]*:\d+:\d+:Edge inspector:", passwd, re.MULTILINE)
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^video:.*[:,]edge-inspector$", groups, re.MULTILINE)

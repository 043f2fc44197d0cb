"""The unit under a real systemd: start, reload, watchdog, crash, wrong configuration, stop, journal.

The guest is described in guest.py; the unit is installed there by the commands of systemd/README.md.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import guest as guests
from .conftest import BOARDS
from .guest import RECIPE, Guest, drop_in, eventually, journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time the guest is made
    pytest.mark.skipif(guests.lacks() is not None, reason=str(guests.lacks())),
]

UNITS = Path(__file__).parents[2] / "systemd"


def parts(guest: Guest, unit: str) -> int:
    """How many parts the status speaks of."""
    found = re.match(r"(\d+) parts: \d+ pass, \d+ reject, \d+ fault$", guest.show(unit, "StatusText"))
    return int(found[1]) if found else 0


def test_systemd_finds_nothing_wrong(guest: Guest) -> None:
    """`verify` on the installed tree, where the executable and every dependency are the real ones."""
    guest.run("systemd-analyze", "verify", "edge-inspector@line1.service")


def test_active_after_warm_up_with_counts_in_the_status(guest: Guest, line: Callable[..., str]) -> None:
    """`systemctl start` returns when five warm-up inferences are done, and then the status counts parts."""
    unit = line("warm", engine="slow", deadline_ms=600)
    began = time.monotonic()
    guest.run("systemctl", "start", unit)
    assert time.monotonic() - began > 5 * 0.4
    assert guest.show(unit, "ActiveState") == "active"
    eventually(lambda: parts(guest, unit) > 0, 5)
    mode = guest.run("stat", "-c", "%U:%G %a", "/run/edge-inspector/warm", "/run/edge-inspector/warm/verdicts")
    assert mode == "edge-inspector:edge-inspector 750\nedge-inspector:edge-inspector 660\n"


def test_group_members_read_verdicts_and_others_do_not(guest: Guest, line: Callable[..., str]) -> None:
    """A user in the group edge-inspector connects to the socket; another user is kept out."""
    unit = line("shared")
    guest.run("systemctl", "start", unit)
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/edge-inspector/shared/verdicts')"
    guest.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=edge-inspector", "python3", "-c", connect)
    with pytest.raises(AssertionError, match="PermissionError"):
        guest.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "python3", "-c", connect)


def test_reload_reads_the_recipe_again(guest: Guest, line: Callable[..., str]) -> None:
    """`systemctl reload` takes a new recipe in the same process, and keeps the old one where the new one is wrong."""
    unit = line("reloads")
    recipe = "/etc/edge-inspector/engines/fast/recipe.toml"
    guest.run("systemctl", "start", unit)
    pid = guest.show(unit, "MainPID")
    guest.write(recipe, "[reject]\ncritical = 2\n")
    guest.run("systemctl", "reload", unit)
    eventually(lambda: "recipes reloaded" in journal(guest, unit), 5)
    guest.write(recipe, "[reject\n")
    guest.run("systemctl", "reload", unit)
    eventually(lambda: "recipes not reloaded, the old ones stay" in journal(guest, unit), 5)
    guest.write(recipe, RECIPE)
    assert guest.show(unit, "MainPID") == pid
    assert guest.show(unit, "ActiveState") == "active"
    assert guest.run(
        "journalctl", "-u", unit, "-o", "cat", "--output-fields=EI_TOP_1", "-g", "recipes reloaded"
    ).strip()


def test_a_lasting_hang_ends_in_a_restart(guest: Guest, line: Callable[..., str]) -> None:
    """The engine hangs; the watchdog aborts, the stacks are in the journal, and the line comes back once."""
    unit = line("hangs", engine="hangs")
    guest.run("systemctl", "start", unit)
    took = eventually(lambda: guest.show(unit, "NRestarts") == "1" and guest.show(unit, "ActiveState") == "active", 30)
    assert took > 10  # a hang is not one before 5 s, and the watchdog waits 10 s
    said = journal(guest, unit)
    assert "Watchdog timeout (limit 10s)!" in said
    assert "status=6/ABRT" in said
    assert "runners/scripted.py" in said, "the stacks do not say where it hung"


def test_a_killed_line_comes_back(guest: Guest, line: Callable[..., str]) -> None:
    """SIGKILL, as when memory runs out: active again in seconds, as another process with the same folder."""
    unit = line("killed")
    guest.run("systemctl", "start", unit)
    pid = guest.show(unit, "MainPID")
    folder = ("stat", "-c", "%i", "/run/edge-inspector/killed")
    inode = guest.run(*folder)
    guest.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
    eventually(lambda: guest.show(unit, "NRestarts") == "1" and guest.show(unit, "ActiveState") == "active", 15)
    assert guest.show(unit, "MainPID") != pid
    assert guest.run(*folder) == inode
    eventually(lambda: parts(guest, unit) > 0, 5)


def test_a_wrong_configuration_is_not_tried_again(guest: Guest, line: Callable[..., str]) -> None:
    """Exit code 78 stays failed, and the journal names the key."""
    unit = line("wrong", deadline_ms=-1)
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", unit)
    assert guest.show(unit, "ExecMainStatus") == "78"
    time.sleep(4)  # RestartSec is 2
    assert guest.show(unit, "ActiveState") == "failed"
    assert guest.show(unit, "NRestarts") == "0"
    assert "station[0].deadline_ms: found -1" in journal(guest, unit)


def test_a_missing_engine_is_tried_again_until_it_is_there(guest: Guest, line: Callable[..., str]) -> None:
    """Exit code 3 is restarted; once the engine is in its place the line runs, with nobody having started it."""
    unit = line("missing", engine="late")
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", unit)
    eventually(lambda: int(guest.show(unit, "NRestarts")) >= 2, 20)
    assert "status=3/" in journal(guest, unit)
    guest.run("cp", "-r", "/etc/edge-inspector/engines/fast", "/etc/edge-inspector/engines/late")
    eventually(lambda: guest.show(unit, "ActiveState") == "active", 20)


def test_stop_is_clean_and_takes_the_sockets_away(guest: Guest, line: Callable[..., str]) -> None:
    """`systemctl stop` drains and ends with 0, long before it would be killed."""
    unit = line("stops")
    guest.run("systemctl", "start", unit)
    began = time.monotonic()
    guest.run("systemctl", "stop", unit)
    assert time.monotonic() - began < 6
    assert [guest.show(unit, name) for name in ("Result", "ExecMainStatus")] == ["success", "0"]
    assert "stopped" in journal(guest, unit)
    assert guest.run("ls", "/run/edge-inspector").split().count("stops") == 0


def test_a_hang_does_not_keep_stop_from_ending(guest: Guest, line: Callable[..., str]) -> None:
    """Stopped while the engine hangs: it ends by itself, with 0, before systemd kills it."""
    unit = line("stuck", engine="hangs")
    guest.run("systemctl", "start", unit)
    eventually(lambda: "fault" in guest.run("journalctl", "-u", unit, "-p", "warning", "-o", "cat"), 10)
    guest.run("systemctl", "stop", unit)
    assert [guest.show(unit, name) for name in ("Result", "ExecMainStatus")] == ["success", "0"]


def test_the_journal_has_fields(guest: Guest, line: Callable[..., str]) -> None:
    """Every extra of a log line is a field of its own, by which the journal finds it."""
    unit = line("logged")
    guest.run("systemctl", "start", unit)
    guest.run("journalctl", "--sync")
    said = guest.run("journalctl", "EI_LINE=logged", "-o", "json", "--no-pager").splitlines()
    entry = json.loads(said[0])
    assert entry["_SYSTEMD_UNIT"] == f"{unit}.service"
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "edge-inspector"
    assert entry["MESSAGE"].startswith("starting line=logged epoch=")
    assert entry["EI_EPOCH"] in entry["MESSAGE"]


def test_the_doctor_finds_a_line_fit_before_its_first_start(guest: Guest, line: Callable[..., str]) -> None:
    """As the README says, as the daemon's user: nothing is missing, and it knows that systemd makes the folder."""
    line("examined")
    command = (f"/{guests.PREFIX}/bin/edge-inspector", "doctor", "/etc/edge-inspector/examined.toml")
    said = guest.run("runuser", "-u", "edge-inspector", "--", *command)
    assert re.search(r"^ok +unit +/etc/systemd/system/edge-inspector@.service$", said, re.MULTILINE)
    assert "/run/edge-inspector/examined/verdicts: systemd makes the folder when the line starts" in said


def test_no_device_but_those_allowed(guest: Guest, line: Callable[..., str]) -> None:
    """A device that everybody may open by its mode is refused to the line, a harmless one is not."""
    guest.run("sh", "-c", "mknod /dev/other c 10 235 && chmod 666 /dev/other")  # autofs: opens for anybody
    unit = line("devices")
    code = "import os; os.open('/dev/null', os.O_RDWR); print('opened null'); os.open('/dev/other', os.O_RDONLY)"
    drop_in(guest, unit, f'[Service]\nExecStartPre=/usr/bin/python3 -c "{code}"\nRestart=no\n')
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", unit)
    said = journal(guest, unit)
    assert "opened null" in said
    assert "PermissionError: [Errno 1] Operation not permitted: '/dev/other'" in said


def test_the_gpu_drop_in_does_no_harm_without_a_gpu(guest: Guest, line: Callable[..., str]) -> None:
    """Where there is neither driver nor nvidia-modprobe the line starts all the same."""
    unit = line("gpu")
    drop_in(guest, unit, (UNITS / "gpu.conf").read_text())
    guest.run("systemctl", "start", unit)
    eventually(lambda: parts(guest, unit) > 0, 5)


@pytest.fixture(scope="module")
def small(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real engine, for OpenVINO, with what it proves itself by; small enough to be sent there."""
    pytest.importorskip("onnx")
    from ..models import tiny

    made = tiny.engine(tmp_path_factory.mktemp("engines"), "small").folder
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        target = f"/etc/edge-inspector/engines/small/{path.relative_to(made)}"
        guest.write(target, "")
        encoded = base64.b64encode(path.read_bytes()).decode()
        guest.run("sh", "-c", f"base64 -d > {target}", stdin=encoded)
    guest.write("/etc/edge-inspector/engines/small/recipe.toml", "[default]\nthreshold = 1.0\n")  # so that parts pass
    return "small"


def test_openvino_and_a_network_camera_work_in_the_sandbox(guest: Guest, line: Callable[..., str], small: str) -> None:
    """The sandbox forbids nothing that OpenVINO, OpenCV's decoder and ZeroMQ over TCP need: parts pass."""
    guest.write("/srv/camera.py", (Path(__file__).parents[1] / "cameras" / "mjpeg_server.py").read_text())
    python = f"/{guests.PREFIX}/bin/python"
    guest.run("systemd-run", "--unit=camera", "-p", "StandardOutput=file:/srv/port", python, "/srv/camera.py", "20")
    eventually(lambda: guest.run("cat", "/srv/port", check=False).strip().isdigit(), 10)
    port = guest.run("cat", "/srv/port").strip()
    camera = f'kind = "opencv"\nsource = "http://127.0.0.1:{port}/cam"'
    unit = line("network", engine=small, camera=camera + '\n[publish]\nverdicts = "tcp://127.0.0.1:5571"')
    guest.run("systemctl", "start", unit)
    eventually(lambda: re.match(r"\d+ parts: [1-9]", guest.show(unit, "StatusText")) is not None, 10)
    guest.run("systemctl", "stop", "camera")


def test_openvino_cannot_do_without_writing_code(guest: Guest, line: Callable[..., str], small: str) -> None:
    """Why MemoryDenyWriteExecute is off. Where this fails OpenVINO has learnt to do without: switch it on."""
    unit = line("jit", engine=small)
    drop_in(guest, unit, "[Service]\nMemoryDenyWriteExecute=yes\nRestart=no\n")
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", unit)
    assert guest.show(unit, "ExecMainStatus") == "3"
    assert "OpenVINO cannot use it" in journal(guest, unit)


def test_the_realtime_drop_in_gives_the_right_to_priority(guest: Guest, line: Callable[..., str], small: str) -> None:
    """A line that asks for it is refused (78) with the file that is missing; with that, every thread has its own."""
    unit = line("realtime", engine=small, camera=f"{BOARDS}\n[realtime]\npriority = 20")
    guest.run("systemctl", "start", unit, check=False)
    assert guest.show(unit, "ExecMainStatus") == "78"
    assert "expected LimitRTPRIO=20 in the unit (systemd/realtime.conf)" in journal(guest, unit)
    text = (UNITS / "realtime.conf").read_text()
    if guest.run("sh", "-c", "ulimit -r 49 2>&1 || true"):  # a guest may do no more than its host's root
        text += "AmbientCapabilities=CAP_SYS_NICE\nCapabilityBoundingSet=CAP_SYS_NICE\n"
    drop_in(guest, unit, text)
    guest.run("systemctl", "start", unit, check=False)
    if "the kernel forbids it" in journal(guest, unit):
        pytest.skip("this kernel gives a container no real-time scheduling (CONFIG_RT_GROUP_SCHED)")
    eventually(lambda: parts(guest, unit) > 0, 5)
    classes = guest.run("ps", "-L", "-o", "cls=,rtprio=", "-p", guest.show(unit, "MainPID")).split("\n")
    assert {" ".join(one.split()) for one in classes if one} == {"FF 20", "FF 19", "FF 18", "FF 17", "FF 16"}

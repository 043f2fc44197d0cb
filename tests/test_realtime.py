"""[realtime] as the kernel sees it: read back from real daemons, and refused with the words that mend it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_inspector.commands import doctor_realtime
from edge_inspector.config import load

from .faults.rig import Daemon, boards, must_add_up, running, step, write_line

ROOT = Path(__file__).parents[1]
ALL = "[realtime]\npriority = 20\ncores = [{core}]\nlock_memory = true\n"
CORE = min(os.sched_getaffinity(0))
GROUPS = "/sys/fs/cgroup/cpu"


def has_rights() -> bool:
    """Whether this user may have real-time priority; root in a container often may not."""
    return subprocess.run(["chrt", "--fifo", "20", "true"], capture_output=True, check=False).returncode == 0


by_root = pytest.mark.skipif(
    not shutil.which("chrt") or not has_rights(), reason="no right to real-time priority: run as root (CAP_SYS_NICE)"
)
without = pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv here: apt-get install util-linux")


def no_rights() -> list[str]:
    """What a command stands behind to have neither limits nor root's powers, as any user."""
    powers = ["setpriv", "--bounding-set=-sys_nice,-ipc_lock"] if os.geteuid() == 0 else []
    return ["prlimit", "--rtprio=0:0", "--memlock=65536:65536", *powers]


def asking(table: str, *, rate: float = 20) -> str:
    """A camera's table with [realtime] behind it."""
    return f"{boards(rate)}\n{table}"


def threads(daemon: Daemon) -> Iterator[tuple[int, str]]:
    """Number and name of each thread of a daemon."""
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield int(task.name), (task / "comm").read_text().strip()


def kilobytes(daemon: Daemon, name: str) -> int:
    """A size in /proc/PID/status."""
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])


@by_root
def test_every_thread_has_what_is_asked_for(tmp_path: Path) -> None:
    """The order of priorities, the cores of all, and memory that is locked; `keep` stays beside other processes."""
    with running(
        tmp_path,
        camera=asking(ALL.format(core=CORE)),
        script=[step(delay_ms=5), step(delay_ms=5, reject=True)],
        station='keep = ["reject"]',
        line=f'keep_folder = "{tmp_path}/kept"',
    ) as daemon:
        daemon.wait_for_verdicts(5)
        found: Counter[tuple[int, int]] = Counter()
        for tid, name in threads(daemon):
            assert os.sched_getaffinity(tid) == {CORE}
            now = os.sched_getscheduler(tid), os.sched_getparam(tid).sched_priority
            assert not name.startswith("ZMQ") or now == (os.SCHED_FIFO, 20), name
            found[now] += 1
        assert found.pop((os.SCHED_FIFO, 16)) >= 1  # the engine's
        assert found == {
            (os.SCHED_FIFO, 20): 3,  # publish, and the two of ZeroMQ
            (os.SCHED_FIFO, 19): 1,
            (os.SCHED_FIFO, 18): 1,
            (os.SCHED_FIFO, 17): 1,
            (os.SCHED_OTHER, 0): 1,
        }
        assert os.sched_getparam(daemon.process.pid).sched_priority == 17
        assert kilobytes(daemon, "VmLck") > 0.9 * kilobytes(daemon, "VmSize")
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_who_does_not_ask_gets_nothing(tmp_path: Path) -> None:
    """Without the table, and with one that asks for nothing, all is as it was."""
    former = os.sched_getscheduler(0)
    with running(
        tmp_path, camera=asking("[realtime]\npriority = 0\ncores = []\n"), script=[step(delay_ms=5)]
    ) as daemon:
        daemon.wait_for_verdicts(2)
        for tid, _ in threads(daemon):
            assert os.sched_getscheduler(tid) == former
            assert os.sched_getaffinity(tid) == os.sched_getaffinity(0)
        assert kilobytes(daemon, "VmLck") == 0


SPINS = """import hashlib, time
sleep = time.sleep
def spin(seconds):  # without the interpreter's lock, as a driver does
    until = time.monotonic() + seconds
    while seconds > 1 and time.monotonic() < until:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)
    seconds > 1 or sleep(seconds)
time.sleep = spin
"""


@by_root
def test_an_engine_that_spins_takes_nothing_from_the_verdicts(tmp_path: Path) -> None:
    """On the line's only core, at real-time priority: parts are noticed and get their faults, and a signal is heard."""
    (tmp_path / "sitecustomize.py").write_text(SPINS)
    with running(
        tmp_path,
        camera=asking(f"[realtime]\npriority = 20\ncores = [{CORE}]\n"),
        script=[*(step(delay_ms=2) for _ in range(20)), step(delay_ms=8000)],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    ) as daemon:
        daemon.wait_for(lambda: daemon.ears.reasons["timeout"])
        daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 20)
        assert {verdict["reason"] for verdict in daemon.ears.verdicts[-20:]} == {"timeout"}
        assert daemon.stop() == 0, "main did not hear the signal"
        must_add_up(daemon)


REFUSED = {
    "priority": ("priority = 20", "found 20, but this process may have 0 at most; expected LimitRTPRIO=20 in the unit"),
    "lock_memory": (
        "lock_memory = true",
        "found true, but this process may lock 64 kB at most; expected LimitMEMLOCK=",
    ),
    "cores": (f"cores = [{CORE}, 8191]", f"found [{CORE}, 8191], but this process may have "),
}


@without
@pytest.mark.parametrize("key", REFUSED)
def test_a_refusal_says_what_mends_it(tmp_path: Path, key: str) -> None:
    """78, as no restart helps; with file, key, what is allowed and what would be needed."""
    table, says = REFUSED[key]
    camera = asking(f"[realtime]\n{table}\n")
    with running(tmp_path, camera=camera, script=[step(delay_ms=5)], inside=no_rights()) as daemon:
        assert daemon.process.wait(30) == 78
        assert f"{tmp_path}/line.toml: realtime.{key}: {says}" in daemon.log.read_text()
        assert daemon.ears.verdicts == []
        assert key == "lock_memory" or daemon.ears.beats == []  # the others are refused before anything is bound


def test_cores_of_which_there_is_none(tmp_path: Path) -> None:
    """The kernel refuses them itself; the words are the same."""
    with running(tmp_path, camera=asking("[realtime]\ncores = [8190, 8191]\n"), script=[step()]) as daemon:
        assert daemon.process.wait(30) == 78
        assert "realtime.cores: found [8190, 8191], but this process may have " in daemon.log.read_text()


@by_root
@pytest.mark.skipif(not Path(GROUPS, "cpu.rt_runtime_us").exists(), reason="no CONFIG_RT_GROUP_SCHED, or no cgroup v1")
def test_a_control_group_without_real_time(tmp_path: Path) -> None:
    """Not even root's powers help there, and no limit is to blame; as under RestrictRealtime=yes."""
    group = Path(GROUPS, f"edge-inspector-{os.getpid()}")
    group.mkdir()
    into = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', f"{group}/tasks"]
    try:
        camera = asking("[realtime]\npriority = 20\n")
        with running(tmp_path, camera=camera, script=[step()], inside=into) as daemon:
            assert daemon.process.wait(30) == 78
            assert "found 20, but the kernel forbids it; expected RestrictRealtime=no" in daemon.log.read_text()
    finally:
        group.rmdir()


DOCTOR = """
import sys, pathlib
from edge_inspector.commands.doctor_realtime import realtime
from edge_inspector.config import load
for found in realtime(load(pathlib.Path(sys.argv[1])), (sys.argv[2],)):
    print(found.state, found.what, found.detail, sep="|")
"""


def doctor(line: Path, *, inside: Sequence[str] = ()) -> dict[str, tuple[str, str]]:
    """What the doctor says of a line, by what it looks at; units are installed in the line's folder."""
    command = [*inside, sys.executable, "-c", DOCTOR, str(line), str(line.parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    rows = [row.split("|") for row in done.stdout.splitlines()]
    return {what: (state, detail) for state, what, detail in rows}


@without
def test_the_doctor_says_beforehand_who_may_not(tmp_path: Path) -> None:
    """The refusal that `run` would give; but where the unit's drop-in gives the right, all is well."""
    line = write_line(tmp_path, camera=asking(ALL.format(core=CORE)), script=[step()])
    found = doctor(line, inside=no_rights())
    assert found.pop("realtime cores") == ("ok", f"[{CORE}]: this user may have it")
    for key in ("priority", "lock_memory"):
        assert found[f"realtime {key}"] == ("missing", found[f"realtime {key}"][1])
        assert f"{line}: realtime.{key}: {REFUSED[key][1]}" in found[f"realtime {key}"][1]

    folder = tmp_path / "edge-inspector@line.service.d"
    folder.mkdir()
    shutil.copy(ROOT / "systemd" / "edge-inspector@.service", tmp_path)
    assert doctor(line, inside=no_rights())["realtime priority"][0] == "missing"
    shutil.copy(ROOT / "systemd" / "realtime.conf", folder)
    found = doctor(line, inside=no_rights())
    assert found["realtime priority"] == ("ok", "20: not for this user, but for the unit edge-inspector@line")
    assert found["realtime lock_memory"][0] == "ok"


@by_root
def test_the_doctor_tries_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Who has the right is told so; the trial is over with it."""
    line = write_line(tmp_path, camera=asking(ALL.format(core=CORE).replace("20", "60")), script=[step()])
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    found = {each.what: each.state for each in doctor_realtime.realtime(load(line), ())}
    assert found.pop("interrupts") == "optional"  # 60 is above those of the kernel
    found.pop("real-time brake", None)
    assert found == dict.fromkeys(("realtime priority", "realtime cores", "realtime lock_memory"), "ok")
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before
    assert "VmLck:\t       0 kB" in Path("/proc/self/status").read_text()

"""What a supervisor is told, over a real datagram socket; and what a log line looks like."""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_inspector.client import Subscriber
from edge_inspector.service import KeyValue, Service

ROOT = Path(__file__).parents[1]
SLACK_S = 20.0  # a busy machine takes so long to import everything
WATCHDOG_S = 1.5

LINE = """
[line]
name = "line1"
[publish]
verdicts = "ipc://{folder}/verdicts"
gateway = "ipc://{folder}/gateway"
[[station]]
name = "top"
engine = "scripted"
deadline_ms = {deadline_ms}
[station.camera]
kind = "boards"
rate = 20
"""
MODEL = """
labels = ["short"]
input_size = [64, 64]
"""


class Supervisor:
    """The end of the socket where systemd would be."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def told(self, timeout_s: float = 0.0) -> str | None:
        """The next thing it is told, or None where nothing comes in time."""
        self._socket.settimeout(max(timeout_s, 0.001))
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def until(self, wanted: Callable[[str], bool], within_s: float = SLACK_S) -> list[str]:
        """Everything it is told up to and including what is wanted."""
        heard: list[str] = []
        until = time.monotonic() + within_s
        while not heard or not wanted(heard[-1]):
            word = self.told(until - time.monotonic())
            assert word is not None, f"not told in {within_s} s; only: {heard[-5:]}"
            heard.append(word)
        return heard

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A NOTIFY_SOCKET of either kind."""
    return str(tmp_path / "notify") if request.param == "path" else f"@edge-inspector-test-{os.getpid()}"


@pytest.fixture
def supervisor(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """One that listens, known to this process by the environment."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    listener = Supervisor(address)
    yield listener
    listener.close()


@contextlib.contextmanager
def running(folder: Path, steps: str, *, deadline_ms: int = 80, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`edge-inspector run` on a scripted engine and synthetic boards, from the root of the checkout."""
    engine = folder / "engines" / "scripted"
    engine.mkdir(parents=True)
    (engine / "model.toml").write_text(MODEL + steps)
    (engine / "recipe.toml").write_text("[reject]\ncritical = 1\n")
    (folder / "line.toml").write_text(LINE.format(folder=folder, deadline_ms=deadline_ms))
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_inspector", "run", str(folder / "line.toml")],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def faults(status: str) -> int:
    """The number of faults in a STATUS text."""
    found = re.fullmatch(r"STATUS=\d+ parts: \d+ pass, \d+ reject, (\d+) fault", status)
    assert found, status
    return int(found[1])


def test_every_word_arrives(supervisor: Supervisor) -> None:
    """Readiness, status and the end are one datagram each, and a status that is the same is not told again."""
    service = Service()
    service.ready()
    service.status("1 parts")
    service.status("1 parts")
    service.status("2 parts")
    service.feed_watchdog()  # no watchdog was asked for
    service.stopping()
    heard = [supervisor.told() for _ in range(5)]
    assert heard == ["READY=1", "STATUS=1 parts", "STATUS=2 parts", "STOPPING=1", None]


def test_the_watchdog_is_fed_three_times_in_its_period(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the main loop comes round, one datagram in a third of the time allowed is enough."""
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    service = Service()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        service.feed_watchdog()
        time.sleep(0.005)
    heard = 0
    while supervisor.told() is not None:
        heard += 1
    assert 3 <= heard <= 5  # at 0, 0.2, 0.4, 0.6, 0.8 s; fewer where the machine was busy


def test_another_process_watchdog_is_not_fed(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG_PID says whose watchdog it is; a parent's is not ours to feed."""
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    Service().feed_watchdog()
    assert supervisor.told(0.2) is None


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside systemd every call is harmless."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    service = Service()
    service.ready()
    service.status("x")
    service.feed_watchdog()
    service.stopping()


def test_a_supervisor_that_is_gone_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the socket is gone the inspection goes on, with one line in the log."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    service = Service()
    service.ready()
    service.stopping()
    assert caplog.messages == ["systemd does not listen"]


def test_systemd_python_may_fail_as_well(tmp_path: Path) -> None:
    """Its notify() raises where the socket is gone; neither that disturbs the inspection."""
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "daemon.py").write_text("def notify(state):\n    raise FileNotFoundError(2, state)\n")
    code = "from edge_inspector.service import Service; s = Service(); s.ready(); s.stopping()"
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody"), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "systemd does not listen\n")


def test_the_folder_systemd_does_not_hide_the_package(supervisor: Supervisor) -> None:
    """From the checkout's root, `systemd` may be found as our own folder; the supervisor is told all the same."""
    code = (
        "import importlib.util as u, sys; from edge_inspector import service; s = service.Service(); s.ready(); "
        "print(u.find_spec('systemd') is not None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True", "the trap is not there: this test proves nothing"
    assert supervisor.told() == "READY=1"


@pytest.mark.parametrize("address", ["path"], indirect=True)
def test_a_run_says_ready_after_warm_up_and_stopping_before_its_end(tmp_path: Path, supervisor: Supervisor) -> None:
    """READY comes after the warm-up's five inferences; then counts and watchdog; STOPPING and exit 0 on SIGTERM."""
    began = time.monotonic()
    steps = "[[script]]\ndelay_ms = 300\n" * 5 + "[[script]]\ndelay_ms = 5\n" * 2000
    with running(tmp_path, steps, deadline_ms=500, WATCHDOG_USEC="600000") as process:
        assert supervisor.until(lambda word: True) == ["READY=1"]
        assert time.monotonic() - began > 5 * 0.3
        supervisor.until(lambda word: word.startswith("STATUS=") and not word.startswith("STATUS=0 parts"))
        supervisor.until(lambda word: word == "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        supervisor.until(lambda word: word == "STOPPING=1")
        _, log = process.communicate(timeout=SLACK_S)
    assert process.returncode == 0
    assert supervisor.told() is None
    assert re.search(rf"INFO +ready verdicts=ipc://{tmp_path}/verdicts gateway=ipc://{tmp_path}/gateway\n", log)
    assert re.search(r"INFO +stopped code=0\n", log)


@pytest.mark.parametrize("address", ["path"], indirect=True)
def test_a_wrong_configuration_never_says_ready(tmp_path: Path, supervisor: Supervisor) -> None:
    """Exit code 78, and the only word is that it stops."""
    with running(tmp_path, "[[script]]\ndelay_ms = 5\n", deadline_ms=-1) as process:
        assert process.wait(SLACK_S) == 78
    assert supervisor.told() == "STOPPING=1"
    assert supervisor.told() is None


@pytest.mark.parametrize("address", ["path"], indirect=True)
def test_a_lasting_hang_starves_the_watchdog_and_nothing_else(tmp_path: Path, supervisor: Supervisor) -> None:
    """The engine hangs: for 5 s it may, then nobody feeds the watchdog; verdicts and status go on all the time."""
    steps = "[[script]]\ndelay_ms = 2\n" * 25 + "[[script]]\ndelay_ms = 60000\n"
    with running(tmp_path, steps, WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6))) as process:
        supervisor.until(lambda word: word == "READY=1")
        supervisor.until(lambda word: word.startswith("STATUS=") and faults(word) > 0)
        hangs = time.monotonic()
        fed, last = hangs, ""
        while time.monotonic() - fed < 2 * WATCHDOG_S:
            word = supervisor.told(1.0)
            assert word is not None, "the main loop stands still"
            fed, last = (time.monotonic(), last) if word == "WATCHDOG=1" else (fed, word)
            assert time.monotonic() - hangs < SLACK_S, "the watchdog is still fed"
        assert 3.0 < fed - hangs < 5.0 + WATCHDOG_S
        assert process.poll() is None
        assert faults(last) > 20 * (fed - hangs) / 2  # every part got its verdict, a fault
        with Subscriber(f"ipc://{tmp_path}/verdicts", "ei1/line1/top/verdict") as subscriber:
            verdict = subscriber.receive(2.0)
        assert verdict is not None
        assert verdict["outcome"] == "fault"


def record(message: str, extra: dict[str, object]) -> logging.LogRecord:
    """A log record as `log.info(message, extra=extra)` makes it."""
    return logging.getLogger("test").makeRecord("test", logging.INFO, "file", 1, message, (), None, extra=extra)


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ({}, "ready"),
        ({"line": "line1", "parts": 3}, "ready line=line1 parts=3"),
        ({"reason": "no such camera"}, 'ready reason="no such camera"'),
        ({"reason": 'said "no" twice'}, "ready reason=\"said 'no' twice\""),
        ({"reason": ""}, "ready"),
        ({"reason": "one\ntwo"}, "ready reason=one\\ntwo"),
    ],
)
def test_a_log_line_is_its_message_and_key_value_pairs(extra: dict[str, object], line: str) -> None:
    """One line whatever the values hold, which a person reads and a machine splits."""
    assert KeyValue("%(message)s").format(record("ready", extra)) == line


def test_the_journal_gets_the_priority_without_systemd_python(tmp_path: Path) -> None:
    """In a unit without systemd-python a line begins with <N>, which journald takes for its priority."""
    code = (
        "import logging, sys; sys.modules['systemd.journal'] = None; from edge_inspector import service; "
        "service.log_to(); logging.getLogger('x').error('engine failed', extra={'engine': 'pcb'})"
    )
    environment = {**os.environ, "JOURNAL_STREAM": "8:1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == "<3>engine failed engine=pcb\n"


JOURNAL = """
import sys
def send(message, **fields):
    sys.stderr.write(repr((message, fields)) + "\\n")
    if "EI_REFUSED" in fields:
        raise OSError("no room left")
"""


def test_the_journal_gets_fields_and_its_refusal_disturbs_nobody(tmp_path: Path) -> None:
    """With systemd-python each extra is a field with a name that journald takes; what it refuses is lost, no more."""
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "journal.py").write_text(JOURNAL)
    code = (
        "import logging; from edge_inspector import service; service.log_to(); log = logging.getLogger('x'); "
        "log.warning('station is %s', 'degraded', extra={'top-cam.1': 'ab 1'}); "
        "log.error('x', extra={'refused': 1}); print('goes on')"
    )
    environment = {**os.environ, "JOURNAL_STREAM": "8:1", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "goes on\n", done.stderr
    message, fields = ast.literal_eval(done.stderr.splitlines()[0])
    assert message == 'station is degraded top-cam.1="ab 1"'
    assert fields["EI_TOP_CAM_1"] == "ab 1"
    assert fields["PRIORITY"] == "4"
    assert fields["CODE_FILE"] == "<string>"

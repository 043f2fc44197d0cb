"""A real daemon in a process of its own, and independent ears on both of its endpoints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zmq

Message = dict[str, Any]
Prepare = Callable[[zmq.Socket[bytes]], object]  # what a socket needs before it connects, such as its keys

STEP = """[[script]]
delay_ms = {delay_ms}
boxes = {boxes}
error = "{error}"
lost = {lost}
"""
LINE = """[line]
name = "line1"
keep_warm_ms = {keep_warm_ms}
{line}
[publish]
verdicts = "ipc://{folder}/v"
gateway = "ipc://{folder}/g"
[[station]]
name = "top"
engine = "scripted"
trigger = "{trigger}"
deadline_ms = {deadline_ms}
{station}
[station.camera]
{camera}
"""
RECIPE = "[default]\nthreshold = 0.5\nfloor = 0.25\n"
BOX = [100.0, 100.0, 140.0, 150.0, 0.9, 0.0]
BOARDS = 'kind = "boards"\nrate = {rate}\ncount = {count}'


def boards(rate: float, count: int = 0) -> str:
    """A synthetic camera's table."""
    return BOARDS.format(rate=float(rate), count=count)


def step(*, delay_ms: float = 0.0, reject: bool = False, error: str = "", lost: bool = False) -> str:
    """One answer of the scripted engine."""
    boxes = [BOX] if reject else []
    return STEP.format(delay_ms=float(delay_ms), boxes=boxes, error=error, lost=str(lost).lower())


def write_line(
    folder: Path,
    *,
    camera: str,
    script: list[str],
    trigger: str = "camera",
    deadline_ms: float = 300.0,
    station: str = "",
    keep_warm_ms: float = 0.0,
    line: str = "",
) -> Path:
    """A line.toml and its scripted engine."""
    engine = folder / "engines" / "scripted"
    engine.mkdir(parents=True, exist_ok=True)
    (engine / "model.toml").write_text('labels = ["short"]\ninput_size = [320, 320]\n' + "".join(script))
    (engine / "recipe.toml").write_text(RECIPE)
    path = folder / "line.toml"
    path.write_text(
        LINE.format(
            folder=folder,
            camera=camera,
            trigger=trigger,
            deadline_ms=float(deadline_ms),
            station=station,
            keep_warm_ms=float(keep_warm_ms),
            line=line,
        )
    )
    return path


class Ears(threading.Thread):
    """Hears everything that is published, in a socket of its own, and knows nothing of how the daemon counts."""

    def __init__(self, folder: Path, *, address: str = "", prepare: Prepare = lambda socket: None) -> None:
        super().__init__(daemon=True)
        self.verdicts: list[Message] = []
        self.beats: list[Message] = []
        self._address = address or f"ipc://{folder}/v"
        self._prepare = prepare
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        """Listen."""
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.set(zmq.RCVHWM, 0)
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RECONNECT_IVL, 5)  # it listens before the daemon binds, and must hear the first verdict
            socket.subscribe("ei1/line1/")
            self._prepare(socket)
            socket.connect(self._address)
            while not self._done.is_set():
                if socket.poll(50):
                    topic, payload = socket.recv_multipart()
                    message = json.loads(payload)
                    if message["type"] == "verdict":
                        assert topic.decode() == f"ei1/line1/top/verdict/{message['outcome']}"
                        self.verdicts.append(message)
                    else:
                        self.beats.append(message)

    def stop(self) -> None:
        """Stop listening."""
        self._done.set()
        self.join()

    @property
    def reasons(self) -> Counter[str]:
        """How often which reason was given."""
        return Counter(verdict["reason"] for verdict in self.verdicts)

    @property
    def state(self) -> str:
        """What the last heartbeat said."""
        return self.beats[-1]["state"] if self.beats else ""


class Daemon:
    """`edge-inspector run` in a process of its own."""

    def __init__(
        self,
        line: Path,
        *,
        env: dict[str, str] | None = None,
        stderr: str = "",
        ears: Ears | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        """inside: a command that ends by executing the daemon's."""
        self.folder = line.parent
        self.log = Path(stderr) if stderr else self.folder / "daemon.log"
        self.ears = ears or Ears(self.folder)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*inside, sys.executable, "-m", "edge_inspector", "run", str(line)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **(env or {})},
            )

    def send(self, number: int) -> None:
        """A signal."""
        os.kill(self.process.pid, number)

    def freeze(self) -> None:
        """SIGSTOP; when it returns, every thread stands still."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        code = self.process.wait(20)
        time.sleep(0.2)  # its last words travel
        return code

    def wait_for(self, what: Callable[[], object], *, within_s: float = 30.0) -> None:
        """Until it is so; fails with the log where it does not come to be."""
        until = time.monotonic() + within_s
        while not what():
            if time.monotonic() > until or (self.process.poll() is not None and not what()):
                raise AssertionError(
                    f"did not happen; exit code {self.process.poll()}, {len(self.ears.verdicts)} verdicts, "
                    f"reasons {self.ears.reasons}, last beat {self.ears.beats[-1:]}, log:\n"
                    + ("" if self.log.is_char_device() else self.log.read_text()[-3000:])
                )
            time.sleep(0.02)

    def wait_for_verdicts(self, count: int, *, within_s: float = 30.0) -> None:
        """Until so many have been heard."""
        self.wait_for(lambda: len(self.ears.verdicts) >= count, within_s=within_s)

    def wait_until_ready(self) -> None:
        """Until a heartbeat says so."""
        self.wait_for(lambda: self.ears.beats and self.ears.beats[-1]["ready"])

    def memory_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def running(
    folder: Path, *, env: dict[str, str] | None = None, stderr: str = "", inside: Sequence[str] = (), **line: Any
) -> Iterator[Daemon]:
    """A daemon, listened to before it starts; killed in the end if it still lives."""
    daemon = Daemon(write_line(folder, **line), env=env, stderr=stderr, inside=inside)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                daemon.send(signal.SIGCONT)
            daemon.process.kill()
            daemon.process.wait()
        daemon.ears.stop()


def must_add_up(daemon: Daemon, *, in_time: bool = True) -> None:
    """Every heartbeat adds up, the last one agrees with what was heard, and no verdict is missing, twice or late."""
    verdicts, beats = daemon.ears.verdicts, daemon.ears.beats
    for beat in beats:
        counts = beat["counts"]
        assert counts["triggers"] == counts["pass"] + counts["reject"] + counts["fault"] + counts["open"], beat
        assert beat["last_seq"] == counts["triggers"] - counts["open"], beat
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, len(verdicts) + 1))
    assert len({verdict["trigger_id"] for verdict in verdicts}) == len(verdicts)
    heard = Counter(verdict["outcome"] for verdict in verdicts)
    last = beats[-1]["counts"]
    assert {name: last[name] for name in ("pass", "reject", "fault")} == {
        name: heard[name] for name in ("pass", "reject", "fault")
    }
    assert last["open"] == 0
    for verdict in verdicts:
        late_us = verdict["t_publish_us"] - verdict["deadline_us"]
        assert verdict["outcome"] == "fault" or late_us <= 0, f"passed or rejected {late_us} us too late: {verdict}"
        assert not in_time or late_us <= 0, f"{late_us} us too late: {verdict}"


class Gateway:
    """A gateway that speaks the protocol by hand."""

    def __init__(
        self,
        folder: Path,
        name: str = "g1",
        *,
        hello: bool = True,
        address: str = "",
        prepare: Prepare = lambda socket: None,
    ) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        prepare(self.socket)
        self.socket.connect(address or f"ipc://{folder}/g")
        self.name = name
        if hello:
            self.send({"type": "hello", "gateway": name, "epoch": None, "last_seq": 0})
            self.welcome = self.expect("welcome")

    def send(self, message: object) -> None:
        """One message, or bytes as they are."""
        self.socket.send(message if isinstance(message, bytes) else json.dumps(message).encode())

    def trigger(self, trigger_id: int, **more: object) -> None:
        """A part."""
        self.send({"type": "trigger", "station": "top", "trigger_id": trigger_id, **more})

    def receive(self, timeout_s: float = 5.0) -> Message | None:
        """The next message."""
        return json.loads(self.socket.recv()) if self.socket.poll(round(timeout_s * 1000)) else None

    def expect(self, kind: str, timeout_s: float = 10.0) -> Message:
        """The next message of a kind; others are passed over."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            message = self.receive(left)
            if message is not None and message["type"] == kind:
                return message
        raise AssertionError(f"no {kind} came")

    def ack(self, verdict: Message) -> None:
        """Acknowledge."""
        what = {key: verdict[key] for key in ("station", "epoch", "seq")}
        self.send({"type": "ack", **what, "t_written_us": 0})

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self._context.term()

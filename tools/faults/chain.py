"""A whole line in processes of their own: plant (belt, camera, PLC), daemon, gateway; and bad links between them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .proxies import MessageProxy, TcpProxy, free_port

PITCH_MM = 50.0
PLANT = """[plant]
parts = {parts}
[belt]
speed_mm_s = {speed}
encoder_start = {encoder_start}
[boards]
seed = 3
defect_rate = 0.3
[plc]
first_id = {first_id}
id_bits = {id_bits}
operator_s = 1.0
tolerance_mm = 12
careless = {careless}
[modbus]
role = "{role}"
address = "127.0.0.1:{plant_port}"
[lens]
address = "{folder}/lens"
{events}
"""
LINE = """[line]
name = "line1"
[publish]
verdicts = "ipc://{folder}/v"
gateway = "{daemon}"
[[station]]
name = "top"
engine = "perfect"
trigger = "{trigger}"
deadline_ms = 150
[station.camera]
kind = "plant"
address = "{folder}/lens"
strobe = {strobe}
seed = 3
defect_rate = 0.3
marked = true
"""
ENGINE = 'labels = ["short"]\ninput_size = [640, 640]\nby_mark = true\n'
STEP = '[[script]]\ndelay_ms = {delay_ms}\nboxes = {boxes}\nerror = ""\nlost = false\n'
BOX = [100.0, 100.0, 140.0, 150.0, 0.9, 0.0]
RECIPE = "[default]\nthreshold = 0.5\nfloor = 0.25\n"
GATEWAY = """[gateway]
name = "{name}"
daemon = "{daemon}"
station = "top"
triggers = "{triggers}"
picture_ms = {picture_ms}
line_stop_after = {line_stop_after}
id_bits = {id_bits}
records = "{folder}/{name}.jsonl"
[window]
distance = 4000
tolerance = 150
[plc]
kind = "{kind}"
address = "127.0.0.1:{port}"
"""


class Chain:
    """Built by `running`. daemon, gateway, plant: the processes as they are now."""

    def __init__(
        self,
        folder: Path,
        *,
        parts: int,
        rate: float = 20.0,
        role: str = "server",
        camera: str = "plc",
        first_id: int = 1,
        id_bits: int = 32,
        encoder_start: int = 0,
        careless: bool = False,
        line_stop_after: int = 0,
        delays_ms: Sequence[float] = (4.0,),
        events: str = "",
        bad_daemon: bool = False,
        bad_plc: bool = False,
        cut_daemon: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        """role: of the gateway towards the PLC. camera: what triggers it, `plc` or `camera`. bad_*: with a proxy."""
        self.folder, self._env, self._parts = folder, {**os.environ, **(env or {})}, parts
        self.messages: MessageProxy | None = None
        self.modbus: TcpProxy | None = None
        self.tcp: TcpProxy | None = None
        daemon = asked = f"ipc://{folder}/g"
        if bad_daemon:
            asked = f"ipc://{folder}/front"
            self.messages = MessageProxy(asked, daemon)
        elif cut_daemon:
            served, front = free_port(), free_port()
            daemon, asked = f"tcp://127.0.0.1:{served}", f"tcp://127.0.0.1:{front}"
            self.tcp = TcpProxy(front, served)
        served = port = free_port()
        if bad_plc:
            port = free_port()
            self.modbus = TcpProxy(port, served, frames=True)
        gateway_port, plant_port = (served, port) if role == "server" else (port, served)
        engine = folder / "engines" / "perfect"
        engine.mkdir(parents=True)
        script = [STEP.format(delay_ms=ms, boxes=boxes) for ms in delays_ms for boxes in ([], [BOX], [])]
        (engine / "model.toml").write_text(ENGINE + "".join(script))
        (engine / "recipe.toml").write_text(RECIPE)
        plant = PLANT.format(
            folder=folder, parts=parts, speed=rate * PITCH_MM, role="client" if role == "server" else "server",
            plant_port=plant_port, first_id=first_id, id_bits=id_bits, encoder_start=encoder_start,
            careless=str(careless).lower(), events=events,
        )  # fmt: skip
        (folder / "plant.toml").write_text(plant)
        line = LINE.format(
            folder=folder, daemon=daemon, trigger="gateway" if camera == "plc" else "camera",
            strobe=str(camera == "camera").lower(),
        )  # fmt: skip
        (folder / "line.toml").write_text(line)
        self._gateway = {
            "folder": folder, "daemon": asked, "triggers": camera, "kind": f"modbus-{role}", "port": gateway_port,
            "id_bits": id_bits, "line_stop_after": line_stop_after,
            "picture_ms": [0.0, 40.0] if camera == "plc" else [5.0, 40.0],
        }  # fmt: skip
        self.plant = self._start("plant", str(folder / "plant.toml"), "--json", stdin=True)
        self.gateway = self.start_gateway()
        self.wait_for((folder / "lens").exists)
        self.daemon = self.start_daemon()

    def start_daemon(self) -> subprocess.Popen[str]:
        """A daemon; there may have been one before."""
        self.daemon = self._start("run", str(self.folder / "line.toml"))
        return self.daemon

    def start_gateway(self, name: str = "g1") -> subprocess.Popen[str]:
        """A gateway of this name; a second one of the same name is a mistake that happens."""
        path = self.folder / f"{name}.toml"
        path.write_text(GATEWAY.format(name=name, **self._gateway))
        return self._start("gateway", str(path))

    def say(self, words: str) -> None:
        """To the plant: a disturbance, or its end."""
        assert self.plant.stdin is not None
        self.plant.stdin.write(words + "\n")
        self.plant.stdin.flush()

    @contextlib.contextmanager
    def disturbed(self, name: str) -> Iterator[None]:
        """What is done within is a disturbance of that name in the plant's summary."""
        self.say(f"mark 0 0 {name}")
        try:
            yield
        except BaseException:
            with contextlib.suppress(BrokenPipeError):  # a plant that has ended: what went wrong is told, not this
                self.say("end mark")
            raise
        self.say("end mark")

    def status(self) -> dict[str, Any]:
        """The plant's summary so far."""
        before = self.log("plant").count("\n{")
        self.say("status")
        self.wait_for(lambda: self.log("plant").count("\n{") > before)
        found: dict[str, Any] = json.loads("{" + self.log("plant").rpartition("\n{")[2].partition("\n")[0])
        return found

    def wait_for_parts(self, count: int) -> None:
        """Until so many have fallen."""
        self.wait_for(lambda: self.status()["parts"] >= count, within_s=60)

    def wait_for(self, what: Callable[[], object], *, within_s: float = 30.0) -> None:
        """Until it is so."""
        until = time.monotonic() + within_s
        while not what():
            if time.monotonic() > until or self.plant.poll() is not None:
                raise AssertionError(f"did not happen; {self.logs()}")
            time.sleep(0.05)

    def wait_with_parts_left(self, what: Callable[[], object], *, left: int = 40) -> None:
        """Until it is so; on a slow machine the belt stands still meanwhile, rather than that the last parts fall."""
        until, standing = time.monotonic() + 60.0, False
        while not what():
            if time.monotonic() > until:
                raise AssertionError(f"did not happen; {self.logs()}")
            if not standing and self.status()["parts"] > self._parts - left:
                self.say("stop")
                standing = True
            time.sleep(0.05)
        if standing:
            self.say("end stop")

    def summary(self, *, within_s: float = 120.0) -> dict[str, Any]:
        """What the plant says in the end."""
        said, _ = self.plant.communicate(timeout=within_s)
        found: dict[str, Any] = json.loads(said)
        return found

    def records(self, name: str = "g1") -> list[dict[str, Any]]:
        """What the gateway wrote of each part."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self, name: str) -> str:
        """Of one of the processes."""
        path = self.folder / f"{name}.log"
        return "\n" + (path.read_text() if path.exists() else "")

    def logs(self) -> str:
        """The ends of all of them."""
        return "\n".join(f"== {name}\n{self.log(name)[-2500:]}" for name in ("run", "gateway", "plant"))

    def close(self) -> None:
        """End everything."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()
        for proxy in (self.messages, self.modbus, self.tcp):
            if proxy is not None:
                proxy.close()

    _processes: list[subprocess.Popen[str]]

    def _start(self, *words: str, stdin: bool = False) -> subprocess.Popen[str]:
        with (self.folder / f"{words[0]}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "edge_inspector", *words],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stderr=log,
                text=True,
                env=self._env,
            )
        self._processes = [*getattr(self, "_processes", []), process]
        return process


@contextlib.contextmanager
def running(folder: Path, **what: Any) -> Iterator[Chain]:
    """A line that runs; everything is killed in the end."""
    chain = Chain(folder, **what)
    try:
        yield chain
    finally:
        chain.close()


def later(seconds: float, what: Callable[[], object]) -> threading.Timer:
    """Do something in a while, in a thread of its own."""
    timer = threading.Timer(seconds, what)
    timer.start()
    return timer

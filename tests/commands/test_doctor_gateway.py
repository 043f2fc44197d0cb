"""The doctor's look at a gateway: with real daemons, gateways and PLCs, and with each of them missing or wrong."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_inspector import keys
from edge_inspector.commands import doctor_gateway
from edge_inspector.commands.finding import Finding
from edge_inspector.gateway.config import PlcTable
from edge_inspector.gateway.modbus_client import Wire
from edge_inspector.gateway.registers import PLC_SIZE, SLOTS, VISION, VISION_SIZE, Codec, Result, Trigger, Verdict
from edge_inspector.plant.ports import ModbusTable, ServerPort

from ..faults import rig

ROOT = Path(__file__).parents[2]
GATEWAY = """
[gateway]
name = "g1"
daemon = "{daemon}"
station = "{station}"
triggers = "{triggers}"
[window]
distance = {distance}
tolerance = 50
unit = "{unit}"
[plc]
kind = "{kind}"
address = "{address}"
{more}
"""


@pytest.fixture
def port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


@pytest.fixture
def write(tmp_path: Path, port: int) -> Callable[..., Path]:
    """Writes a gateway's file."""

    def written(*, more: str = "", station: str = "top", triggers: str = "plc", **change: object) -> Path:
        values = {
            "daemon": f"ipc://{tmp_path}/g", "distance": 4000, "unit": "counts", "kind": "modbus-server",
            "address": f"127.0.0.1:{port}", **change,
        }  # fmt: skip
        path = tmp_path / "gateway.toml"
        path.write_text(GATEWAY.format(station=station, triggers=triggers, more=more, **values))
        return path

    return written


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[rig.Daemon]:
    """A line whose station is triggered by a gateway, and ready; its file lies beside the gateway's."""
    with rig.running(tmp_path, camera=rig.boards(50), script=[rig.step()], trigger="gateway") as daemon:
        daemon.wait_until_ready()
        yield daemon


def look(path: Path) -> dict[str, Finding]:
    """What is found, by what it is about."""
    return {found.what.split(",")[0]: found for found in doctor_gateway.gateway(path)}


@contextlib.contextmanager
def gateway(path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A real one, that listens."""
    command = [sys.executable, "-m", "edge_inspector", "gateway", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def vision(heartbeat: int = 7) -> list[int]:
    """A vision block as a gateway writes it."""
    header = dict.fromkeys(("status", "clock", "result", "trigger", "passed", "rejected", "faulted", "late"), 0)
    header |= dict.fromkeys(("too_close", "overruns", "lost_triggers"), 0)
    header |= {"version": 1, "session": 99, "state": 6, "heartbeat": heartbeat, "heartbeat_again": heartbeat}
    codec = Codec()
    result = codec.result(Result(8, 8, 0, 0, Verdict.PASS, "ok"))
    return codec.pack(VISION, header) + result + [0] * (SLOTS - 1) * len(result)


def plc_block(heartbeat: int, boot: int = 3) -> list[int]:
    """A PLC block."""
    values = dict.fromkeys(("echo", "session", "encoder", "acknowledged", "clear"), 0)
    values |= {"control": 1, "heartbeat": heartbeat, "boot": boot, "trigger": 5}
    return Codec().plc(values, [Trigger(5, 0, 0)])


@contextlib.contextmanager
def plc(port: int, *, beats: bool = True, empty: bool = False) -> Iterator[ServerPort]:
    """A PLC that is a Modbus server, with a program that counts, or hangs, or was never loaded."""
    served = ServerPort(ModbusTable(role="server", address=f"127.0.0.1:{port}"))
    served.start()
    done = threading.Event()

    def scan() -> None:
        heartbeat = 0
        while not done.is_set():
            served.put([0] * PLC_SIZE if empty else plc_block(heartbeat))
            heartbeat += beats
            done.wait(0.02)

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        yield served
    finally:
        done.set()
        thread.join()
        served.close()


def test_the_kind_of_a_file_is_told_by_its_tables(tmp_path: Path, write: Callable[..., Path]) -> None:
    """A gateway's has no line and no stations; whatever cannot be read is looked at as a line's, as before."""
    assert doctor_gateway.is_gateway(write())
    assert doctor_gateway.is_gateway(ROOT / "examples" / "gateway.toml")
    assert not doctor_gateway.is_gateway(ROOT / "examples" / "line.toml")
    (tmp_path / "broken.toml").write_text("[gateway")
    assert not doctor_gateway.is_gateway(tmp_path / "broken.toml")
    assert not doctor_gateway.is_gateway(tmp_path / "none.toml")


def test_the_command_takes_either_file(write: Callable[..., Path], daemon: rig.Daemon) -> None:
    """`edge-inspector doctor GATEWAY.toml`: exit 0, the machine and the gateway in one report."""
    command = [sys.executable, "-m", "edge_inspector", "doctor", str(write())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    rows = {tuple(row.split(maxsplit=2)[:2]) for row in done.stdout.splitlines()}
    assert {("ok", "numpy"), ("ok", "gateway"), ("ok", "daemon"), ("ok", "station"), ("ok", "trigger")} <= rows


def test_a_wrong_file_is_reported(write: Callable[..., Path]) -> None:
    """With the message of the configuration error, and nothing else is looked at."""
    (found,) = doctor_gateway.gateway(write(distance=10))
    assert found.state == "missing"
    assert "window.distance: found 10" in found.detail


def test_before_anything_runs(write: Callable[..., Path], port: int) -> None:
    """The port is free; the daemon is missed, with the command that starts it; what a line's file says is not seen."""
    found = look(write())
    assert found["plc port"] == Finding(
        "ok", "plc port", f"127.0.0.1:{port}: free; no gateway runs yet, so the PLC finds nobody there"
    )
    assert found["daemon"].state == "missing"
    assert "systemctl start edge-inspector@LINE" in found["daemon"].mend
    assert found["trigger"].state == "optional"


def test_a_daemon_that_answers(write: Callable[..., Path], daemon: rig.Daemon) -> None:
    """Its line, the station and its deadline, and the trigger from the line's file beside this one."""
    found = look(write())
    assert found["daemon"].detail.endswith("line line1 answers")
    assert found["station"] == Finding("ok", "station", "top: ready, deadline 300 ms")
    assert found["trigger"].state == "ok"
    assert "before that up to 12344 counts a second" in found["window"].detail


def test_a_running_gateway_is_not_disturbed(write: Callable[..., Path], port: int, daemon: rig.Daemon) -> None:
    """The doctor has another name than the gateway, which stays registered; and it reads what the PLC would."""
    path = write()
    with gateway(path, port) as process:
        daemon.wait_for(lambda: "gateway registered gateway=g1" in daemon.log.read_text())
        found = look(path)
        assert process.poll() is None
    assert found["plc"].state == "ok"
    assert found["vision block"].state == "ok"
    assert "Online" in found["vision block"].detail
    assert "heartbeat counts" in found["vision block"].detail
    assert found["plc block"].state == "missing"  # nobody plays the PLC
    assert "no PLC writes there" in found["plc block"].detail
    assert daemon.log.read_text().count("gateway registered gateway=g1") == 1
    daemon.wait_for(lambda: "gateway gone gateway=edge-inspector-doctor" in daemon.log.read_text())


def test_a_station_that_the_daemon_does_not_have(write: Callable[..., Path], daemon: rig.Daemon) -> None:
    """Those that it has are named."""
    found = look(write(station="bottom"))["station"]
    assert (found.state, found.mend) == ("missing", "station = one of top in [gateway]")


def test_a_station_that_is_triggered_otherwise(write: Callable[..., Path], daemon: rig.Daemon) -> None:
    """Both files are named, as either may be wrong."""
    found = look(write(triggers="camera"))["trigger"]
    assert found.state == "missing"
    assert 'trigger = "camera" for top in' in found.mend


@pytest.mark.parametrize(("distance", "state"), [(360, "missing"), (369, "missing"), (371, "ok")])
def test_a_deadline_behind_the_window(
    write: Callable[..., Path], daemon: rig.Daemon, distance: int, state: str
) -> None:
    """In milliseconds: the deadline (300) and 20 ms for the way must be over when the window opens, 50 before."""
    found = look(write(unit="ms", distance=distance))["window"]
    assert found.state == state
    assert (found.mend == "") == (state == "ok")


def test_a_plc_that_answers(write: Callable[..., Path], port: int) -> None:
    """As its client: both blocks are read, and what lives and what does not is told apart."""
    path = write(kind="modbus-client")
    with plc(port):
        found = look(path)
        assert found["plc block"].state == "ok"
        assert "boot 3, trigger 5, enabled, heartbeat counts" in found["plc block"].detail
        assert found["vision block"].state == "optional"  # no gateway runs
        assert "no gateway writes there" in found["vision block"].detail
        with contextlib.closing(Wire(PlcTable(kind="modbus-client", address=f"127.0.0.1:{port}"))) as wire:
            wire.write(0, vision())
        found = look(path)
        assert found["vision block"].state == "missing"
        assert "session 99" in found["vision block"].detail
        assert "stands still at 7" in found["vision block"].detail


@pytest.mark.parametrize(
    ("beats", "empty", "said"),
    [(False, False, "its heartbeat stands still"), (True, True, "no PLC writes there")],
)
def test_a_plc_whose_program_does_nothing(
    write: Callable[..., Path], port: int, beats: bool, empty: bool, said: str
) -> None:
    """Stopped, or never loaded."""
    with plc(port, beats=beats, empty=empty):
        found = look(write(kind="modbus-client"))["plc block"]
    assert found.state == "missing"
    assert said in found.detail
    assert found.mend


def test_registers_that_the_plc_does_not_have(write: Callable[..., Path], port: int) -> None:
    """Its exception is told, with the keys that may be wrong."""
    with plc(port):
        found = look(write(kind="modbus-client", address=f'127.0.0.1:{port}"\nplc_at = 4000 # "'))["plc"]
    assert found.state == "missing"
    assert "exception 2" in found.detail
    assert "plc_at" in found.mend


def test_a_plc_that_is_not_there(write: Callable[..., Path], port: int) -> None:
    """Nobody answers at its address."""
    found = look(write(kind="modbus-client"))["plc"]
    assert found.state == "missing"
    assert "cannot connect" in found.detail
    assert found.mend.startswith("ping 127.0.0.1")


def test_a_port_that_another_program_has(write: Callable[..., Path], port: int) -> None:
    """It takes connections and says nothing that a PLC could read."""
    with socket.create_server(("127.0.0.1", port)):
        found = look(write())["plc"]
    assert found.state == "missing"
    assert "ss -tlnp" in found.mend


def test_an_address_that_this_machine_does_not_have(write: Callable[..., Path]) -> None:
    """A server listens on addresses of its own machine."""
    found = look(write(address="192.0.2.1:5020"))["plc port"]
    assert found.state == "missing"
    assert "ip -brief address" in found.mend


def test_secrets(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Absent, open to others, well, and yet to be made by systemd."""
    more = '[mqtt]\nbroker = "127.0.0.1:1"\nuser = "me"\npassword = "{}"'
    file = tmp_path / "password"
    assert look(write(more=more.format("password")))["secret password"].state == "missing"
    file.write_text("secret\n")
    file.chmod(0o644)
    assert "chmod 600" in look(write(more=more.format("password")))["secret password"].detail
    file.chmod(0o600)
    assert look(write(more=more.format("password")))["secret password"].state == "ok"
    given = "/run/credentials/edge-inspector-gateway@line1.service/password"
    found = look(write(more=more.format(given)))
    assert found[f"secret {given}"].state == "optional"
    assert found["broker"].state == "optional"
    assert "parts pass all the same" in found["broker"].detail


def test_keys(tmp_path: Path, write: Callable[..., Path]) -> None:
    """A daemon with keys answers the gateway's, and says so where it does not know it."""
    for name in ("server", "g1"):
        keys.make_pair(tmp_path / "keys", name)
    line = rig.write_line(tmp_path, camera=rig.boards(50), script=[rig.step()], trigger="gateway")
    line.write_text(line.read_text().replace("[publish]\n", '[publish]\nkeys = "keys"\n'))
    more = '[curve]\nsecret = "keys/g1.secret"\nserver = "keys/server.public"'
    command = [sys.executable, "-m", "edge_inspector", "run", str(line)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stderr is not None
            assert any(" ready " in said for said in process.stderr)
            threading.Thread(target=process.stderr.read, daemon=True).start()
            found = look(write(more=more))["daemon"]
            assert found.state == "missing"
            assert "does not let this key in" in found.detail
            public = keys.read_public(tmp_path / "keys" / "g1.public")
            client = keys.Client(name="g1", key=public, role="gateway")
            keys.write_clients(tmp_path / "keys" / keys.CLIENTS, [client])
            time.sleep(1.5)
            assert look(write(more=more))["daemon"].state == "ok"
            assert look(write())["daemon"].state == "missing"
        finally:
            process.kill()


def test_the_block_that_the_tests_write_is_one() -> None:
    """Or they would prove nothing."""
    block = Codec().read_vision(vision())
    assert len(vision()) == VISION_SIZE
    assert block is not None
    assert [result.id for result in block.results] == [8]

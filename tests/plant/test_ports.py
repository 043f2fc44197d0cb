"""The PLC's Modbus in both roles, over real sockets, and the whole plant in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_inspector.cameras.boards import Boards
from edge_inspector.cameras.plant import PlantCamera
from edge_inspector.errors import MissingError
from edge_inspector.gateway.registers import PLC_SIZE, Codec, Status, Trigger
from edge_inspector.plant import ports
from edge_inspector.plant.ports import ModbusTable, Port

from .standin import HEALTHY, Gateway, Serving

ROLES = ("client", "server")
DEFECT_RATE = 0.3


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def opposite(table: ModbusTable) -> Port:
    """The gateway's end of such a port."""
    role = "server" if table.role == "client" else "client"
    return ports.make(dataclasses.replace(table, role=role, vision_at=table.plc_at, plc_at=table.vision_at))


def until(what: Callable[[], object]) -> None:
    """Wait until it is so."""
    limit = time.monotonic() + 10
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture(params=ROLES)
def table(request: pytest.FixtureRequest) -> ModbusTable:
    """One role after the other."""
    return ModbusTable(role=request.param, address=f"127.0.0.1:{free_port()}")


@pytest.fixture
def ends(table: ModbusTable) -> Iterator[tuple[Port, Port]]:
    """The PLC's end and the gateway's, started."""
    plc, gateway = ports.make(table), opposite(table)
    for each in (plc, gateway):
        each.start()
    yield plc, gateway
    for each in (plc, gateway):
        each.close()


def exchange(here: Port, there: Port, block: list[int]) -> list[int]:
    """Put a block here until it is seen there."""
    seen: list[list[int]] = []

    def look() -> bool:
        here.put(block)
        there.put([0] * PLC_SIZE)  # a client reads when it has something to write
        seen.append(there.take() or [])
        return seen[-1][: len(block)] == block

    until(look)
    return seen[-1]


def test_blocks_go_both_ways(ends: tuple[Port, Port]) -> None:
    """Register by register."""
    plc, gateway = ends
    assert exchange(plc, gateway, list(range(1, PLC_SIZE + 1)))
    assert exchange(gateway, plc, list(range(1000, 1000 + PLC_SIZE)))
    assert plc.problem == ""
    until(lambda: plc.take() is None)


def test_it_finds_the_other_end_again(table: ModbusTable) -> None:
    """After a restart of either."""
    plc, gateway = ports.make(table), opposite(table)
    plc.start()
    for _ in range(2):
        gateway.start()
        exchange(plc, gateway, [4, 5, 6])
        gateway.close()
    gateway.start()
    plc.close()
    plc.start()
    exchange(plc, gateway, [7, 8, 9])
    plc.close()
    gateway.close()


def test_mute(ends: tuple[Port, Port]) -> None:
    """Nothing is said and nothing taken; afterwards it goes on."""
    plc, gateway = ends
    exchange(gateway, plc, [1, 2, 3])
    plc.mute = True
    time.sleep(0.1)  # what was under way
    plc.take()
    for n in range(50):
        plc.put([n] * PLC_SIZE)
        gateway.put([9] * PLC_SIZE)
        assert plc.take() is None
        time.sleep(0.01)
    plc.mute = False
    exchange(plc, gateway, [42] * PLC_SIZE)


def test_after_a_restart_all_registers_are_zero() -> None:
    """A gateway that writes into the PLC reads zeros until the first scan, and may not write the PLC's own block."""
    table = ModbusTable(role="server", address=f"127.0.0.1:{free_port()}")
    plc, gateway = ports.make(table), opposite(table)
    plc.start()
    gateway.start()
    exchange(plc, gateway, [5] * PLC_SIZE)
    plc.close()
    plc.start()
    exchange(plc, gateway, [0] * PLC_SIZE)
    gateway.close()
    wrong = ports.make(dataclasses.replace(table, role="client"))
    wrong.start()
    wrong.put([1] * PLC_SIZE)
    until(lambda: "answers" in wrong.problem)
    wrong.close()
    plc.close()


def test_a_taken_port_is_said_at_once() -> None:
    """By the server."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        table = ModbusTable(role="server", address=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(MissingError, match=r"modbus\.address"):
            ports.make(table).start()


PLANT = """
[plant]
parts = {parts}

[boards]
seed = 5
defect_rate = {defect_rate}

[plc]
id_bits = 16
first_id = 65520

[modbus]
role = "{role}"
address = "{address}"
word_order = "low"

[lens]
address = "lens.sock"
"""


class Plant:
    """`edge-inspector plant` in a process of its own, and a stand-in gateway that serves it."""

    def __init__(
        self, folder: Path, table: ModbusTable, good: Callable[[Trigger], bool], *, parts: int, more: str = ""
    ):
        (folder / "plant.toml").write_text(
            PLANT.format(parts=parts, defect_rate=DEFECT_RATE, role=table.role, address=table.address) + more
        )
        command = [sys.executable, "-m", "edge_inspector", "plant", str(folder / "plant.toml"), "--json"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        gateway = Gateway(good, id_bits=16, codec=Codec(high_first=False))
        self.serving = Serving(gateway, opposite(table))
        self.serving.start()

    def say(self, line: str) -> None:
        """A line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, object]:
        """Wait for the summary."""
        out, err = self.process.communicate(timeout=60)
        self.serving.stop()
        assert out, err
        told: dict[str, object] = json.loads(out)
        return told


def by_truth() -> Callable[[Trigger], bool]:
    """Part n comes to the photo-eye when the belt has moved by 60 + 50 (n - 1) mm."""
    boards = Boards(5, DEFECT_RATE)
    boards.warm_up()
    return lambda trigger: not boards.truth(1 + round((trigger.encoder - 600) / 500))


def test_all_good_parts_pass_and_no_other(tmp_path: Path, table: ModbusTable) -> None:
    """At 20 parts a second, over a wrap of the ids, in either role."""
    plant = Plant(tmp_path, table, by_truth(), parts=60)
    told = plant.end()
    truth = Boards(5, DEFECT_RATE)
    good = sum(not truth.truth(n) for n in range(1, 61))
    assert told["parts"] == 60
    assert (told["escapes"], told["good_rejected"], told["good_bin"]) == (0, 0, good)
    assert plant.process.returncode == 0


def test_the_camera_sees_what_the_truth_is(tmp_path: Path) -> None:
    """The stand-in asks the camera at each trigger, and believes a picture of the very part: nothing escapes."""
    table = ModbusTable(address=f"127.0.0.1:{free_port()}")
    camera = PlantCamera(address=tmp_path / "lens.sock", seed=5, defect_rate=DEFECT_RATE, marked=True)
    into = np.zeros((640, 640, 3), np.uint8)
    seen: list[str] = []

    def look(trigger: Trigger) -> bool:
        shot = camera.read(into)
        assert shot is not None
        seen.append(str(shot.part_id))
        expected = f"board-{(trigger.id - 65519) % 65536:06d}"
        return shot.part_id == expected and into[24, 24, 0] == 48

    plant = Plant(tmp_path, table, look, parts=30)
    plant.serving.gateway.status = Status.ONLINE  # so the belt waits
    until((tmp_path / "lens.sock").exists)
    camera.open()
    plant.serving.gateway.status = HEALTHY
    told = plant.end()
    assert told["escapes"] == 0
    assert told["good_bin"]
    assert len(seen) == 30
    camera.close()


def test_faults_by_word_of_mouth(tmp_path: Path, table: ModbusTable) -> None:
    """Lines on standard input begin them and end them; the summary says what each has cost."""
    plant = Plant(tmp_path, table, by_truth(), parts=120)
    assert plant.process.stderr is not None
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(plant.process.stderr or ()), daemon=True).start()

    def fallen(parts: int) -> None:
        def look() -> bool:
            plant.say("status")
            time.sleep(0.05)
            return any(json.loads(line)["parts"] >= parts for line in said if line.startswith("{"))

        until(look)

    fallen(10)
    plant.say("nonsense")
    plant.say("mute")
    time.sleep(0.8)
    plant.say("end mute")
    fallen(50)
    plant.say("plc_restart 0.2")
    plant.say("mark 0.1 0 something from outside")
    assert plant.process.wait(60) == 0
    plant.serving.stop()
    assert plant.process.stdout is not None
    told = json.loads(plant.process.stdout.read())
    events = {event["kind"]: event for event in told["events"]}
    assert set(events) == {"mute", "plc_restart", "mark"}
    assert events["mark"]["name"] == "something from outside"
    assert told["escapes"] == 0
    assert events["mute"]["cost"] > 0
    assert events["mute"]["passes_ms"] is not None
    assert plant.serving.gateway.boots == [1, 2]
    assert any("nonsense" in line for line in said)


def test_told_to_stop_it_says_how_it_stands(tmp_path: Path) -> None:
    """SIGTERM, while the belt runs."""
    table = ModbusTable(address=f"127.0.0.1:{free_port()}")
    plant = Plant(tmp_path, table, by_truth(), parts=5000)
    until(lambda: len(plant.serving.gateway.triggers) > 15)
    plant.process.terminate()
    told = plant.end()
    assert 0 < int(str(told["parts"])) < 5000
    assert not (tmp_path / "lens.sock").exists()

"""Nonsense from where the daemon should be: the gateway lives on, and the PLC is told of no pass."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from pymodbus.client import ModbusTcpClient

from edge_inspector.gateway.registers import VISION_SIZE, Codec, Status, Verdict, VisionBlock
from tools.faults.proxies import free_port

FRAMES = 10_000
GATEWAY = """[gateway]
name = "g1"
daemon = "ipc://{folder}/g"
station = "top"
[window]
distance = 4000
tolerance = 150
[plc]
kind = "modbus-server"
address = "127.0.0.1:{port}"
"""
SCHEMAS = Path(__file__).parents[2] / "edge_inspector" / "schemas"
ODD: tuple[Any, ...] = (None, True, -1, 2**60, 1e300, "", "x" * 100_000, "\u0000", [], {}, [[]], "pass", "top", 0)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gateway whose daemon is the test."""
    port = free_port()
    (tmp_path / "gateway.toml").write_text(GATEWAY.format(folder=tmp_path, port=port))
    with (tmp_path / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_inspector", "gateway", str(tmp_path / "gateway.toml")], stderr=log
        )
    yield process, port
    process.kill()
    process.wait()


def nonsense(rng: random.Random) -> list[bytes]:
    """Random bytes, several frames, or a message of the protocol in which something is odd."""
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.randbytes(rng.randrange(400))]
    if kind == 1:
        return [rng.randbytes(rng.randrange(20)) for _ in range(rng.randrange(1, 5))]
    name = rng.choice(("verdict", "heartbeat", "welcome", "gap", "trigger_ack"))
    golden = (SCHEMAS / f"{name}.golden.json").read_bytes()
    if kind == 2:
        raw = bytearray(golden)
        for _ in range(rng.randrange(1, 6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return [bytes(raw)]
    message = json.loads(golden)
    for _ in range(rng.randrange(1, 3)):
        message[rng.choice(sorted(message))] = rng.choice(ODD)
    message.update({key: rng.choice((value, "top")) for key, value in message.items() if key == "station"})
    return [json.dumps(message).encode()]


def read(plc: ModbusTcpClient) -> VisionBlock:
    """As a PLC does."""
    block = Codec().read_vision(plc.read_holding_registers(0, count=VISION_SIZE, device_id=1).registers)
    assert block is not None
    return block


def test_ten_thousand_frames_of_nonsense(gateway: tuple[subprocess.Popen[bytes], int]) -> None:
    """No crash, no pass, no memory lost; and the PLC is served all the while."""
    process, port = gateway
    rng = random.Random(5)
    plc = ModbusTcpClient("127.0.0.1", port=port, timeout=5)
    until = time.monotonic() + 20
    while not plc.connect():
        assert time.monotonic() < until
        time.sleep(0.05)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set(zmq.LINGER, 0)
        router.set(zmq.ROUTER_MANDATORY, 1)
        address = (Path(process.args[-1]).parent / "g") if isinstance(process.args, list) else Path()
        router.bind(f"ipc://{address}")
        assert router.poll(10_000)
        who, hello = router.recv_multipart()
        assert json.loads(hello)["type"] == "hello"
        beats, used = set(), [0.0]
        for n in range(FRAMES):
            router.send_multipart([who, *nonsense(rng)])
            if n % 100 == 0:
                time.sleep(0.02)
                with contextlib.suppress(zmq.Again):
                    while True:
                        router.recv_multipart(zmq.NOBLOCK)
                block = read(plc)
                beats.add(block.header["heartbeat"])
                assert Verdict.PASS not in [result.verdict for result in block.results]
                assert Status.LINE_STOP not in block.status
                if n == FRAMES // 5:
                    used[0] = psutil.Process(process.pid).memory_info().rss / 1e6
        assert process.poll() is None
        assert psutil.Process(process.pid).memory_info().rss / 1e6 - used[0] < 5.0
        assert len(beats) > 3
    plc.close()

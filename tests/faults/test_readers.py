"""Readers and gateways that do not read, die, never acknowledge, come in twos, or talk nonsense."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import zmq

from .rig import Gateway, boards, must_add_up, running, step

DEAF = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.set(zmq.RCVHWM, 1)
socket.subscribe("")
socket.connect(sys.argv[1])
print("deaf", flush=True)
time.sleep(600)
"""


def test_a_subscriber_that_never_reads(tmp_path: Path) -> None:
    """It loses what is its own; the others hear everything, and the daemon does not grow."""
    with running(tmp_path, camera=boards(200), script=[step()]) as daemon:
        daemon.wait_until_ready()
        deaf = subprocess.Popen([sys.executable, "-c", DEAF, f"ipc://{tmp_path}/v"], stdout=subprocess.PIPE)
        try:
            assert deaf.stdout is not None
            assert deaf.stdout.readline() == b"deaf\n"
            os.kill(deaf.pid, signal.SIGSTOP)
            daemon.wait_for_verdicts(400)
            before_mb = daemon.memory_mb()
            daemon.wait_for_verdicts(2400)
            assert daemon.memory_mb() - before_mb < 20
        finally:
            deaf.kill()
            deaf.wait()
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_subscriber_that_dies_and_returns_gets_what_it_missed(tmp_path: Path) -> None:
    """`subscribe` killed and started again: what it did not hear lies in the daemon's history, in order."""
    command = [sys.executable, "-m", "edge_inspector", "subscribe", str(tmp_path / "line.toml"), "--json"]
    with running(tmp_path, camera=boards(50), script=[step()]) as daemon:
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert first.stdout is not None
        heard = [json.loads(first.stdout.readline())["seq"] for _ in range(40)]
        first.kill()
        first.wait()
        daemon.wait_for_verdicts(heard[-1] + 50)
        second = subprocess.run([*command, "--count", "30"], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        again = [json.loads(line)["seq"] for line in second.stdout.splitlines()]
        assert heard == list(range(heard[0], heard[0] + 40))
        assert again == list(range(again[0], again[0] + 30))
        with Gateway(tmp_path, hello=False) as reader:
            epoch = daemon.ears.beats[-1]["epoch"]
            reader.send({"type": "replay", "station": "top", "epoch": epoch, "from_seq": heard[-1] + 1})
            missed = [reader.expect("verdict") for _ in range(again[0] - heard[-1] - 1)]
        assert [verdict["seq"] for verdict in missed] == list(range(heard[-1] + 1, again[0]))
        assert all(verdict["replay"] for verdict in missed)
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_subscribe_repairs_a_gap_by_itself(tmp_path: Path) -> None:
    """A `subscribe` that is stopped until its queue overflows asks for what it lost, and prints all in order."""
    command = [sys.executable, "-m", "edge_inspector", "subscribe", str(tmp_path / "line.toml"), "--json"]
    with running(tmp_path, camera=boards(50), script=[step()]) as daemon:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            heard = [json.loads(reader.stdout.readline())["seq"] for _ in range(20)]
            daemon.wait_for_verdicts(heard[-1] + 20)
            heard += [json.loads(reader.stdout.readline())["seq"] for _ in range(40)]
            reader.kill()
        assert heard == list(range(heard[0], heard[0] + 60))


def test_a_gateway_that_never_acknowledges(tmp_path: Path) -> None:
    """Each verdict is sent to it again until its deadline, then never; everybody else notices nothing."""
    with running(tmp_path, camera=boards(10, 30), script=[step()], deadline_ms=200) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            arrivals: dict[int, list[int]] = {}
            deadlines: dict[int, int] = {}
            while daemon.process.poll() is None:
                message = gateway.receive(0.2)
                if message is not None and message["type"] == "verdict":
                    now_us = time.time_ns() // 1000
                    arrivals.setdefault(message["seq"], []).append(now_us)
                    deadlines[message["seq"]] = message["deadline_us"]
        assert daemon.process.wait(10) == 0
        must_add_up(daemon)
        assert len(arrivals) >= 25
        assert min(len(times) for times in arrivals.values()) >= 3
        assert max(len(times) for times in arrivals.values()) <= 200 // 20 + 1
        assert daemon.ears.beats[-1]["counters"]["missed_acks"] == len(arrivals)


def test_an_acknowledged_verdict_is_not_sent_again(tmp_path: Path) -> None:
    """One answer in time, and the daemon leaves it at that."""
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            gateway.trigger(1)
            gateway.ack(gateway.expect("verdict"))
            time.sleep(0.5)
            later = []
            while (message := gateway.receive(0.05)) is not None:
                later.append(message["type"])
                if len(later) > 100:
                    break
            assert later.count("verdict") <= 1  # one may have crossed our acknowledgement on the way
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert daemon.ears.beats[-1]["counters"]["missed_acks"] == 0


def test_two_gateways(tmp_path: Path) -> None:
    """Both get every verdict; a trigger that both forward makes one part."""
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step(delay_ms=2)]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path, "g1") as one, Gateway(tmp_path, "g2") as two:
            for number in range(1, 31):
                one.trigger(number, part_id=f"A-{number}", encoder=number * 10)
                two.trigger(number)
                answers = [one.expect("trigger_ack"), two.expect("trigger_ack")]
                assert sorted(answer["accepted"] for answer in answers) == [False, True]
                assert sorted(answer["reason"] for answer in answers) == ["", "duplicate"]
                for gateway in (one, two):
                    while (verdict := gateway.expect("verdict"))["trigger_id"] != number:
                        gateway.ack(verdict)
                    gateway.ack(verdict)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert len(daemon.ears.verdicts) == 30


def test_duplicated_and_out_of_order_triggers(tmp_path: Path) -> None:
    """Each id makes one part, whenever it comes and however often."""
    ids = [number for number in range(1, 61) for _ in range(1 + number % 3)]
    random.Random(4).shuffle(ids)
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            accepted = []
            for number in ids:
                gateway.trigger(number)
                if gateway.expect("trigger_ack")["accepted"]:
                    accepted.append(number)
            daemon.wait_for_verdicts(60)
        assert sorted(accepted) == list(range(1, 61))
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert sorted(verdict["trigger_id"] for verdict in daemon.ears.verdicts) == list(range(1, 61))


def nonsense(count: int) -> list[bytes]:
    """Malformed, truncated, huge and random messages, the same every time."""
    chance = random.Random(1)
    good = [
        {"type": "trigger", "station": "top", "trigger_id": 1},
        {"type": "hello", "gateway": "g", "epoch": None, "last_seq": 0},
        {"type": "ack", "station": "top", "epoch": "x", "seq": 1, "t_written_us": 1},
        {"type": "replay", "station": "top", "epoch": "x", "from_seq": 1},
    ]
    messages = []
    for number in range(count):
        text = json.dumps(chance.choice(good)).encode()
        kind = number % 8
        if kind == 0:
            message = text[: chance.randrange(len(text))]
        elif kind == 1:
            message = chance.randbytes(chance.randrange(200))
        elif kind == 2:
            message = text.replace(b'"top"', b"17").replace(b'"g"', b"[]").replace(b"null", b"1.5")
        elif kind == 3:
            message = b"[" * 50_000 if number % 80 == 3 else b"\xff\xfe" + text
        elif kind == 4:
            message = json.dumps({"type": "trigger", "station": "nowhere", "trigger_id": number}).encode()
        elif kind == 5:
            message = json.dumps({"type": "verdict", "seq": number}).encode()
        elif kind == 6:
            message = b'{"type":"trigger","station":"top","trigger_id":' + b"9" * chance.randrange(20, 400) + b"}"
        else:
            message = b" " * (1_000_000 if number % 400 == 7 else 70_000)
        messages.append(message)
    return messages


def test_ten_thousand_malformed_messages(tmp_path: Path) -> None:
    """Each is counted and answered with an error; verdicts go on in time, memory stays, the connection lives on."""
    with running(tmp_path, camera=boards(20), script=[step(delay_ms=5)]) as daemon:
        daemon.wait_for_verdicts(10)
        with Gateway(tmp_path) as gateway:
            answers, before_mb = 0, daemon.memory_mb()
            for sent, message in enumerate(nonsense(10_000), 1):
                gateway.send(message)
                while sent - answers > 50:
                    answers += gateway.expect("error")["reason"] != ""
                if sent == 2_000:
                    before_mb = daemon.memory_mb()
            while answers < 10_000:
                answers += gateway.expect("error")["reason"] != ""
            assert daemon.memory_mb() - before_mb < 20
            daemon.wait_for(lambda: daemon.ears.beats[-1]["counters"]["malformed"] == 10_000)
            gateway.send({"type": "hello", "gateway": "g1", "epoch": None, "last_seq": 0})
            assert gateway.expect("welcome")["line"] == "line1"
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert len(daemon.ears.verdicts) > 10
        assert set(daemon.ears.reasons) == {"ok"}


def test_frames_that_do_not_belong(tmp_path: Path) -> None:
    """Two frames, or an empty one between (as REQ sends): an error, and the daemon lives."""
    with running(tmp_path, camera=boards(20), script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            gateway.socket.send_multipart([b"", b'{"type":"hello"}'])
            assert "2 frames" in gateway.expect("error")["reason"]
            gateway.socket.send_multipart([b"a"] * 1000)
            assert "1000 frames" in gateway.expect("error")["reason"]
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_gateway_that_dies_and_returns(tmp_path: Path) -> None:
    """Its next self says hello under the same name, learns where the ids stand, and gets what it missed on request."""
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            for number in (1, 2, 3):
                gateway.trigger(number)
                gateway.expect("verdict")
        with Gateway(tmp_path) as gateway:
            station = gateway.welcome["stations"][0]
            assert (station["last_seq"], station["oldest_seq"], station["last_trigger_id"]) == (3, 1, 3)
            gateway.send({"type": "replay", "station": "top", "epoch": gateway.welcome["epoch"], "from_seq": 2})
            replayed = [gateway.expect("verdict") for _ in range(2)]
            assert [verdict["seq"] for verdict in replayed if verdict.get("replay")] == [2, 3]
            gateway.send({"type": "replay", "station": "top", "epoch": "0" * 16, "from_seq": 1})
            assert gateway.expect("gap")["oldest_seq"] == 1
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_peer_with_a_full_queue_does_not_hold_anyone_up(tmp_path: Path) -> None:
    """A gateway that has registered and then never reads: the others' verdicts go on."""
    with running(tmp_path, camera=boards(100), script=[step()], deadline_ms=200) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path, "deaf") as deaf:
            deaf.socket.set(zmq.RCVHWM, 1)
            daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 500)
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_gateway_that_has_not_said_hello(tmp_path: Path) -> None:
    """No verdict could reach it: its triggers are refused, which after a restart tells it to say hello again."""
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path, hello=False) as gateway:
            gateway.trigger(1)
            answer = gateway.expect("trigger_ack")
            assert not answer["accepted"]
            assert answer["reason"].startswith("not_registered")
            assert answer["epoch"] == daemon.ears.beats[-1]["epoch"]
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_triggers_that_waited_while_the_daemon_stood_still(tmp_path: Path) -> None:
    """Their parts have long gone by: a picture taken now would show others. Each is a fault."""
    with running(tmp_path, camera=boards(0), trigger="gateway", script=[step()]) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            daemon.freeze()
            for number in (1, 2, 3):
                gateway.trigger(number)
            time.sleep(1.5)
            daemon.send(signal.SIGCONT)
            daemon.wait_for_verdicts(3)
            time.sleep(0.5)
            gateway.trigger(4)
            daemon.wait_for_verdicts(4)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert [verdict["reason"] for verdict in daemon.ears.verdicts] == ["timeout", "timeout", "timeout", "ok"]
        assert "stood still" in daemon.log.read_text()

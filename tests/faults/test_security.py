"""Who may enter: a real daemon on tcp://, clients with every kind of key, and a list that changes while it runs.

The clients speak CURVE by hand: what is tested is what anybody's program would see.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from edge_inspector.doorkeeper import Doorkeeper
from edge_inspector.keys import Client, is_key, make_pair, read_public, write_clients

from ..cameras.servers import closed_port
from .rig import Daemon, Ears, Gateway, Message, Prepare, boards, must_add_up, step, write_line

EDGE = [sys.executable, "-m", "edge_inspector"]


def coming_with(pair: tuple[str, str], server: str) -> Prepare:
    """A socket's options: its own keys, public and secret, and the daemon's public one."""

    def prepare(socket: zmq.Socket[bytes]) -> None:
        socket.curve_publickey, socket.curve_secretkey = (key.encode() for key in pair)
        socket.curve_serverkey = server.encode()

    return prepare


def pair() -> tuple[str, str]:
    """New keys: public, secret."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


@dataclass
class Line:
    """A daemon whose line uses keys, and the clients that are on its list: reader, gateway, and whoever is added."""

    folder: Path
    verdicts: str = field(default_factory=lambda: f"tcp://{closed_port()}")
    gateway: str = field(default_factory=lambda: f"tcp://{closed_port()}")
    daemon: Daemon = field(init=False)
    server: str = field(init=False)
    pairs: dict[str, tuple[str, str]] = field(default_factory=lambda: {"ears": pair(), "reader": pair(), "plc": pair()})

    @property
    def keys(self) -> Path:
        """The key folder."""
        return self.folder / "keys"

    def allow(self, **roles: str) -> None:
        """The list is these, and nobody else."""
        clients = [Client(name=name, key=self.pairs[name][0], role=role) for name, role in roles.items()]
        write_clients(self.keys / "clients.toml", clients)

    def coming_as(self, name: str) -> Prepare:
        """A client of the list."""
        return coming_with(self.pairs[name], self.server)

    def refused(self) -> list[str]:
        """The log's lines about clients that were not let in."""
        return [line for line in self.daemon.log.read_text().splitlines() if "client refused" in line]

    def attempts(self) -> int:
        """How often somebody was refused."""
        beats = self.daemon.ears.beats
        return int(beats[-1]["counters"]["refused"]) if beats else 0

    def write(self, **line: Any) -> Path:
        """The line's file."""
        path = write_line(self.folder, **line)
        text = path.read_text().replace(f"ipc://{self.folder}/v", self.verdicts)
        text = text.replace(f"ipc://{self.folder}/g", self.gateway)
        path.write_text(text.replace("[publish]", '[publish]\nkeys = "keys"'))
        return path


@contextlib.contextmanager
def secured(line: Line, **more: Any) -> Iterator[Line]:
    """A daemon that is ready, and ears with the role `read`."""
    line.server = make_pair(line.keys, "server")
    line.allow(ears="read", reader="read", plc="gateway")
    ears = Ears(line.folder, address=line.verdicts, prepare=line.coming_as("ears"))
    line.daemon = Daemon(line.write(**{"camera": boards(50), "script": [step()], **more}), ears=ears)
    try:
        line.daemon.wait_until_ready()
        yield line
    finally:
        line.daemon.process.kill()
        line.daemon.process.wait()
        ears.stop()


class Reader(threading.Thread):
    """A subscriber that says who it is, and what it has heard."""

    def __init__(self, address: str, prepare: Prepare) -> None:
        super().__init__(daemon=True)
        self.heard: list[Message] = []
        self._where = address, prepare
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        """Listen."""
        address, prepare = self._where
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger = 0
            prepare(socket)
            socket.subscribe("")
            socket.connect(address)
            while not self._done.is_set():
                if socket.poll(50):
                    self.heard.append(json.loads(socket.recv_multipart()[1]))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()


def test_each_role_gets_what_is_its_own(tmp_path: Path) -> None:
    """`read` hears verdicts; `gateway` says hello, triggers and gets its verdict, and hears what all hear."""
    with secured(Line(tmp_path), camera=boards(0), trigger="gateway") as line:
        with (
            Reader(line.verdicts, line.coming_as("reader")) as reader,
            Reader(line.verdicts, line.coming_as("plc")) as listening_plc,
            Gateway(tmp_path, address=line.gateway, prepare=line.coming_as("plc")) as gateway,
        ):
            line.daemon.wait_for(lambda: reader.heard and listening_plc.heard)
            gateway.trigger(1)
            assert gateway.expect("trigger_ack")["accepted"]
            gateway.ack(gateway.expect("verdict"))
            for each in (reader, listening_plc):
                line.daemon.wait_for(lambda each=each: [m["seq"] for m in each.heard if m["type"] == "verdict"] == [1])
        assert line.daemon.stop() == 0
        assert line.refused() == []
        must_add_up(line.daemon)


def test_the_owner_of_the_line_needs_no_more_than_its_file(tmp_path: Path) -> None:
    """`subscribe` and `trigger` take everything from LINE.toml where they may read the daemon's secret."""
    with secured(Line(tmp_path), camera=boards(0), trigger="gateway") as line:
        path = str(tmp_path / "line.toml")
        reader = subprocess.Popen([*EDGE, "subscribe", path, "--json", "--count", "3"], stdout=subprocess.PIPE)
        sent = subprocess.run([*EDGE, "trigger", path, "--count", "3", "--rate", "20"], timeout=60, check=False)
        assert sent.returncode == 0
        line.daemon.wait_for_verdicts(3)
        reader.terminate()
        reader.communicate(timeout=60)
        assert line.daemon.stop() == 0
        assert line.refused() == []


def test_a_client_elsewhere_needs_two_files(tmp_path: Path) -> None:
    """NAME.secret and server.public beside it; the role is the list's."""
    with secured(Line(tmp_path)) as line:
        away = tmp_path / "laptop"
        make_pair(away, "laptop")
        (away / "server.public").write_bytes((line.keys / "server.public").read_bytes())
        line.pairs["laptop"] = (read_public(away / "laptop.public"), "")
        line.allow(ears="read", laptop="read")
        command = [*EDGE, "subscribe", line.verdicts, "--json", "--count", "5", "--key", str(away / "laptop.secret")]
        printed = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True).stdout
        assert len(printed.splitlines()) == 5
        assert line.refused() == []


NOBODY = pair()
REFUSED = {
    "plain": "it shows no key",
    "unknown": "its key is not allowed",
    "other daemon": "it expects a daemon with another key",
    "read": 'its role is "read" (reader)',
}


@pytest.mark.parametrize(
    ("kind", "endpoint"),
    [(kind, end) for kind in REFUSED for end in ("verdicts", "gateway") if (kind, end) != ("read", "verdicts")],
)
def test_refused_and_logged_once(tmp_path: Path, kind: str, endpoint: str) -> None:
    """However often it comes again, it gets nothing, it is one line in the log, and the verdicts go on."""
    with secured(Line(tmp_path)) as line:
        prepare = {
            "plain": lambda socket: None,
            "unknown": coming_with(NOBODY, line.server),
            "other daemon": coming_with(line.pairs["plc"], pair()[0]),
            "read": line.coming_as("reader"),
        }[kind]
        address = line.verdicts if endpoint == "verdicts" else line.gateway
        heard_before = len(line.daemon.ears.verdicts)
        with zmq.Context() as context, contextlib.ExitStack() as stack:
            sockets = []
            for attempt in range(1, 8):
                socket = stack.enter_context(context.socket(zmq.SUB if endpoint == "verdicts" else zmq.DEALER))
                socket.linger = 0
                prepare(socket)
                if endpoint == "verdicts":
                    socket.subscribe("")
                socket.connect(address)
                if endpoint == "gateway":
                    socket.send(b'{"type":"hello","gateway":"g1","epoch":null,"last_seq":0}')
                sockets.append(socket)
                line.daemon.wait_for(lambda attempt=attempt: line.attempts() >= attempt)
            line.daemon.wait_for_verdicts(heard_before + 20)
            assert not any(socket.poll(50) for socket in sockets)
            assert line.daemon.stop() == 0
        for told in line.refused():
            assert REFUSED[kind] in told
            assert f"endpoint={endpoint}" in told
        addresses = sorted("127.0.0.1" if "address=127.0.0.1" in told else "?" for told in line.refused())
        assert addresses in (["127.0.0.1"], ["?"], ["127.0.0.1", "?"])  # who shows no key may be gone before one looks
        assert addresses == ["127.0.0.1"] or kind in ("plain", "other daemon")
        assert "gateway registered" not in line.daemon.log.read_text()
        must_add_up(line.daemon)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_revoked_while_connected(tmp_path: Path, transport: str) -> None:
    """It hears no more and is heard no more, at both endpoints; who stays loses nothing. Allowed again, it is back."""
    line = Line(tmp_path) if transport == "tcp" else Line(tmp_path, f"ipc://{tmp_path}/v", f"ipc://{tmp_path}/g")
    with secured(line, trigger="gateway", camera=boards(0)):
        line.pairs["other"] = pair()
        line.allow(ears="read", reader="read", plc="gateway", other="gateway")
        line.daemon.wait_for(lambda: "added=other" in line.daemon.log.read_text())
        command = [*EDGE, "subscribe", str(tmp_path / "line.toml"), "--json", "--count", "40"]
        remains = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with (
            Reader(line.verdicts, line.coming_as("reader")) as reader,
            Gateway(tmp_path, "revoked", address=line.gateway, prepare=line.coming_as("plc")) as revoked,
            Gateway(tmp_path, "good", address=line.gateway, prepare=line.coming_as("other")) as good,
        ):
            assert remains.stdout is not None
            first = None
            number = 0
            while first is None:  # until the one that remains is connected
                number += 1
                good.trigger(number)
                good.ack(good.expect("verdict"))
                revoked.ack(revoked.expect("verdict"))
                line.daemon.wait_for(lambda: reader.heard)
                first = _line(remains)
            line.allow(ears="read", other="gateway")
            line.daemon.wait_for(lambda: "every reader was sent away" in line.daemon.log.read_text())
            _late(line, revoked)
            reader.heard.clear()
            revoked.trigger(5000)
            for _ in range(20):
                number += 1
                good.trigger(number)
                good.ack(good.expect("verdict"))
            assert _late(line, revoked) == []
            line.daemon.wait_for(lambda: len(line.refused()) >= 2)  # the reader has come again, in vain
            assert reader.heard == []
            line.allow(ears="read", other="gateway", reader="read", plc="gateway")
            line.daemon.wait_for(lambda: reader.heard)
            revoked.send({"type": "hello", "gateway": "revoked", "epoch": None, "last_seq": 0})
            revoked.expect("welcome")
            while remains.poll() is None:
                number += 1
                good.trigger(number)
                good.ack(good.expect("verdict"))
                revoked.ack(revoked.expect("verdict"))
        seqs = [first, *(json.loads(text)["seq"] for text in remains.stdout.read().splitlines())]
        assert seqs == list(range(first, first + 40))
        assert remains.returncode == 0
        assert line.daemon.stop() == 0
        assert sorted("endpoint=gateway" in told for told in line.refused()) == [False, True]
        assert all("its key was revoked" in told for told in line.refused())
        assert not any(verdict["trigger_id"] == 5000 for verdict in line.daemon.ears.verdicts)


def _line(process: subprocess.Popen[str]) -> int | None:
    """The seq of the next printed verdict, None where none comes soon."""
    assert process.stdout is not None
    poller = zmq.Poller()
    poller.register(process.stdout.fileno(), zmq.POLLIN)
    return int(json.loads(process.stdout.readline())["seq"]) if poller.poll(200) else None


def _late(line: Line, gateway: Gateway) -> list[Message]:
    """What still comes to a gateway while ten heartbeats go out to everyone else."""
    beats = len(line.daemon.ears.beats)
    line.daemon.wait_for(lambda: len(line.daemon.ears.beats) >= beats + 10)
    messages = []
    while (message := gateway.receive(0.0)) is not None:
        messages.append(message)
    return messages


def test_a_gateway_that_becomes_a_reader(tmp_path: Path) -> None:
    """The role is asked for at every message: it triggers no more, and readers are not disturbed."""
    with secured(Line(tmp_path), trigger="gateway", camera=boards(0)) as line:
        with Gateway(tmp_path, address=line.gateway, prepare=line.coming_as("plc")) as gateway:
            line.allow(ears="read", plc="read")
            line.daemon.wait_for(lambda: "who may enter has changed" in line.daemon.log.read_text())
            for number in range(5):
                gateway.trigger(number)
            line.daemon.wait_for(lambda: line.attempts() >= 5)
            assert {message["type"] for message in _late(line, gateway)} <= {"heartbeat"}  # of before
            assert _late(line, gateway) == []
        assert line.daemon.stop() == 0
        (told,) = line.refused()
        assert 'its role is "read" (plc)' in told
        assert "every reader was sent away" not in line.daemon.log.read_text()
        assert line.daemon.ears.verdicts == []


def test_a_broken_list_changes_nothing(tmp_path: Path) -> None:
    """It is logged, once, and the old list stays until there is a right one; no list at all lets nobody in."""
    with secured(Line(tmp_path)) as line:
        path = line.keys / "clients.toml"
        right = path.read_text()
        path.write_text("[[client]\n")
        line.daemon.wait_for(lambda: "the old list stays" in line.daemon.log.read_text())
        with Reader(line.verdicts, line.coming_as("reader")) as reader:
            line.daemon.wait_for(lambda: reader.heard)
            path.unlink()
            line.daemon.wait_for(lambda: "its key was revoked (reader)" in line.daemon.log.read_text())
            path.write_text(right)
            reader.heard.clear()
            line.daemon.wait_for(lambda: reader.heard)
        assert line.daemon.stop() == 0
        assert line.daemon.log.read_text().count("the old list stays") == 1


def test_a_flood_of_keys_is_counted_and_not_logged(tmp_path: Path) -> None:
    """Memory and log are bounded: whoever comes with a new key each time fills neither."""
    folder = tmp_path / "keys"
    make_pair(folder, "server")
    with zmq.Context() as context:
        door = Doorkeeper(context, folder)
        for number in range(3000):
            door._refuse("verdicts", "10.0.0.1", "its key is not allowed", f"{number:040}")
        assert door.refused == 3000
        assert len(door._told) <= 1001
        door.close()


@pytest.mark.parametrize("broken", ["nobody answers", "nobody is there"])
def test_without_the_doorkeeper_nobody_enters(tmp_path: Path, broken: str) -> None:
    """It fails closed: the right key is not enough where nobody answers for it; with an answer, it is."""
    folder, client = tmp_path / "keys", pair()
    server = make_pair(folder, "server")
    write_clients(folder / "clients.toml", [Client(name="plc", key=client[0], role="gateway")])
    with zmq.Context() as context:
        door = Doorkeeper(context, folder)
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        door.guard(router, "gateway")
        router.bind(f"ipc://{tmp_path}/g")
        if broken == "nobody is there":
            door.close()
        with Gateway(tmp_path, hello=False, prepare=coming_with(client, server)) as gateway:
            gateway.send({"type": "hello"})
            assert not router.poll(500)
            if broken == "nobody answers":  # which shows that it was for want of an answer
                while not router.poll(10):
                    door.turn()
                key, (_, message) = door.receive(router)
                assert (key, message) == (client[0], b'{"type": "hello"}')
        door.unguard("gateway")
        router.close()
        door.close()


def test_what_is_wrong_with_the_keys_is_said_at_the_start(tmp_path: Path) -> None:
    """No folder, no secret: 3, and the command that makes it. A secret that others can read: 78, and chmod."""
    line = Line(tmp_path)
    path = line.write(camera=boards(10), script=[step()])

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*EDGE, "run", str(path)], capture_output=True, text=True, timeout=60, check=False)

    for _ in range(2):
        ended = run()
        assert ended.returncode == 3
        assert f"edge-inspector keys new server --folder {line.keys}" in ended.stderr
        line.keys.mkdir(exist_ok=True)
    make_pair(line.keys, "server")
    (line.keys / "server.secret").chmod(0o640)
    ended = run()
    assert ended.returncode == 78
    assert f"chmod 600 {line.keys}/server.secret" in ended.stderr
    (line.keys / "server.secret").chmod(0o600)
    (line.keys / "clients.toml").write_text('[[client]]\nname = "x"\nrole = "reed"\nkey = ""\n')
    ended = run()
    assert ended.returncode == 78
    assert "client[0].key" in ended.stderr


def test_an_address_that_is_taken_ends_the_start(tmp_path: Path) -> None:
    """As without keys: exit 3 at once, and nothing of ZeroMQ holds the process up."""
    line = Line(tmp_path)
    make_pair(line.keys, "server")
    path = line.write(camera=boards(10), script=[step()])
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        other.bind(line.gateway)
        ended = subprocess.run([*EDGE, "run", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert "publish.gateway: cannot bind" in ended.stderr


def test_the_secret_from_systemd(tmp_path: Path) -> None:
    """A credential takes the folder's place, and its mode is systemd's business (an ACL shows as the group's right)."""
    line = Line(tmp_path)
    credentials = tmp_path / "credentials"
    line.server = make_pair(credentials, "server")
    (credentials / "server.secret").chmod(0o440)
    line.keys.mkdir()
    line.allow(ears="read")
    ears = Ears(tmp_path, address=line.verdicts, prepare=line.coming_as("ears"))
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    daemon = Daemon(line.write(camera=boards(10), script=[step()]), env=env, ears=ears)
    try:
        daemon.wait_until_ready()
        assert daemon.stop() == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()
        ears.stop()


def test_a_refused_command_says_so(tmp_path: Path) -> None:
    """`subscribe` and `trigger` tell why nobody is heard: no key, or one that is not allowed."""
    with secured(Line(tmp_path)) as line:
        make_pair(tmp_path, "stranger")
        key = ["--key", str(tmp_path / "stranger.secret"), "--server-key", str(line.keys / "server.public")]
        for options, expected in (([], "it asks for a key: --key"), (key, "it does not let this key in")):
            sent = subprocess.run(
                [*EDGE, "trigger", line.gateway, *options], capture_output=True, text=True, timeout=60, check=False
            )
            assert sent.returncode == 1
            assert expected in sent.stderr
            reader = subprocess.Popen(
                [*EDGE, "subscribe", line.verdicts, *options],
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            assert reader.stderr is not None
            said = [reader.stderr.readline(), reader.stderr.readline()]
            reader.terminate()
            reader.wait()
            assert expected in said[1]
        assert line.daemon.stop() == 0
        assert is_key(read_public(tmp_path / "stranger.public"))
        assert sum(read_public(tmp_path / "stranger.public") in told for told in line.refused()) == 2  # each endpoint


def test_an_open_address(tmp_path: Path) -> None:
    """With keys any address is taken, without a warning; with `insecure` it is one at every start."""
    line = Line(tmp_path)
    line.verdicts, line.gateway = (each.replace("127.0.0.1", "0.0.0.0") for each in (line.verdicts, line.gateway))
    make_pair(line.keys, "server")
    path = line.write(camera=boards(50, count=5), script=[step()])
    for text, warned in (('keys = "keys"', False), ("insecure = true", True)):
        path.write_text(path.read_text().replace('keys = "keys"', text))
        ended = subprocess.run([*EDGE, "run", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ("anyone who reaches this address" in ended.stderr) == warned

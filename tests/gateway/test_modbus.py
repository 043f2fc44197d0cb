"""Both Modbus roles over real sockets; the other side is pymodbus, which had no part in ours."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection as PipeConnection
from typing import Any

import psutil
import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_inspector.errors import MissingError
from edge_inspector.gateway import modbus, modbus_client
from edge_inspector.gateway.base import Heard, Lost, Plc, PlcEvent, Shown
from edge_inspector.gateway.config import PlcTable
from edge_inspector.gateway.modbus import CONNECTIONS_AT_MOST, ModbusServer
from edge_inspector.gateway.modbus_client import RECONNECT_S, TIMEOUT_S, ModbusClient
from edge_inspector.gateway.registers import (
    MAP_VERSION,
    PLC_SIZE,
    SLOTS,
    VISION,
    VISION_SIZE,
    Codec,
    Control,
    PlcBlock,
    Registers,
    Result,
    Trigger,
    Verdict,
)
from edge_inspector.mailbox import Outbox

SESSION = 4711
PATIENCE_S = 20.0


# the two sides


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(kind: str, port: int | None = None, **values: Any) -> PlcTable:
    """The configuration of a link on this machine."""
    return PlcTable(kind=kind, address=f"127.0.0.1:{port or free_port()}", **values)


def vision(codec: Codec, number: int = 0, *, session: int = SESSION, heartbeat: int = 1) -> Registers:
    """A vision block, each of its values another; results up to `number`."""
    values = {field.name: (number + 3) * 65_537 * (n + 1) for n, field in enumerate(VISION)}
    values |= {"version": MAP_VERSION, "session": session, "result": number, "clock": 0}
    values |= {"heartbeat": heartbeat, "heartbeat_again": heartbeat}
    results: list[Result | None] = [None] * SLOTS
    for each in range(max(1, number - SLOTS + 1), number + 1):
        results[each % SLOTS] = Result(each, 2**31 + each, each * 65_537, 2**32 - each, Verdict.FAIL, "defect", each)
    return codec.pack(VISION, values) + [word for result in results for word in codec.result(result)]


def block(codec: Codec, trigger: int = 5, **values: int) -> tuple[Registers, PlcBlock]:
    """A PLC block as registers, and as it is to be heard."""
    said = {"control": 1, "heartbeat": 7, "echo": 0, "session": 0, "encoder": 2**31 + 3, "acknowledged": 70_000,
            "clear": 2, "boot": 9, "trigger": trigger, **values}  # fmt: skip
    ids = range(max(1, trigger - SLOTS + 1), trigger + 1)
    triggers = [Trigger(each, each * 65_537 % 2**32, 2**32 - each) for each in ids]
    read = {name: value for name, value in said.items() if name != "control"}
    zeros = [Trigger(0, 0, 0)] if trigger < SLOTS else []
    in_order = tuple(sorted(zeros + triggers, key=lambda each: each.id % SLOTS))
    return codec.plc(said, triggers), PlcBlock(control=Control(said["control"]), triggers=in_order, **read)


class Mail:
    """What a link has told so far."""

    def __init__(self) -> None:
        self.box: Outbox[PlcEvent] = Outbox()
        self.events: list[PlcEvent] = []

    def seen(self, kind: type) -> list[Any]:
        """All of one kind, up to now."""
        self.events += self.box.drain()
        return [event for event in self.events if type(event) is kind]

    def wait(self, kind: type, fits: Callable[[Any], bool] = lambda event: True, *, after: int = 0) -> Any:
        """The first one that fits, of those after the first `after` events."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self.events += self.box.drain()
            for event in self.events[after:]:
                if type(event) is kind and fits(event):
                    return event
            time.sleep(0.002)
        raise AssertionError(f"no such {kind.__name__}; the last events: {self.events[-5:]}")

    def now(self) -> int:
        """How many events there are."""
        self.events += self.box.drain()
        return len(self.events)


@contextmanager
def running(link: Plc) -> Iterator[None]:
    """A link between start and close."""
    link.start()
    try:
        yield
    finally:
        link.close()


@contextmanager
def serving(codec: Codec | None = None, **values: Any) -> Iterator[tuple[ModbusServer, Mail, ModbusTcpClient]]:
    """Our server, what it tells, and a PLC that is connected."""
    config, mail = table("modbus-server", **values), Mail()
    server = ModbusServer(config, mail.box, codec or Codec())
    with running(server), closing(ModbusTcpClient("127.0.0.1", port=config.port, timeout=2, retries=0)) as plc:
        assert plc.connect()
        yield server, mail, plc


class PlcServer:
    """A PLC that is a Modbus server: pymodbus's, in a thread. writes: requests with function 16."""

    def __init__(self, port: int, *, vision_at: int = 0, plc_at: int = 128) -> None:
        self.writes = 0
        blocks = [SimData(at, values=[0] * size, datatype=DataType.REGISTERS)
                  for at, size in sorted(((vision_at, VISION_SIZE), (plc_at, PLC_SIZE)))]  # fmt: skip
        self._device = SimDevice(id=0, simdata=blocks, action=self._note)
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        self.program = ModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)  # what the PLC's program does
        assert self.program.connect()

    async def _note(self, function: int, *about: Any) -> None:
        self.writes += function == 16

    async def _serve(self) -> None:
        self._server = ModbusTcpServer(self._device, address=("127.0.0.1", self._port))
        await self._server.serve_forever(background=True)
        self._ready.set()
        await self._server.serving
        await asyncio.sleep(0.05)  # so that the connections are closed

    def read(self, at: int, count: int) -> Registers:
        """What stands in its registers."""
        return list(self.program.read_holding_registers(at, count=count).registers)

    def close(self) -> None:
        """Switch it off."""
        self.program.close()
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(PATIENCE_S)
        self._thread.join()
        self._loop.close()


def client(port: int, codec: Codec | None = None, **values: Any) -> tuple[ModbusClient, Mail]:
    """Our client, not started, and what it tells."""
    mail = Mail()
    return ModbusClient(table("modbus-client", port, **values), mail.box, codec or Codec()), mail


def frame(*pdu: int, transaction: int = 1, device: int = 1) -> bytes:
    """One request on the wire."""
    return struct.pack(">HHHB", transaction, 0, 1 + len(pdu), device) + bytes(pdu)


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        assert more, f"the connection has ended after {found!r}"
        found += more
    return found


def ask(connection: socket.socket, request: bytes) -> bytes:
    """The PDU that answers a request."""
    connection.sendall(request)
    head = exactly(connection, 7)
    assert head[:2] == request[:2]
    assert head[6] == request[6]
    return exactly(connection, struct.unpack(">H", head[4:6])[0] - 1)


def raw(port: int) -> socket.socket:
    """A connection without any library."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


# the server


@pytest.mark.parametrize("high_first", [True, False])
def test_server_round_trip(high_first: bool) -> None:
    """All values arrive on both sides, in both word orders, wherever the blocks are."""
    codec = Codec(high_first=high_first)
    order = "high" if high_first else "low"
    with serving(codec, vision_at=1001, plc_at=65_001, word_order=order) as (server, mail, plc):
        shown = vision(codec, 12)
        server.show(shown, 12)
        for read in (plc.read_holding_registers, plc.read_input_registers):
            before = time.monotonic_ns() // 1_000_000
            found = read(1001, count=VISION_SIZE).registers
            assert (found[3] - before) % 65_536 <= time.monotonic_ns() // 1_000_000 - before
            assert [*found[:3], 0, *found[4:]] == shown
        assert read(1003, count=1).registers == shown[2:3]
        assert [result.number for result in codec.read_vision(found).results] == list(range(5, 13))
        registers, expected = block(codec, 70_001)
        assert not plc.write_registers(65_001, registers).isError()
        heard = mail.wait(Heard)
        assert heard.block == expected
        assert heard.age_ns is None
        assert plc.read_holding_registers(65_001, count=PLC_SIZE).registers == registers
        assert not plc.write_register(65_002, 8).isError()  # the heartbeat alone, with function 6
        assert mail.wait(Heard, lambda heard: heard.block.heartbeat == 8).block.encoder == expected.encoder


def test_readable_as_soon_as_shown() -> None:
    """When show has returned, the next read has it; Shown says so, once for each number."""
    with serving() as (server, mail, plc):
        for number in range(1, 200):
            server.show(vision(Codec(), number), number)
            server.show(vision(Codec(), number, heartbeat=2), number)
            found = Codec().read_vision(plc.read_holding_registers(0, count=VISION_SIZE).registers)
            assert found is not None
            assert found.header["result"] == found.results[-1].number == number
        shown = mail.seen(Shown)
        assert [each.number for each in shown] == list(range(1, 200))
        assert all(each.t_ns <= time.monotonic_ns() for each in shown)


def test_a_read_is_whole() -> None:
    """While the gate shows one block after another, every answer is of one block."""
    with serving() as (server, _, plc):
        stop = threading.Event()

        def show() -> None:
            word = 0
            registers = [0] * VISION_SIZE
            while not stop.is_set():
                word = (word + 1) % 65_536
                registers[:] = [word] * VISION_SIZE
                server.show(registers, 0)
                registers[50:] = [0] * (VISION_SIZE - 50)  # the list is the gate's own again

        gate = threading.Thread(target=show)
        gate.start()
        seen = set()
        for _ in range(500):
            found = plc.read_holding_registers(0, count=VISION_SIZE).registers
            assert len(set(found[:3] + found[4:])) == 1
            seen.add(found[0])
        stop.set()
        gate.join()
        assert len(seen) > 10


def test_a_block_in_pieces_is_heard_when_it_is_whole() -> None:
    """Until `trigger_again` is there, nothing is heard of a new trigger."""
    with serving() as (_, mail, plc):
        plc.write_registers(128, block(Codec(), 5)[0])
        mail.wait(Heard)
        registers, expected = block(Codec(), 6, heartbeat=8)
        for first, last in ((0, 12), (12, 40), (40, 60)):
            assert not plc.write_registers(128 + first, registers[first:last]).isError()
            assert len(mail.seen(Heard)) == 1
        plc.write_register(128 + 60, registers[60])
        assert mail.wait(Heard, after=1).block == expected
        assert len(mail.seen(Heard)) == 2


def test_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """How old the PLC's words can be: since it has read our clock. Unknown, where the clock is another gateway's."""
    with serving() as (server, mail, plc):
        server.show(vision(Codec()), 0)

        def said(echo: int, session: int) -> int | None:
            after = mail.now()
            plc.write_registers(128, block(Codec(), echo=echo % 65_536, session=session)[0])
            age_ns: int | None = mail.wait(Heard, after=after).age_ns
            return age_ns

        for _ in range(20):
            before_ns = time.monotonic_ns() // 1_000_000 * 1_000_000
            clock = plc.read_holding_registers(3, count=1).registers[0]
            read_ns = time.monotonic_ns()
            time.sleep(0.003)
            least_ns = time.monotonic_ns() - read_ns
            age_ns = said(clock, SESSION)
            assert age_ns is not None
            assert least_ns <= age_ns <= time.monotonic_ns() - before_ns
        assert said(clock, SESSION + 1) is None
        assert said(clock, 0) is None
        assert said(clock + 5000, SESSION) is None  # from the future, or a turn of the clock ago
        age_ns = said(clock - 20_000, SESSION)
        assert age_ns is not None
        assert age_ns >= 20_000_000_000
        monkeypatch.setattr(modbus, "PLAUSIBLE_NS", 100_000_000)
        monkeypatch.setattr(modbus, "U16", 50)  # the clock goes round every 50 ms, so that any echo looks young
        assert said(7, SESSION) is not None
        time.sleep(0.12)
        assert said(7, SESSION) is None  # but this one is as old as we know it
        assert said(8, SESSION) is not None


def test_before_anything_is_shown() -> None:
    """What can be read then is no vision block, and session 0 is nobody's."""
    with serving() as (_, mail, plc):
        assert Codec().read_vision(plc.read_holding_registers(0, count=VISION_SIZE).registers) is None
        plc.write_registers(128, block(Codec(), echo=time.monotonic_ns() // 1_000_000 % 65_536)[0])
        assert mail.wait(Heard).age_ns is None


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (frame(3, 0, 119, 0, 1), "83 02"),  # after the vision block
        (frame(3, 0, 118, 0, 2), "83 02"),  # across its end
        (frame(3, 0, 127, 0, 2), "83 02"),  # across the beginning of the PLC block
        (frame(4, 0, 189, 0, 1), "84 02"),
        (frame(3, 255, 255, 0, 125), "83 02"),
        (frame(3, 0, 0, 0, 0), "83 03"),
        (frame(3, 0, 0, 0, 126), "83 03"),
        (frame(3, 0, 0, 0), "83 03"),
        (frame(3, 0, 0, 0, 1, 0), "83 03"),
        (frame(6, 0, 0, 0, 1), "86 02"),  # the vision block is ours
        (frame(6, 0, 127, 0, 1), "86 02"),
        (frame(16, 0, 188, 0, 2, 4, 0, 1, 0, 1), "90 02"),
        (frame(16, 0, 127, 0, 2, 4, 0, 1, 0, 1), "90 02"),
        (frame(16, 0, 128, 0, 0, 0), "90 03"),
        (frame(16, 0, 128, 0, 2, 2, 0, 1), "90 03"),
        (frame(16, 0, 128, 0, 1, 2, 0), "90 03"),
        (frame(16, 0, 128, 0, 1, 2, 0, 1, 0), "90 03"),
        (frame(16, 0, 128, 0, 1, 4, 0, 1), "90 03"),
        (frame(16, 0, 128, 0, 1), "90 03"),
        (frame(1, 0, 0, 0, 1), "81 01"),
        (frame(8, 0, 4, 0, 0), "88 01"),
        (frame(0x83, 0, 0), "83 01"),
        (frame(0), "80 01"),
        (frame(3, 0, 0, 0, 1, device=9), "83 0b"),
    ],
)
def test_refused(request_: bytes, answer: str) -> None:
    """What cannot be done gets the exception that belongs to it, changes nothing, and the connection goes on."""
    with serving() as (server, mail, plc), closing(raw(server._config.port)) as connection:
        assert ask(connection, request_).hex(" ") == answer
        assert ask(connection, frame(3, 0, 0, 0, 1)) == bytes((3, 2, 0, 0))
        for device in (0, 255):
            assert ask(connection, frame(3, 0, 0, 0, 1, device=device)) == bytes((3, 2, 0, 0))
        assert plc.read_holding_registers(128, count=PLC_SIZE).registers == [0] * PLC_SIZE
        assert mail.seen(Heard) == []


def test_requests_together_and_in_pieces() -> None:
    """Frames need not come one by one, nor at once."""
    with serving() as (server, _, _plc), closing(raw(server._config.port)) as connection:
        many = b"".join(frame(3, 0, 128, 0, 61, transaction=n) for n in range(100))
        connection.sendall(many)
        answers = exactly(connection, 100 * 131)
        assert [struct.unpack_from(">H", answers, 131 * n)[0] for n in range(100)] == list(range(100))
        write = frame(16, 0, 128, 0, 61, 122, *range(122), transaction=7)
        for byte in write:
            connection.send(bytes((byte,)))
        assert exactly(connection, 12) == frame(16, 0, 128, 0, 61, transaction=7)
        assert ask(connection, frame(3, 0, 128, 0, 61))[2:] == bytes(range(122))


@pytest.mark.parametrize(
    "nonsense",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0\1\0\1\0\6\1\3\0\0\0\1", b"\0\1\0\0\0\1\1\3", b"\0\1\0\0\xff\xff\1\3", b"\0" * 300],
)
def test_no_modbus(nonsense: bytes) -> None:
    """Who speaks something else is hung up on, and counted."""
    with serving() as (server, _, plc), closing(raw(server._config.port)) as connection:
        with suppress(ConnectionError):
            connection.sendall(nonsense)
            assert connection.recv(1000) == b""
        assert server.malformed == 1
        assert not plc.read_holding_registers(0, count=1).isError()


def test_too_many_connections() -> None:
    """Who only connects goes first, then who only reads: the PLC and the HMI stay connected throughout."""
    with serving() as (server, _, plc), ExitStack() as stack:
        port = server._config.port
        hmi = stack.enter_context(closing(raw(port)))
        plc.write_registers(128, block(Codec())[0])
        ask(hmi, frame(3, 0, 0, 0, 1))
        line = plc.socket
        for n in range(100):
            scanner = stack.enter_context(closing(raw(port)))
            if n % 2:
                ask(scanner, frame(8, 0, 0, 0, 0))
            if n % 10 == 0:
                assert not plc.read_holding_registers(0, count=1).isError()
        assert ask(hmi, frame(3, 0, 0, 0, 1)) == bytes((3, 2, 0, 0))
        for _ in range(20):
            reader = stack.enter_context(closing(raw(port)))
            ask(reader, frame(3, 0, 0, 0, 1))
        assert not plc.read_holding_registers(0, count=1).isError()
        assert plc.socket is line
        assert len(server._connections) == CONNECTIONS_AT_MOST
        assert server.evicted == 122 - CONNECTIONS_AT_MOST
        with suppress(ConnectionError):
            hmi.sendall(frame(3, 0, 0, 0, 1))
            assert hmi.recv(100) == b""


def test_who_does_not_read_is_hung_up_on() -> None:
    """Answers that nobody takes do not pile up."""
    with serving() as (server, _, plc), closing(raw(server._config.port)) as connection:
        connection.settimeout(0.05)
        with suppress(ConnectionError, TimeoutError):
            while True:
                connection.sendall(frame(3, 0, 0, 0, 119) * 100)
                plc.read_holding_registers(0, count=1)
        until = time.monotonic() + PATIENCE_S
        while len(server._connections) > 1 and time.monotonic() < until:
            plc.read_holding_registers(0, count=1)
        assert len(server._connections) == 1


def test_never_whole_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PLC program that forgets `trigger_again` hears why it is not heard."""
    monkeypatch.setattr(modbus, "TORN_NS", 50_000_000)
    registers = block(Codec(), 6)[0]
    with serving() as (_, mail, plc):
        plc.write_registers(128, registers[:60])
        assert mail.now() == 0
        time.sleep(0.06)
        for _ in range(5):
            plc.write_registers(128, registers[:60])
        assert [type(event) for event in mail.events[: mail.now()]] == [Lost]
        assert "trigger_again" in mail.events[0].reason
        plc.write_registers(128, registers)
        mail.wait(Heard)


def test_a_taken_port() -> None:
    """Another process listens there already: said at the start, with how to find it."""
    with serving() as (server, _, _plc):
        second = ModbusServer(server._config, Outbox(), Codec())
        with pytest.raises(MissingError, match=f"ss -tlnp 'sport = :{server._config.port}'"):
            second.start()
        second.close()
    with running(ModbusServer(server._config, Outbox(), Codec())):  # and it is free again at once
        pass


def test_an_address_of_another_machine() -> None:
    """Said at the start as well."""
    server = ModbusServer(PlcTable(kind="modbus-server", address="192.0.2.1:1502"), Outbox(), Codec())
    with pytest.raises(MissingError, match="ip -brief address"):
        server.start()


def test_server_ends() -> None:
    """After close the connections are closed and the thread is gone; more calls do no harm."""
    with serving() as (server, _, plc):
        assert not plc.read_holding_registers(0, count=1).isError()
        assert plc.socket is not None
        server.close()
        assert not server._thread.is_alive()
        with suppress(ConnectionError):
            assert plc.socket.recv(1) == b""
        server.show(vision(Codec()), 0)
        server.close()


# malformed traffic

RARE = 0xA5  # no malformed frame has this byte, so none, however cut and joined, is a good write into a block there
FAR = RARE << 8 | 0x20


def serve(port: int, stop: PipeConnection) -> None:
    """A process with our server in it, and a gate that shows something new all the time."""
    mail: Outbox[PlcEvent] = Outbox()
    server = ModbusServer(table("modbus-server", port, plc_at=FAR), mail, Codec())
    server.show(vision(Codec()), 0)
    server.start()
    number = 0
    while not stop.poll(0.005):
        number += 1
        server.show(vision(Codec(), number), number)
        mail.drain()
    server.close()


def malformed(dice: random.Random) -> bytes:
    """A frame that is wrong somewhere, or asks for something odd."""
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(1, 300))
    function = dice.choice((1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 22, 23, 43, dice.randrange(256)))
    at = dice.choice((dice.randrange(0, 128), FAR - 1, FAR + PLC_SIZE, dice.randrange(65_536)))
    body = struct.pack(">HH", at, dice.choice((0, 1, 61, 119, 123, 125, 126, dice.randrange(65_536))))
    body += dice.randbytes(dice.choice((0, 0, 1, dice.randrange(250))))
    if kind == 1:
        count = dice.randrange(0, 124)
        body = struct.pack(">HHB", at, count, 2 * count) + dice.randbytes(2 * count)
        function = 16
    whole = struct.pack(">HHHBB", dice.randrange(65_536), 0, 2 + len(body), dice.choice((0, 1, 255, 7)), function)
    whole += body
    if kind == 2:
        return whole[: dice.randrange(len(whole))]  # cut off
    if kind == 3:
        return whole[:4] + struct.pack(">H", dice.randrange(65_536)) + whole[6:]  # another length
    if kind == 4:
        return whole[:2] + struct.pack(">H", dice.randrange(65_536)) + whole[4:]  # another protocol
    return whole


def attack(port: int, frames: int, seed: int) -> tuple[int, int]:
    """So many malformed frames, over as many connections as that takes. Returns how many were sent, and answered."""
    sent = answered = 0
    dice = random.Random(seed)
    connection = raw(port)
    while sent < frames:
        try:
            connection.sendall(malformed(dice).translate(bytes(range(RARE)) + b"\0" + bytes(range(RARE + 1, 256))))
            sent += 1
            connection.settimeout(0.0005)
            with suppress(TimeoutError, BlockingIOError):
                if connection.recv(4096) == b"":
                    raise ConnectionError
                answered += 1
            connection.settimeout(5)
        except ConnectionError:
            connection.close()
            connection = raw(port)
        if dice.random() < 0.02:
            connection.close()
            connection = raw(port)
    connection.close()
    return sent, answered


class GoodPlc(threading.Thread):
    """Polls over one connection, and looks at all that it gets."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._client = ModbusTcpClient("127.0.0.1", port=port, timeout=PATIENCE_S, retries=0)
        self.polls = 0
        self.stop = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        """Until `stop`, or the first failure."""
        try:
            assert self._client.connect()
            line = self._client.socket
            last = 0
            while not self.stop.is_set():
                written = block(Codec(), 5 + self.polls, heartbeat=self.polls % 65_536)[0]
                assert not self._client.write_registers(FAR, written).isError()
                assert self._client.read_holding_registers(FAR, count=PLC_SIZE).registers == written
                found = Codec().read_vision(self._client.read_holding_registers(0, count=VISION_SIZE).registers)
                assert found is not None
                number = found.header["result"]
                assert number >= last
                expected = vision(Codec(), number)
                again = Codec().pack(VISION, {**found.header, "clock": 0})
                assert again == expected[: len(again)]
                assert [each.number for each in found.results] == list(range(max(1, number - SLOTS + 1), number + 1))
                assert self._client.socket is line
                last = number
                self.polls += 1
        except BaseException as error:
            self.failed = error
        finally:
            self._client.close()


def test_malformed_traffic() -> None:
    """10,000 from four sides: no crash, no register changed, memory flat; a good PLC is served all the while."""
    port = free_port()
    spawn = multiprocessing.get_context("spawn")
    stop, stopped = spawn.Pipe()
    process = spawn.Process(target=serve, args=(port, stopped))
    process.start()
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError), closing(raw(port)):
            break
    good = GoodPlc(port)
    good.start()
    memory = psutil.Process(process.pid)

    def attacked(frames: int, seed: int) -> int:
        polls = good.polls
        with ThreadPoolExecutor(4) as pool:
            sides = [pool.submit(attack, port, frames // 4, seed + side) for side in range(4)]
            sent, answered = (sum(each) for each in zip(*(side.result() for side in sides), strict=True))
        assert sent == frames
        assert answered > 100  # not all of it is nonsense
        assert good.polls - polls > 10
        assert good.failed is None
        return int(memory.memory_info().rss)

    try:
        warm = attacked(2_000, 100)
        grown = attacked(10_000, 200) - warm
    finally:
        good.stop.set()
        good.join()
        alive = process.is_alive()
        with suppress(OSError):
            stop.send("stop")
        process.join()
    assert good.failed is None
    assert alive
    assert process.exitcode == 0
    assert grown < 5_000_000


# the client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a PLC that answers, but on a machine that is busy with other tests."""
    monkeypatch.setattr(modbus_client, "TIMEOUT_S", 2.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("high_first", [True, False])
def test_client_round_trip(high_first: bool) -> None:
    """All values arrive on both sides, in both word orders, wherever the blocks are."""
    codec, port = Codec(high_first=high_first), free_port()
    with closing(PlcServer(port, vision_at=1001, plc_at=65_001)) as plc:
        link, mail = client(port, codec, vision_at=1001, plc_at=65_001, word_order="high" if high_first else "low")
        with running(link):
            shown = vision(codec, 12)
            link.show(shown, 12)
            assert mail.wait(Shown).number == 12
            found = plc.read(1001, VISION_SIZE)
            assert [*found[:3], 0, *found[4:]] == shown
            registers, expected = block(codec, 70_001)
            before_ns = time.monotonic_ns()
            plc.program.write_registers(65_001, registers)
            heard = mail.wait(Heard, lambda heard: heard.block.trigger == 70_001)
            assert heard.block == expected
            assert heard.age_ns > 0
            assert heard.t_ns > before_ns
            assert mail.seen(Lost) == []


@pytest.mark.usefixtures("patient")
def test_shown_is_written_and_read_back() -> None:
    """When Shown comes, it stands in the PLC, newest only; the cycle does not wait for its turn."""
    port = free_port()
    with closing(PlcServer(port)) as plc:
        link, mail = client(port, poll_ms=1000.0)
        with running(link):
            mail.wait(Heard)
            for number in range(1, 61):
                link.show(vision(Codec(), number), number)
                mail.wait(Shown, lambda shown, number=number: shown.number == number)
                found = Codec().read_vision(plc.read(0, VISION_SIZE))
                assert found is not None
                assert found.results[-1].number == number
            assert len(mail.seen(Heard)) <= 3  # one a second: 60 turns were not waited for
        assert [each.number for each in mail.seen(Shown)] == list(range(1, 61))


@pytest.mark.usefixtures("patient")
def test_the_clock_alone_is_no_news() -> None:
    """The gate shows its block at every turn; what is the same is written ten times a second, with a new clock."""
    port = free_port()
    with closing(PlcServer(port)) as plc:
        link, mail = client(port)
        with running(link):
            registers = vision(Codec(), 1)
            link.show(registers, 1)
            mail.wait(Shown)
            first, before = plc.read(3, 1), plc.writes
            for turn in range(200):
                registers[3] = turn
                link.show(registers, 1)
                time.sleep(0.001)
            assert plc.writes - before < 50
            until = time.monotonic() + PATIENCE_S
            while plc.writes < before + 3 and time.monotonic() < until:
                time.sleep(0.01)
            assert plc.read(3, 1) != first
        assert len(mail.seen(Shown)) == 1
        assert mail.seen(Lost) == []


@contextmanager
def pretender(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[float]]]:
    """Something that accepts connections, and does as it likes with them; and when it was connected to."""
    listening = socket.create_server(("127.0.0.1", 0))
    times: list[float] = []
    held = []
    failed: list[AssertionError] = []

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                times.append(time.monotonic())
                held.append(connection)
                try:
                    answer(connection)
                except OSError:
                    pass
                except AssertionError as error:
                    failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1]), times
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for connection in held:
            connection.close()
        assert failed == []


def silence(connection: socket.socket) -> None:
    """Takes a request, and expects no second one."""
    requests = 0
    with suppress(ConnectionError):
        while connection.recv(300):
            requests += 1
            assert requests == 1


def too_little(connection: socket.socket) -> None:
    """One register, whatever was asked for."""
    with suppress(ConnectionError):
        while request := connection.recv(300):
            body = request[8:12] if request[7] == 16 else b"\2\0\1"
            connection.send(request[:4] + struct.pack(">HBB", 2 + len(body), request[6], request[7]) + body)


def half_an_answer(connection: socket.socket) -> None:
    """Closes in mid-message."""
    request = connection.recv(300)
    connection.send(request[:4] + b"\0\7\1")
    connection.close()


def nonsense(connection: socket.socket) -> None:
    """Random bytes, some of which look like an answer."""
    dice = random.Random(1)
    while request := connection.recv(300):
        kind = dice.randrange(3)
        function = request[7] if kind else dice.randrange(256)
        body = dice.randbytes(dice.randrange(0, 250))
        connection.send(request[:4] + struct.pack(">HBB", 2 + len(body), request[6], function) + body)
        if kind == 2:
            connection.send(dice.randbytes(40))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda connection: None, "the PLC does not answer"),
        (silence, "the PLC does not answer"),
        (too_little, "the PLC answers with another number of registers"),
        (half_an_answer, "the PLC has ended the connection"),
        (lambda connection: connection.close(), "the PLC has ended the connection"),
        (nonsense, ""),
    ],
)
def test_a_plc_that_is_none(answer: Callable[[socket.socket], None], reason: str) -> None:
    """It accepts, and that is all: told once, tried again, and neither show nor close waits for it."""
    with pretender(answer) as (port, times):
        link, mail = client(port)
        with running(link):
            for number in range(1000):
                link.show(vision(Codec(), number), number)
            assert reason in mail.wait(Lost).reason
            attempts(times, 5)
            assert link._thread.is_alive()
            assert mail.seen(Heard) == mail.seen(Shown) == []
            if reason:
                assert len(mail.seen(Lost)) == 1
        assert not link._thread.is_alive()


def attempts(times: list[float], number: int) -> list[float]:
    """How long was waited between the first so many connections."""
    until = time.monotonic() + PATIENCE_S
    while len(times) < number and time.monotonic() < until:
        time.sleep(0.01)
    assert len(times) >= number
    return [later - earlier for earlier, later in itertools.pairwise(times[:number])]


def test_waits_grow_up_to_less_than_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure it is tried again soon, then less often: a PLC that is back is reached within 2 s."""
    with pretender(lambda connection: connection.close()) as (port, times):
        with running(client(port)[0]):
            gaps = attempts(times, 5)
        assert all(gap >= 0.1 * 2**n for n, gap in enumerate(gaps))
        assert RECONNECT_S[1] + TIMEOUT_S < 2.0
        monkeypatch.setattr(modbus_client, "RECONNECT_S", (0.01, 0.02))
        times.clear()
        with running(client(port)[0]):
            attempts(times, 16)  # without an end of the doubling: 5 minutes


def test_nobody_listens() -> None:
    """Told once, with the system's reason."""
    link, mail = client(free_port())
    with running(link):
        assert "cannot connect to 127.0.0.1:" in mail.wait(Lost).reason
        time.sleep(0.5)
        assert [each.reason.endswith("Connection refused") for each in mail.seen(Lost)] == [True]


@pytest.mark.usefixtures("patient")
def test_registers_that_the_plc_does_not_have() -> None:
    """An exception is told with the registers that it is about."""
    port = free_port()
    with closing(PlcServer(port, vision_at=0, plc_at=300)):
        link, mail = client(port)
        with running(link):
            assert mail.wait(Lost).reason == ("registers 128 to 188 cannot be read: exception 2, illegal data address")
        link, mail = client(port, vision_at=500, plc_at=300)
        link.show(vision(Codec()), 0)
        with running(link):
            assert "registers 500 to 618 cannot be written: exception 2" in mail.wait(Lost).reason
            assert mail.seen(Heard) == mail.seen(Shown) == []


@pytest.mark.usefixtures("patient")
def test_the_plc_restarts_with_zeroed_registers() -> None:
    """Its connection ends, it comes back empty, and gets the newest block at once."""
    port = free_port()
    plc = PlcServer(port)
    link, mail = client(port)
    with running(link):
        plc.program.write_registers(128, block(Codec())[0])
        link.show(vision(Codec(), 1), 1)
        mail.wait(Shown)
        mail.wait(Heard, lambda heard: heard.block.boot == 9)
        plc.close()
        mail.wait(Lost)
        link.show(vision(Codec(), 2), 2)
        again = mail.now()
        with closing(PlcServer(port)) as plc:
            assert mail.wait(Heard, after=again).block.boot == 0
            assert mail.wait(Shown, after=again).number == 2
            assert not [each for each in mail.seen(Lost) if "keep" in each.reason]
            found = Codec().read_vision(plc.read(0, VISION_SIZE))
            assert found is not None
            assert found.results[-1].number == 2


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("at", "words", "reason"),
    [
        (0, [0] * VISION_SIZE, "the PLC does not keep register 0: 1 became 0;"),
        (4, [0], f"the PLC does not keep register 4: {SESSION} became 0;"),
        (118, [77], "the PLC does not keep register 118: 0 became 77;"),
    ],
)
def test_registers_that_do_not_stay(at: int, words: Registers, reason: str) -> None:
    """Zeroed while the connection stands, or written by the PLC's own program: told, written anew, then heard again."""
    port = free_port()
    with closing(PlcServer(port)) as plc:
        link, mail = client(port)
        with running(link):
            link.show(vision(Codec(), 1), 1)
            mail.wait(Shown)
            mail.wait(Heard)
            before = mail.now()
            plc.program.write_registers(at, words)
            lost = mail.wait(Lost, after=before)
            assert lost.reason.startswith(reason)
            mail.wait(Heard, after=mail.events.index(lost))
            found = plc.read(0, VISION_SIZE)
            assert [*found[:3], 0, *found[4:]] == vision(Codec(), 1)
            assert len(mail.seen(Lost)) == 1


@pytest.mark.usefixtures("patient")
def test_two_gateways_on_one_plc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told of the other, as long as it is there; who stays is heard again."""
    monkeypatch.setattr(modbus_client, "DOUBT_NS", 2_000_000_000)
    port = free_port()
    with closing(PlcServer(port)):
        one, mail = client(port)
        other, others = client(port)
        with running(one):
            one.show(vision(Codec(), 1), 1)
            mail.wait(Shown)
            mail.wait(Heard)
            with running(other):
                other.show(vision(Codec(), 1, session=99), 1)
                assert mail.wait(Lost).reason == "another gateway writes here, session 99"
                assert others.wait(Lost).reason == f"another gateway writes here, session {SESSION}"
                before, theirs = mail.now(), others.now()
                for heartbeat in range(2, 32):
                    one.show(vision(Codec(), heartbeat, heartbeat=heartbeat), heartbeat)
                    other.show(vision(Codec(), 1, heartbeat=heartbeat, session=99), 1)
                    time.sleep(0.05)
                assert mail.now() == before  # neither heard nor shown, nor told again
                assert others.now() == theirs
            mail.wait(Heard, after=before)
            assert mail.wait(Shown, after=before).number == 31


@pytest.mark.usefixtures("patient")
def test_a_plc_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written stands there only at the end of the PLC's scan: that is no failure."""
    port = free_port()
    with closing(PlcServer(port)) as plc:
        read = modbus_client.Wire.read
        old: list[Registers] = []

        def slow(self: Any, at: int, count: int) -> Registers:
            found = read(self, at, count)
            if at == 0 and len(old) < 3:
                old.append(found)
                return [0] * count
            return found

        monkeypatch.setattr(modbus_client.Wire, "read", slow)
        link, mail = client(port)
        with running(link):
            link.show(vision(Codec(), 1), 1)
            assert mail.wait(Shown).number == 1
            assert len(old) == 3
            assert mail.seen(Lost) == []
        assert plc.read(0, 1) == [MAP_VERSION]


@pytest.mark.usefixtures("patient")
def test_client_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PLC block that was read half written is not heard; one that is never whole is told."""
    monkeypatch.setattr(modbus_client, "TORN_NS", 50_000_000)
    port = free_port()
    with closing(PlcServer(port)) as plc:
        link, mail = client(port)
        with running(link):
            mail.wait(Heard)
            registers, expected = block(Codec(), 6)
            plc.program.write_registers(128, registers[:60])
            assert "trigger_again" in mail.wait(Lost).reason
            assert all(heard.block.trigger == 0 for heard in mail.seen(Heard))
            plc.program.write_register(188, registers[60])
            assert mail.wait(Heard, lambda heard: heard.block.trigger == 6).block == expected
        assert len(mail.seen(Lost)) == 1


@pytest.mark.usefixtures("patient")
def test_the_last_block_is_written_at_the_end() -> None:
    """What was shown before close is in the PLC after it."""
    port = free_port()
    with closing(PlcServer(port)) as plc:
        for number in range(1, 20):
            link, mail = client(port)
            with running(link):
                link.show(vision(Codec(), 30), 30)
                mail.wait(Shown)
                link.show(vision(Codec(), number), number)
            found = Codec().read_vision(plc.read(0, VISION_SIZE))
            assert found is not None
            assert found.header["result"] == number
            link.show(vision(Codec()), 0)
            link.close()

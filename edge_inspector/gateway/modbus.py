"""ModbusServer: the PLC polls us and writes to us. Owns the port, its connections, and the registers behind them.

The protocol's four functions are done here: pymodbus's server loses a request that comes together with another, answers
a bad count in the name of function 0, never hangs up on nonsense, and takes twice as long. It is our client, though.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import threading
import time

from ..errors import MissingError, OutboxFull
from ..mailbox import Outbox
from .base import Heard, Lost, PlcEvent, Shown
from .config import PlcTable
from .registers import PLC_SIZE, U16, VISION, VISION_SIZE, Codec, PlcBlock, Registers, width

log = logging.getLogger(__name__)

CONNECTIONS_AT_MOST = 16
IDLE_NS = 10_000_000_000  # without a request for so long, a connection has lost its rank
PLAUSIBLE_NS = 30_000_000_000  # an echo that is older may as well be from the former turn of the clock's 65.5 s
TORN_NS = 1_000_000_000  # for so long a PLC block may not be whole, before we say so

READ, READ_INPUT, WRITE_ONE, WRITE = 3, 4, 6, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_SUCH_DEVICE = 1, 2, 3, 11

_NAMES = [field.name for field in VISION]
CLOCK, SESSION = (width(VISION[: _NAMES.index(name)]) for name in ("clock", "session"))

MENDS = {
    errno.EADDRINUSE: "another process listens there: `ss -tlnp 'sport = :{port}'` says which",
    errno.EACCES: "ports below 1024 are for root: give the service AmbientCapabilities=CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address: `ip -brief address` lists those it has",
}


class Refused(Exception):
    """A request that gets a Modbus exception. code: which."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Memory:
    """What stands in the registers. `image` is replaced by the gate's thread; all else is the server thread's."""

    def __init__(self, config: PlcTable, mailbox: Outbox[PlcEvent], codec: Codec) -> None:
        self.image: tuple[int, ...] = (0,) * VISION_SIZE
        self._config = config
        self._mailbox = mailbox
        self._codec = codec
        self._plc: Registers = [0] * PLC_SIZE
        self._echo: tuple[int, int] | None = None  # the newest one, and when it was heard first
        self._torn_ns: int | None = None
        self._functions = {
            READ: self._read, READ_INPUT: self._read, WRITE_ONE: self._write_one, WRITE: self._write,
        }  # fmt: skip

    def answer(self, device: int, request: bytes) -> bytes:
        """One PDU for another."""
        function = request[0]
        try:
            if device not in (self._config.device, 0, 255):  # Modbus over TCP: 0 and 255 mean whoever has the address
                raise Refused(NO_SUCH_DEVICE)
            if function not in self._functions:
                raise Refused(ILLEGAL_FUNCTION)
            return request[:1] + self._functions[function](request[1:])
        except Refused as refused:
            return bytes((function | 0x80, refused.code))
        except struct.error:
            return bytes((function | 0x80, ILLEGAL_VALUE))

    def _read(self, request: bytes) -> bytes:
        at, count = struct.unpack(">HH", request)
        if not 1 <= count <= 125:
            raise Refused(ILLEGAL_VALUE)
        if 0 <= (first := at - self._config.vision_at) <= VISION_SIZE - count:
            words = list(self.image[first : first + count])
            if first <= CLOCK < first + count:
                words[CLOCK - first] = time.monotonic_ns() // 1_000_000 % U16
        else:
            first = self._in_plc(at, count)
            words = self._plc[first : first + count]
        return struct.pack(f">B{count}H", 2 * count, *words)

    def _write_one(self, request: bytes) -> bytes:
        at, word = struct.unpack(">HH", request)
        self._store(at, (word,))
        return request

    def _write(self, request: bytes) -> bytes:
        at, count, size = struct.unpack_from(">HHB", request)
        if not 1 <= count <= 123 or size != 2 * count:
            raise Refused(ILLEGAL_VALUE)
        self._store(at, struct.unpack(f">{count}H", request[5:]))
        return request[:4]

    def _in_plc(self, at: int, count: int) -> int:
        first = at - self._config.plc_at
        if not 0 <= first <= PLC_SIZE - count:
            raise Refused(ILLEGAL_ADDRESS)
        return first

    def _store(self, at: int, words: tuple[int, ...]) -> None:
        first = self._in_plc(at, len(words))
        self._plc[first : first + len(words)] = words
        t_ns = time.monotonic_ns()
        block = self._codec.read_plc(self._plc)
        if block is not None:
            self._torn_ns = None
            self.tell(Heard(block, t_ns, self._age_ns(block, t_ns)))
        elif self._torn_ns is None:
            self._torn_ns = t_ns
        elif 0 <= self._torn_ns < t_ns - TORN_NS:
            self._torn_ns = -1  # said
            self.tell(Lost("the PLC writes `trigger_again` never or not last: its block was not whole for 1 s"))

    def _age_ns(self, block: PlcBlock, t_ns: int) -> int | None:
        """Since our clock stood where the PLC has copied it from. It is in whole milliseconds, so rather too old."""
        if not block.session or block.session != self.image[SESSION]:
            return None
        if self._echo is None or self._echo[0] != block.echo:
            self._echo = block.echo, t_ns
        now_ms, rest_ns = divmod(t_ns, 1_000_000)
        age_ns = (now_ms - block.echo) % U16 * 1_000_000 + rest_ns
        return age_ns if max(age_ns, t_ns - self._echo[1]) < PLAUSIBLE_NS else None

    def tell(self, event: PlcEvent) -> None:
        """To the gate. Where it takes nothing any more, our heartbeat stands still as well, and the PLC sees that."""
        with contextlib.suppress(OutboxFull):
            self._mailbox.put(event)


class Connection(asyncio.BufferedProtocol):
    """One connection: frames in, frames out, in order. What is no Modbus ends it, and so does who does not read."""

    def __init__(self, server: ModbusServer) -> None:
        self._server = server
        self._buffer = bytearray(1024)  # so much at a time, for the others' sake
        self._filled = 0
        self._rank = 0  # 1: it has read, 2: it has written, so it is the PLC
        self._used_ns = time.monotonic_ns()
        self.transport: asyncio.Transport

    def worth(self, now_ns: int) -> tuple[int, int]:
        """Where there are too many connections, the least has to go."""
        return self._rank if now_ns - self._used_ns < IDLE_NS else 0, self._used_ns

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """By asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.admit(self)

    def connection_lost(self, error: Exception | None) -> None:
        """By asyncio."""
        self._server.forget(self)

    def get_buffer(self, size: int) -> memoryview:
        """By asyncio: where to put what comes."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, size: int) -> None:
        """By asyncio: something has come."""
        self._filled += size
        at = 0
        while self._filled - at >= 8 and not self.transport.is_closing():
            transaction, protocol, length, device = struct.unpack_from(">HHHB", self._buffer, at)
            if protocol or not 2 <= length <= 254:
                self._server.hang_up(self)
                return
            if self._filled - at < 6 + length:
                break
            answer = self._server.memory.answer(device, bytes(self._buffer[at + 7 : at + 6 + length]))
            self.transport.write(struct.pack(">HHHB", transaction, 0, 1 + len(answer), device) + answer)
            self._note(answer[0])
            at += 6 + length
        self._buffer[: self._filled - at] = self._buffer[at : self._filled]
        self._filled -= at

    def _note(self, function: int) -> None:
        if function < 0x80:
            self._rank = max(self._rank, 2 if function in (WRITE_ONE, WRITE) else 1)
            self._used_ns = time.monotonic_ns()

    def pause_writing(self) -> None:
        """By asyncio: 64 KiB of answers that nobody takes."""
        self.transport.abort()


class ModbusServer:
    """A Plc (gateway/base.py) that polls us. evicted, malformed: connections ended for being too many, or no Modbus.

    What `show` was given can be read from the moment it returns; it never waits. Shown comes once for each number.
    """

    def __init__(self, config: PlcTable, mailbox: Outbox[PlcEvent], codec: Codec) -> None:
        self.memory = Memory(config, mailbox, codec)
        self.evicted = 0
        self.malformed = 0
        self._config = config
        self._connections: set[Connection] = set()
        self._number: int | None = None
        self._listening: socket.socket
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="modbus-server", daemon=True)

    def start(self) -> None:
        """Listen. Raises MissingError where the port cannot be had."""
        config = self._config
        try:
            family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
            self._listening = socket.create_server((config.host, config.port), family=family)
        except OSError as error:
            mend = MENDS.get(error.errno or 0, "set plc.address").format(port=config.port)
            raise MissingError(f"plc.address {config.address}: {error.strerror or error}; {mend}") from error
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._loop.create_server(lambda: Connection(self), sock=self._listening))
        self._thread.start()

    def show(self, registers: Registers, number: int) -> None:
        """Let the PLC see this; its `clock` is filled in whenever it is read."""
        self.memory.image = tuple(registers)
        if number != self._number:
            self._number = number
            self.memory.tell(Shown(number, time.monotonic_ns()))

    def close(self) -> None:
        """Hang up on everybody."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(0.9)

    def admit(self, connection: Connection) -> None:
        """A new connection; the least of the others goes where it is one too many."""
        if len(self._connections) >= CONNECTIONS_AT_MOST:
            now_ns = time.monotonic_ns()
            least = min(self._connections, key=lambda each: each.worth(now_ns))
            if not self.evicted:
                log.warning("more than %d Modbus connections: the idlest is ended", CONNECTIONS_AT_MOST)
            self.evicted += 1
            self._connections.discard(least)
            least.transport.abort()
        self._connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def hang_up(self, connection: Connection) -> None:
        """Somebody does not speak Modbus: where his next frame would begin cannot be known."""
        if not self.malformed:
            log.warning("no Modbus from %s: its connection is ended", connection.transport.get_extra_info("peername"))
        self.malformed += 1
        connection.transport.abort()

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        loop.run_forever()
        self._listening.close()
        for connection in self._connections:
            connection.transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

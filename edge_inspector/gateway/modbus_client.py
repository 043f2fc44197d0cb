"""ModbusClient: we write into the PLC and read from it, in a thread of its own. Owns that thread and its connection.

What is written is read back, and looked at again and again: registers that do not stay as written are no link.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import MissingError, OutboxFull
from ..mailbox import Outbox
from .base import Heard, Lost, PlcEvent, Shown
from .config import PlcTable
from .registers import MAP_VERSION, PLC_SIZE, U16, VISION, VISION_SIZE, Codec, Registers, width

if TYPE_CHECKING:
    from pymodbus.pdu import ModbusPDU

log = logging.getLogger(__name__)

TIMEOUT_S = 0.2  # to connect, and for each answer
RECONNECT_S = (0.1, 1.6)  # the first wait, doubled each time up to the last: with a time-out, less than 2 s
REWRITE_NS = 100_000_000  # so often the clock is written, whether anything else has changed or not
LOOK_NS = 50_000_000  # so often it is looked at whether what was written still stands there
SETTLE_NS = 100_000_000  # a PLC may take over what was written at the end of its scan
DOUBT_NS = 1_000_000_000  # once it did not, the link counts as lost for so long
TORN_NS = 1_000_000_000  # for so long the PLC block may not be whole, before we say so

_NAMES = [field.name for field in VISION]
VERSION, CLOCK, SESSION = (width(VISION[: _NAMES.index(name)]) for name in ("version", "clock", "session"))

EXCEPTIONS = {1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure",
              6: "device busy", 10: "gateway path unavailable", 11: "no such device"}  # fmt: skip


class Unusable(Exception):
    """A connection that is of no use any more, and why."""


class Wire:
    """One connection. Raises Unusable; a time-out ends it, for an answer that comes late would be taken for the next.

    pymodbus neither tries again nor connects anew here. Closing takes back what the PLC has not got yet, so that no
    old block arrives after a newer one.
    """

    def __init__(self, config: PlcTable) -> None:
        from pymodbus.client import ModbusTcpClient
        from pymodbus.exceptions import ModbusException, ModbusIOException

        self._device = config.device
        self._no_answer = ModbusIOException
        self._failures = (ModbusException, OSError)
        try:
            connection = socket.create_connection((config.host, config.port), TIMEOUT_S)
        except OSError as error:
            raise Unusable(f"cannot connect to {config.address}: {error.strerror or error}") from error
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = ModbusTcpClient(config.host, port=config.port, timeout=TIMEOUT_S, retries=0)
        self._client.socket = self._connection = connection

    def read(self, at: int, count: int) -> Registers:
        """FC3."""
        read = partial(self._client.read_holding_registers, at, count=count)
        registers = self._ask(read, f"registers {at} to {at + count - 1} cannot be read").registers
        if len(registers) != count:
            raise Unusable("the PLC answers with another number of registers than it was asked for")
        return list(registers)

    def write(self, at: int, registers: Registers) -> None:
        """FC16."""
        write = partial(self._client.write_registers, at, registers)
        self._ask(write, f"registers {at} to {at + len(registers) - 1} cannot be written")

    def _ask(self, request: Callable[..., ModbusPDU], refused: str) -> ModbusPDU:
        try:
            answer = request(device_id=self._device)
        except self._failures as error:
            why = "does not answer" if isinstance(error, self._no_answer) else "has ended the connection"
            raise Unusable(f"the PLC {why}") from error
        if answer.isError():
            code = answer.exception_code
            raise Unusable(f"{refused}: exception {code}, {EXCEPTIONS.get(code, 'unknown')}")
        return answer

    def close(self) -> None:
        """End, at once."""
        self._connection.close()


class ModbusClient:
    """A Plc (gateway/base.py) that is a Modbus server. Shown comes once for each number, when it was read back.

    Heard.age_ns counts from the request of the read. Lost comes once for each reason, until something is heard again.
    """

    def __init__(self, config: PlcTable, mailbox: Outbox[PlcEvent], codec: Codec) -> None:
        self._config = config
        self._mailbox = mailbox
        self._codec = codec
        self._newest: tuple[Registers, int] | None = None
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="modbus-client", daemon=True)
        self._delay_s = RECONNECT_S[0]
        self._number: int | None = None  # of the newest Shown
        self._lost = ""  # what was said last, "" since something was heard
        self._doubt_ns = 0  # until then
        self._torn_ns: int | None = None  # since then
        # of this connection: what was written last, and of which block it was made
        self._source: tuple[Registers, int] | None = None
        self._written: Registers = []
        self._written_ns = self._looked_ns = self._poll_ns = 0

    def start(self) -> None:
        """Begin. Raises MissingError where pymodbus is not installed."""
        try:
            import pymodbus.client  # noqa: F401
        except ImportError as error:
            raise MissingError("pymodbus is not installed: pip install 'edge-inspector[gateway]'") from error
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs each attempt; what matters becomes Lost
        self._thread.start()

    def show(self, registers: Registers, number: int) -> None:
        """Have this written as soon as can be, if it is new in anything but the clock."""
        shown = registers.copy()
        shown[CLOCK] = 0
        if self._newest is None or shown != self._newest[0]:
            self._newest = shown, number
            self._wake.set()

    def close(self) -> None:
        """Write what was shown last, if it can be, and hang up."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.9)
        self._ended = True

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with contextlib.closing(Wire(self._config)) as wire:
                    self._connected(wire)
            except Unusable as error:
                self._lose(str(error))
            except Exception as error:  # whatever it is, it must not end this thread
                reason = f"{type(error).__name__}: {error}"
                if reason != self._lost:
                    log.exception("the link to the PLC has failed")
                self._lose(reason)
            self._ending.wait(self._delay_s)
            self._delay_s = min(2 * self._delay_s, RECONNECT_S[1])

    def _connected(self, wire: Wire) -> None:
        """Cycle until the end; the last cycle begins after the end was asked for."""
        self._source, self._written_ns, self._looked_ns, self._poll_ns = None, 0, 0, 0
        ending = False
        while not ending:
            ending = self._ending.is_set()
            self._wake.clear()
            self._cycle(wire, time.monotonic_ns())
            self._delay_s = RECONNECT_S[0]
            due_ns = min(self._poll_ns, self._looked_ns + LOOK_NS)
            self._wake.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))

    def _cycle(self, wire: Wire, now_ns: int) -> None:
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._look(wire)
        newest = self._newest
        if newest is not None and (newest is not self._source or now_ns - self._written_ns >= REWRITE_NS):
            self._source = newest
            self._write(wire, *newest)
        if now_ns >= self._poll_ns:
            self._poll_ns = max(self._poll_ns + round(self._config.poll_ms * 1e6), now_ns)
            self._poll(wire)

    def _look(self, wire: Wire) -> None:
        """Does it still stand there?"""
        if self._source is not None:
            found = wire.read(self._config.vision_at, VISION_SIZE)
            if found != self._written:
                self._doubt(found)

    def _write(self, wire: Wire, registers: Registers, number: int) -> None:
        self._written_ns = time.monotonic_ns()
        self._written = registers.copy()
        self._written[CLOCK] = self._written_ns // 1_000_000 % U16
        wire.write(self._config.vision_at, self._written)
        t_ns = time.monotonic_ns()
        while (found := wire.read(self._config.vision_at, VISION_SIZE)) != self._written:
            t_ns = time.monotonic_ns()
            if t_ns - self._written_ns > SETTLE_NS:
                self._doubt(found)
                return
            time.sleep(0.001)
        if number != self._number and t_ns >= self._doubt_ns:
            self._number = number
            self._tell(Shown(number, t_ns))

    def _poll(self, wire: Wire) -> None:
        asked_ns = time.monotonic_ns()
        block = self._codec.read_plc(wire.read(self._config.plc_at, PLC_SIZE))
        t_ns = time.monotonic_ns()
        if block is not None:
            self._torn_ns = None
            if t_ns >= self._doubt_ns:
                self._lost = ""
                self._tell(Heard(block, t_ns, t_ns - asked_ns))
        elif self._torn_ns is None:
            self._torn_ns = t_ns
        elif t_ns - self._torn_ns > TORN_NS:
            self._lose("the PLC writes `trigger_again` never or not last: its block was not whole for 1 s")

    def _doubt(self, found: Registers) -> None:
        """What we wrote does not stand there."""
        self._doubt_ns = time.monotonic_ns() + DOUBT_NS
        if found[VERSION] == MAP_VERSION and found[SESSION] not in (0, self._written[SESSION]):
            self._lose(f"another gateway writes here, session {found[SESSION]}")
            return
        at = next(n for n, word in enumerate(found) if word != self._written[n])
        where, why = self._config.vision_at + at, "was it restarted, or does its program write there?"
        self._lose(f"the PLC does not keep register {where}: {self._written[at]} became {found[at]}; {why}")

    def _lose(self, reason: str) -> None:
        if reason != self._lost:
            self._lost = reason
            self._tell(Lost(reason))

    def _tell(self, event: PlcEvent) -> None:
        """To the gate. Where it takes nothing any more, its heartbeat stands still as well, and the PLC sees that."""
        if not self._ended:
            with contextlib.suppress(OutboxFull):
                self._mailbox.put(event)

"""The PLC's Modbus port, in either role, in a thread of its own: a scan puts its block there and takes what is new.

Owns pymodbus on the plant's side. Nothing here ever makes a scan wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import MissingError
from ..gateway.registers import PLC_AT, PLC_SIZE, VISION_AT, VISION_SIZE, Registers
from ..tables import within

RECONNECT_S = 0.1
TIMEOUT_S = 0.2  # for an answer; a PLC does not wait longer either


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusTable:
    """role: `client`, the PLC polls the gateway and writes to it; `server`, the gateway writes into the PLC.

    address: "host:port", to connect to or to listen on. device, word_order, vision_at, plc_at: as in gateway.toml.
    """

    role: str = "client"
    address: str = "127.0.0.1:5020"
    device: int = 1
    word_order: str = "high"
    vision_at: int = VISION_AT
    plc_at: int = PLC_AT

    def __post_init__(self) -> None:
        if self.role not in ("client", "server"):
            raise ValueError(f'role: found "{self.role}", expected "client" or "server"')
        host, colon, port = self.address.rpartition(":")
        if not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f'address: found "{self.address}", expected "host:port" such as "127.0.0.1:5020"')
        if self.word_order not in ("high", "low"):
            raise ValueError(f'word_order: found "{self.word_order}", expected "high" or "low"')
        within("device", self.device, 0, 255)
        for key in ("vision_at", "plc_at"):
            within(key, getattr(self, key), 0, 65_535 - VISION_SIZE)

    @property
    def host(self) -> str:
        """The address without the port."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.address.rpartition(":")[2])


class Port(Protocol):
    """What the PLC's scan sees of Modbus. problem: why the link does not work, "" where it does.

    mute: a fault; connections stay, and nothing is said or taken any more.
    """

    problem: str
    mute: bool

    def start(self) -> None:
        """Begin, or begin again after close(), with all registers 0. Raises MissingError for a port that is taken."""
        ...

    def put(self, block: Registers) -> None:
        """Let the gateway see the PLC's block."""
        ...

    def take(self) -> Registers | None:
        """The newest vision block that has come since the last call, or None."""
        ...

    def close(self) -> None:
        """Cut every connection, within a second. May be called twice, and before start()."""
        ...


def make(table: ModbusTable) -> Port:
    """The port of that role, not started yet. Raises MissingError without pymodbus."""
    try:  # all of it, and here: two threads that import it at the same time find it half imported
        import pymodbus.client
        import pymodbus.server  # noqa: F401
    except ImportError as error:
        raise MissingError("pymodbus is not installed: pip install 'edge-inspector[gateway]'") from error
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it tells every refused connection; `problem` does
    return ClientPort(table) if table.role == "client" else ServerPort(table)


class ClientPort:
    """Once for each scan: writes the PLC's block into the gateway, then reads the vision block out of it."""

    def __init__(self, table: ModbusTable) -> None:
        self.problem, self.mute = "not connected yet", False
        self._table = table
        self._wake = threading.Condition()
        self._block: Registers | None = None
        self._vision: Registers | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Connect in the background, again and again."""
        self.close()
        self._block = self._vision = None
        self._stop = stop = threading.Event()
        threading.Thread(target=self._run, args=(stop,), name="modbus", daemon=True).start()

    def put(self, block: Registers) -> None:
        """Wake the thread, unless it is still busy with the block before: then this one is the next."""
        with self._wake:
            self._block = block
            self._wake.notify_all()

    def take(self) -> Registers | None:
        """What was read since."""
        with self._wake:
            vision, self._vision = self._vision, None
        return vision

    def close(self) -> None:
        """Let the thread end; a request that is under way may take a moment more, but means nothing."""
        with self._wake:
            self._stop.set()
            self._wake.notify_all()
        self.problem = "not connected"

    def _run(self, stop: threading.Event) -> None:
        from pymodbus.client import ModbusTcpClient
        from pymodbus.exceptions import ModbusException

        client: Any = ModbusTcpClient(self._table.host, port=self._table.port, timeout=TIMEOUT_S, retries=0)
        try:
            while not stop.is_set():
                try:
                    if not client.connect():
                        raise ConnectionError(f"{self._table.address}: no connection")
                    self._talk(client, stop)
                except (ModbusException, OSError, asyncio.TimeoutError) as error:
                    client.close()
                    self.problem = str(error)
                    stop.wait(RECONNECT_S)
        finally:
            client.close()

    def _talk(self, client: Any, stop: threading.Event) -> None:
        """Until something fails, or the end."""
        table = self._table
        while not stop.is_set():
            with self._wake:
                while not stop.is_set() and (self._block is None or self.mute):
                    self._wake.wait(0.05)
                if stop.is_set():
                    return
                block, self._block = self._block, None
            answer = client.write_registers(table.plc_at, block, device_id=table.device)
            if not answer.isError():
                answer = client.read_holding_registers(table.vision_at, count=VISION_SIZE, device_id=table.device)
            if answer.isError():
                raise ConnectionError(f"{table.address}: answers {answer}")
            with self._wake:
                if stop.is_set():
                    return
                self.problem, self._vision = "", list(answer.registers)


class ServerPort:
    """Holds both blocks for a gateway that reads the PLC's and writes its own."""

    def __init__(self, table: ModbusTable) -> None:
        self.problem, self.mute = "no gateway has connected", False
        self._table = table
        self._block: Registers = [0] * PLC_SIZE
        self._vision: Registers = [0] * VISION_SIZE
        self._new = False
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread()
        self._connections = 0

    def start(self) -> None:
        """Listen. Raises MissingError where the port is taken."""
        self._block, self._vision, self._new = [0] * PLC_SIZE, [0] * VISION_SIZE, False
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="modbus", daemon=True)
        self._thread.start()
        self._ready.wait(5.0)
        if self._stop is None:
            raise MissingError(f"modbus.address: cannot listen on {self._table.address}: choose another port")

    def put(self, block: Registers) -> None:
        """The next request sees it."""
        self._block = block

    def take(self) -> Registers | None:
        """What was written since."""
        if not self._new:
            return None
        self._new = False
        return self._vision

    def close(self) -> None:
        """Stop listening, and cut what is connected."""
        if self._stop is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(1.0)
        self._stop = None
        self.problem = "not listening"

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        size = max(self._table.vision_at, self._table.plc_at) + VISION_SIZE
        data = SimData(0, count=size, datatype=DataType.REGISTERS)
        device = SimDevice(self._table.device, [data], action=self._action)
        server: Any = ModbusTcpServer(
            device,
            address=(self._table.host, self._table.port),
            trace_packet=self._packet,
            trace_connect=self._connected,
        )
        try:
            await server.serve_forever(background=True)
        except RuntimeError:
            return
        self._stop = stop = asyncio.Event()
        self._connections = 0
        self.problem = "no gateway has connected"
        self._ready.set()
        await stop.wait()
        await server.shutdown()
        await asyncio.sleep(0)  # the connections close in this turn of the loop

    async def _action(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> Any:
        """Before each request: what is read is the newest, what is written becomes a whole block at once."""
        from pymodbus.constants import ExcCodes

        table = self._table
        if values is None:
            block = self._block
            registers[table.plc_at : table.plc_at + len(block)] = block
            return None
        at = address - table.vision_at
        if not 0 <= at <= VISION_SIZE - len(values) or function not in (6, 16, 23):
            return ExcCodes.ILLEGAL_ADDRESS
        if not self.mute:
            block = list(self._vision)
            block[at : at + len(values)] = values
            self._vision, self._new = block, True
        return None

    def _packet(self, sending: bool, data: bytes) -> bytes:
        return b"" if sending and self.mute else data

    def _connected(self, connected: bool) -> None:
        self._connections += 1 if connected else -1
        self.problem = "" if self._connections > 0 else "no gateway is connected"

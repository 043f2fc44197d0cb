"""An OPC UA server for supervision and MES, never on the way to the ejector. Owns its thread and what waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .base import GateStatus, PartRecord
from .config import GatewayConfig
from .opcua_nodes import ERROR, Nodes, result_values
from .opcua_server import application_uri, make_server, sweep

if TYPE_CHECKING:
    from asyncua import Server

log = logging.getLogger(__name__)

WAITING = 2000  # verdicts and parts
AT_MOST = 200  # of them in a turn, so that clients are answered in between
VERDICTS = 1000  # kept until their part's window has closed
TURN_S = 0.05
SILENT_TURNS = 20  # without a status for so many turns, what was shown is not known to be true any more
STOP_S, CLOSE_S = 0.5, 0.9


class OpcUa:
    """A Watcher: states and results with the names of OPC 40100-1. dropped: verdicts and parts that found no place."""

    def __init__(self, config: GatewayConfig) -> None:
        self.dropped = 0
        self._config = config
        self._station = config.gateway.station
        self._waiting: queue.Queue[dict[str, Any] | PartRecord] = queue.Queue(WAITING)
        self._verdicts: OrderedDict[tuple[object, object], dict[str, Any]] = OrderedDict()
        self._status: GateStatus | None = None
        self._beat = self._shown_beat = self._silent = 0
        self._started: Future[None] = Future()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="opcua", daemon=True)

    def start(self) -> None:
        """Check everything, and listen soon. Raises ConfigError, and MissingError where the port is taken."""
        self._thread.start()
        self._started.result()

    def verdict(self, message: dict[str, object]) -> None:
        """Queue a verdict; it is told together with what became of its part."""
        if message["station"] == self._station:
            self._put(message)

    def part(self, record: PartRecord) -> None:
        """Queue a part's record."""
        self._put(record)

    def status(self, status: GateStatus) -> None:
        """The newest is shown."""
        self._status = status
        self._beat += 1

    def close(self) -> None:
        """End, within a second."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def _put(self, item: dict[str, Any] | PartRecord) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self.dropped += 1

    async def _serve(self) -> None:
        """The thread's loop."""
        table = self._config.opcua
        assert table is not None
        try:
            server = await make_server(self._config, table)
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        try:
            nodes = Nodes(server)
            await server.init()  # seconds, as OPC UA's own nodes are many: the gate must not wait for them
            await server.set_application_uri(application_uri(self._config))
            await nodes.make()
            await server.start()
            await self._tell(server, nodes)
        except Exception:
            log.exception("OPC UA: nothing is told any more")
        with contextlib.suppress(asyncio.TimeoutError):  # asyncua's own clock takes a second to stop
            await asyncio.wait_for(server.stop(), STOP_S)

    async def _tell(self, server: Server, nodes: Nodes) -> None:
        """Until we close."""
        over: dict[int, int] = {}
        broken = False
        while not self._closing.is_set():
            try:
                await self._turn(nodes)
            except Exception:  # one part that cannot be told must not end all telling
                if not broken:
                    log.exception("OPC UA: not told")
                broken = True
            over = sweep(server, over)
            await asyncio.sleep(TURN_S)

    async def _turn(self, nodes: Nodes) -> None:
        """An event for each part, variables for the newest, and the gate's status."""
        result = None
        for _ in range(AT_MOST):
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, PartRecord):
                result = self._result(item)
                await nodes.tell_result(result)
            else:
                self._verdicts[item["epoch"], item["seq"]] = item
                if len(self._verdicts) > VERDICTS:
                    self._verdicts.popitem(last=False)
        if result is not None:
            await nodes.show_result(result)
        beat, status = self._beat, self._status
        if status is None:
            return
        if beat != self._shown_beat:
            self._shown_beat, self._silent = beat, 0
            await nodes.show_status(status, beat=beat, dropped=self.dropped)
            return
        self._silent += 1
        if self._silent == SILENT_TURNS:
            unknown = GateStatus(False, "the gateway stands still", ERROR, False, "", False)
            await nodes.show_status(unknown, beat=beat, dropped=self.dropped)

    def _result(self, record: PartRecord) -> dict[str, Any]:
        message = self._verdicts.pop((record.epoch, record.seq), None)
        simulated = self._status is not None and self._status.simulated
        return result_values(record, message, station=self._station, simulated=simulated)

"""The gateway process: one thread decides; the link to the PLC and those who watch have threads of their own."""

from __future__ import annotations

import contextlib
import gc
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .. import keys
from ..errors import InspectorError
from ..mailbox import Outbox
from ..service import Service
from ..wire import Clock
from . import watchers
from .base import GateStatus, Heard, Lost, PartRecord, Plc, PlcEvent, Shown, Watcher
from .config import GatewayConfig, load
from .gate import Gate
from .link import Link
from .registers import Codec

log = logging.getLogger(__name__)

STATUS_NS = 100_000_000
FAREWELL_S = 0.3  # so that the PLC sees VisionOK drop before the link goes


def make_plc(config: GatewayConfig, mailbox: Outbox[PlcEvent]) -> Plc:
    """The link that the configuration names, not started."""
    codec = Codec(high_first=config.plc.word_order == "high")
    if config.plc.kind == "modbus-server":
        from .modbus import ModbusServer

        return ModbusServer(config.plc, mailbox, codec)
    from .modbus_client import ModbusClient

    return ModbusClient(config.plc, mailbox, codec)


class Gateway:
    """One gateway: built at once (raises ConfigError, MissingError), run by the thread that calls `serve`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._mailbox: Outbox[PlcEvent] = Outbox()
        self._clock = Clock()
        curve = config.curve
        secure = None
        if curve is not None:
            secret, server = config.resolve(curve.secret), config.resolve(curve.server)
            secure = partial(keys.secure_client, secret_path=secret, server_key_path=server)
        self._plc = make_plc(config, self._mailbox)
        self._watchers: list[Watcher] = watchers.make(config)
        self._link = Link(config.gateway.daemon, secure=secure)
        self.gate = Gate(
            config,
            session=secrets.randbelow(65_535) + 1,
            utc_us=self._clock.utc_us,
            send=self._link.send,
            closed=self._part,
            alarm=lambda what, why: log.warning(what, extra={"reason": why}),
        )
        self._status: GateStatus | None = None
        self._status_ns = 0

    def start(self) -> None:
        """Open the links. Raises ConfigError or MissingError."""
        for watcher in self._watchers:
            watcher.start()
        self._plc.start()
        gc.collect()
        gc.freeze()

    def serve(self, stop: Callable[[], bool], service: Service) -> None:
        """The loop."""
        due_ns = 0
        while not stop():
            wait_ns = due_ns - time.monotonic_ns()
            self._link.wait(self._mailbox.fileno(), max(0, -(-wait_ns // 1_000_000)))
            due_ns = self._turn()
            service.feed_watchdog()
            if self._status is not None:
                service.status(_line(self._status))

    def stop(self) -> None:
        """Everything is rejected from here on; let the PLC see it, then close."""
        now_ns = time.monotonic_ns()
        self.gate.finish(now_ns)
        self._show(now_ns)
        time.sleep(FAREWELL_S)
        self._plc.close()
        self._link.close()
        for watcher in self._watchers:
            watcher.close()

    def _turn(self) -> int:
        """What has come, what is due, and what the PLC is to see of it."""
        for event in self._mailbox.drain():
            if isinstance(event, Heard):
                self.gate.heard(event)
            elif isinstance(event, Lost):
                self.gate.lost(event.reason, time.monotonic_ns())
            elif isinstance(event, Shown):
                self.gate.shown(event.number, event.t_ns)
        heard = []
        for message in self._link.receive():
            self.gate.message(message, time.monotonic_ns())
            heard.append(message)
        if heard:
            self._show(time.monotonic_ns())  # first of all, as a part is on its way
        for message in heard:
            if message["type"] == "verdict" and not message.get("replay"):
                for watcher in self._watchers:
                    watcher.verdict(message)
        now_ns = time.monotonic_ns()
        due_ns = self.gate.turn(now_ns)
        self._show(now_ns)
        if self._watchers or now_ns >= self._status_ns:
            self._tell(now_ns)
        return due_ns

    def _show(self, now_ns: int) -> None:
        self._plc.show(self.gate.registers(now_ns), self.gate.queue.number)

    def _tell(self, now_ns: int) -> None:
        """Ten times a second, and where health has changed."""
        if now_ns < self._status_ns and self._status is not None and self._status.healthy == self.gate.healthy:
            return
        self._status_ns, self._status = now_ns + STATUS_NS, self.gate.status()
        self._status.counts.update(unsent=self._link.unsent, malformed=self._link.malformed)
        for watcher in self._watchers:
            watcher.status(self._status)

    def _part(self, record: PartRecord) -> None:
        for watcher in self._watchers:
            watcher.part(record)


def _line(status: GateStatus) -> str:
    """For `systemctl status`."""
    counts = status.counts
    what = f"rejecting everything: {status.reason}" if status.reason else "parts may pass"
    return f"{what}; {counts['parts']} parts: {counts['passed']} passed, {counts['late']} verdicts too late"


def run(path: Path, stop: Callable[[], bool], service: Service) -> int:
    """Run the gateway that a TOML file describes until it is stopped; returns the exit code."""
    gateway: Gateway | None = None
    code = 0
    try:
        gateway = Gateway(load(path))
        log.info("gateway starts", extra={"file": str(path)})
        gateway.start()
        service.ready()
        gateway.serve(stop, service)
    except InspectorError as error:
        log.error("%s", error)
        code = error.exit_code
    except Exception:
        log.exception("failed")
        code = 1
    service.stopping()
    if gateway is not None:
        with contextlib.suppress(Exception):
            gateway.stop()
    log.info("gateway stopped", extra={"code": code})
    return code

"""To an MQTT broker, for dashboards: verdicts, parts, status, and whether this gateway is there. Owns the connection.

A broker that is absent, slow or dead makes nobody wait: what it cannot take is dropped, the oldest first, and counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import ssl
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ..codec import to_json
from ..errors import ConfigError
from .base import GateStatus, PartRecord
from .config import GatewayConfig

if TYPE_CHECKING:
    from paho.mqtt.client import Client

log = logging.getLogger(__name__)

WAITING = 5000  # messages: two minutes of 20 parts a second
IN_FLIGHT = 20  # messages that the broker has not acknowledged yet
KEEPALIVE_S = 5  # after one and a half of it without a word the broker publishes our last will
CONNECT_S = 3.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
TURN_S = 0.05
CLOSE_S, FAREWELL_S = 0.9, 0.6
EVERY = 10  # statuses in which nothing has changed but counts: one is sent

Message = tuple[str, object, bool]  # topic, what becomes JSON, whether the broker keeps it


class Mqtt:
    """A Watcher. dropped: messages that found no place.

    `<topic>/<line>/<station>/verdict/<outcome>`: as the daemon said. `<topic>/<gateway>/part`: PartRecord.
    `<topic>/<gateway>/status`: GateStatus, `beat` counting on, kept by the broker. `<topic>/<gateway>/online`: 1 or 0.
    """

    def __init__(self, config: GatewayConfig) -> None:
        assert config.mqtt is not None
        self.dropped = 0
        self._config, self._table = config, config.mqtt
        self._own = f"{self._table.topic}/{config.gateway.name}"
        self._waiting: deque[Message] = deque()
        self._in_flight: dict[int, Message] = {}
        self._status: Message | None = None
        self._told: tuple[object, ...] = ()
        self._beat = 0
        self._connected = False
        self._reason = ""
        self._lost = False
        self._password: str | None = None
        self._tls: ssl.SSLContext | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin; the broker need not be there. Raises ConfigError where a file is not what it should be."""
        table, path = self._table, self._config.path
        if table.password:
            self._password = self._config.password("mqtt.password", table.password)
        if table.ca:
            file = self._config.resolve(table.ca)
            try:
                self._tls = ssl.create_default_context(cafile=file)
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path}: mqtt.ca: {file}: {error}; expected certificates in a PEM file") from None
        elif table.password:
            log.warning("the password for the broker is sent in the open", extra={"mend": "give [mqtt] a ca"})
        self._thread.start()

    def verdict(self, message: dict[str, object]) -> None:
        """Queue a verdict of our station."""
        if message["station"] != self._config.gateway.station:
            return
        topic = f"{self._table.topic}/{message['line']}/{message['station']}/verdict/{message['outcome']}"
        if set(topic) & set("+#\0"):
            self.dropped += 1
        else:
            self._put((topic, message, False))

    def part(self, record: PartRecord) -> None:
        """Queue a part's record."""
        self._put((f"{self._own}/part", record, False))

    def status(self, status: GateStatus) -> None:
        """Send what has changed soon, the rest once a second; only the newest waits."""
        self._beat += 1
        told = (status.healthy, status.reason, status.state, status.line_stop, status.epoch, status.simulated)
        if told != self._told or self._beat % EVERY == 0:
            self._told = told
            payload = {**dataclasses.asdict(status), "beat": self._beat, "dropped": self.dropped}
            self._status = (f"{self._own}/status", payload, True)

    def close(self) -> None:
        """Send what waits and that we go, for less than a second."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def _put(self, message: Message) -> None:
        while len(self._waiting) >= WAITING:
            with contextlib.suppress(IndexError):  # the other thread was faster
                self._waiting.popleft()
                self.dropped += 1
        self._waiting.append(message)

    def _run(self) -> None:
        """Connect, talk until the connection is lost, wait, for ever."""
        wait_s = FIRST_WAIT_S
        while not self._closing.is_set():
            client = self._client()
            self._connected, self._reason = False, ""
            try:
                client.connect(self._table.host, self._table.port, keepalive=KEEPALIVE_S)
                self._talk(client)
            except Exception as error:  # whatever a library comes up with: there is nothing to do but to try again
                self._reason = str(error) or type(error).__name__
            if self._connected:
                wait_s = FIRST_WAIT_S
            again = [message for message in self._in_flight.values() if not message[2]]  # a kept one may be old by now
            self._waiting.extendleft(reversed(again))
            self._in_flight.clear()
            if not self._lost and not self._closing.is_set():
                self._lost = True
                log.warning("no broker", extra={"broker": self._table.broker, "reason": self._reason or "lost"})
            self._closing.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _client(self) -> Client:
        """One for each connection: what was in flight is ours to send again."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2)
        client.connect_timeout = CONNECT_S
        client.will_set(f"{self._own}/online", "0", qos=1, retain=True)
        if self._password is not None:
            client.username_pw_set(self._table.user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        return client

    def _on_connect(self, client: Client, data: object, flags: object, code: Any, properties: object) -> None:
        if code.is_failure:
            self._reason = str(code)
            return
        self._connected = True
        client.publish(f"{self._own}/online", "1", qos=1, retain=True)
        log.info("connected to the broker", extra={"broker": self._table.broker})
        self._lost = False

    def _on_publish(self, client: Client, data: object, mid: int, code: object, properties: object) -> None:
        self._in_flight.pop(mid, None)

    def _talk(self, client: Client) -> None:
        """Until the connection is lost, or we close and all is said or the time for it is over."""
        while not self._closing.is_set():
            self._feed(client)
            if client.loop(TURN_S):
                return
        until_s = time.monotonic() + FAREWELL_S
        client.publish(f"{self._own}/online", "0", qos=1, retain=True)
        while (self._waiting or self._in_flight) and time.monotonic() < until_s:
            self._feed(client)
            if client.loop(TURN_S):
                return
        client.disconnect()
        client.loop(TURN_S)

    def _feed(self, client: Client) -> None:
        """Hand over as much as the broker keeps up with."""
        while self._connected and len(self._in_flight) < IN_FLIGHT:
            message, self._status = self._status, None
            if message is None:
                try:
                    message = self._waiting.popleft()
                except IndexError:
                    return
            topic, payload, kept = message
            info = client.publish(topic, to_json(payload), qos=1, retain=kept)
            self._in_flight[info.mid] = message

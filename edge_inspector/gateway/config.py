"""GatewayConfig: one TOML file a gateway. Owns every key's name, type, default, range and meaning."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..tables import at_least, checked_name, known_keys, read_file, read_table, read_toml, within

LINKS = ("modbus-server", "modbus-client")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTable:
    """name: how the daemon knows us; every gateway of a line has one of its own. daemon: its `gateway` endpoint.

    station: whose verdicts count here. triggers: `plc`, we forward each to the daemon, whose station has the trigger
    `gateway`; or `camera`, which is triggered by hardware, and its pictures are paired with the PLC's triggers by
    time. picture_ms: from photo-eye to exposure, the earliest and the latest; one outside is of another part (with
    `plc` it can only be too late: the daemon takes none from before its trigger). line_stop_after: so many parts in a
    row without a verdict stop the line; 0 never. id_bits: of the PLC's trigger counter. records: a file for one JSON
    line a part; "" for none.
    """

    name: str
    daemon: str
    station: str
    triggers: str = "plc"
    picture_ms: tuple[float, float] = (0.0, 50.0)
    line_stop_after: int = 0
    id_bits: int = 32
    records: str = ""

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        if not re.match(r"(ipc://.|tcp://.+:\d+$)", self.daemon):
            raise ValueError(f'daemon: found "{self.daemon}", expected "ipc:///path" or "tcp://address:port"')
        if self.triggers not in ("plc", "camera"):
            raise ValueError(f'triggers: found "{self.triggers}", expected "plc" or "camera"')
        if not 0.0 <= self.picture_ms[0] < self.picture_ms[1] <= 60_000.0:
            raise ValueError(f"picture_ms: found {list(self.picture_ms)}, expected [earliest, latest] in milliseconds")
        at_least("line_stop_after", self.line_stop_after, 0)
        if self.id_bits not in (16, 32):
            raise ValueError(f"id_bits: found {self.id_bits}, expected 16 or 32")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTable:
    """The reject window. unit: `counts` of the PLC's encoder, or `ms` after the trigger.

    distance: from the photo-eye to the ejector. tolerance: the window opens and closes so much before and after it.
    """

    distance: float
    tolerance: float
    unit: str = "counts"

    def __post_init__(self) -> None:
        if self.unit not in ("counts", "ms"):
            raise ValueError(f'unit: found "{self.unit}", expected "counts" or "ms"')
        at_least("tolerance", self.tolerance, 0.0)
        if not self.tolerance < self.distance < 2**30:
            raise ValueError(f"distance: found {self.distance:g}, expected more than the tolerance {self.tolerance:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlcTable:
    """kind: `modbus-server`, the PLC polls us and writes to us; `modbus-client`, we write into the PLC and read it.

    address: "host:port", to listen on or to connect to. device: the Modbus unit. word_order: of 32-bit values, `high`
    word first or `low`. vision_at, plc_at: the first register of each block. poll_ms: a client's cycle. silent_ms:
    without a change of the PLC's heartbeat for so long, everything is rejected.
    """

    kind: str
    address: str
    device: int = 1
    word_order: str = "high"
    vision_at: int = 0
    plc_at: int = 128
    poll_ms: float = 5.0
    silent_ms: float = 500.0

    def __post_init__(self) -> None:
        if self.kind not in LINKS:
            raise ValueError(f'kind: found "{self.kind}", expected "modbus-server" or "modbus-client"')
        host, colon, port = self.address.rpartition(":")
        if not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f'address: found "{self.address}", expected "host:port" such as "0.0.0.0:502"')
        if self.word_order not in ("high", "low"):
            raise ValueError(f'word_order: found "{self.word_order}", expected "high" or "low"')
        within("device", self.device, 0, 255)
        for key in ("vision_at", "plc_at"):
            within(key, getattr(self, key), 0, 65_535 - 128)
        if abs(self.vision_at - self.plc_at) < 120:
            raise ValueError(f"plc_at: found {self.plc_at}, expected 120 or more registers away from vision_at")
        within("poll_ms", self.poll_ms, 1.0, 1000.0)
        within("silent_ms", self.silent_ms, 50.0, 60_000.0)

    @property
    def host(self) -> str:
        """The address without the port."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.address.rpartition(":")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaTable:
    """The OPC UA server, for supervision. endpoint: such as "opc.tcp://0.0.0.0:4840".

    certificate, key: files, PEM or DER; with them only encrypted connections are taken. users: name -> password file.
    anonymous: whether anybody may read. Nobody may write.
    """

    endpoint: str
    certificate: str = ""
    key: str = ""
    users: dict[str, str] | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        port = re.match(r"opc\.tcp://[^/]+:(\d+)(/|$)", self.endpoint)
        if port is None or not 0 < int(port[1]) < 65_536:
            raise ValueError(f'endpoint: found "{self.endpoint}", expected such as "opc.tcp://0.0.0.0:4840"')
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate: expected together with key")
        if not self.users and not self.anonymous:
            raise ValueError("users: found none, expected some, or anonymous = true so that anybody may read")
        if self.users and not self.certificate:
            raise ValueError("users: expected together with certificate and key, or passwords would travel in the open")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTable:
    """An MQTT broker, for dashboards. broker: "host:port". topic: what our topics begin with.

    user: our name there. password: a file. ca: the broker's certificate authority, a PEM file; then the connection is
    encrypted, and the broker's certificate must be for the host as `broker` names it.
    """

    broker: str
    topic: str = "edge-inspector"
    user: str = ""
    password: str = ""
    ca: str = ""

    def __post_init__(self) -> None:
        host, colon, port = self.broker.rpartition(":")
        if not host or not colon or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f'broker: found "{self.broker}", expected "host:port" such as "192.168.1.5:1883"')
        if not self.topic or set(self.topic) & set("#+\0") or self.topic.startswith("/"):
            raise ValueError(f'topic: found "{self.topic}", expected a topic without "+", "#" and leading "/"')
        if bool(self.user) != bool(self.password):
            raise ValueError("password: expected together with user")

    @property
    def host(self) -> str:
        """The broker without the port."""
        return self.broker.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.broker.rpartition(":")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveTable:
    """Keys, where the daemon has some. secret: our own (`edge-inspector keys new`). server: the daemon's public one."""

    secret: str
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything one gateway needs to know. Paths are resolved against the file's folder by `resolve`."""

    path: Path
    gateway: GatewayTable
    window: WindowTable
    plc: PlcTable
    opcua: OpcUaTable | None = None
    mqtt: MqttTable | None = None
    curve: CurveTable | None = None

    def resolve(self, path: str) -> Path:
        """A path as written in the file, relative to the file's folder."""
        return self.path.parent / path

    def secret(self, key: str, path: str) -> bytes:
        """What stands in a file that nobody else may read. key: where the path was written. Raises ConfigError."""
        file = self.resolve(path)
        try:
            raw = file.read_bytes()
            # systemd sees to it that nobody else reads a credential; an ACL looks like a group's right
            given = file.parent == Path(os.environ.get("CREDENTIALS_DIRECTORY", os.devnull))
            open_to_others = file.stat().st_mode & 0o077 and not given
        except OSError as error:
            raise ConfigError(f"{self.path}: {key}: {file} cannot be read: {error.strerror}; expected a file") from None
        if open_to_others:
            mend = f"chmod 600 {shlex.quote(str(file))}"
            raise ConfigError(f"{self.path}: {key}: others can read {file}; run: {mend}")
        return raw

    def password(self, key: str, path: str) -> str:
        """The one line of such a file. Raises ConfigError."""
        lines = self.secret(key, path).splitlines()
        if len(lines) != 1 or not lines[0]:
            raise ConfigError(f"{self.path}: {key}: {self.resolve(path)} has {len(lines)} lines, expected a password")
        return lines[0].decode(errors="surrogateescape")


TABLES: dict[str, type] = {
    "gateway": GatewayTable,
    "window": WindowTable,
    "plc": PlcTable,
    "opcua": OpcUaTable,
    "mqtt": MqttTable,
    "curve": CurveTable,
}


def load(path: Path) -> GatewayConfig:
    """Read and check a gateway's TOML file. Raises ConfigError."""
    tables = read_toml(path, read_file(path))
    known_keys(path, tables, "", tuple(TABLES))
    made = {
        name: read_table(path, tables.get(name, {}), kind, name)
        for name, kind in TABLES.items()
        if name in tables or name in ("gateway", "window", "plc")
    }
    return GatewayConfig(path=path, **made)

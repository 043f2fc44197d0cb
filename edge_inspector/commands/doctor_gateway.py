"""The doctor's look at one gateway: could it carry verdicts? Its file, libraries, secrets, daemon, window, broker."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InspectorError
from . import doctor_plc
from .finding import Finding, pip, version_of

if TYPE_CHECKING:
    from ..gateway.config import GatewayConfig

INSTALLED = Path("/etc/edge-inspector")
TABLES = {"gateway", "window", "plc"}
LIBRARIES = {"plc": ("pymodbus", "gateway"), "opcua": ("asyncua", "opcua"), "mqtt": ("paho-mqtt", "mqtt")}
ANSWER_S = 4.0  # a refusal shows after two seconds
MARGIN_MS = 20.0  # for what the PLC's cycle adds before the deadline begins to count, and behind it


def is_gateway(path: Path) -> bool:
    """Whether a TOML file is a gateway's and no line's; a file that cannot be read is taken for a line's."""
    try:
        from ..tables import read_toml

        tables = read_toml(path, path.read_bytes())
    except (InspectorError, ImportError, OSError):
        return False
    return bool(TABLES & tables.keys()) and not {"line", "station"} & tables.keys()


def gateway(path: Path) -> Iterator[Finding]:
    """Whether this gateway could run here, and whom it would reach."""
    try:
        from ..gateway.config import load

        config = load(path)
    except InspectorError as error:
        yield Finding("missing", "gateway", str(error))
        return
    except ImportError as error:
        yield Finding("missing", "gateway", f"cannot be read: {error}")
        return
    table = config.gateway
    yield Finding("ok", "gateway", f"{table.name}: station {table.station}, {config.plc.kind} {config.plc.address}")
    yield from _unit(path)
    yield from _libraries(config)
    yield from _secrets(config)
    try:
        found, welcome = _daemon(config)
    except ImportError as error:
        found, welcome = [Finding("missing", "daemon", f"cannot be asked: {error}")], None
    yield from found
    yield from _line(config, welcome)
    yield from doctor_plc.link(config.plc)
    if config.mqtt is not None:
        yield _broker(config.mqtt.host, config.mqtt.port)


def _unit(path: Path) -> Iterator[Finding]:
    """The unit looks for gateway-<instance>.toml."""
    if path.resolve().parent == INSTALLED and not path.name.startswith("gateway-"):
        mend = f"sudo mv {path} {INSTALLED}/gateway-{path.name}"
        yield Finding("missing", "file name", f"the unit edge-inspector-gateway@{path.stem} does not find it", mend)


def _libraries(config: GatewayConfig) -> Iterator[Finding]:
    """What this file asks for, and no more."""
    needed = {"plc": config.plc.kind == "modbus-client", "opcua": config.opcua, "mqtt": config.mqtt}
    for table, (name, extra) in LIBRARIES.items():
        if needed[table]:
            version = version_of(name)
            mend = "" if version else f"{pip()} install 'edge-inspector[{extra}]'"
            yield Finding("ok" if version else "missing", f"[{table}] {name}", version or "not installed", mend)


def _secrets(config: GatewayConfig) -> Iterator[Finding]:
    """Keys and passwords: there, and nobody else's to read."""
    read: dict[str, Callable[[], object]] = {}
    if config.opcua is not None:
        if config.opcua.key:
            key = config.opcua.key
            read[key] = lambda: config.secret("opcua.key", key)
        for name, file in (config.opcua.users or {}).items():
            read[file] = lambda name=name, file=file: config.password(f"opcua.users.{name}", file)  # type: ignore[misc]
    if config.mqtt is not None and config.mqtt.password:
        password = config.mqtt.password
        read[password] = lambda: config.password("mqtt.password", password)
    if config.curve is not None:
        from .. import keys

        secret, server = config.resolve(config.curve.secret), config.resolve(config.curve.server)
        read[config.curve.secret] = lambda: keys.read_secret(secret)
        read[config.curve.server] = lambda: keys.read_public(server)
    for file, ask in read.items():
        if file.startswith("/run/credentials/") and not Path(file).parent.is_dir():
            yield Finding("optional", f"secret {file}", "systemd makes it when the gateway starts (LoadCredential=)")
            continue
        try:
            ask()
        except InspectorError as error:
            yield Finding("missing", f"secret {file}", str(error))
        else:
            yield Finding("ok", f"secret {file}", "is there, and can be read here")


def _daemon(config: GatewayConfig) -> tuple[list[Finding], dict[str, Any] | None]:
    """Ask for a welcome, under another name than the gateway's own, whose place we would take."""
    from ..client import GatewayClient
    from ..keys import ClientKeys

    address, station = config.gateway.daemon, config.gateway.station
    keys = None
    if config.curve is not None:
        keys = ClientKeys(config.resolve(config.curve.secret), config.resolve(config.curve.server))
    try:
        with GatewayClient(address, keys=keys) as client:
            client.send(type="hello", gateway="edge-inspector-doctor", epoch=None, last_seq=0)
            until_s = time.monotonic() + ANSWER_S
            welcome = None
            while welcome is None and not client.refusal and time.monotonic() < until_s:
                message = client.receive(0.1)
                welcome = message if message is not None and message["type"] == "welcome" else None
            refusal = client.refusal
    except InspectorError as error:
        return [Finding("missing", "daemon", f"{address}: {error}")], None
    if welcome is None:
        if refusal:
            return [Finding("missing", "daemon", f"{address}: {refusal}", "[curve] in the gateway's file")], None
        mend = "start the line: sudo systemctl start edge-inspector@LINE; or correct daemon in [gateway]"
        return [Finding("missing", "daemon", f"{address}: nobody answers; every part is rejected", mend)], None
    known = {each["station"]: each for each in welcome["stations"]}
    found = [Finding("ok", "daemon", f"{address}: line {welcome['line']} answers")]
    if station not in known:
        mend = f"station = one of {', '.join(known)} in [gateway]"
        return [*found, Finding("missing", "station", f"{station}: the daemon has none of that name", mend)], welcome
    mine = known[station]
    if mine["ready"]:
        found.append(Finding("ok", "station", f"{station}: ready, deadline {mine['deadline_us'] / 1000:g} ms"))
    else:
        mend = "journalctl -u edge-inspector@LINE says why"
        found.append(Finding("missing", "station", f"{station}: not ready; every part is rejected", mend))
    return found, welcome


def _line(config: GatewayConfig, welcome: dict[str, Any] | None) -> Iterator[Finding]:
    """What makes a part, which only the line's own file tells; and whether the deadline fits the window."""
    table = config.gateway
    expected = "gateway" if table.triggers == "plc" else "camera"
    deadline_ms: float | None = None
    for each in welcome["stations"] if welcome is not None else ():
        if each["station"] == table.station:
            deadline_ms = each["deadline_us"] / 1000
    file, trigger, written_ms = _station_in_file(config, welcome["line"] if welcome is not None else None)
    if file is None:
        detail = f'not seen from here: {table.station} must have trigger = "{expected}" in the line\'s file'
        yield Finding("optional", "trigger", detail)
    elif trigger != expected:
        mend = f'trigger = "{expected}" for {table.station} in {file}, or another triggers in [gateway]'
        yield Finding(
            "missing", "trigger", f'{table.station} has "{trigger}" where triggers = "{table.triggers}"', mend
        )
    else:
        yield Finding("ok", "trigger", f'{table.station} has "{trigger}" ({file})')
    if deadline_ms is None:
        deadline_ms = written_ms
    if deadline_ms is not None:
        yield _window(config, deadline_ms)


def _station_in_file(config: GatewayConfig, line: str | None) -> tuple[Path | None, str, float | None]:
    """Among the files beside the gateway's the line that answers, or where none does the only one with this station."""
    from ..config import load

    found = []
    for path in sorted(config.path.resolve().parent.glob("*.toml")):
        try:
            other = load(path)
        except InspectorError:
            continue
        stations = [each for each in other.station if each.name == config.gateway.station]
        if stations and line in (None, other.line.name):
            found.append((path, stations[0].trigger, float(stations[0].deadline_ms)))
    return found[0] if len(found) == 1 else (None, "", None)


def _window(config: GatewayConfig, deadline_ms: float) -> Finding:
    """A verdict that comes by its deadline must come before the window opens."""
    window = config.window
    opens, needed_ms = window.distance - window.tolerance, deadline_ms + MARGIN_MS
    if window.unit == "counts":
        said = f"opens {opens:g} counts after the photo-eye; the deadline of {deadline_ms:g} ms is before that up to "
        return Finding(
            "ok", "window", f"{said}{opens / needed_ms * 1000:.0f} counts a second: is the belt ever faster?"
        )
    if opens < needed_ms:
        detail = f"opens after {opens:g} ms; the deadline is {deadline_ms:g} ms, with {MARGIN_MS:g} ms for the way"
        mend = f"deadline_ms = {max(1.0, opens - MARGIN_MS):g} in the line's file, or the ejector further down the belt"
        return Finding("missing", "window", detail, mend)
    return Finding("ok", "window", f"opens after {opens:g} ms, and the deadline is {deadline_ms:g} ms")


def _broker(host: str, port: int) -> Finding:
    """It is only for dashboards, so parts pass without it."""
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as error:
        detail = f"{host}:{port}: {error.strerror or error}; nothing is told to it, parts pass all the same"
        return Finding("optional", "broker", detail, f"ping {host}; broker in [mqtt]")
    return Finding("ok", "broker", f"{host}:{port} answers")

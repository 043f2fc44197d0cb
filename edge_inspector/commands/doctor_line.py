"""The doctor's look at one line: could it run here? Its file, endpoints, engines and cameras."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import shutil
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InspectorError
from . import doctor_realtime
from .doctor_devices import device
from .finding import Finding

if TYPE_CHECKING:
    from ..config import LineConfig, StationConfig
    from ..models.folder import Engine

UNIT = "edge-inspector@.service"
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
CONNECT_S, HEARTBEAT_S = 2.0, 1.0
OTHER = "another address in [publish]"


def unit_folder() -> str | None:
    """Where the unit is installed."""
    return next((folder for folder in UNIT_FOLDERS if Path(folder, UNIT).is_file()), None)


def engines(line: Path | None) -> Iterator[Finding]:
    """Every engine in the line's folder and among those shipped."""
    try:
        from ..config import load
        from ..models.folder import find, shipped
    except ImportError as error:
        yield Finding("missing", "engines", f"cannot be looked at: {error}")
        return
    places = [shipped()]
    if line is not None:
        try:
            config = load(line)
            places.insert(0, config.resolve(config.line.engines))
        except (InspectorError, ImportError):
            pass  # line() says so
    names = [(path.parent.name, place) for place in places for path in sorted(place.glob("*/model.toml"))]
    for name, place in names:
        try:
            engine = find(name, place)
        except (InspectorError, ImportError) as error:
            yield Finding("optional", f"engine {name}", str(error))
            continue
        yield _engine(engine)
    if not names:
        yield Finding("optional", "engines", f"none in {' or '.join(str(place) for place in places)}")


def _engine(engine: Engine) -> Finding:
    """What runs of an engine, and whether what was compiled of it fits this machine."""
    what, build = f"engine {engine.folder.name}", engine.build
    if engine.tables.script:
        return Finding("ok", what, f"{engine.folder} (scripted, computes nothing)")
    if build is None:
        digest = engine.identity["sha256"][:12]
        return Finding("ok", what, f"{engine.folder} (model.onnx on the CPU through OpenVINO, sha256 {digest})")
    from .. import runners
    from ..models.manifest import refuse_other_machine

    made = build.manifest
    try:
        refuse_other_machine(build, runners.machine(made.target), engine.model)
    except InspectorError as error:
        return Finding("optional", what, str(error))
    return Finding("ok", what, f"{engine.folder} ({made.target}, {made.precision}, built {made.built})")


def line(path: Path) -> Iterator[Finding]:
    """Whether this line could run here: its file, endpoints, rights, engines and cameras."""
    try:
        from ..config import load
        from ..line import assign

        config = load(path)
    except InspectorError as error:
        yield Finding("missing", "line", str(error))
        return
    except ImportError as error:
        yield Finding("missing", "line", f"cannot be read: {error}")
        return
    yield Finding("ok", "line", f"{config.line.name}: {len(config.station)} station(s)")
    if path.resolve().parent == Path("/etc/edge-inspector") and path.stem != config.line.name:
        detail = f'the unit is edge-inspector@{path.stem}, its sockets are looked for under "{config.line.name}"'
        yield Finding("missing", "line name", detail, f'name = "{path.stem}" in [line]')
    for key, address in zip(("verdicts", "gateway"), config.endpoints, strict=True):
        yield _endpoint(key, address, config.key_folder)
    if any(station.keep for station in config.station):
        yield _kept(config)
    yield from doctor_realtime.realtime(config, UNIT_FOLDERS)
    for station in config.station:
        try:
            found = assign(dataclasses.replace(config, station=(station,)))[0]
            made = _engine(found.engine)
            if made.state != "ok":
                yield Finding("missing", f"{station.name} engine", made.detail)
                yield _camera(config, station)
                continue
            yield Finding("ok", f"{station.name} engine", f"{found.engine.folder}, recipe {found.recipe_path}")
        except InspectorError as error:
            yield Finding("missing", f"{station.name} engine", str(error))
        yield _camera(config, station)


def _kept(config: LineConfig) -> Finding:
    """Whether pictures can be kept where they should, and as many as they may be. A line runs without, too."""
    from ..kept import stored

    what, folder, most_mb = "kept pictures", config.keep_folder, config.line.keep_mb
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        if there != folder and unit_folder() is not None and folder.is_relative_to("/var/lib/edge-inspector"):
            return Finding("ok", what, f"{folder}: systemd makes the folder when the line starts")
        return Finding("optional", what, f"{there}: nothing can be written there", f"sudo install -d -o $USER {folder}")
    free_mb = shutil.disk_usage(there).free // 1_000_000
    used_mb = sum(size for _, size in stored(folder).values()) // 1_000_000 if there == folder.absolute() else 0
    detail = f"{folder}: {used_mb} MB of {most_mb} MB, {free_mb} MB free on that disk"
    if used_mb + free_mb < most_mb:
        return Finding("optional", what, detail, f"keep_mb = {max(1, (used_mb + free_mb) // 2)} in [line]")
    return Finding("ok", what, detail)


def _endpoint(key: str, address: str, keys: Path | None) -> Finding:
    """Whether somebody listens there, or whether the daemon could. keys: the line's key folder."""
    if address.startswith("ipc://"):
        return _ipc(key, address, Path(address.removeprefix("ipc://")), keys)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    mend = f'{key} = "tcp://127.0.0.1:{5571 if key == "verdicts" else 5572}" in [publish]'
    try:
        kind = socket.AF_INET if host == "*" or ipaddress.ip_address(host).version == 4 else socket.AF_INET6
    except ValueError:
        if host in (name for _, name in socket.if_nameindex()):
            return Finding("ok", key, f"{address}: a network interface of this machine")
        return Finding("missing", key, f"{address}: a name; ZeroMQ binds addresses", mend)
    where = ("" if host == "*" else host, 0 if port == "*" else int(port))
    if _listens(kind, where):
        return _taken(key, address, keys)
    with socket.socket(kind, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(where)
        except OSError as error:
            return Finding("missing", key, f"{address}: cannot be bound: {error.strerror}", mend)
    return Finding("ok", key, f"{address}: free")


def _ipc(key: str, address: str, path: Path, keys: Path | None) -> Finding:
    """Whether somebody listens at a socket's path, or whether it could be made."""
    try:
        if _listens(socket.AF_UNIX, str(path)):
            return _taken(key, address, keys)
    except OSError as error:  # a path longer than 107 characters
        return Finding("missing", key, f"{address}: {error}", f'a shorter {key} = "ipc:///..." in [publish]')
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return Finding("ok", key, f"{address}: free")
    if unit_folder() is not None and path.is_relative_to("/run/edge-inspector"):
        return Finding("ok", key, f"{address}: systemd makes the folder when the line starts")
    detail = f"{address}: you may make nothing in {folder}"
    return Finding("missing", key, detail, f"sudo install -d -o $USER {path.parent}")


def _listens(kind: int, where: str | tuple[str, int]) -> bool:
    with socket.socket(kind, socket.SOCK_STREAM) as trial:
        trial.settimeout(CONNECT_S)
        return trial.connect_ex(where) == 0


def _taken(key: str, address: str, keys: Path | None) -> Finding:
    """Who listens: at `verdicts` a daemon says so ten times a second."""
    if key != "verdicts":
        return Finding("ok", key, f"{address}: somebody listens")
    beat = None
    try:
        from ..client import Subscriber
        from ..keys import SERVER, ClientKeys

        own = None if keys is None else ClientKeys(keys / f"{SERVER}.secret", keys / f"{SERVER}.public")
        with Subscriber(address, "ei1/", keys=own) as subscriber:
            for _ in range(100):  # verdicts come between the heartbeats
                beat = subscriber.receive(HEARTBEAT_S)
                if beat is None or beat["type"] == "heartbeat":
                    break
            refusal = subscriber.refusal
    except (ImportError, InspectorError, ValueError) as error:
        return Finding("missing", key, f"{address}: what listens there says no heartbeat: {error}", OTHER)
    if beat is None:
        return Finding("missing", key, f"{address}: {refusal or 'another program listens there'}", OTHER)
    return Finding("ok", key, f"{address}: a daemon answers, {beat['line']}/{beat['station']} is {beat['state']}")


def _camera(config: LineConfig, station: StationConfig) -> Finding:
    """Whether a station's camera answers; no picture is taken."""
    from ..config import OpenCVConfig

    what = f"{station.name} camera"
    if not isinstance(station.camera, OpenCVConfig):
        return Finding("ok", what, f"{type(station.camera).__name__.removesuffix('Config').lower()}: needs no device")
    source = str(station.camera.source)
    if source.isdigit() or source.startswith("/dev/"):
        path = Path(f"/dev/video{source}" if source.isdigit() else source)
        return dataclasses.replace(device(path, otherwise="missing"), what=f"{what} {path}")
    if "!" in source:
        return Finding("ok", what, "a pipeline: not tried")
    address = urllib.parse.urlsplit(source)
    if address.scheme not in PORTS:
        here = (config.path.parent / source).exists()
        return Finding("ok" if here else "missing", what, f"{source}: {'is there' if here else 'no such file'}")
    host, port = address.hostname or "", address.port or PORTS[address.scheme]
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        mend = f"ping {host}; power, cable and address of the camera"
        return Finding("missing", what, f"{address.scheme}://{host}:{port}: {error.strerror or error}", mend)
    return Finding("ok", what, f"{address.scheme}://{host}:{port} answers")

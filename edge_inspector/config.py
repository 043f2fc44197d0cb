"""LineConfig: one TOML file a line. Owns every key's name, type, default, range and meaning.

A wrong file raises ConfigError, which says file, key, what was found and what was expected.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError
from .tables import (
    at_least,
    checked_name,
    converted,
    either,
    known_keys,
    read_file,
    read_table,
    read_toml,
    shown,
    within,
)

TRIGGERS = ("camera", "gateway", "free-run")
KEEP = ("reject", "fault", "near_miss")
MOST_CORES = 8192  # what a Linux kernel can be built for


class CameraConfig:
    """One of the tables below; `kind` in [station.camera] says which."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCVConfig(CameraConfig):
    """A camera that OpenCV can open. source: V4L2 index or path, video file, rtsp:// or http:// address, or a pipeline.

    A source with a `!` in it is a GStreamer pipeline (OpenCV must have been built with GStreamer). width, height, fps
    and fourcc are set where given, then read back: a camera that does not take them is not opened.
    """

    source: int | str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    open_timeout_ms: int = 5000
    read_timeout_ms: int = 1500

    def __post_init__(self) -> None:
        at_least("open_timeout_ms", self.open_timeout_ms, 100)
        at_least("read_timeout_ms", self.read_timeout_ms, 10)
        for key in ("width", "height", "fps"):
            if getattr(self, key) is not None:
                at_least(key, getattr(self, key), 1)
        if self.fourcc is not None and len(self.fourcc) != 4:
            raise ValueError(f'fourcc: found "{self.fourcc}", expected four characters such as "MJPG"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig(CameraConfig):
    """Pictures from a folder (in the order of their names) or a video file, again and again with `loop`.

    rate: frames per second; 0 is as fast as they are taken, and nothing is lost.
    """

    path: str
    rate: float = 0.0
    loop: bool = False

    def __post_init__(self) -> None:
        at_least("rate", self.rate, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardsConfig(CameraConfig):
    """A synthetic printed-circuit line. rate: boards per second, 0 as fast as they are taken; count: 0 is no end."""

    rate: float = 10.0
    seed: int = 1
    count: int = 0
    defect_rate: float = 0.2

    def __post_init__(self) -> None:
        at_least("rate", self.rate, 0.0)
        at_least("seed", self.seed, 0)
        at_least("count", self.count, 0)
        within("defect_rate", self.defect_rate, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantConfig(CameraConfig):
    """The camera of a simulated plant (`edge-inspector plant`). address: the plant's socket, as its lens.address says.

    strobe: a picture of every part, when it is exactly under the lens; without, one of whatever is there whenever a
    gateway's trigger asks for it. seed, defect_rate: as in the plant's file. marked: a grey square in the upper left
    corner tells the truth (48 good, 112 defective, 176 empty belt), for a scripted engine with by_mark.
    """

    address: str
    strobe: bool = False
    seed: int = 1
    defect_rate: float = 0.2
    marked: bool = False

    def __post_init__(self) -> None:
        if not self.address:
            raise ValueError('address: found "", expected the path of the plant\'s socket')
        at_least("seed", self.seed, 0)
        within("defect_rate", self.defect_rate, 0.0, 1.0)


CAMERAS: dict[str, type[CameraConfig]] = {
    "opencv": OpenCVConfig,
    "replay": ReplayConfig,
    "boards": BoardsConfig,
    "plant": PlantConfig,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig:
    """One camera, the engine that looks at its pictures, the recipe that judges, and the time allowed.

    engine: a folder in `line.engines`. recipe: a file; without one, the engine's own. trigger: what makes a part
    (`camera`: every frame; `gateway`: a trigger message; `free-run`: the newest frame whenever the engine is free).
    deadline_ms: from the trigger to the published verdict. max_age_ms: an older frame is stale, and after a gateway's
    trigger no frame is waited for any longer; the deadline where not given. transfer_ms: from exposure to the frame's
    arrival here, so that a frame exposed before a gateway's trigger is not taken for the part. frozen_after: so many
    identical frames in a row are a frozen camera; 0 does not look (the default for `replay`, where they may be meant).
    keep: of which parts the pictures are kept: `reject`; `fault`, where the engine failed on the picture; `near_miss`,
    where something was found that did not count, or too little for a reject.
    """

    name: str
    engine: str
    camera: CameraConfig
    recipe: str | None = None
    trigger: str = "camera"
    deadline_ms: float = 100.0
    max_age_ms: float | None = None
    transfer_ms: float = 0.0
    frozen_after: int | None = None
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        if self.trigger not in TRIGGERS:
            raise ValueError(f'trigger: found "{self.trigger}", expected {either(TRIGGERS)}')
        if isinstance(self.camera, PlantConfig) and self.camera.strobe == (self.trigger == "gateway"):
            raise ValueError(f'trigger: found "{self.trigger}", expected "gateway" without camera.strobe, else another')
        within("deadline_ms", self.deadline_ms, 1.0, 3_600_000.0)
        at_least("transfer_ms", self.transfer_ms, 0.0)
        if self.max_age_ms is not None:
            at_least("max_age_ms", self.max_age_ms, 1.0)
        if self.frozen_after is not None and self.frozen_after != 0:
            at_least("frozen_after", self.frozen_after, 2)
        for kind in self.keep:
            if kind not in KEEP:
                raise ValueError(f'keep: found "{kind}", expected {either(KEEP)}')

    @property
    def deadline_ns(self) -> int:
        """Nanoseconds from the trigger to the published verdict."""
        return round(self.deadline_ms * 1e6)

    @property
    def max_age_ns(self) -> int:
        """Nanoseconds after which a frame is stale."""
        return self.deadline_ns if self.max_age_ms is None else round(self.max_age_ms * 1e6)

    @property
    def frozen_frames(self) -> int:
        """How many identical frames in a row are a frozen camera; 0: never."""
        if self.frozen_after is not None:
            return self.frozen_after
        return 0 if isinstance(self.camera, ReplayConfig) else 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishConfig:
    """Where the daemon binds. Not given: under /run/edge-inspector/<line>/, where the systemd unit makes the folder.

    history: verdicts kept per station for a replay. keys: a folder of keys, relative to this file; with it both
    endpoints are encrypted, and only who is on its list enters. insecure: allow tcp:// on other addresses than the
    loopback without encryption and without asking who is there.
    """

    verdicts: str = ""
    gateway: str = ""
    history: int = 4096
    keys: str = ""
    insecure: bool = False

    def __post_init__(self) -> None:
        within("history", self.history, 1, 65_536)
        if self.keys and self.insecure:
            raise ValueError("insecure: found true beside keys, expected one of the two")
        for key in ("verdicts", "gateway"):
            address = getattr(self, key)
            if address and not re.match(r"(ipc://.|tcp://.+:(\d+|\*)$)", address):
                raise ValueError(f'{key}: found "{address}", expected "ipc:///path" or "tcp://address:port"')
            port = address.rpartition(":")[2]
            if address.startswith("tcp://") and port != "*" and not 1 <= int(port) <= 65_535:
                raise ValueError(f'{key}: found "{address}", expected a port from 1 to 65535')
            if address.startswith("tcp://localhost:"):  # ZeroMQ binds numbers, not names
                raise ValueError(f'{key}: found "{address}", expected "{address.replace("localhost", "127.0.0.1")}"')
            if address.startswith("tcp://") and not (self.keys or self.insecure or _is_loopback(address)):
                raise ValueError(
                    f'{key}: found "{address}", expected a loopback or ipc:// address, or keys = "keys" beside it '
                    "(run: edge-inspector keys new server), or insecure = true (anyone who reaches that port could "
                    "then send triggers and read verdicts)"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTable:
    """name: the line's name, part of every topic. engines: the folder of engine folders, relative to this file.

    keep_warm_ms: an engine that has rested so long infers a grey picture, so that the next part finds its clocks up
    and its caches full; a part that comes just then waits for it. 0: never. keep_folder: where the pictures lie that
    stations `keep`, relative to this file; not given: /var/lib/edge-inspector/<line>/kept, which the systemd unit lets
    it write. keep_mb: what they may take there; the oldest go first.
    """

    name: str
    engines: str = "engines"
    keep_warm_ms: float = 0.0
    keep_folder: str = ""
    keep_mb: int = 1000

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        if self.keep_warm_ms != 0.0:
            at_least("keep_warm_ms", self.keep_warm_ms, 1.0)
        at_least("keep_mb", self.keep_mb, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeTable:
    """What the line is given before other processes; systemd/realtime.conf allows it.

    priority: SCHED_FIFO of the publish thread; grab, infer, main and the engine's threads have the four below it. 50
    and above are the kernel's own. 0: none, as the process was started. cores: the only ones that its threads, the
    engine's among them, may run on; none given: all. lock_memory: what it has in memory stays there once it is ready.
    """

    priority: int = 0
    cores: tuple[int, ...] = ()
    lock_memory: bool = False

    def __post_init__(self) -> None:
        if not (self.priority == 0 or 5 <= self.priority <= 99):
            raise ValueError(f"priority: found {self.priority}, expected 5 to 99, or 0 for none")
        for core in self.cores:
            within("cores", core, 0, MOST_CORES - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineConfig:
    """Everything one daemon needs to know. Paths are resolved against the file's folder by `resolve`."""

    path: Path
    line: LineTable
    publish: PublishConfig
    realtime: RealtimeTable = RealtimeTable()
    station: tuple[StationConfig, ...]

    def resolve(self, path: str) -> Path:
        """A path as written in the file, relative to the file's folder."""
        return self.path.parent / path

    @property
    def endpoints(self) -> tuple[str, str]:
        """Addresses of the `verdicts` and the `gateway` endpoint."""
        base = f"ipc:///run/edge-inspector/{self.line.name}"
        return self.publish.verdicts or f"{base}/verdicts", self.publish.gateway or f"{base}/gateway"

    @property
    def key_folder(self) -> Path | None:
        """Where the keys lie; None where none are used."""
        return self.resolve(self.publish.keys) if self.publish.keys else None

    @property
    def keep_folder(self) -> Path:
        """Where kept pictures lie."""
        return self.resolve(self.line.keep_folder or f"/var/lib/edge-inspector/{self.line.name}/kept")


def load(path: Path) -> LineConfig:
    """Read and check a line's TOML file. Raises ConfigError."""
    tables = read_toml(path, read_file(path))
    known_keys(path, tables, "", ("line", "publish", "realtime", "station"))
    stations = tables.get("station", [])
    if not isinstance(stations, list) or not stations:
        raise ConfigError(f"{path}: station: found {shown(tables.get('station'))}, expected one or more [[station]]")
    config = LineConfig(
        path=path,
        line=read_table(path, tables.get("line", {}), LineTable, "line"),
        publish=read_table(path, tables.get("publish", {}), PublishConfig, "publish"),
        realtime=read_table(path, tables.get("realtime", {}), RealtimeTable, "realtime"),
        station=tuple(_station(path, table, f"station[{n}]") for n, table in enumerate(stations)),
    )
    names = [station.name for station in config.station]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise ConfigError(f'{path}: station[{n}].name: found "{name}" a second time, expected a name of its own')
    if config.endpoints[0] == config.endpoints[1]:
        raise ConfigError(f"{path}: publish.gateway: found the address of publish.verdicts, expected another one")
    for n, station in enumerate(config.station):
        camera = station.camera
        if isinstance(camera, ReplayConfig) and not config.resolve(camera.path).exists():
            where = config.resolve(camera.path)
            raise ConfigError(
                f"{path}: station[{n}].camera.path: found nothing at {where}, expected a folder or a video"
            )
    return config


def _station(path: Path, table: object, where: str) -> StationConfig:
    """A [[station]] with its [station.camera], whose `kind` says which keys it may have."""
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {where}: found {shown(table)}, expected a table")
    known_keys(path, table, where, tuple(field.name for field in dataclasses.fields(StationConfig)))
    camera = table.get("camera")
    if not isinstance(camera, dict):
        raise ConfigError(f"{path}: {where}.camera: found {shown(camera)}, expected a table [station.camera]")
    kind = camera.get("kind")
    if not isinstance(kind, str) or kind not in CAMERAS:
        raise ConfigError(f"{path}: {where}.camera.kind: found {shown(kind)}, expected {either(CAMERAS)}")
    rest = {key: value for key, value in camera.items() if key != "kind"}
    made = read_table(path, rest, CAMERAS[kind], f"{where}.camera")
    return converted(path, {**table, "camera": made}, StationConfig, where)


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("tcp://").rpartition(":")[0]
    return host == "[::1]" or re.fullmatch(r"127\.\d+\.\d+\.\d+", host) is not None

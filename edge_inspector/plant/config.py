"""PlantConfig: one TOML file a simulated plant. Every key has a default, so that there need not be a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..tables import at_least, known_keys, read_file, read_table, read_toml, within
from .belt import BeltTable
from .plc import PlcTable
from .ports import ModbusTable

TICK_NS = 2_500_000
SCAN_TICKS = 2  # the PLC's scan: 5 ms
KINDS = {
    "speed": "the belt runs at `value` mm/s",
    "stop": "the belt stands still",
    "back": "the belt runs backwards, at `value` mm/s (200)",
    "jitter": "parts are laid up to `value` mm too early or too late",
    "pitch": "parts are laid every `value` mm",
    "freeze": "every picture is the one before",
    "dark": "the camera gets no answer",
    "mute": "the PLC keeps its connections, but neither answers nor asks",
    "plc_restart": "the PLC is off, then starts with everything forgotten",
    "repeat_trigger": "the part that came last is told `value` times more (1), as if it were another",
    "mark": "nothing; a name for what is done to the line from outside, so that the summary says what it has cost",
}
NEEDS_VALUE = ("speed", "jitter", "pitch")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantTable:
    """parts: how many there are. wait_s: the belt starts when VisionOK shows, but waits no longer than this."""

    parts: int = 200
    wait_s: float = 30.0

    def __post_init__(self) -> None:
        at_least("parts", self.parts, 1)
        at_least("wait_s", self.wait_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardsTable:
    """Which boards these are: the same as in the camera's table. They are numbered from 1."""

    seed: int = 1
    defect_rate: float = 0.2

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        within("defect_rate", self.defect_rate, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LensTable:
    """address: the socket where cameras of kind `plant` find us; a path relative to this file. "": no camera."""

    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTable:
    """One disturbance. It begins with part `at_part` at the photo-eye, or `at_s` after the belt has started.

    kind: one of KINDS. for_s: how long; 0: to the end. value: by the kind. name: for the summary.
    """

    kind: str
    at_part: int = 0
    at_s: float | None = None
    for_s: float = 0.0
    value: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'kind: found "{self.kind}", expected one of {", ".join(KINDS)}')
        if (self.at_s is None) == (self.at_part == 0):
            raise ValueError("at_s: expected either at_s or at_part")
        at_least("at_part", self.at_part, 0)
        at_least("at_s", 0.0 if self.at_s is None else self.at_s, 0.0)
        at_least("for_s", self.for_s, 0.0)
        if self.value is None and self.kind in NEEDS_VALUE:
            raise ValueError(f"value: found nothing, expected one for {self.kind}: {KINDS[self.kind]}")
        if self.value is not None:
            within("value", self.value, 0.0, 20_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantConfig:
    """Everything the simulation needs to know. folder: what relative paths start from."""

    folder: Path = Path()
    plant: PlantTable = field(default_factory=PlantTable)
    belt: BeltTable = field(default_factory=BeltTable)
    boards: BoardsTable = field(default_factory=BoardsTable)
    plc: PlcTable = field(default_factory=PlcTable)
    modbus: ModbusTable = field(default_factory=ModbusTable)
    lens: LensTable = field(default_factory=LensTable)
    event: tuple[EventTable, ...] = ()

    def __post_init__(self) -> None:
        fastest = max([self.belt.speed_mm_s, *(e.value or 0.0 for e in self.event if e.kind == "speed")])
        least_mm = round(fastest * 1.5 * SCAN_TICKS * TICK_NS / 1e9, 3)
        if self.plc.tolerance_mm < least_mm:  # the diverter is switched by a scan, which comes up to so much later
            raise ValueError(
                f"plc.tolerance_mm: found {self.plc.tolerance_mm:g}, expected {least_mm:g} or more at {fastest:g} mm/s"
            )


TABLES: dict[str, type[Any]] = {
    "plant": PlantTable,
    "belt": BeltTable,
    "boards": BoardsTable,
    "plc": PlcTable,
    "modbus": ModbusTable,
    "lens": LensTable,
}


def load(path: Path) -> PlantConfig:
    """Read and check a plant's TOML file. Raises ConfigError."""
    tables = read_toml(path, read_file(path))
    known_keys(path, tables, "", (*TABLES, "event"))
    events = tables.get("event", [])
    if not isinstance(events, list):
        raise ConfigError(f"{path}: event: found a single table, expected [[event]]")
    made = {name: read_table(path, tables.get(name, {}), kind, name) for name, kind in TABLES.items()}
    read = tuple(read_table(path, table, EventTable, f"event[{n}]") for n, table in enumerate(events))
    try:
        return PlantConfig(folder=path.parent, event=read, **made)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def changed(config: PlantConfig, *, parts: int | None, rate: float | None, seed: int | None) -> PlantConfig:
    """With what the command line says instead. rate: parts a second. Raises ConfigError."""
    try:
        if parts is not None:
            config = dataclasses.replace(config, plant=dataclasses.replace(config.plant, parts=parts))
        if rate is not None:
            belt = dataclasses.replace(config.belt, speed_mm_s=rate * config.belt.pitch_mm)
            config = dataclasses.replace(config, belt=belt)
        if seed is not None:
            config = dataclasses.replace(config, boards=dataclasses.replace(config.boards, seed=seed))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return config

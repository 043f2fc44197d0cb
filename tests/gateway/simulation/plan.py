"""A scenario: everything that one seed decides before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from edge_inspector.gateway.config import GatewayConfig, GatewayTable, PlcTable, WindowTable
from edge_inspector.gateway.registers import U32

from .faults import FAULTS


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong. kind: one of FAULTS. Times from the start of the scenario."""

    kind: str
    at_ms: float
    for_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One scenario. Positions in counts, speed in counts a millisecond.

    What a commissioned line keeps to: in `picture_ms` a part at full speed comes no further from the lens than
    `tolerance`, and what lies nearer to another than twice that is too close.
    """

    seed: int
    camera: bool
    client: bool
    ms: bool  # there is no encoder
    by_id: bool  # the PLC looks at a result's id alone
    naive: bool  # the diverter is as the part wants it whose window has begun last
    faults: tuple[Fault, ...]
    poll_ms: float
    scan_ms: float
    speed: float
    slow: float  # at this speed a hardware-triggered camera's pictures still come within picture_ms
    back: float
    lens: float
    view: float
    length: float
    jitter: float
    tolerance: float
    distance: float
    gaps: tuple[float, float]
    crowded: float
    picture_ms: tuple[float, float]
    deadline_ms: float
    infer_ms: tuple[float, float]
    defective: float
    id_bits: int
    first_id: int
    encoder_start: int
    tags: bool
    minds_direction: bool
    writes_always: bool
    line_stop_after: int
    history: int

    @property
    def window(self) -> WindowTable:
        """As it is configured."""
        if self.ms:
            return WindowTable(distance=self.distance / self.speed, tolerance=self.tolerance / self.speed, unit="ms")
        return WindowTable(distance=round(self.distance), tolerance=self.tolerance)

    def config(self, name: str) -> GatewayConfig:
        """The gateway's."""
        table = GatewayTable(
            name=name, daemon="ipc:///nowhere", station="top", triggers="camera" if self.camera else "plc",
            picture_ms=self.picture_ms, line_stop_after=self.line_stop_after, id_bits=self.id_bits,
        )  # fmt: skip
        plc = PlcTable(kind="modbus-client" if self.client else "modbus-server", address="127.0.0.1:502")
        return GatewayConfig(path=Path("gateway.toml"), gateway=table, window=self.window, plc=plc)


FIRST_MS = 700.0  # the first fault
RECOVERED_MS = 1000.0  # so long after the last one, good parts must pass again
WATCHED_MS = 400.0  # and so long it is watched whether they do


HARMLESS = ("daemon stops", "daemon restarts", "engine hangs", "camera slow", "eye bounces", "belt speed")


def draw(seed: int, kinds: tuple[str, ...] | None = None) -> Plan:
    """The scenario of a seed. kinds: the faults, where they are not to be drawn as well."""
    random = Random(seed)
    camera = random.random() < 0.3
    if kinds is None:
        kinds = tuple(random.choices(list(FAULTS), k=random.choice((0, 1, 1, 1, 2, 2, 3))))
    doubles = camera and "camera doubles" in kinds
    if doubles:  # a pass may have to be taken back, which needs the links, and time
        kinds = ("camera doubles",)
    ms = random.random() < 0.2 and not any(kind.startswith("belt") for kind in kinds)
    poll_ms, id_bits = random.uniform(8, 20), random.choice((16, 32))
    deadline_ms = random.choice((random.uniform(70, 250), random.uniform(70, 250), random.uniform(250, 900)))
    return Plan(
        seed=seed, camera=camera, ms=ms, poll_ms=poll_ms, id_bits=id_bits,
        client=random.random() < 0.4, by_id=random.random() < 0.3,
        naive=random.random() < 0.3 and all(kind in HARMLESS for kind in kinds),
        faults=tuple(_fault(kind, random) for kind in kinds),
        **_geometry(random, poll_ms, deadline_ms, camera=camera, ms=ms),
        crowded=random.choice((0.0, 0.1, 0.3)), defective=random.choice((0.1, 0.5)),
        deadline_ms=deadline_ms + random.choice((0, 0, 0, 0, 0 if doubles else 800)),
        infer_ms=(4, random.uniform(5, deadline_ms / 3)),
        first_id=random.choice((0, 0, (1 << id_bits) - random.randrange(1, 40), random.randrange(1 << id_bits))),
        encoder_start=random.choice((0, U32 - random.randrange(1, 40_000), U32 // 2 - random.randrange(1, 40_000))),
        tags=random.random() < 0.5, minds_direction=random.random() < 0.5, writes_always=random.random() < 0.3,
        line_stop_after=random.choice((0, 0, 0, 4)), history=random.choice((8, 64, 1024)),
    )  # fmt: skip


def _fault(kind: str, random: Random) -> Fault:
    return Fault(kind, random.uniform(FIRST_MS, 1500), random.choice((0.1, 0.4, 1.0)) * random.uniform(50, 2000))


def _geometry(random: Random, poll_ms: float, deadline_ms: float, *, camera: bool, ms: bool) -> dict[str, Any]:
    """Where everything stands, so that what Plan says of a commissioned line is so."""
    speed, scan_ms = random.uniform(1, 20), random.choice((1.0, 2.0, 5.0))
    jitter = 0.0 if ms else random.choice((0.0, 2.0))
    latest_ms = poll_ms + random.uniform(15, 35)
    lens = random.uniform(0, 0.5) * speed * latest_ms
    tolerance = max(lens, speed * latest_ms - lens, speed * scan_ms) + jitter + 1 + (2 * speed if ms else 0)
    least = 2 * (tolerance + jitter) + 2
    if ms:  # when a part came is known to a cycle or two
        least += speed * (2 * poll_ms + 15)
    slow, picture_ms = 0.0, (0.0, latest_ms)
    if camera:  # no picture fits two parts
        slow = speed * 0.6
        picture_ms = (max(0.0, lens / speed - 1), lens / slow + 1)
        least = max(least, speed * (picture_ms[1] - picture_ms[0] + 2 * poll_ms + 15))
    return {
        "speed": speed, "scan_ms": scan_ms, "jitter": jitter, "lens": lens, "tolerance": tolerance, "slow": slow,
        "picture_ms": picture_ms, "view": tolerance - jitter, "back": (tolerance - lens - jitter) / latest_ms,
        "length": random.uniform(0.2, 0.9) * tolerance, "gaps": (least, least * random.uniform(1.01, 2.5)),
        "distance": lens + tolerance + speed * (latest_ms + deadline_ms + random.uniform(80, 600)),
    }  # fmt: skip

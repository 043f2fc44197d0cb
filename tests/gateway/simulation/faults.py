"""What can go wrong: each begins when it is called, and ends itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .events import MS, Wire
from .host import Host

if TYPE_CHECKING:
    from .plant import Plant


def _link(wires: Callable[[Plant], tuple[Wire, ...]], what: str) -> Callable[[Plant, float], None]:
    """A link that misbehaves, in one direction or both."""

    def begin(plant: Plant, for_ms: float) -> None:
        random, bad = plant.random, list(wires(plant))
        if len(bad) > 1 and random.random() < 0.5:
            bad = [random.choice(bad)]
        more_ms = 0.0
        for wire in bad:
            if what == "delay":
                low = 10 ** random.uniform(0, 2.7)
                wire.delay_ms = (low, low * random.uniform(1, 2))
                wire.orderly = random.random() < 0.5 or plant.plan.client
                more_ms = max(more_ms, wire.delay_ms[1])
            elif what == "drop":
                wire.drop = random.uniform(0.05, 0.95)
            elif what == "double":
                wire.double, wire.delay_ms = random.uniform(0.1, 0.9), (0.2, 10 ** random.uniform(0, 2))
                wire.orderly = plant.plan.client
                more_ms = max(more_ms, wire.delay_ms[1])
            elif what == "silent":
                wire.silent = True
            else:
                wire.held_ns = plant.events.now_ns + round(for_ms * MS)

        def heal() -> None:
            for wire in bad:
                wire.heal()

        plant.later(for_ms, heal, more_ms)

    return begin


def _daemon_link(plant: Plant) -> tuple[Wire, ...]:
    return plant.host.to_daemon, plant.host.from_daemon


def _plc_link(plant: Plant) -> tuple[Wire, ...]:
    return plant.host.to_plc, plant.host.from_plc if plant.plan.client else plant.plc.to_gate


def _daemon_stop(plant: Plant, for_ms: float) -> None:
    plant.daemon.stop()
    plant.later(for_ms, plant.daemon.go_on, 300)


def _daemon_restart(plant: Plant, for_ms: float) -> None:
    plant.daemon.kill()
    plant.later(for_ms, plant.daemon.start, 300)


def _daemon_not_ready(plant: Plant, for_ms: float) -> None:
    plant.daemon.ready = False
    plant.later(for_ms, lambda: setattr(plant.daemon, "ready", True), 100)


def _engine_hangs(plant: Plant, for_ms: float) -> None:
    plant.daemon.hangs = True
    plant.later(for_ms, lambda: setattr(plant.daemon, "hangs", False))


def _camera_slow(plant: Plant, for_ms: float) -> None:
    plant.daemon.expose_ms = (0.5, plant.random.uniform(5, 200))
    plant.later(for_ms, plant.daemon.hurry)


def _camera_misses(plant: Plant, for_ms: float) -> None:
    plant.daemon.misses = 0.5
    plant.later(for_ms, lambda: setattr(plant.daemon, "misses", 0.0))


def _camera_doubles(plant: Plant, for_ms: float) -> None:
    plant.doubles = True
    plant.later(for_ms, lambda: setattr(plant, "doubles", False))


def _gate_stall(plant: Plant, for_ms: float) -> None:
    plant.host.stall(plant.random.random() < 0.5)
    plant.later(for_ms, plant.host.go_on)


def _gate_restart(plant: Plant, for_ms: float) -> None:
    plant.host.kill()
    plant.later(for_ms, plant.host.start)


def _other_gate(plant: Plant, for_ms: float) -> None:
    name = plant.random.choice(("g1", "g2"))
    plant.other = Host(plant, name, deaf=True)
    plant.later(for_ms, plant.other.kill)


def _plc_restart(plant: Plant, for_ms: float) -> None:
    plant.plc.restart(for_ms)
    plant.calm_after(for_ms + 100)


def _plc_disabled(plant: Plant, for_ms: float) -> None:
    plant.plc.enabled = False
    plant.disabled_ns = plant.events.now_ns, plant.events.now_ns + round(for_ms * MS)
    plant.later(for_ms, lambda: setattr(plant.plc, "enabled", True))


def _encoder_set_back(plant: Plant, for_ms: float) -> None:
    plant.plc.set_back()
    plant.calm_after(100 + plant.plan.distance / plant.plan.speed)  # less than that is as if the belt had run back


def _eye_bounces(plant: Plant, for_ms: float) -> None:
    plant.plc.bounces = True
    plant.later(for_ms, lambda: setattr(plant.plc, "bounces", False))


def _belt_speed(plant: Plant, for_ms: float) -> None:
    for n in range(4):
        plant.events.after(for_ms * n / 4, plant.belt.run, plant.plan.speed * plant.random.uniform(0.1, 1.0))
    plant.later(for_ms, lambda: plant.belt.run(plant.plan.speed))


def _belt_stops(plant: Plant, for_ms: float) -> None:
    plant.belt.run(0.0)
    plant.later(for_ms, lambda: plant.belt.run(plant.plan.speed))


def _belt_back(plant: Plant, for_ms: float) -> None:
    """It runs back for a while, then forward: calm again when it is where it was."""
    back = plant.plan.back
    plant.belt.run(-back)
    plant.later(for_ms, lambda: plant.belt.run(plant.plan.speed), for_ms * back / plant.plan.speed)


FAULTS: dict[str, Callable[[Plant, float], None]] = {
    "daemon stops": _daemon_stop,
    "daemon restarts": _daemon_restart,
    "daemon not ready": _daemon_not_ready,
    "engine hangs": _engine_hangs,
    "camera slow": _camera_slow,
    "camera misses": _camera_misses,
    "camera doubles": _camera_doubles,
    "gate stalls": _gate_stall,
    "gate restarts": _gate_restart,
    "another gate": _other_gate,
    "plc restarts": _plc_restart,
    "plc disabled": _plc_disabled,
    "encoder set back": _encoder_set_back,
    "eye bounces": _eye_bounces,
    "belt speed": _belt_speed,
    "belt stops": _belt_stops,
    "belt back": _belt_back,
    **{f"daemon link {what}": _link(_daemon_link, what) for what in ("delay", "drop", "double", "silent", "held")},
    **{f"plc link {what}": _link(_plc_link, what) for what in ("delay", "drop", "double", "silent", "held")},
}

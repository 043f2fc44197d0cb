"""The plant's clock: moves the belt in small ticks, lets the PLC scan, and does what the schedule says.

Plant time is real time, but for a standstill of this process: then the belt has stood still as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ..gateway.registers import Codec
from .belt import Belt, EyeEdge, Fell, UnderLens
from .config import SCAN_TICKS, TICK_NS, EventTable, PlantConfig
from .lens import Lens
from .plc import Edge, Outputs, Plc
from .ports import Port
from .score import Disturbance, Score

BEHIND_NS = 20_000_000  # at the most so much is caught up with
LAST_NS = 300_000_000  # the belt runs on for so long behind the last part, so that its window closes
BACK_MM_S = 200.0
OFF_S = 0.5  # how long a PLC is off, where nothing is said
REMEMBERED = 256


class Simulation:
    """Belt, PLC, their wires and their score. One thread calls everything here.

    truth: whether the part with this number is defective. now_ns: the monotonic clock.
    """

    def __init__(
        self,
        config: PlantConfig,
        port: Port,
        lens: Lens | None,
        truth: Callable[[int], bool],
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.belt = Belt(config.belt, count=config.plant.parts, seed=config.boards.seed)
        self.score = Score(truth)
        self.plant_ns = 0  # since the start of the simulation
        self.slipped_ns = 0  # how long it stood still because it was not let run
        self.started_ns: int | None = None  # when the belt started
        self.line_stops = 0
        self.plc: Plc | None = None  # None: off
        self.numbers: dict[int, int] = {}  # of the last parts, by their count at the photo-eye
        self._config, self._port, self._lens, self._now_ns = config, port, lens, now_ns
        self._codec = Codec(high_first=config.modbus.word_order == "high")
        self._due_ns = now_ns()
        self._ticks = self._boot = 0
        self._edges: list[Edge] = []
        self._outputs: Outputs | None = None
        self._active: dict[str, EventTable] = {}
        self._ends: dict[str, tuple[float, Disturbance]] = {}
        self._schedule = list(config.event)
        self._empty_ns: int | None = None
        self._boot_plc()

    @property
    def plant_s(self) -> float:
        """Seconds since the belt has started."""
        return 0.0 if self.started_ns is None else (self.plant_ns - self.started_ns) / 1e9

    @property
    def parts(self) -> int:
        """How many there are in all."""
        return self._config.plant.parts

    @property
    def active(self) -> list[str]:
        """What is amiss at the moment."""
        return list(self._active)

    @property
    def done(self) -> bool:
        """All parts have fallen, and the belt has run on for a moment."""
        return self._empty_ns is not None and self.plant_ns - self._empty_ns >= LAST_NS

    @property
    def healthy(self) -> bool:
        """Whether the PLC lets parts pass at the moment."""
        return self.plc is not None and self.plc.healthy(self.plant_ns / 1e6)

    def turn(self) -> float:
        """Catch up with the clock; returns how many seconds there are until the next tick."""
        while (behind_ns := self._now_ns() - self._due_ns) >= TICK_NS:
            if behind_ns > BEHIND_NS:
                self.slipped_ns += behind_ns - BEHIND_NS
                self._due_ns += behind_ns - BEHIND_NS
            self._due_ns += TICK_NS
            self._tick()
        return (TICK_NS - behind_ns) / 1e9

    def expose(self) -> None:
        """Answer the cameras that ask."""
        if self._lens is not None:
            after_ns = self._now_ns() - self._due_ns
            self._lens.serve(partial(self.belt.under_lens, min(after_ns, BEHIND_NS) / 1e9), self._now_ns)

    def begin(self, event: EventTable) -> None:
        """A disturbance begins; one of its kind that lasts ends."""
        self.end(event.kind)
        disturbance = self.score.began(event.kind, event.name, self.plant_s)
        self._active[event.kind] = event
        for_s = event.for_s or (OFF_S if event.kind == "plc_restart" else 0.0)
        if event.kind == "repeat_trigger":
            for _ in range(int(event.value or 1)):
                if self.plc is not None:
                    self.plc.repeat()
        elif event.kind == "plc_restart":
            self._turn_off()
        self._ends[event.kind] = (self.plant_s + for_s if for_s else float("inf"), disturbance)
        self._apply()
        if event.kind == "repeat_trigger":
            self.end(event.kind)

    def end(self, kind: str) -> None:
        """The cause of a disturbance is gone."""
        if kind in self._ends:
            self._ends.pop(kind)[1].until_s = self.plant_s
            del self._active[kind]
            if kind == "plc_restart":
                self._boot_plc()
            self._apply()

    def told(self) -> dict[str, object]:
        """The summary."""
        return {
            **self.score.told(),
            "line_stops": self.line_stops,
            "seconds": round(self.plant_s, 3),
            "stood_still_ms": round(self.slipped_ns / 1e6),
            "pictures_lost": self._lens.lost if self._lens is not None else 0,
        }

    # one tick

    def _tick(self) -> None:
        self.plant_ns += TICK_NS
        self._ticks += 1
        self._keep_schedule()
        self.belt.speed_mm_s = self._speed_mm_s()
        for event in self.belt.advance(TICK_NS / 1e9):
            if isinstance(event, EyeEdge):
                self._at_eye(event)
            elif isinstance(event, Fell):
                self.score.fell(event.number, self.plant_s, good_bin=event.good_bin)
            else:
                self._strobe(event)
        if self.belt.empty and self._empty_ns is None:
            self._empty_ns = self.plant_ns
        if self._ticks % SCAN_TICKS == 0:
            self._scan()

    def _at_eye(self, event: EyeEdge) -> None:
        self._edges.append(Edge(event.encoder, event.forward))
        if event.forward:
            self.numbers[event.encoder] = event.number
            if len(self.numbers) > REMEMBERED:
                del self.numbers[next(iter(self.numbers))]
            self.score.seen(event.number, self.plant_s)
            for each in [each for each in self._schedule if each.at_part == event.number]:
                self._schedule.remove(each)
                self.begin(each)

    def _strobe(self, event: UnderLens) -> None:
        if self._lens is not None:
            self._lens.strobe(event.number, self._due_ns - TICK_NS + round(event.after_s * 1e9))

    def _scan(self) -> None:
        """The PLC's cycle: inputs, program, outputs."""
        edges, self._edges = self._edges, []
        if self.plc is None:
            return
        read = self._port.take()
        block = None if read is None else self._codec.read_vision(read)
        stops = self.plc.line_stops
        self._outputs = outputs = self.plc.scan(self.plant_ns / 1e6, edges, self.belt.encoder, block)
        self._port.put(self._codec.plc(outputs.values, outputs.triggers))
        self.line_stops += self.plc.line_stops - stops
        self.belt.passing = outputs.passing
        if self.started_ns is None and (self.healthy or self.plant_ns >= self._config.plant.wait_s * 1e9):
            self.started_ns = self.plant_ns

    def _speed_mm_s(self) -> float:
        """What drives the belt: the PLC, unless something is amiss."""
        if self.started_ns is None or "stop" in self._active:
            return 0.0
        if self._outputs is None or not self._outputs.run:
            return 0.0
        if back := self._active.get("back"):
            return -(back.value or BACK_MM_S)
        speed = self._active.get("speed")
        return speed.value or 0.0 if speed else self._config.belt.speed_mm_s

    # what is amiss

    def _keep_schedule(self) -> None:
        for kind in [kind for kind, (until_s, _) in self._ends.items() if self.plant_s >= until_s]:
            self.end(kind)
        for each in [each for each in self._schedule if each.at_s is not None and each.at_s <= self.plant_s]:
            if self.started_ns is not None:
                self._schedule.remove(each)
                self.begin(each)

    def _apply(self) -> None:
        """Let belt, lens and port be as the active disturbances have them."""
        belt, active = self._config.belt, self._active
        jitter, pitch = active.get("jitter"), active.get("pitch")
        self.belt.jitter_mm = jitter.value or 0.0 if jitter else belt.jitter_mm
        self.belt.pitch_mm = pitch.value or 0.0 if pitch else belt.pitch_mm
        self._port.mute = "mute" in active
        if self._lens is not None:
            self._lens.dark, self._lens.frozen = "dark" in active, "freeze" in active

    def _turn_off(self) -> None:
        """The PLC loses its power: its outputs fall, the diverter too; the belt has a drive of its own."""
        self.plc = None
        self.belt.passing = False
        self._port.close()

    def _boot_plc(self) -> None:
        """It has its power again, and knows nothing."""
        self._boot += 1
        counts, table = self._config.belt.counts_per_mm, self._config.plc
        self.plc = Plc(
            table,
            boot=self._boot,
            distance=round(self._config.belt.ejector_mm * counts),
            tolerance=round(table.tolerance_mm * counts),
        )
        self._port.start()

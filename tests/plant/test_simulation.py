"""The whole plant without a wire and without waiting: whatever is amiss, no defective part falls into the good bin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.commands.conveyor import conveyor
from edge_inspector.errors import ConfigError
from edge_inspector.gateway.registers import Registers, Status, Trigger
from edge_inspector.plant.belt import BeltTable
from edge_inspector.plant.config import KINDS, NEEDS_VALUE, TICK_NS, EventTable, PlantConfig, PlantTable, changed, load
from edge_inspector.plant.plc import PlcTable
from edge_inspector.plant.simulation import Simulation

from .standin import HEALTHY, Gateway

EXAMPLE = Path(__file__).parents[2] / "examples" / "plant.toml"


@dataclass
class Wire:
    """A port whose other end is the stand-in, as far as the plant's own clock says."""

    gateway: Gateway
    problem: str = ""
    mute: bool = False
    now_ns: int = 0
    on: bool = True
    _said: Registers | None = None

    def start(self) -> None:
        """Power is back."""
        self.on, self._said = True, None

    def put(self, block: Registers) -> None:
        """Write, then read."""
        if self.on and not self.mute:
            self.gateway.hear(block, self.now_ns / 1e6)
            self._said = self.gateway.say(self.now_ns / 1e6)

    def take(self) -> Registers | None:
        """What was read."""
        said, self._said = self._said, None
        return said

    def close(self) -> None:
        """Power is off."""
        self.on = False


@dataclass
class Rig:
    """A simulation with a clock of its own. Every third part is defective."""

    config: PlantConfig
    delay_ms: float = 30.0
    wire: Wire = field(init=False)
    simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(Gateway(self.good, delay_ms=self.delay_ms, id_bits=self.config.plc.id_bits))
        self.simulation = Simulation(
            self.config, self.wire, None, lambda number: number % 3 == 0, now_ns=lambda: self.wire.now_ns
        )

    def good(self, trigger: Trigger) -> bool:
        """By what the encoder said, whatever id it has; an end that was carried back is nobody's front."""
        number = self.simulation.numbers.get(trigger.encoder)
        return number is not None and number % 3 != 0

    def turn(self, seconds: float) -> None:
        """Let it run."""
        until_ns = self.wire.now_ns + round(seconds * 1e9)
        while self.wire.now_ns < until_ns and not self.simulation.done:
            self.wire.now_ns += TICK_NS
            self.simulation.turn()

    def finish(self) -> dict[str, object]:
        """To the end; then the summary."""
        self.turn(600)
        assert self.simulation.done
        return self.simulation.told()


def config(*events: EventTable, parts: int = 60, **tables: object) -> PlantConfig:
    """A plant with these disturbances."""
    return PlantConfig(plant=PlantTable(parts=parts), event=events, **tables)  # type: ignore[arg-type]


def test_every_part_where_it_belongs() -> None:
    """With a gateway that answers by the truth."""
    told = Rig(config()).finish()
    assert (told["good_bin"], told["reject_bin"], told["escapes"], told["good_rejected"]) == (40, 20, 0, 0)


def test_without_a_gateway_everything_is_ejected() -> None:
    """The belt does not wait for ever."""
    rig = Rig(config(parts=10))
    rig.wire.mute = True
    rig.turn(20)
    assert rig.simulation.started_ns is None
    told = rig.finish()
    assert (told["good_bin"], told["reject_bin"], told["unexplained"]) == (0, 10, 7)


EVENTS = st.builds(
    lambda kind, part, for_s, value: EventTable(
        kind=kind, at_part=part, for_s=for_s, value=value if kind in NEEDS_VALUE or kind == "back" else None
    ),
    st.sampled_from([kind for kind in KINDS if kind not in ("dark", "freeze", "mark")]),
    st.integers(1, 40),
    st.sampled_from([0.05, 0.2, 0.7, 2.0]),
    st.sampled_from([20.0, 45.0, 300.0, 900.0]),
)


@settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENTS, max_size=5), careless=st.booleans(), delay_ms=st.sampled_from([5.0, 100.0, 395.0]))
def test_whatever_is_amiss_nothing_escapes(events: list[EventTable], careless: bool, delay_ms: float) -> None:
    """Speeds, stops, reversals, silence, restarts, parts too near each other: and every part falls once."""
    rig = Rig(config(*events, parts=45, plc=PlcTable(careless=careless)), delay_ms)
    told = rig.finish()
    assert told["parts"] == 45
    assert told["escapes"] == 0
    assert len(rig.simulation.score.disturbances) == len(events)


def test_what_each_disturbance_costs() -> None:
    """Only the good parts that it sent to the reject bin; and when parts pass again."""
    told = Rig(
        config(
            EventTable(kind="mark", at_part=5, for_s=0.3, name="nothing"),
            EventTable(kind="mute", at_part=20, for_s=1.0),
            EventTable(kind="plc_restart", at_part=60, for_s=0.2),
            parts=100,
        )
    ).finish()
    nothing, mute, restart = told["events"]  # type: ignore[misc]
    assert (nothing["kind"], nothing["name"], nothing["cost"], nothing["passes_ms"] <= 100) == ("mark", "nothing", 0, 1)
    assert mute["cost"] + restart["cost"] == told["good_rejected"]
    assert mute["cost"] >= 9  # silent after 0.5 s
    assert restart["cost"] >= 8  # what was on the belt
    assert told["unexplained"] == 0
    for each in (mute, restart):
        assert 0 <= each["passes_ms"] < 1000


def test_line_stop_stops_the_belt() -> None:
    """Until the operator has cleared it; here the gateway takes the first change of `clear`."""
    rig = Rig(config(plc=PlcTable(operator_s=0.5)))
    rig.turn(1.0)
    rig.wire.gateway.status = Status.ONLINE | Status.LINE_STOP
    rig.turn(0.1)
    moved = rig.simulation.belt.encoder
    rig.turn(0.3)
    assert rig.simulation.belt.encoder == moved
    rig.wire.gateway.status = HEALTHY
    told = rig.finish()
    assert (told["line_stops"], told["escapes"], told["parts"]) == (1, 0, 60)


def test_a_standstill_of_the_process_is_one_of_the_belt() -> None:
    """Nothing happens while nobody could have done anything about it; the summary says how long."""
    rig = Rig(config())
    rig.turn(1.5)
    before = rig.simulation.belt.encoder
    rig.wire.now_ns += 5_000_000_000
    rig.simulation.turn()
    assert 0 < (rig.simulation.belt.encoder - before) <= 210
    told = rig.finish()
    assert 4900 < int(str(told["stood_still_ms"])) <= 5000
    assert (told["escapes"], told["good_rejected"]) == (0, 0)


def test_how_it_looks() -> None:
    """A part is drawn as what the PLC holds of it, in the colour of the truth; a screen's width is enough."""
    rig = Rig(config(), delay_ms=100)
    rig.turn(1.0)
    lines = conveyor(rig.simulation, rig.simulation.score.defective, "", colour=False)
    assert all(len(line) <= 100 for line in lines)
    belt = lines[3]
    assert "□" in belt
    assert "■" in belt
    assert "x" in belt
    assert "parts may pass" in lines[0]
    coloured = conveyor(rig.simulation, rig.simulation.score.defective, "", colour=True)[3]
    assert "\x1b[31mx" in coloured
    assert "\x1b[32m■" in coloured
    rig.finish()
    assert "60 of 60" in conveyor(rig.simulation, rig.simulation.score.defective, "no gateway", colour=True)[0]


def test_the_example_loads_and_names_every_key() -> None:
    """It is the documentation."""
    loaded = load(EXAMPLE)
    text = EXAMPLE.read_text()
    assert {event.kind for event in loaded.event} | {"freeze"} <= set(KINDS)
    for kind in KINDS:
        assert kind in text
    for name, table in (("plant", PlantTable), ("belt", BeltTable), ("plc", PlcTable), ("event", EventTable)):
        for key in table.__dataclass_fields__:
            assert f"{key} =" in text, f"{name}.{key}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[plc]\nid_bits = 8", "plc.id_bits: found 8, expected 16 or 32"),
        ("[belt]\npitch = 3", 'belt.pitch: unknown key "pitch"'),
        ("[belt]\npitch_mm = 20", "belt.pitch_mm: found 20.0, expected 31.0 or more"),
        ("[belt]\nspeed_mm_s = 2000", "plc.tolerance_mm: found 10, expected 15 or more at 2000 mm/s"),
        ('[[event]]\nkind = "stop"', "event[0].at_s: expected either at_s or at_part"),
        ('[[event]]\nkind = "speed"\nat_s = 1', "event[0].value: found nothing, expected one for speed"),
        ('[[event]]\nkind = "party"\nat_s = 1', 'event[0].kind: found "party", expected one of speed'),
        ('[modbus]\naddress = "here"', 'modbus.address: found "here", expected "host:port"'),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, message: str) -> None:
    """It is said, with the key and what was expected."""
    (tmp_path / "plant.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "plant.toml")
    assert message in str(caught.value)


def test_the_command_line_wins() -> None:
    """parts, rate and seed."""
    made = changed(PlantConfig(), parts=7, rate=10.0, seed=3)
    assert (made.plant.parts, made.belt.speed_mm_s, made.boards.seed) == (7, 500.0, 3)
    with pytest.raises(ConfigError, match="tolerance_mm"):
        changed(PlantConfig(), parts=None, rate=100.0, seed=None)

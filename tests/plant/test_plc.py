"""The PLC's program, rule by rule: without a Pass, and all being well, a part is ejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.gateway.registers import (
    HEADER_WORDS,
    RESULT_WORDS,
    U32,
    Codec,
    Registers,
    Status,
    Trigger,
    VisionBlock,
)
from edge_inspector.plant.plc import Edge, Outputs, Plc, PlcTable

from .standin import HEALTHY, Gateway

DISTANCE, TOLERANCE, PITCH = 4000, 100, 500


class Rig:
    """A PLC, a stand-in gateway, and a belt that moves by counts. Time goes by in scans of 5 ms."""

    def __init__(self, table: PlcTable | None = None, *, encoder: int = 0, **gateway: object) -> None:
        self.table = table or PlcTable()
        self.gateway = Gateway(lambda _: True, id_bits=self.table.id_bits, **gateway)  # type: ignore[arg-type]
        self.plc = self.started(boot=1)
        self.encoder, self.now_ms = encoder, 0.0
        self.listening = True
        self.outputs: Outputs = self.scan()
        self.wait(250)

    def started(self, *, boot: int) -> Plc:
        """A new run of the program."""
        return Plc(self.table, boot=boot, distance=DISTANCE, tolerance=TOLERANCE)

    def block(self) -> VisionBlock | None:
        """What the gateway shows."""
        return self.gateway.codec.read_vision(self.gateway.say(self.now_ms))

    def scan(self, *edges: Edge, block: VisionBlock | None = None) -> Outputs:
        """One scan; the gateway hears the outputs."""
        self.now_ms += 5
        if block is None and self.listening:
            block = self.block()
        self.outputs = self.plc.scan(self.now_ms, edges, self.encoder, block)
        if self.listening:
            self.gateway.hear(self.registers(), self.now_ms)
        return self.outputs

    def registers(self) -> Registers:
        """As the gateway reads them."""
        return self.gateway.codec.plc(self.outputs.values, self.outputs.triggers)

    def wait(self, ms: float) -> Outputs:
        """The belt stands."""
        for _ in range(int(ms // 5)):
            self.scan()
        return self.outputs

    def move(self, counts: int) -> Outputs:
        """The belt moves, by 50 counts a scan."""
        step = 50 if counts > 0 else -50
        for _ in range(abs(counts) // 50):
            self.encoder = (self.encoder + step) % U32
            self.scan()
        return self.outputs

    def part(self) -> Trigger:
        """A part comes to the photo-eye, and the belt moves a little."""
        self.encoder = (self.encoder + 50) % U32
        self.scan(Edge((self.encoder - 20) % U32, forward=True))
        return self.outputs.triggers[-1]

    def at_ejector(self) -> Outputs:
        """The belt moves until the newest part is there."""
        return self.move(DISTANCE)


def test_a_passed_part_goes_to_the_good_bin_and_only_it() -> None:
    """The diverter is set within the window, and neither before nor behind it."""
    rig = Rig()
    assert not rig.outputs.passing
    rig.part()
    assert not rig.move(DISTANCE - 150).passing
    assert rig.move(100).passing
    assert rig.move(100).passing
    assert not rig.move(150).passing


def test_no_result_no_pass() -> None:
    """A part that nobody speaks of is ejected."""
    rig = Rig(delay_ms=1e9)
    rig.part()
    assert not rig.at_ejector().passing


def test_a_fail_is_a_fail_whatever_comes_later() -> None:
    """Also after a Pass; and a Pass after it changes nothing."""
    for verdicts in ([False], [False, True], [True, False], [True, False, True]):
        rig = Rig(delay_ms=1e9)
        trigger = rig.part()
        for good in verdicts:
            rig.gateway.tell(trigger, good)
            rig.wait(20)
        assert not rig.at_ejector().passing
        assert rig.outputs.values["acknowledged"] == len(verdicts)


@pytest.mark.parametrize("wrong", ["id", "tag", "encoder"])
def test_a_result_must_fit_in_id_tag_and_encoder(wrong: str) -> None:
    """A Pass for something else passes nothing, but is acknowledged, so that it makes room."""
    rig = Rig(delay_ms=1e9)
    trigger = rig.part()
    fields = {"id": trigger.id, "tag": trigger.tag, "encoder": trigger.encoder}
    rig.gateway.tell(Trigger(**(fields | {wrong: fields[wrong] + 8})), True)
    assert not rig.at_ejector().passing
    assert rig.outputs.values["acknowledged"] == 1


def test_every_part_has_an_id_and_stands_in_the_ring() -> None:
    """The newest eight; the count is that of the newest."""
    rig = Rig()
    for _ in range(11):
        rig.part()
        rig.move(PITCH - 50)
    assert [trigger.id for trigger in rig.outputs.triggers] == list(range(4, 12))
    assert rig.outputs.values["trigger"] == 11
    assert [trigger.id for trigger in rig.gateway.triggers] == list(range(1, 12))


@pytest.mark.parametrize("bits", [16, 32])
def test_ids_wrap(bits: int) -> None:
    """And parts pass all the same."""
    rig = Rig(PlcTable(id_bits=bits, first_id=(1 << bits) - 3))
    ids = []
    for n in range(18):
        ids.append(rig.part().id)
        passing = [rig.move(50).passing for _ in range(PITCH // 50 - 1)]
        assert any(passing) == (n >= DISTANCE // PITCH - 1)
    assert ids == [(n - 3) % (1 << bits) for n in range(18)]
    assert [trigger.id for trigger in rig.gateway.triggers] == ids
    assert sum(part.may_pass for part in rig.plc.parts) == len(rig.plc.parts)


def test_the_encoder_wraps_between_eye_and_ejector() -> None:
    """At 2^32."""
    rig = Rig(encoder=U32 - 2000)
    rig.part()
    assert rig.at_ejector().passing


def test_a_silent_gateway_ejects_everything() -> None:
    """Whether nothing is read any more, or its heartbeat stands still; and when it beats again, parts pass."""
    rig = Rig()
    rig.part()
    rig.move(DISTANCE)
    frozen = rig.block()
    rig.listening = False
    assert rig.wait(400).passing
    assert not rig.wait(300).passing
    for _ in range(200):
        assert not rig.scan(block=frozen).passing
    rig.listening = True
    assert rig.wait(200).passing


def test_the_first_heartbeat_proves_nothing() -> None:
    """It may have stood in the registers for hours."""
    rig = Rig()
    frozen = rig.block()
    rig.plc = rig.started(boot=2)
    rig.listening = False
    for _ in range(50):
        rig.scan(block=frozen)
    assert not rig.plc.healthy(rig.now_ms)


@pytest.mark.parametrize("status", [Status.ONLINE, HEALTHY | Status.OVERRUN, HEALTHY | Status.LINE_STOP])
def test_without_vision_ok_everything_is_ejected(status: Status) -> None:
    """And while results are lost, or the line is to stop."""
    rig = Rig()
    rig.part()
    assert rig.move(DISTANCE).passing
    rig.gateway.status = status
    assert not rig.wait(20).passing
    rig.gateway.status = HEALTHY
    assert rig.wait(20).passing


def test_a_new_session_takes_back_what_the_old_one_passed() -> None:
    """What had no result yet may still get one."""
    rig = Rig(delay_ms=50)
    rig.part()
    rig.wait(100)
    rig.move(PITCH)
    trigger = rig.part()
    before, rig.gateway = rig.gateway, Gateway(lambda _: True, session=8)
    rig.gateway.tell(trigger, True)
    rig.wait(250)
    assert [part.may_pass for part in rig.plc.parts] == [False, True]
    assert rig.outputs.values["session"] == 8
    assert rig.outputs.values["acknowledged"] == 1
    assert before.session == 7


def test_a_torn_block_counts_for_nothing() -> None:
    """Neither its heartbeat nor its results; and a torn result waits for the next block."""
    rig = Rig(delay_ms=1e9)
    first, second = rig.part(), rig.part()
    rig.gateway.tell(first, True)
    rig.gateway.tell(second, True)
    whole = rig.gateway.say(rig.now_ms)
    torn = list(whole)
    torn[2] += 1  # heartbeat, and not its copy
    assert Codec().read_vision(torn) is None
    result = list(whole)
    result[HEADER_WORDS + 2 * RESULT_WORDS - 1] ^= 1  # the copy of the number, in the slot of number 1
    rig.listening = False
    rig.scan(block=Codec().read_vision(result))
    assert [part.passed for part in rig.plc.parts] == [False, True]
    assert rig.outputs.values["acknowledged"] == 0
    rig.scan(block=Codec().read_vision(whole))
    assert [part.passed for part in rig.plc.parts] == [True, True]
    assert rig.outputs.values["acknowledged"] == 2


def test_a_result_that_never_comes_holds_up_nothing() -> None:
    """A number that is missing for 100 ms is gone."""
    rig = Rig(delay_ms=1e9)
    trigger = rig.part()
    rig.gateway.queue.number = 5
    rig.gateway.tell(trigger, True)
    rig.wait(50)
    assert rig.outputs.values["acknowledged"] == 0
    assert rig.plc.parts[0].passed
    rig.wait(100)
    assert rig.outputs.values["acknowledged"] == 6


def test_result_numbers_wrap() -> None:
    """From 2^32 - 1 to 1, for 0 is none."""
    rig = Rig(delay_ms=1e9)
    rig.gateway.queue.number = U32 - 2
    rig.gateway.session = 9
    rig.wait(10)
    for _ in range(3):
        rig.gateway.tell(rig.part(), True)
        rig.move(PITCH)
    assert rig.outputs.values["acknowledged"] == 2
    assert all(part.may_pass for part in rig.plc.parts)


def test_after_a_restart_everything_on_the_belt_is_ejected() -> None:
    """The shift register is lost; the gateway sees another boot; new parts pass again."""
    rig = Rig()
    for _ in range(3):
        rig.part()
        rig.move(PITCH)
    rig.plc = rig.started(boot=2)
    rig.wait(250)
    ejected = [rig.move(50).passing for _ in range(DISTANCE // 50)]
    assert not any(ejected)
    rig.part()
    assert rig.at_ejector().passing
    assert rig.gateway.boots == [1, 2]


def test_parts_too_close_are_one_window() -> None:
    """One of them failed: both are ejected, also where the window of the passed one is still open."""
    rig = Rig(delay_ms=1e9)
    one = rig.part()
    rig.move(100)
    two = rig.part()
    rig.gateway.tell(one, True)
    rig.gateway.tell(two, False)
    assert not any(rig.move(50).passing for _ in range(DISTANCE // 50 + 10))


def test_a_part_carried_back_counts_once() -> None:
    """Neither its end, backwards, nor its front, forwards again, is another part; unless the PLC is careless."""
    for careless, expected in ((False, 1), (True, 3)):
        rig = Rig(PlcTable(careless=careless))
        first = rig.part()
        rig.move(500)
        rig.move(-300)
        rig.scan(Edge(first.encoder + 300, forward=False))
        rig.move(-500)
        rig.encoder += 300
        rig.scan(Edge(first.encoder, forward=True))
        rig.move(700)
        assert rig.outputs.values["trigger"] == expected
        rig.move(500)
        assert rig.part().id == expected + 1


def test_a_repeated_trigger_is_another_for_the_same_place() -> None:
    """So both must have a Pass."""
    rig = Rig(delay_ms=1e9)
    one = rig.part()
    rig.plc.repeat()
    rig.scan()
    two = rig.outputs.triggers[-1]
    assert (two.id, two.encoder) == (one.id + 1, one.encoder)
    rig.gateway.tell(one, True)
    assert not rig.move(DISTANCE).passing
    rig.gateway.tell(two, True)
    assert rig.wait(20).passing


def test_line_stop_holds_the_belt_until_the_operator_has_looked() -> None:
    """Then `clear` changes, and the belt runs once the gateway has taken that."""
    rig = Rig(PlcTable(operator_s=1.0))
    rig.gateway.status = Status.ONLINE | Status.LINE_STOP
    assert not rig.wait(20).run
    assert rig.wait(900).values["clear"] == 0
    assert rig.wait(400).values["clear"] == 1
    assert not rig.outputs.run
    rig.gateway.status = HEALTHY
    assert rig.wait(20).run
    assert rig.plc.line_stops == 1


def test_an_overrun_is_cleared_when_nothing_waits() -> None:
    """Again only after a while."""
    rig = Rig()
    rig.gateway.status |= Status.OVERRUN
    assert rig.wait(20).values["clear"] == 1
    assert rig.wait(100).values["clear"] == 1
    assert rig.wait(200).values["clear"] == 2


def test_it_says_how_old_its_block_is() -> None:
    """The gateway's clock as read, and a heartbeat that moves."""
    rig = Rig()
    before = rig.outputs.values
    rig.scan()
    assert rig.outputs.values["echo"] == int(rig.now_ms)
    assert rig.outputs.values["heartbeat"] != before["heartbeat"]


@given(
    goods=st.lists(st.booleans(), min_size=1, max_size=12),
    pitches=st.lists(st.integers(1, 30), min_size=12, max_size=12),
    delay_ms=st.sampled_from([0.0, 30.0, 200.0, 450.0]),
    losses=st.sets(st.integers(0, 400), max_size=60),
)
def test_never_a_pass_at_the_place_of_a_part_that_has_none(
    goods: list[bool], pitches: list[int], delay_ms: float, losses: set[int]
) -> None:
    """At any spacing, with late results, and scans in which nothing could be read."""
    rig = Rig(delay_ms=delay_ms)
    answers = iter(goods)
    rig.gateway.good = lambda _: next(answers)
    placed: dict[int, bool] = {}
    todo, due, scans = list(goods), 0, 0
    while todo or rig.plc.parts:
        scans += 1
        rig.encoder += 50
        rig.listening = scans not in losses
        edges = []
        if todo and scans >= due:
            placed[rig.encoder - 10] = todo.pop(0)
            edges.append(Edge(rig.encoder - 10, forward=True))
            due = scans + pitches[len(todo)]
        rig.scan(*edges)
        if rig.outputs.passing:
            here = [good for at, good in placed.items() if abs(rig.encoder - at - DISTANCE) <= TOLERANCE]
            assert here
            assert all(here)

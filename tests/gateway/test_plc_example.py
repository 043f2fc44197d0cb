"""docs/plc-example.st: it names what the register map names, and with the real gate, scan by scan, it lets no part pass
that should not, while everything goes wrong that can.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edge_inspector.gateway import registers as r
from edge_inspector.gateway.base import Heard
from edge_inspector.gateway.config import GatewayConfig, GatewayTable, PlcTable, WindowTable, load
from edge_inspector.gateway.gate import Gate

from .structured_text import Program

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = (DOCS / "plc-example.st").read_text()
MS, SCAN_MS, SPEED, PITCH = 1_000_000, 5, 10, 500  # counts a millisecond, counts from part to part
DISTANCE, TOLERANCE = 4000, 150
Fault = Callable[["Plant"], object]


def offsets(fields: tuple[r.Field, ...]) -> dict[str, int]:
    """Where each field begins."""
    return {each.name.upper(): r.width(fields[:n]) for n, each in enumerate(fields)}


def constants() -> dict[str, int]:
    """Those of the program."""
    found = re.findall(r"^ +([A-Z_]+) +: \w+ := (?:16#)?(\w+);", SOURCE, re.MULTILINE)
    hexadecimal = re.findall(r"^ +([A-Z_]+) +: \w+ := 16#", SOURCE, re.MULTILINE)
    return {name: int(value, 16 if name in hexadecimal else 10) for name, value in found}


def test_every_name_is_one_of_the_register_map() -> None:
    """Each register and each bit has the name and the place that it has in registers.py."""
    known = {f"V_{name}": at for name, at in offsets(r.VISION).items()}
    known |= {f"R_{name}": at for name, at in offsets(r.RESULT).items()}
    known |= {f"P_{name}": at for name, at in offsets(r.PLC).items()}
    known |= {f"T_{name}": at for name, at in offsets(r.TRIGGER).items()}
    known |= {"V_SLOTS": r.HEADER_WORDS, "R_SIZE": r.RESULT_WORDS, "P_SLOTS": r.PLC_WORDS, "T_SIZE": r.TRIGGER_WORDS}
    known |= {"P_TRIGGER_AGAIN": r.PLC_SIZE - 1, "MAP_VERSION": r.MAP_VERSION}
    for kind in (r.Status, r.Verdict, r.Control):
        known |= {f"{kind.__name__.upper()}_{bit.name}": int(bit) for bit in kind}
    found = constants()
    assert {name: value for name, value in found.items() if name not in ("HALF", "LAST")} == {
        name: known.get(name) for name in found if name not in ("HALF", "LAST")
    }


def test_the_blocks_have_their_sizes() -> None:
    """The arrays are as long as the blocks, and every slot of the map is gone through."""
    assert f"ARRAY[0..{r.VISION_SIZE - 1}] OF WORD" in SOURCE
    assert f"ARRAY[0..{r.PLC_SIZE - 1}] OF WORD" in SOURCE
    assert f"FOR i := 0 TO {r.SLOTS - 1} DO" in SOURCE
    assert f"read {r.VISION_SIZE} registers" in SOURCE
    assert f"all {r.PLC_SIZE} registers" in SOURCE


def test_the_page_says_what_is(tmp_path: Path) -> None:
    """docs/plc.md: its gateway.toml loads, what it links to exists, and its reasons have the codes of the map."""
    text = (DOCS / "plc.md").read_text()
    found = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert found
    (tmp_path / "gateway.toml").write_text(found[1])
    assert load(tmp_path / "gateway.toml").window.distance == DISTANCE
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (DOCS / link).exists(), link
    reasons = re.findall(r"(\d+) \((\w+)\)", text)
    assert len(reasons) > 5
    assert {name: int(code) for code, name in reasons} == {name: r.REASONS[name] for _, name in reasons}
    ElementTree.parse(DOCS / "plc-handshake.svg")


def test_everything_that_is_declared_is_used() -> None:
    """Nothing was forgotten on the way."""
    declared = re.findall(r"^ {8}(\w+) +: ", re.sub(r"\(\*.*?\*\)", "", SOURCE, flags=re.DOTALL), re.MULTILINE)
    assert [name for name in declared if len(re.findall(rf"\b{name}\b", SOURCE)) < 2] == []


@dataclass
class Part:
    """One on the belt. at: the count at which it is at the photo-eye, unbounded."""

    at: int
    good: bool
    seen: bool = False
    good_bin: bool | None = None


@dataclass
class Plant:
    """Belt, PLC, gateway and daemon, in steps of a scan. Set something, and it is so from then on.

    deaf: the PLC's block goes out, and none comes in. torn: every other time, the block that comes in is part old, part
    new. hung: the gateway decides nothing any more, but its registers can be read.
    """

    start: int = 0
    seed: int = 1
    speed: int = SPEED
    alive: bool = True
    ready: bool = True
    linked: bool = True
    deaf: bool = False
    hung: bool = False
    reset: bool = False
    torn: bool = False
    delay_ms: int = 40
    now_ms: int = 10_000
    position: int = 0
    parts: list[Part] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.program = Program(SOURCE, "VisionGate")
        self.random = random.Random(self.seed)
        self.next_at = 800
        self.vision: list[int] = [0] * r.VISION_SIZE
        self.first = True
        self.scans = 0
        self.due: list[tuple[int, dict[str, Any]]] = []
        self.sessions, self.epoch, self.seq = 100, "a" * 16, 0
        self.new_gateway()

    # what there is

    def new_gateway(self) -> None:
        """The gateway is started anew."""
        self.sessions += 1
        table = GatewayTable(name="g1", daemon="ipc:///x", station="top", picture_ms=(0.0, 60.0), line_stop_after=10)
        plc = PlcTable(kind="modbus-server", address="127.0.0.1:1502")
        window = WindowTable(distance=DISTANCE, tolerance=TOLERANCE)
        config = GatewayConfig(path=Path("gateway.toml"), gateway=table, window=window, plc=plc)
        self.sent: list[dict[str, Any]] = []
        self.due.clear()
        self.gate = Gate(
            config, session=self.sessions, utc_us=lambda ns: ns // 1000, send=self.sent.append,
            closed=lambda record: None, alarm=lambda what, why: self.alarms.append(f"{what}: {why}"),
        )  # fmt: skip

    def new_daemon(self) -> None:
        """The daemon is started anew."""
        self.epoch, self.seq = chr(ord(self.epoch[0]) + 1) * 16, 0
        self.due.clear()

    def new_plc(self, *, stop_to_run: bool = False) -> None:
        """The PLC is started anew; some keep their variables."""
        if not stop_to_run:
            self.program.power_cycle()
        self.first = True

    @property
    def passing(self) -> bool:
        """Where the diverter leads."""
        return bool(self.program.v["DiverterPass"])

    def status(self) -> r.Status:
        """What the gateway says."""
        return r.Status(self.gate.registers(self.now_ms * MS)[1])

    # what happens

    def run(self, ms: int) -> Plant:
        """So long."""
        for _ in range(ms // SCAN_MS):
            self._step()
        return self

    def _step(self) -> None:
        before, passing = self.position, self.passing
        self.now_ms += SCAN_MS
        if self.program.v["BeltMayRun"] or self.first:
            self.position += self.speed * SCAN_MS
        while self.next_at <= self.position + 400:
            self.parts.append(Part(self.next_at, good=self.random.random() < 0.7))
            self.next_at += PITCH
        eye = [part for part in self.parts if before < part.at <= self.position]
        for part in self.parts:
            if part.good_bin is None and part.at + DISTANCE <= self.position:
                part.good_bin = passing
        self._daemon()
        if not self.hung:
            self.gate.turn(self.now_ms * MS)
        self._scan(eye)

    def _scan(self, eye: list[Part]) -> None:
        self.scans += 1
        new = self.linked and not self.deaf and self.scans % 2 == 0
        if new and not self.hung:
            fresh = self.gate.registers(self.now_ms * MS)
            at = self.random.randrange(r.VISION_SIZE) if self.torn and self.scans % 4 == 0 else 0
            self.vision = fresh if not at else fresh[:at] + self.vision[at:]
        self.program.scan(
            self.now_ms, FirstScan=self.first, Enable=True, Reset=self.reset, LinkOk=self.linked, VisionNew=new,
            Vision=self.vision, PartSeen=bool(eye), PartEncoder=self._count(eye[-1].at if eye else 0),
            Encoder=self._count(self.position), Distance=DISTANCE, Tolerance=TOLERANCE,
        )  # fmt: skip
        self.first = False
        for part in eye:
            part.seen = True
        if self.linked and not self.hung:
            block = r.Codec().read_plc(self.program.v["Plc"])
            assert block is not None
            known = block.session == self.vision[4]
            self.gate.heard(Heard(block, self.now_ms * MS, 2 * SCAN_MS * MS if known else None))

    def _daemon(self) -> None:
        now_ns = self.now_ms * MS
        sent, self.sent[:] = list(self.sent), []
        if not self.alive or self.hung:
            return
        for message in sent:
            if message["type"] == "hello":
                station = {"station": "top", "last_seq": self.seq, "deadline_us": 200_000}
                self._say("welcome", line="l", stations=[station], echo_us=message["t_us"])
            elif message["type"] == "trigger":
                self.due.append((self.now_ms + self.delay_ms, message))
        if self.now_ms % 50 == 0:
            state = "ready" if self.ready else "fault"
            self._say("heartbeat", station="top", ready=self.ready, last_seq=self.seq, state=state, reason="")
        while self.due and self.due[0][0] <= self.now_ms:
            trigger = self.due.pop(0)[1]
            part = next(part for part in self.parts if self._count(part.at) == trigger["encoder"])
            self.seq += 1
            taken_us = now_ns // 1000 - 20_000 if self.delay_ms < 200 else trigger["t_us"] + 20_000
            self._say(
                "verdict", station="top", seq=self.seq, trigger_id=trigger["trigger_id"], part_id=trigger["part_id"],
                encoder=trigger["encoder"], outcome="pass" if part.good else "reject", grade=None,
                reason="ok" if part.good else "defect", defects=[], t_grab_us=taken_us,
                t_publish_us=now_ns // 1000, simulated=True,
            )  # fmt: skip

    def _say(self, kind: str, **more: Any) -> None:
        now_ns = self.now_ms * MS
        self.gate.message({"v": 1, "type": kind, "epoch": self.epoch, "t_us": now_ns // 1000, **more}, now_ns)

    def _count(self, position: int) -> int:
        return (self.start + position) % r.U32

    # how it went

    def fallen(self, since: int = 0) -> list[Part]:
        """Those that were at the photo-eye after this place of the belt, and have reached the ejector."""
        return [part for part in self.parts if part.good_bin is not None and part.at > since]

    def must_be_safe(self) -> None:
        """No defective part is in the good bin."""
        escaped = [part.at for part in self.fallen() if part.good_bin and not part.good]
        assert not escaped, f"{escaped}; {self.alarms}"

    def must_be_perfect(self, since: int) -> None:
        """From there on every part is in its bin."""
        fallen = self.fallen(since)
        assert len(fallen) > 10, self.alarms
        assert [part.at for part in fallen if part.good_bin != part.good] == [], self.alarms


@pytest.mark.parametrize("start", [0, r.U32 - 30_000])
def test_a_good_day(start: int) -> None:
    """Twenty parts a second, over the wrap of the encoder: each falls into its bin, once all is well."""
    plant = Plant(start=start).run(10_000)
    plant.must_be_safe()
    plant.must_be_perfect(since=8000)


def test_without_a_gateway_nothing_passes() -> None:
    """A program that is never answered ejects everything and lets the belt run."""
    plant = Plant(linked=False).run(4000)
    assert len(plant.fallen()) > 50
    assert not any(part.good_bin for part in plant.fallen())


def silent(plant: Plant) -> None:
    """The daemon hangs for a second."""
    plant.alive = False
    plant.run(1000).alive = True


def cut(plant: Plant) -> None:
    """The network cable is pulled for a second."""
    plant.linked = False
    plant.run(1000).linked = True


def not_ready(plant: Plant) -> None:
    """The camera is blocked."""
    plant.ready = False
    plant.run(700).ready = True


def late(plant: Plant) -> None:
    """Verdicts come after their window has opened."""
    plant.delay_ms = 420
    plant.run(800).delay_ms = 40


def backwards(plant: Plant) -> None:
    """The belt runs back by 120 mm and on again."""
    plant.speed = -SPEED
    plant.run(120)
    plant.speed = SPEED


def standing(plant: Plant) -> None:
    """The belt stands still."""
    plant.speed = 0
    plant.run(1500)
    plant.speed = SPEED


def deaf(plant: Plant) -> None:
    """What the PLC reads does not come for a while."""
    plant.deaf = True
    plant.run(900).deaf = False


def hung(plant: Plant) -> None:
    """The gateway hangs."""
    plant.hung = True
    plant.run(900).hung = False


def torn(plant: Plant) -> None:
    """Every other block is half old."""
    plant.torn = True
    plant.run(3000).torn = False


FAULTS: dict[str, Fault] = {
    "silent": silent,
    "cut": cut,
    "not_ready": not_ready,
    "late": late,
    "backwards": backwards,
    "standing": standing,
    "deaf": deaf,
    "hung": hung,
    "torn": torn,
    "gateway": Plant.new_gateway,
    "daemon": Plant.new_daemon,
    "plc": Plant.new_plc,
    "stop_to_run": lambda plant: plant.new_plc(stop_to_run=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_good_parts_and_never_more(fault: str) -> None:
    """Nothing defective passes; and soon after the cause is gone every part falls into its bin again."""
    plant = Plant(start=r.U32 - 20_000).run(3000)
    FAULTS[fault](plant)
    plant.reset = True  # the operator, where the line was stopped
    plant.run(1500)
    since = plant.position
    plant.run(3000)
    plant.must_be_safe()
    plant.must_be_perfect(since)


@pytest.mark.parametrize("seed", range(4))
def test_many_faults_in_any_order(seed: int) -> None:
    """One after the other, some while the one before still lasts, and the operator presses now and then."""
    plant = Plant(start=r.U32 - 50_000, seed=seed).run(1000)
    for _ in range(15):
        FAULTS[plant.random.choice(list(FAULTS))](plant)
        plant.reset = plant.random.random() < 0.5
        plant.run(plant.random.randrange(0, 1200, SCAN_MS))
    plant.reset = False
    plant.run(50).reset = True
    plant.run(1500)
    since = plant.position
    plant.run(2000)
    plant.must_be_safe()
    plant.must_be_perfect(since)


class Hand:
    """The program alone, with blocks written by hand: one part, 1000 counts behind the photo-eye."""

    def __init__(self) -> None:
        self.program = Program(SOURCE, "VisionGate")
        self.now_ms = 0
        self.scan([], first=True, encoder=5000)
        self.scan(self.vision(heartbeat=1), encoder=5000)
        self.scan(self.vision(heartbeat=2), encoder=5000)
        self.scan(self.vision(heartbeat=3), seen=True, encoder=5100)
        sent = r.Codec().read_plc(self.program.v["Plc"])
        assert sent is not None
        (self.trigger,) = (each for each in sent.triggers if each.id == sent.trigger)
        assert self.trigger.encoder == 5100

    def vision(self, *results: r.Result, heartbeat: int = 3, **header: int) -> r.Registers:
        """A block in which all is well."""
        newest = max((result.number for result in results), default=0)
        values = {each.name: 0 for each in r.VISION} | {"version": 1, "session": 9, "status": int(r.Status.VISION_OK)}
        values |= {"heartbeat": heartbeat, "heartbeat_again": heartbeat, "result": newest} | header
        slots = {result.number % r.SLOTS: result for result in results}
        words = [word for slot in range(r.SLOTS) for word in r.Codec().result(slots.get(slot))]
        return r.Codec().pack(r.VISION, values) + words

    def scan(
        self, vision: r.Registers, *, first: bool = False, seen: bool = False, encoder: int = 6100, linked: bool = True
    ) -> Hand:
        """One."""
        self.now_ms += SCAN_MS
        self.program.scan(
            self.now_ms, FirstScan=first, Enable=True, Reset=False, LinkOk=linked, VisionNew=bool(vision),
            Vision=vision or [0] * r.VISION_SIZE, PartSeen=seen, PartEncoder=5100, Encoder=encoder, Distance=DISTANCE,
            Tolerance=TOLERANCE,
        )  # fmt: skip
        return self

    def result(self, number: int, verdict: r.Verdict, **change: int) -> r.Result:
        """Of the part, or of one that differs in something."""
        named = {"id": self.trigger.id, "tag": self.trigger.tag, "encoder": self.trigger.encoder} | change
        return r.Result(number, verdict=verdict, reason="ok", **named)

    def passes(self) -> bool:
        """Whether it would, when it comes to the ejector with everything well."""
        self.scan(self.vision(heartbeat=4)).scan(self.vision(heartbeat=5), encoder=5100 + DISTANCE)
        return bool(self.program.v["DiverterPass"])


def test_only_a_pass_for_this_very_part_lets_it_pass() -> None:
    """The same id, tag and encoder; and each of the two bits by itself."""
    hand = Hand()
    assert hand.scan(hand.vision(hand.result(1, r.Verdict.PASS))).passes()
    for change in ({"id": 9}, {"tag": 9}, {"encoder": 9}):
        hand = Hand()
        assert not hand.scan(hand.vision(hand.result(1, r.Verdict.PASS, **change))).passes(), change
    for verdict in (r.Verdict.FAIL, r.Verdict(0), r.Verdict.PASS | r.Verdict.FAIL):
        hand = Hand()
        block = hand.vision(hand.result(1, verdict), hand.result(2, r.Verdict.PASS))
        assert not hand.scan(block).passes(), verdict


@pytest.mark.parametrize("old", [r.Verdict.PASS, r.Verdict.FAIL])
def test_a_block_that_was_read_half_written_passes_nothing(old: r.Verdict) -> None:
    """Wherever the new part of it ends: the slot had another part's result before, now it has a Fail."""
    for at in range(1, r.VISION_SIZE):
        hand = Hand()
        before = hand.vision(*(hand.result(n, old, id=n + 70) for n in range(1, 9)))
        after = hand.vision(*(hand.result(n, old, id=n + 70) for n in range(2, 9)), hand.result(9, r.Verdict.FAIL))
        hand.scan(before)
        hand.scan(after[:at] + before[at:])
        assert not hand.passes(), at
        hand.scan(after, encoder=5100 + DISTANCE)
        assert hand.program.v["Acknowledged"] == 9
        assert not hand.program.v["DiverterPass"]


def test_a_header_that_was_read_half_written_is_left_alone() -> None:
    """Neither status nor session of it counts, and it is no sign of life."""
    hand = Hand()
    hand.scan(hand.vision(heartbeat=40, heartbeat_again=39, session=4, status=0))
    assert hand.program.v["Session"] == 9
    assert hand.program.v["Status"] == int(r.Status.VISION_OK)
    assert hand.program.v["Heartbeat"] == 3
    hand.scan(hand.vision(heartbeat=4, version=2, session=4))
    assert hand.program.v["Session"] == 9


def test_a_new_session_counts_from_one_again() -> None:
    """What the former gateway had counted is forgotten at once, and its parts as well."""
    hand = Hand()
    hand.scan(hand.vision(*(hand.result(n, r.Verdict.PASS) for n in range(1, 6))))
    assert hand.program.v["Acknowledged"] == 5
    hand.scan(hand.vision(hand.result(1, r.Verdict.PASS), session=10))
    assert hand.program.v["Acknowledged"] == 1
    assert all(part.Failed for part in hand.program.v["Parts"])


@pytest.mark.parametrize("there", [True, False])
def test_a_result_that_does_not_come_is_waited_for_but_not_for_ever(there: bool) -> None:
    """Number 5 is announced, and 1 to 4 are not there: after 100 ms it is taken, if it is there itself."""
    hand = Hand()
    block = hand.vision(*([hand.result(5, r.Verdict.PASS)] if there else []), result=5)
    for _ in range(100 // SCAN_MS):
        assert hand.scan(block).program.v["Acknowledged"] == 0
    assert hand.scan(block).scan(block).program.v["Acknowledged"] == 5
    assert hand.passes() == there


def test_a_gateway_that_has_always_stood_still_is_none() -> None:
    """VisionOK and a heartbeat that stand in the registers since yesterday are no sign of life."""
    hand = Hand()
    hand.program.power_cycle()
    for n in range(10):
        hand.scan(hand.vision(heartbeat=7), first=n == 0)
    assert not hand.program.v["Alive"]
    assert hand.scan(hand.vision(heartbeat=8)).program.v["Healthy"]


def test_an_overrun_ejects() -> None:
    """A Fail may be among the results that wait."""
    hand = Hand()
    hand.scan(hand.vision(hand.result(1, r.Verdict.PASS))).scan(hand.vision(heartbeat=4))
    both = int(r.Status.VISION_OK | r.Status.OVERRUN)
    assert hand.scan(hand.vision(heartbeat=5), encoder=5100 + DISTANCE).program.v["DiverterPass"]
    assert not hand.scan(hand.vision(heartbeat=6, status=both), encoder=5100 + DISTANCE).program.v["DiverterPass"]


def test_a_part_that_is_carried_back_is_not_another() -> None:
    """It crosses the photo-eye a second time, at a count where the belt has been already."""
    hand = Hand()
    hand.scan([], encoder=5050).scan([], seen=True, encoder=5150)
    assert hand.program.v["Id"] == hand.trigger.id


def test_a_link_that_fails_ejects_at_once() -> None:
    """The half second is for a gateway that hangs behind a link that works."""
    hand = Hand()
    hand.scan(hand.vision(hand.result(1, r.Verdict.PASS)))
    assert hand.passes()
    assert not hand.scan([], encoder=5100 + DISTANCE, linked=False).program.v["DiverterPass"]


@pytest.mark.parametrize("at", [DISTANCE - TOLERANCE - 1, DISTANCE - TOLERANCE, DISTANCE, DISTANCE + TOLERANCE + 1])
def test_the_diverter_leads_to_the_good_bin_within_the_window_alone(at: int) -> None:
    """And a Pass that comes when it has opened is none."""
    hand = Hand()
    hand.scan(hand.vision(hand.result(1, r.Verdict.PASS))).scan(hand.vision(heartbeat=4), encoder=5100 + at)
    assert hand.program.v["DiverterPass"] == (DISTANCE - TOLERANCE <= at <= DISTANCE + TOLERANCE)
    hand = Hand()
    hand.scan(hand.vision(hand.result(1, r.Verdict.PASS), heartbeat=4), encoder=5100 + at)
    assert not hand.program.v["DiverterPass"]


def on_the_belt(plant: Plant) -> list[Part]:
    """Those between photo-eye and ejector."""
    return [part for part in plant.parts if part.seen and part.good_bin is None]


@pytest.mark.parametrize(
    ("what", "value"), [("hung", True), ("linked", False), ("deaf", True), ("alive", False), ("ready", False)]
)
def test_what_has_a_pass_is_ejected_all_the_same(what: str, value: bool) -> None:
    """On a slow belt, where passed parts are still under way when nobody can be relied upon any more."""
    plant = Plant(speed=2).run(8000)
    under_way = on_the_belt(plant)
    assert sum(part.good for part in under_way) > 3
    setattr(plant, what, value)
    plant.run(600)
    assert not plant.passing
    held = [part for part in under_way if part.good_bin is None]
    plant.run(1500)
    assert {part.good_bin for part in held} == {False}
    assert any(part.good for part in held)


def test_a_new_gateway_vouches_for_nothing_before_it() -> None:
    """Every part on the belt is ejected, also where the former gateway had passed it."""
    plant = Plant(speed=2).run(8000)
    under_way = on_the_belt(plant)
    plant.new_gateway()
    plant.run(2500)
    assert {part.good_bin for part in under_way} == {False}


@pytest.mark.parametrize("stop_to_run", [False, True])
def test_a_new_start_of_the_plc_is_known_as_one(stop_to_run: bool) -> None:
    """Its boot is another, what is on the belt is ejected, and with the same encoder nothing is taken for another."""
    plant = Plant(speed=2).run(8000)
    under_way, boot = on_the_belt(plant), plant.program.v["Boot"]
    plant.new_plc(stop_to_run=stop_to_run)
    plant.run(2500)
    assert plant.program.v["Boot"] == boot + 1
    assert {part.good_bin for part in under_way} == {False}


def test_a_fail_after_a_pass_holds() -> None:
    """A part that comes within another's window takes the Pass back that this one has already."""
    plant = Plant(delay_ms=5).run(3000)
    first = next(part for part in plant.parts if part.at > plant.position and part.good)
    first.good = True
    plant.parts.insert(plant.parts.index(first) + 1, Part(first.at + 200, good=True))
    plant.run(1000)
    assert [part.good_bin for part in plant.parts if 0 <= part.at - first.at <= 200] == [False, False]


def test_a_line_stop_holds_the_belt_until_the_operator_has_pressed() -> None:
    """Ten parts in a row without a verdict: the belt stands, and goes on after Reset."""
    plant = Plant().run(3000)
    plant.delay_ms = 5000
    plant.run(2000)
    assert not plant.program.v["BeltMayRun"]
    assert not plant.passing
    stood = plant.run(500).position
    assert plant.run(500).position == stood
    plant.delay_ms, plant.reset = 40, True
    plant.due.clear()
    plant.run(2000)
    since = plant.position
    plant.run(2000)
    assert plant.program.v["BeltMayRun"]
    plant.must_be_perfect(since)


def test_pressing_all_the_time_is_pressing_once() -> None:
    """A button that hangs does not clear the next line stop."""
    plant = Plant(reset=True).run(3000)
    plant.delay_ms = 5000
    plant.run(3000)
    assert r.Status.LINE_STOP in plant.status()
    assert not plant.program.v["BeltMayRun"]


def test_an_overrun_is_cleared_once_everything_was_taken() -> None:
    """The PLC was away for so long that results had to wait: Overrun shows, and goes without anybody's doing."""
    plant = Plant().run(3000)
    plant.deaf = True
    plant.run(900).deaf = False
    assert r.Status.OVERRUN in plant.status()
    plant.run(1500)
    assert r.Status.OVERRUN not in plant.status()
    since = plant.position
    plant.run(2000)
    plant.must_be_safe()
    plant.must_be_perfect(since)

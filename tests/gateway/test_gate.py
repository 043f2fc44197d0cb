"""The gate, by itself: everything is a reject until an explicit pass, for this part, from this daemon, in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_inspector.gateway.base import Heard, PartRecord
from edge_inspector.gateway.clocks import Clocks
from edge_inspector.gateway.config import GatewayConfig, GatewayTable, PlcTable, WindowTable
from edge_inspector.gateway.gate import Gate
from edge_inspector.gateway.registers import Codec, Control, PlcBlock, Result, Status, Trigger, Verdict, VisionBlock

MS = 1_000_000
SESSION = 77
OFFSET_US = 5_000_000  # the daemon's clock is that much behind ours
PITCH = 500  # counts from part to part; 10 counts a millisecond


class Bench:
    """A gate with a daemon and a PLC that say what the test wants, at times that the test chooses."""

    def __init__(self, **gateway: Any) -> None:
        window = gateway.pop("window", WindowTable(distance=4000, tolerance=150))
        table = {"name": "g1", "daemon": "ipc:///nowhere", "station": "top", "picture_ms": (0.0, 40.0), **gateway}
        plc = PlcTable(kind="modbus-server", address="127.0.0.1:1502")
        config = GatewayConfig(path=Path("gateway.toml"), gateway=GatewayTable(**table), window=window, plc=plc)
        self.sent: list[dict[str, Any]] = []
        self.closed: list[PartRecord] = []
        self.alarms: list[tuple[str, str]] = []
        self.gate = Gate(
            config,
            session=SESSION,
            utc_us=lambda ns: ns // 1000,
            send=self.sent.append,
            closed=self.closed.append,
            alarm=lambda what, why: self.alarms.append((what, why)),
        )
        self.now_ns = 10_000 * MS
        self.epoch, self.seq, self.beats = "a" * 16, 0, 0
        self.boot, self.acknowledged, self.clear, self.encoder, self.count = 1, 0, 0, 0, 0
        self.triggers: dict[int, Trigger] = {}
        self.echoes = True
        self.answers = True

    def healthy(self) -> Bench:
        """Welcomed, beating, heard."""
        self.plc()
        self.welcome()
        self.beat()
        self.after(100)  # of what was within the window when we came, nothing is known
        assert self.gate.healthy, self.gate.status().reason
        return self

    def theirs_us(self) -> int:
        """Now on the daemon's clock."""
        return self.now_ns // 1000 - OFFSET_US

    def welcome(self, last_seq: int = 0) -> None:
        """The daemon registers us."""
        self.gate.turn(self.now_ns)
        station = {"station": "top", "last_seq": last_seq, "oldest_seq": 1, "deadline_us": 200_000, "ready": True,
                   "last_trigger_id": 0}  # fmt: skip
        self.gate.message(
            {"v": 1, "type": "welcome", "line": "l", "epoch": self.epoch, "stations": [station],
             "t_us": self.theirs_us(), "echo_us": self.now_ns // 1000}, self.now_ns,
        )  # fmt: skip
        self.seq = last_seq

    def beat(self, *, ready: bool = True, last_seq: int | None = None, late_ms: int = 0) -> None:
        """A heartbeat, which was on its way for so long."""
        self.gate.message(
            {"v": 1, "type": "heartbeat", "line": "l", "station": "top", "epoch": self.epoch, "ready": ready,
             "last_seq": self.seq if last_seq is None else last_seq, "state": "ready" if ready else "fault",
             "reason": "", "counts": {}, "counters": {}, "t_us": self.theirs_us() - late_ms * 1000}, self.now_ns,
        )  # fmt: skip

    def plc(self, *, age_ms: int | None = 2, enable: bool = True) -> None:
        """The PLC speaks."""
        self.beats += 1
        block = PlcBlock(
            Control.ENABLE if enable else Control(0), self.beats, 0, SESSION if self.echoes else 0,
            self.encoder % 2**32, self.acknowledged, self.clear, self.boot, self.count, tuple(self.triggers.values()),
        )  # fmt: skip
        self.gate.heard(Heard(block, self.now_ns, None if age_ms is None else age_ms * MS))

    def after(self, ms: int) -> None:
        """Time passes, the belt runs, everyone beats every 50 ms."""
        for _ in range(0, ms, 10):
            self.now_ns += 10 * MS
            self.encoder += 100
            if self.answers and self.now_ns % (50 * MS) == 0:
                self.beat()
            self.plc()
            self.gate.turn(self.now_ns)

    def part(self, *, age_ms: int | None = 2) -> dict[str, Any] | None:
        """The next part comes; returns what was sent to the daemon."""
        self.count += 1
        self.triggers[self.count % 8] = Trigger(self.count, 900 + self.count, self.encoder % 2**32)
        before = len(self.sent)
        self.plc(age_ms=age_ms)
        triggers = [message for message in self.sent[before:] if message["type"] == "trigger"]
        return triggers[0] if triggers else None

    def verdict(self, trigger: dict[str, Any], outcome: str = "pass", **change: Any) -> dict[str, Any]:
        """The daemon's verdict for a trigger."""
        self.seq += 1
        reason = {"pass": "ok", "reject": "defect", "fault": "timeout"}[outcome]
        message = {
            "v": 1, "type": "verdict", "line": "l", "station": "top", "epoch": self.epoch, "seq": self.seq,
            "trigger_id": trigger["trigger_id"], "part_id": trigger["part_id"], "encoder": trigger["encoder"],
            "outcome": outcome, "reason": reason, "grade": "A", "defects": [], "near_misses": [], "suppressed": 0,
            "t_trigger_us": 0, "t_grab_us": self.theirs_us(), "t_publish_us": self.theirs_us(), "deadline_us": 0,
            "latency_us": {}, "engine": {}, "recipe": {}, "simulated": True, **change,
        }  # fmt: skip
        self.gate.message(message, self.now_ns)
        return message

    def vision(self) -> VisionBlock:
        """What the PLC can read now."""
        block = Codec().read_vision(self.gate.registers(self.now_ns))
        assert block is not None
        return block

    def results(self) -> list[Result]:
        """The queue, as the PLC reads it."""
        return list(self.vision().results)

    def acks(self) -> list[dict[str, Any]]:
        """What the daemon was told of verdicts that arrived."""
        return [message for message in self.sent if message["type"] == "ack"]

    def over(self) -> list[PartRecord]:
        """The records, once the belt has carried everything away."""
        self.after(700)
        return self.closed


def test_a_pass_reaches_the_plc_and_its_acknowledgement_the_daemon() -> None:
    """The whole way of one part."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    assert trigger["part_id"] == "901"
    bench.after(20)
    bench.verdict(trigger)
    (result,) = bench.results()
    assert (result.id, result.tag, result.encoder) == (1, 901, trigger["encoder"])
    assert (result.verdict, result.reason) == (Verdict.PASS, "ok")
    assert not bench.acks()  # the PLC does not have it yet
    bench.acknowledged = result.number
    bench.plc()
    (ack,) = bench.acks()
    assert (ack["seq"], ack["epoch"]) == (1, bench.epoch)
    assert not bench.results()
    (record,) = bench.over()
    assert (record.action, record.why, record.outcome) == ("pass", "ok", "pass")
    assert record.t_opened_us is not None
    assert record.t_closed_us is not None
    assert record.t_verdict_us is not None
    assert record.t_verdict_us <= record.t_opened_us <= record.t_closed_us
    assert record.t_written_us == ack["t_written_us"]
    assert bench.gate.counts.passed == 1


@pytest.mark.parametrize(("outcome", "why"), [("reject", "defect"), ("fault", "timeout")])
def test_what_is_no_pass_is_a_fail(outcome: str, why: str) -> None:
    """With its reason."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger, outcome)
    (result,) = bench.results()
    assert (result.verdict, result.reason) == (Verdict.FAIL, why)
    assert bench.over()[0].action == "reject"


def test_no_verdict_is_a_reject_by_the_deadline_and_a_late_pass_changes_nothing() -> None:
    """It is recorded and told, and never applied, not to the next part either."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.after(50)
    other = bench.part()
    assert other is not None
    bench.after(150)
    (result,) = bench.results()
    assert (result.id, result.verdict, result.reason) == (1, Verdict.FAIL, "no_verdict")
    bench.verdict(trigger)
    bench.acknowledged = 1
    bench.plc()
    bench.after(60)
    assert [result.verdict for result in bench.results()] == [Verdict.FAIL]
    assert [record.action for record in bench.over()] == ["reject", "reject"]
    assert bench.gate.counts.late == 1
    assert any(what == "a verdict came too late" for what, _ in bench.alarms)
    assert [ack["seq"] for ack in bench.acks()] == [1]


CHANGES: dict[str, dict[str, Any]] = {
    "another session, as of a second gateway": {"trigger_id": (SESSION + 1) << 36 | 1},
    "another part": {"trigger_id": SESSION << 36 | 2},
    "another encoder count": {"encoder": 5},
    "no picture": {"t_grab_us": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_pass_for_something_else(change: dict[str, Any]) -> None:
    """It must say the very part."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger, **change)
    assert Verdict.PASS not in [result.verdict for result in bench.results()]
    bench.acknowledged = bench.gate.queue.number
    assert [record.action for record in bench.over()] == ["reject"]
    assert bench.acks()  # nobody waits for it


def test_a_picture_that_may_show_the_next_part() -> None:
    """A trigger that was on its way for too long is answered with a picture of something else."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.after(60)
    bench.verdict(trigger)
    (result,) = bench.results()
    assert (result.verdict, result.reason) == (Verdict.FAIL, "late_picture")


def test_a_trigger_of_which_nobody_knows_how_old_it_is() -> None:
    """The link to the PLC stood still, then everything came at once."""
    bench = Bench().healthy()
    bench.now_ns += 300 * MS
    bench.encoder += 3000
    bench.beat()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    (result,) = bench.results()
    assert (result.verdict, result.reason) == (Verdict.FAIL, "late_picture")


def test_before_anybody_was_heard_everything_is_rejected() -> None:
    """The PLC alone, then the daemon without a heartbeat, then with one."""
    bench = Bench()
    bench.plc()
    assert Status.VISION_OK not in bench.vision().status
    assert bench.part() is None
    bench.welcome()
    assert not bench.gate.healthy
    assert bench.part() is None
    bench.beat()
    assert Status.VISION_OK in bench.vision().status
    bench.encoder += PITCH
    assert bench.part() is not None


def test_parts_that_were_there_before_us_get_no_result() -> None:
    """What stood in the PLC's ring when we came is not ours to judge."""
    bench = Bench()
    bench.count = 5
    bench.triggers = {n: Trigger(n, n, 0) for n in range(1, 6)}
    bench.healthy()
    assert not bench.results()
    assert not [message for message in bench.sent if message["type"] == "trigger"]


def _silent(bench: Bench) -> None:
    bench.answers = False
    bench.after(600)


def _not_ready(bench: Bench) -> None:
    bench.beat(ready=False)


def _gap(bench: Bench) -> None:
    bench.beat(last_seq=bench.seq + 3)


def _new_daemon(bench: Bench) -> None:
    bench.epoch = "b" * 16
    bench.seq = 0
    bench.beat()


def _plc_gone(bench: Bench) -> None:
    bench.gate.lost("connection refused", bench.now_ns)


def _late_beats(bench: Bench) -> None:
    bench.answers = False
    for _ in range(12):
        bench.after(50)
        bench.beat(late_ms=700)


@pytest.mark.parametrize("trouble", [_silent, _not_ready, _gap, _new_daemon, _plc_gone, _late_beats])
def test_trouble_rejects_what_is_open_and_all_that_comes(trouble: Any) -> None:
    """VisionOK drops; a pass for what was open counts for nothing; afterwards parts pass again."""
    bench = Bench().healthy()
    bench.part()
    open_before = bench.part() if trouble is _silent else bench.sent[-1]
    trouble(bench)
    assert Status.VISION_OK not in bench.vision().status
    assert Status.FAULT in bench.vision().status
    assert bench.part() is None
    if trouble is _not_ready and open_before is not None:
        bench.verdict(open_before)
    assert Verdict.PASS not in [result.verdict for result in bench.results()]
    bench.answers = True
    bench.welcome(bench.seq)
    bench.gate.message(
        {"v": 1, "type": "gap", "station": "top", "epoch": bench.epoch, "oldest_seq": 2**20}, bench.now_ns
    )
    bench.beat()
    bench.acknowledged = bench.gate.queue.number
    bench.after(50)
    assert bench.gate.healthy, bench.gate.status().reason
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    assert bench.results()[-1].verdict is Verdict.PASS


def test_the_daemons_resend_is_no_second_verdict() -> None:
    """Every 20 ms until it is acknowledged; and acknowledged again where that was lost."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    message = bench.verdict(trigger)
    bench.gate.message(message, bench.now_ns)
    assert len(bench.results()) == 1
    bench.acknowledged = 1
    bench.plc()
    bench.gate.message(message, bench.now_ns)
    assert [ack["seq"] for ack in bench.acks()] == [1, 1]
    assert bench.gate.healthy


def test_parts_too_close_are_both_rejected_even_where_one_had_passed() -> None:
    """The ejector cannot tell them apart: the pass that the PLC has is taken back."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    bench.encoder += 100
    other = bench.part()
    assert other is None
    found = {result.id: (result.verdict, result.reason) for result in bench.results() if result.verdict is Verdict.FAIL}
    assert found == {1: (Verdict.FAIL, "too_close"), 2: (Verdict.FAIL, "too_close")}
    assert [record.why for record in bench.over()] == ["too_close", "too_close"]
    assert bench.gate.counts.passed == 0


def test_the_plc_restarts_and_counts_from_the_beginning() -> None:
    """What was on the belt is rejected, what stood in the queue is taken out: its ids may come again."""
    bench = Bench().healthy()
    for _ in range(3):
        trigger = bench.part()
        assert trigger is not None
        bench.verdict(trigger)
        bench.after(50)
    bench.boot, bench.count, bench.triggers, bench.encoder, bench.acknowledged = 2, 0, {}, 0, 0
    bench.plc()
    assert not bench.results()
    assert [record.action for record in bench.closed] == ["reject"] * 3
    bench.after(100)
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    bench.after(10)
    assert [result.id for result in bench.results()] == [1]


@pytest.mark.parametrize("bits", [16, 32])
def test_ids_that_wrap(bits: int) -> None:
    """The PLC's counter begins anew; parts go on."""
    bench = Bench(id_bits=bits)
    bench.count = 2**bits - 3
    bench.healthy()
    for n in range(6):
        trigger_id = (2**bits - 2 + n) % 2**bits
        bench.count = trigger_id - 1 if trigger_id else -1
        trigger = bench.part()
        assert trigger is not None
        bench.verdict(trigger)
        assert (bench.results()[-1].id, bench.results()[-1].verdict) == (trigger_id, Verdict.PASS)
        bench.acknowledged = bench.gate.queue.number
        bench.after(50)
    bench.over()
    assert bench.gate.counts.passed == 6


def test_a_full_queue_waits_and_says_so() -> None:
    """The PLC does not acknowledge: eight results stand, nothing is overwritten, and what waits too long is a fail."""
    bench = Bench().healthy()
    for _ in range(10):
        trigger = bench.part()
        assert trigger is not None
        bench.verdict(trigger)
        bench.after(50)
    assert [result.id for result in bench.results()] == list(range(1, 9))
    assert Status.OVERRUN in bench.vision().status
    assert bench.gate.queue.overruns > 0
    bench.over()
    waited = [record for record in bench.closed if record.id > 8]
    assert [(record.action, record.why) for record in waited] == [("reject", "late_verdict")] * 2
    bench.clear += 1
    bench.plc()
    assert Status.OVERRUN not in bench.vision().status


def test_too_many_in_a_row_stop_the_line_until_someone_acknowledges() -> None:
    """Faults and missed deadlines count, defects do not."""
    bench = Bench(line_stop_after=3).healthy()
    for outcome in ("fault", "reject", "fault", "fault", "fault"):
        trigger = bench.part()
        assert trigger is not None
        bench.verdict(trigger, outcome)
        bench.acknowledged = bench.gate.queue.number
        bench.after(50)
    assert Status.LINE_STOP in bench.vision().status
    assert bench.part() is None
    bench.after(50)
    assert bench.gate.counts.line_stops == 1
    bench.clear += 1
    bench.plc()
    assert Status.LINE_STOP not in bench.vision().status
    bench.after(50)
    assert bench.part() is not None


def test_a_trigger_that_the_daemon_refuses() -> None:
    """It is a reject at once; and where the daemon does not know us, we say hello."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    refusal = {"v": 1, "type": "trigger_ack", "station": "top", "epoch": bench.epoch, "accepted": False,
               "trigger_id": trigger["trigger_id"], "reason": "not_registered: say hello first"}  # fmt: skip
    bench.gate.message(refusal, bench.now_ns)
    (result,) = bench.results()
    assert (result.verdict, result.reason) == (Verdict.FAIL, "not_accepted")
    assert not bench.gate.healthy


def test_a_plc_that_wants_no_inspection() -> None:
    """Everything is rejected; nobody is at fault."""
    bench = Bench(line_stop_after=1).healthy()
    bench.plc(enable=False)
    bench.count += 1
    bench.triggers[bench.count % 8] = Trigger(bench.count, 0, bench.encoder)
    bench.plc(enable=False)
    assert [record.reason for record in bench.results()] == ["disabled"]
    assert not bench.gate.line_stop
    assert bench.gate.healthy


def test_lost_triggers_are_counted_and_have_no_result() -> None:
    """More came between two readings than the ring can hold."""
    bench = Bench().healthy()
    for n in range(1, 13):
        bench.triggers[n % 8] = Trigger(n, 0, n * PITCH)
    bench.count, bench.encoder = 12, 12 * PITCH
    bench.plc()
    assert bench.gate.plc.lost == 4
    sent = [message["encoder"] // PITCH for message in bench.sent if message["type"] == "trigger"]
    assert sent == list(range(6, 13))  # nobody knows how near the last lost one was to the fifth


def test_what_the_plc_said_before_is_not_taken_for_news() -> None:
    """A link that turns messages around makes no second parts, and no restart of the PLC."""
    bench = Bench().healthy()
    bench.after(50)
    bench.part()
    before = len(bench.sent)
    bench.count -= 1
    bench.plc(age_ms=30)
    bench.count += 1
    bench.plc()
    assert [message for message in bench.sent[before:] if message["type"] == "trigger"] == []
    assert not [what for what, _ in bench.alarms if "PLC was started" in what]


def test_a_block_that_was_overtaken_within_a_millisecond_is_no_restart() -> None:
    """An echo is not finer than that: two blocks with the same one, and the older comes last."""
    bench = Bench().healthy()
    bench.after(50)
    bench.part()
    bench.count -= 1
    bench.plc()
    assert not [what for what, _ in bench.alarms if "PLC was started" in what]


def test_an_encoder_that_is_set_back_is_a_new_start() -> None:
    """Or no part would pass until the belt has run all the way again."""
    bench = Bench().healthy()
    bench.after(1000)
    trigger = bench.part()
    assert trigger is not None
    bench.encoder = 0
    bench.plc()
    bench.verdict(trigger)
    assert not bench.results()
    bench.after(100)
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    assert bench.results()[-1].verdict is Verdict.PASS


def test_what_the_ejector_has_done_already_a_new_plc_does_not_change() -> None:
    """A part whose window was open when the PLC was started anew may have passed."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    bench.after(390)
    bench.boot = 2
    bench.plc()
    (record,) = bench.closed
    assert (record.action, record.why) == ("pass", "ok")


def test_parts_of_a_former_plc_stop_no_line() -> None:
    """They had their verdicts; it is nobody's fault that these are of no use any more."""
    bench = Bench(line_stop_after=2).healthy()
    for _ in range(3):
        trigger = bench.part()
        assert trigger is not None
        bench.verdict(trigger)
        bench.after(50)
    bench.boot = 2
    bench.plc()
    assert [record.action for record in bench.closed] == ["reject"] * 3
    assert not bench.gate.line_stop


def test_results_are_not_acknowledged_in_the_name_of_another_session() -> None:
    """The PLC still speaks to our predecessor, and its number would free a place of ours."""
    bench = Bench().healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    bench.echoes, bench.acknowledged = False, 1
    bench.plc()
    assert len(bench.results()) == 1


def test_a_pass_that_comes_first_after_a_standstill() -> None:
    """Before anything else is done it is noticed that the daemon was not heard for too long."""
    bench = Bench(picture_ms=(0.0, 2000.0), window=WindowTable(distance=40_000, tolerance=150)).healthy()
    bench.gate.daemon.deadline_us = 5_000_000
    trigger = bench.part()
    assert trigger is not None
    bench.now_ns += 600 * MS
    bench.verdict(trigger)
    assert not bench.results()
    bench.encoder += 50_000
    assert [record.why for record in bench.over()] == ["not_healthy"]


def test_what_a_former_daemon_said_is_no_news() -> None:
    """It does not come back by a message that was on its way for long, however many there were since."""
    bench = Bench().healthy()
    for n in range(200):
        bench.epoch = f"{n:016x}"
        bench.welcome()
        bench.beat()
    started = len(bench.alarms)
    bench.epoch = f"{198:016x}"
    bench.beat()
    assert len(bench.alarms) == started
    assert bench.gate.status().epoch == f"{199:016x}"
    assert len(bench.gate.daemon._former) <= 64


def test_verdicts_that_are_missing_are_chased() -> None:
    """While more come, the daemon's memory moves on: what it still has must be asked for at once."""
    bench = Bench().healthy()
    bench.beat(last_seq=20)
    bench.gate.turn(bench.now_ns)
    gap = {"v": 1, "type": "gap", "station": "top", "epoch": bench.epoch, "oldest_seq": 15}
    bench.now_ns += 2 * MS
    bench.gate.message(gap, bench.now_ns)
    bench.gate.turn(bench.now_ns)
    assert [message["from_seq"] for message in bench.sent if message["type"] == "replay"] == [1, 15]


def test_a_daemon_that_counts_wildly_fills_no_memory() -> None:
    """Of what is missing, no more is kept in mind than a daemon keeps."""
    bench = Bench().healthy()
    for n in range(20):
        bench.beat(last_seq=n * 10_000)
    assert len(bench.gate.daemon._missing) <= 4096


class TestTakenBack:
    """A pass that the PLC has been told, or was to be told, and that does not hold any more."""

    def passed(self, **gateway: Any) -> Bench:
        """One part has a pass; then comes a second picture of it."""
        bench = Bench(triggers="camera", picture_ms=(10.0, 30.0), **gateway).healthy()
        bench.after(10)
        bench.part()
        bench.after(20)
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(10)
        return bench

    def second(self, bench: Bench) -> None:
        """Another picture, taken when the first one was."""
        bench.verdict({"trigger_id": 2, "part_id": "x", "encoder": None}, "reject",
                      t_grab_us=bench.theirs_us() - 10_000)  # fmt: skip

    def test_while_the_plc_is_not_heard(self) -> None:
        """When it is back, it finds the fail."""
        bench = self.passed()
        bench.acknowledged = bench.gate.queue.number
        bench.plc()
        bench.gate.lost("connection refused", bench.now_ns)
        self.second(bench)
        assert [(r.verdict, r.reason) for r in bench.results()] == [(Verdict.FAIL, "unpaired")]

    def test_before_there_was_a_place_for_it(self) -> None:
        """What waits in the queue says what holds when its turn comes."""
        bench = Bench(triggers="camera", picture_ms=(10.0, 30.0)).healthy()
        for _ in range(9):
            bench.after(50)
            bench.part()
            bench.after(20)
            bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
            bench.after(20)
        bench.verdict({"trigger_id": 2, "part_id": "x", "encoder": None}, t_grab_us=bench.theirs_us() - 20_000)
        bench.acknowledged = 8
        bench.after(10)
        assert {r.verdict for r in bench.results() if r.id == 9} == {Verdict.FAIL}

    def test_while_there_is_no_place_for_the_fail(self) -> None:
        """The PLC must not let the part pass in the meantime."""
        bench = Bench(triggers="camera", picture_ms=(10.0, 30.0)).healthy()
        for _ in range(8):
            bench.after(50)
            bench.part()
            bench.after(20)
            bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
            bench.after(20)
        assert bench.gate.healthy
        bench.verdict({"trigger_id": 2, "part_id": "x", "encoder": None}, t_grab_us=bench.theirs_us() - 20_000)
        assert Status.VISION_OK not in bench.vision().status
        bench.acknowledged = 8
        bench.after(10)
        assert [(r.id, r.verdict) for r in bench.results()] == [(8, Verdict.FAIL)]
        assert Status.VISION_OK in bench.vision().status


class TestClocks:
    """The bounds between the daemon's clock and ours hold, or are given up."""

    def test_two_clocks_that_move_apart(self) -> None:
        """500 us a second, the most by which Linux slews a clock, and hardly ever an answer."""
        for rate in (-500e-6, 0.0, 500e-6):
            clocks = Clocks()
            for now_us in range(0, 120_000_000, 1_000_000):
                theirs_us = round(now_us * (1 + rate)) + 7_000_000
                if now_us % 40_000_000 == 0:
                    clocks.answered(now_us - 2000, theirs_us - 1000, now_us)
                clocks.received(theirs_us - (100 if now_us == 0 else 30_000), now_us)
                found = clocks.ours(theirs_us)
                assert found is not None
                assert found[0] - 1 <= now_us <= found[1] + 1

    def test_a_clock_that_stood_still(self) -> None:
        """A machine was suspended: after the next answer the bounds are new."""
        for lag_us in (-3_000_000, 3_000_000):
            clocks = Clocks()
            clocks.answered(0, 600, 1000)
            clocks.received(100_000, 100_500)
            clocks.answered(200_000, 200_600 - lag_us, 201_000)
            found = clocks.ours(200_600 - lag_us)
            assert found is None or found[0] <= 200_600 <= found[1]
            clocks.answered(300_000, 300_600 - lag_us, 301_000)
            assert clocks.ours(300_600 - lag_us) == pytest.approx((300_000, 301_000), abs=60)


class TestCamera:
    """A hardware-triggered camera: pictures and triggers are paired by time."""

    def paired(self, **gateway: Any) -> Bench:
        """The camera stands 20 ms behind the photo-eye."""
        return Bench(triggers="camera", **{"picture_ms": (10.0, 30.0), **gateway}).healthy()

    def test_one_picture_for_one_trigger(self) -> None:
        """The daemon's own count is of no meaning."""
        bench = self.paired()
        bench.after(10)
        assert bench.part() is None
        bench.after(20)
        bench.verdict({"trigger_id": 4711, "part_id": "x", "encoder": None})
        bench.after(40)
        (result,) = bench.results()
        assert (result.id, result.verdict) == (1, Verdict.PASS)

    def test_a_picture_between_two_parts_is_of_neither(self) -> None:
        """Both are rejected, as nobody can say which one it shows."""
        bench = self.paired(picture_ms=(10.0, 60.0))
        for _ in range(2):
            bench.after(40)
            bench.part()
        bench.after(20)
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(60)
        assert [(r.id, r.verdict, r.reason) for r in bench.results()] == [
            (1, Verdict.FAIL, "unpaired"), (2, Verdict.FAIL, "unpaired")]  # fmt: skip

    def test_two_pictures_for_one_part(self) -> None:
        """A camera that triggers twice: the pass that was given is taken back."""
        bench = self.paired()
        bench.after(10)
        bench.part()
        bench.after(20)
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.verdict({"trigger_id": 2, "part_id": "x", "encoder": None}, "reject")
        bench.after(60)
        assert [result.verdict for result in bench.results()][-1] is Verdict.FAIL
        assert [record.action for record in bench.over()] == ["reject"]

    def test_it_need_not_be_known_to_the_millisecond_when_the_part_came(self) -> None:
        """The PLC's word may be as old as its cycle; what counts is that no other part fits."""
        bench = self.paired(picture_ms=(10.0, 15.0))
        bench.after(10)
        bench.now_ns += 10 * MS
        bench.part()
        bench.now_ns += 12 * MS
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(40)
        assert [result.verdict for result in bench.results()] == [Verdict.PASS]

    def test_a_picture_of_a_part_that_came_before_us(self) -> None:
        """We know nothing of that one, so its picture could be taken for that of the next."""
        bench = Bench(triggers="camera", picture_ms=(10.0, 60.0))
        bench.welcome()
        bench.beat()
        bench.plc()  # just before, a part was at the photo-eye
        bench.after(20)
        bench.encoder += 1000
        bench.part()
        bench.after(20)
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(60)
        assert Verdict.PASS not in [result.verdict for result in bench.results()]

    def test_a_picture_that_may_be_of_a_part_of_unknown_age(self) -> None:
        """Nobody knows when the first part came, so the picture may be its own and not the second one's."""
        bench = Bench(triggers="camera", picture_ms=(10.0, 30.0))
        bench.welcome()
        bench.beat()
        bench.plc(age_ms=None)
        bench.now_ns += 100 * MS
        bench.beat()
        bench.encoder += 1000
        bench.part(age_ms=None)
        bench.plc()
        bench.now_ns += 10 * MS
        bench.encoder += 1000
        bench.part()
        bench.now_ns += 15 * MS
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(60)
        assert Verdict.PASS not in [result.verdict for result in bench.results()]

    def test_a_picture_of_nothing(self) -> None:
        """No trigger is near it."""
        bench = self.paired()
        bench.verdict({"trigger_id": 1, "part_id": "x", "encoder": None})
        bench.after(300)
        assert not bench.results()
        assert [ack["seq"] for ack in bench.acks()] == [1]
        assert bench.gate.counts.unmatched == 1


def test_a_window_in_milliseconds() -> None:
    """Without an encoder the belt is a clock."""
    bench = Bench(window=WindowTable(distance=400, tolerance=20, unit="ms")).healthy()
    trigger = bench.part()
    assert trigger is not None
    bench.verdict(trigger)
    bench.after(300)
    assert not bench.closed
    bench.after(150)
    (record,) = bench.closed
    assert record.action == "pass"

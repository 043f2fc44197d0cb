"""The gate: what becomes of each part. Everything is a reject until an explicit pass says otherwise. Pure.

A part passes only on a `pass` for its own trigger, from the daemon it was sent to, before its deadline and before its
window opens, of a picture that was taken while it was before the camera, and while all is healthy from its trigger to
that pass. I/O is done by whoever calls: `send`, `closed` and `alarm` are given, and the clock is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .base import GateStatus, Heard, PartRecord
from .config import GatewayConfig
from .daemon_side import DaemonSide, Message
from .pairing import Pairing
from .parts import Counts, Part
from .plc_side import Arrival, PlcSide
from .queue import ResultQueue
from .registers import MAP_VERSION, VISION, Codec, Registers, Result, Status, Verdict
from .window import Opened, Window

HEARTBEAT_NS = 100_000_000
WARNING_NS = 5_000_000_000
COUNT_BITS = 36  # of a trigger id: how many parts we have seen; the rest is our session, so that nobody's ids are ours
PREOPERATIONAL, ERROR, READY, RUNNING = 1, 3, 6, 8  # OPC 40100-1
GRADES = (None, "A", "B", "C", "D")
NO_VERDICT = frozenset({"no_verdict", "late_verdict", "not_healthy", "not_accepted"})
NO_FAULT = frozenset({"ok", "defect", "too_close", "repeated", "disabled"})  # rejects that stop no line


class Gate:
    """One ejector's gate. session: drawn at the start, 1 to 65535. utc_us: from monotonic nanoseconds to our clock."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        session: int,
        utc_us: Callable[[int], int],
        send: Callable[[Message], None],
        closed: Callable[[PartRecord], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        table = config.gateway
        self._table, self._window_table = table, config.window
        self._codec = Codec(high_first=config.plc.word_order == "high")
        self._session, self._utc_us = session, utc_us
        self._send, self._closed, self._alarm = send, closed, alarm
        self.daemon = DaemonSide(table.name, table.station, send)
        way = config.window.distance if config.window.unit == "counts" else math.inf
        self.plc = PlcSide(session, round(config.plc.silent_ms * 1e6), table.id_bits, way=way)
        self.queue = ResultQueue()
        self.counts = Counts()
        self.line_stop = False
        self.simulated = False
        self._window = Window(distance=config.window.distance, tolerance=config.window.tolerance)
        self._parts: dict[int, Part] = {}
        self._results: dict[int, Part] = {}  # number -> the part whose daemon waits to hear that the PLC has it
        self._taken_back: set[int] = set()  # parts whose fail, after a pass, waits for a place in the queue
        self._pairing = Pairing(table.picture_ms)
        self._problem = "starting"
        self._in_a_row = 0
        self._heartbeat, self._heartbeat_ns = 0, 0
        self._slots: tuple[Result | None, ...] = ()
        self._slot_words: Registers = []
        self._warned_ns: int | None = None

    # what is heard

    def heard(self, heard: Heard) -> None:
        """The PLC has spoken."""
        plc, now_ns = self.plc, heard.t_ns
        if plc.is_old(heard):
            return
        if not plc.known or plc.restarted(heard):
            if plc.known:
                self._alarm("the PLC was started anew", f"{len(self._parts)} parts on the belt are rejected")
            self._forget("not_healthy", now_ns)
            plc.begin(heard)
            self._pairing.blind_us = self._utc_us(now_ns)
            self._look(now_ns)
            return
        arrivals = plc.take(heard)
        if plc.cleared(heard):
            self.line_stop, self._in_a_row, self.queue.overrun = False, 0, False
        self._look(now_ns)
        for arrival in arrivals:
            self._arrive(arrival, now_ns)
        if self._window_table.unit == "counts":
            self._move(plc.position, now_ns)
        if heard.block.session == self._session:
            for result in self.queue.acknowledge(heard.block.acknowledged):
                part = self._results.pop(result.number, None)
                if part is not None:
                    self._written(part, now_ns)
        self._pair(now_ns)

    def lost(self, reason: str, now_ns: int) -> None:
        """The link to the PLC does not work."""
        self.plc.broken(reason)
        self._look(now_ns)

    def finish(self, now_ns: int) -> None:
        """The last thing that is asked: everything is rejected from here on, and what is on the belt has its record."""
        self.lost("the gateway stops", now_ns)
        for part in list(self._parts.values()):
            self._reject(part, "not_healthy", now_ns)
            self._leave(part)

    def message(self, message: Message, now_ns: int) -> None:
        """The daemon has spoken."""
        daemon, kind, now_us = self.daemon, message["type"], self._utc_us(now_ns)
        if kind == "error":
            self._alarm("the daemon did not understand us", str(message["reason"]))
            return
        if daemon.is_old(message):
            return
        self._look(now_ns)  # we may have stood still since we last did
        if daemon.is_new(message):
            if daemon.epoch:
                self._alarm("the daemon was started anew", f"epoch {message['epoch']}")
            daemon.begin(message["epoch"])
            self._look(now_ns)
        if kind == "welcome":
            self._welcome(message, now_us)
        elif kind == "heartbeat":
            daemon.heartbeat(message, now_us)
        elif kind == "verdict":
            self._verdict(message, now_ns)
        elif kind == "trigger_ack" and not message["accepted"]:
            self._refused(message, now_ns)
        elif kind == "gap":
            daemon.gap(message)
        self._look(now_ns)

    def turn(self, now_ns: int) -> int:
        """What time alone brings: deadlines, silence, windows in ms. Returns when to be called next, at the latest."""
        now_us = self._utc_us(now_ns)
        self.daemon.turn(now_us)
        self._look(now_ns)
        if self._window_table.unit == "ms":
            self._move(now_ns / 1e6, now_ns)
        for part in list(self._parts.values()):
            if not part.settled and now_us >= part.deadline_us:
                self._reject(part, "no_verdict", now_ns)
        for message in self._pairing.given_up(now_us):
            self._unmatched(message, now_ns)
        if now_ns >= self._heartbeat_ns:
            self._heartbeat_ns, self._heartbeat = now_ns + HEARTBEAT_NS, self._heartbeat + 1
        open_us = [part.deadline_us for part in self._parts.values() if not part.settled]
        wait_us = min(open_us, default=now_us + 100_000) - now_us
        return min(self._heartbeat_ns, now_ns + max(0, wait_us) * 1000)

    # what is said

    def registers(self, now_ns: int) -> Registers:
        """The vision block as it is now."""
        counts = self.counts
        values = {
            "version": MAP_VERSION,
            "status": int(self._bits(now_ns)),
            "heartbeat": self._heartbeat,
            "clock": now_ns // 1_000_000,
            "session": self._session,
            "state": self.state,
            "result": self.queue.number,
            "trigger": self.plc.last_id,
            "passed": counts.passed,
            "rejected": counts.rejected,
            "faulted": counts.faulted,
            "late": counts.late,
            "too_close": counts.why["too_close"] + counts.why["repeated"],
            "overruns": self.queue.overruns,
            "lost_triggers": self.plc.lost,
            "heartbeat_again": self._heartbeat,
        }
        slots = self.queue.slots
        if slots != self._slots:
            self._slots, self._slot_words = slots, [word for result in slots for word in self._codec.result(result)]
        return self._codec.pack(VISION, values) + self._slot_words

    @property
    def healthy(self) -> bool:
        """Whether a part may pass."""
        return not self._problem

    @property
    def state(self) -> int:
        """OPC 40100-1's number."""
        if not self.daemon.epoch or not self.plc.known:
            return PREOPERATIONAL
        if self._problem:
            return ERROR
        return RUNNING if self._parts else READY

    def status(self) -> GateStatus:
        """What those who watch are told."""
        counts = self.counts
        told = {
            "parts": counts.parts, "passed": counts.passed, "rejected": counts.rejected, "faulted": counts.faulted,
            "late": counts.late, "line_stops": counts.line_stops, "unmatched": counts.unmatched,
            "overruns": self.queue.overruns, "lost_results": self.queue.lost, "lost_triggers": self.plc.lost,
            "on_the_belt": len(self._parts),
        }  # fmt: skip
        return GateStatus(
            self.healthy, self._problem, self.state, self.line_stop, self.daemon.epoch, self.simulated, told
        )

    def _bits(self, now_ns: int) -> Status:
        status = Status(0)
        for bit, on in (
            (Status.ONLINE, bool(self.daemon.epoch)),
            (Status.TRIGGER_READY, self.healthy and not self.line_stop),
            (Status.BUSY, any(not part.settled for part in self._parts.values())),
            (Status.RESULTS_VALID, self.queue.valid),
            (Status.OVERRUN, self.queue.overrun),
            (Status.WARNING, self.daemon.degraded or self._warned(now_ns)),
            (Status.FAULT, bool(self._problem)),
            (Status.VISION_OK, self.healthy and not self.line_stop),
            (Status.LINE_STOP, self.line_stop),
            (Status.SIMULATED, self.simulated),
        ):
            if on:
                status |= bit
        return status

    def _warned(self, now_ns: int) -> bool:
        return self._warned_ns is not None and now_ns - self._warned_ns < WARNING_NS

    # health

    def _look(self, now_ns: int) -> None:
        """Notice whether all is well; where it no longer is, what has no verdict yet is rejected, and that stays."""
        problem = self.plc.problem(now_ns) or self.daemon.problem(self._utc_us(now_ns))
        if self._taken_back and not problem:
            problem = "a pass that is taken back waits for a place in the result queue"
        before, self._problem = self._problem, problem
        if problem and not before:
            for part in list(self._parts.values()):
                if not part.settled:
                    self._reject(part, "not_healthy", now_ns)
        if bool(problem) != bool(before):
            self._alarm("everything is rejected" if problem else "parts may pass", problem)

    def _welcome(self, message: Message, now_us: int) -> None:
        try:
            self.daemon.welcome(message, now_us)
        except KeyError:
            known = ", ".join(each["station"] for each in message["stations"])
            self._alarm("the daemon has no such station", f"{self._table.station}; it has {known}")

    # parts

    def _arrive(self, arrival: Arrival, now_ns: int) -> None:
        """A part is at the photo-eye."""
        trigger, now_us = arrival.trigger, self._utc_us(now_ns)
        earliest_us = None if arrival.earliest_ns is None else self._utc_us(arrival.earliest_ns)
        record = PartRecord(trigger.id, trigger.tag, trigger.encoder, t_trigger_us=self._utc_us(arrival.latest_ns))
        part = Part(arrival.key, record, earliest_us, self._utc_us(arrival.latest_ns), now_us + self.daemon.deadline_us)
        self._parts[part.key] = part
        self.counts.parts += 1
        counts = self._window_table.unit == "counts"
        at = self.plc.at(trigger.encoder) if counts else (arrival.earliest_ns or now_ns) / 1e6
        near = self._window.unseen(at) if arrival.after_lost else ()
        for key, why in near + self._window.enter(part.key, at):
            self._reject(self._parts[key], why, now_ns)
        if part.settled:
            return
        if not self.plc.enabled:
            self._reject(part, "disabled", now_ns)
        elif self.line_stop:
            self._reject(part, "line_stop", now_ns)
        elif self._problem:
            self._reject(part, "not_healthy", now_ns)
        elif earliest_us is None:
            self._reject(part, "stale_trigger", now_ns)
        elif self._table.triggers == "plc":
            record.trigger_id = self._session << COUNT_BITS | self.counts.parts  # ids come again
            record.epoch = self.daemon.epoch
            self._send(
                {"type": "trigger", "station": self._table.station, "trigger_id": record.trigger_id,
                 "part_id": str(trigger.tag), "encoder": trigger.encoder, "t_us": now_us}
            )  # fmt: skip

    def _verdict(self, message: Message, now_ns: int) -> None:
        """A verdict, perhaps once more."""
        self.simulated = bool(message["simulated"])
        now_us = self._utc_us(now_ns)
        first = self.daemon.verdict(message, now_us)
        if self._table.triggers == "camera":
            if first:
                self._pairing.put(message, now_us + self.daemon.deadline_us)
                self._pair(now_ns)
            return
        part = next((part for part in self._parts.values() if part.record.trigger_id == message["trigger_id"]), None)
        if part is None or part.record.encoder != message["encoder"] or part.record.epoch != message["epoch"]:
            self._unmatched(message, now_ns, first=first)
        elif part.verdict is None:
            self._apply(part, message, now_ns)
        elif part.record.t_written_us is not None:  # our acknowledgement was lost
            self._acknowledge(message, part.record.t_written_us)

    def _pair(self, now_ns: int) -> None:
        """A hardware-triggered camera's pictures and the PLC's triggers: a match only where nothing else fits."""
        as_of_ns = self.plc.as_of_ns
        known_us = None if as_of_ns is None else self._utc_us(as_of_ns)
        for message, fits in self._pairing.matched(self._parts.values(), self.daemon.clocks, known_us=known_us):
            if len(fits) == 1 and not fits[0].paired:
                fits[0].paired = True
                fits[0].record.trigger_id, fits[0].record.epoch = message["trigger_id"], message["epoch"]
                self._apply(fits[0], message, now_ns)
                continue
            for part in fits:  # one picture for two parts, or two pictures for one: nobody can say which shows which
                part.paired = True
                self._reject(part, "unpaired", now_ns)
            self._unmatched(message, now_ns, first=not fits)

    def _unmatched(self, message: Message, now_ns: int, *, first: bool = True) -> None:
        """A verdict of nothing that we know; the daemon need not send it again. first: count it."""
        self.counts.unmatched += first
        self._acknowledge(message, self._utc_us(now_ns))

    def _apply(self, part: Part, message: Message, now_ns: int) -> None:
        """The verdict of this very part, for the first time."""
        record, now_us = part.record, self._utc_us(now_ns)
        part.verdict = message
        record.seq, record.outcome, record.reason = message["seq"], message["outcome"], message["reason"]
        record.t_publish_us, record.t_verdict_us = message["t_publish_us"], now_us
        if part.settled:
            if record.why in NO_VERDICT:
                self.counts.late += 1
                self._alarm("a verdict came too late", f"part {record.id}, {message['outcome']}")
            if not part.result or record.t_written_us is not None:
                self._written(part, now_ns)
        elif message["outcome"] != "pass":
            self._reject(part, message["reason"], now_ns)
        elif now_us >= part.deadline_us:
            self._reject(part, "late_verdict", now_ns)
        elif self._table.triggers == "plc" and self._picture_is_late(part, message):
            self._reject(part, "late_picture", now_ns)
        elif not self._window.decide(part.key, True):
            self._reject(part, "late_verdict", now_ns)
        else:
            part.settled, record.action, record.why = True, "pass", "ok"
            self._in_a_row = 0
            self._tell(part)

    def _picture_is_late(self, part: Part, message: Message) -> bool:
        """Whether the picture may have been taken when the part was no longer before the camera."""
        taken = None if message["t_grab_us"] is None else self.daemon.clocks.ours(message["t_grab_us"])
        if taken is None or part.earliest_us is None:
            return True
        return taken[1] - part.earliest_us > self._table.picture_ms[1] * 1000

    def _reject(self, part: Part, why: str, now_ns: int) -> None:
        """Reject a part, whatever it was before; once its window has opened nothing changes any more."""
        record = part.record
        if part.settled and record.action == "reject":
            return
        in_time = self._window.decide(part.key, False)
        if part.settled and not in_time:
            return
        had_verdict = part.settled
        part.settled, record.action, record.why = True, "reject", why
        if why in NO_FAULT:
            self._in_a_row = 0 if why in ("ok", "defect") else self._in_a_row
        elif not had_verdict:
            self._warned_ns = now_ns
            self._fault_in_a_row()
        if in_time and (part.result or not self.plc.problem(now_ns)):  # a pass it was told is taken back in any case
            self._tell(part)

    def _fault_in_a_row(self) -> None:
        self._in_a_row += 1
        if self._table.line_stop_after and self._in_a_row >= self._table.line_stop_after and not self.line_stop:
            self.line_stop = True
            self.counts.line_stops += 1
            self._alarm("line stop", f"{self._in_a_row} parts in a row without a verdict")

    def _refused(self, message: Message, now_ns: int) -> None:
        """The daemon does not take a trigger."""
        if str(message["reason"]).startswith("not_registered"):
            self.daemon.displaced()
        for part in self._parts.values():
            if part.record.trigger_id == message["trigger_id"] and part.verdict is None:
                self._alarm("a trigger was not accepted", str(message["reason"]))
                self._reject(part, "not_accepted", now_ns)

    # results and windows

    def _tell(self, part: Part) -> None:
        """Queue a result for the PLC: what holds for the part when there is a place. A former one counts no more."""
        record = part.record

        def make(number: int) -> Result:
            if part.key not in self._parts or record.t_opened_us is not None:  # it had to wait for a place too long
                return Result(number, record.id, record.tag, record.encoder, Verdict.FAIL, "late_verdict")
            self._results.pop(part.result, None)
            self._taken_back.discard(part.key)
            part.result = number
            self._results[number] = part
            verdict = Verdict.PASS if record.action == "pass" else Verdict.FAIL
            given = part.verdict["grade"] if part.verdict else None
            grade = GRADES.index(given) if given in GRADES else 0
            return Result(number, record.id, record.tag, record.encoder, verdict, record.why, grade)

        if part.result:
            self._taken_back.add(part.key)
        self.queue.put(make)

    def shown(self, number: int, t_ns: int) -> None:
        """The PLC can read everything up to this result."""
        t_us = self._utc_us(t_ns)
        for part in self._results.values():
            if part.record.t_shown_us is None and part.result <= number:
                part.record.t_shown_us = t_us

    def _written(self, part: Part, now_ns: int) -> None:
        """The PLC has it: so the daemon need not send it again."""
        part.record.t_written_us = self._utc_us(now_ns)
        if part.verdict is not None:
            self._acknowledge(part.verdict, part.record.t_written_us)

    def _acknowledge(self, verdict: Message, t_us: int) -> None:
        what = {key: verdict[key] for key in ("station", "epoch", "seq")}
        self._send({"type": "ack", **what, "t_written_us": t_us})

    def _move(self, at: float, now_ns: int) -> None:
        """The belt is there."""
        now_us = self._utc_us(now_ns)
        for event in self._window.move(at):
            part = self._parts[event.key]
            if isinstance(event, Opened):
                if not part.settled:
                    self._reject(part, "no_verdict", now_ns)
                elif not part.result and part.record.action == "pass":  # no place in the queue came free in time
                    part.record.action, part.record.why = "reject", "late_verdict"
                part.record.t_opened_us = now_us
            else:
                part.record.t_closed_us = now_us
                self._leave(part)

    def _leave(self, part: Part) -> None:
        """It is over with this part."""
        del self._parts[part.key]
        self._results.pop(part.result, None)
        self._taken_back.discard(part.key)
        record, counts = part.record, self.counts
        if record.action == "pass":
            counts.passed += 1
        elif record.why == "defect":
            counts.rejected += 1
        else:
            counts.faulted += 1
        counts.why[record.why] += 1
        self._closed(record)

    def _forget(self, why: str, now_ns: int) -> None:
        """Nothing that is on the belt can be told to this PLC any more."""
        for part in list(self._parts.values()):
            self._reject(part, why, now_ns)
            self._leave(part)
        self._window.clear()
        self.queue.clear()
        self._results.clear()

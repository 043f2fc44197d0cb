"""The publish thread: owns the ZeroMQ sockets and the ledgers, and is therefore where every verdict is given.

It never waits for anything but its own poll: while the engine hangs, fault verdicts still go out by their deadlines.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .config import LineConfig
from .doorkeeper import Doorkeeper, NoDoor
from .endpoints import bind
from .gateways import Gateways
from .ledger import Part
from .mailbox import Outbox
from .station import Event, Opened, Picture, Station, ToKeep, identity
from .types import Outcome, Reason, Verdict
from .wire import Clock, Identity, counts_message, encode, verdict_message

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

HEARTBEAT_NS = 100_000_000
BELATED_NS = 300_000_000  # a loop that turns every 100 ms was held up if it did not for so long: triggers are old
STANDSTILL_NS = 1_000_000_000  # and then cameras have queued frames, too


class Publisher:
    """Binds on construction (raises MissingError), runs in a thread of its own until `stop`, then closes."""

    def __init__(
        self,
        config: LineConfig,
        stations: list[Station],
        outbox: Outbox[Event],
        *,
        clock: Clock,
        epoch: str,
    ) -> None:
        import zmq

        self._stations = {station.name: station for station in stations}
        self._outbox = outbox
        self._clock = clock
        self._context = zmq.Context()
        folder = config.key_folder
        self._door = Doorkeeper(self._context, folder) if folder is not None else NoDoor()
        verdicts, gateway = config.endpoints
        insecure = config.publish.insecure
        self._verdicts = bind(self._context, zmq.XPUB, verdicts, name="verdicts", door=self._door, insecure=insecure)
        self._router = bind(self._context, zmq.ROUTER, gateway, name="gateway", door=self._door, insecure=insecure)
        self._histories: dict[str, deque[bytes]] = {
            name: deque(maxlen=config.publish.history) for name in self._stations
        }
        self._gateways = Gateways(
            self._router,
            self._stations,
            self._histories,
            door=self._door,
            line=config.line.name,
            epoch=epoch,
            clock=clock,
        )
        self._topics = {
            name: {outcome: station.origin.topic(f"verdict/{outcome.value}") for outcome in Outcome}
            for name, station in self._stations.items()
        }
        self._leaving = ""  # the address of `verdicts` while it is being made anew
        self._states: dict[str, str] = {}
        self._round_ns = min(station.config.deadline_ns for station in stations) // 4  # parts are opened without a bell
        self._heartbeat_ns = 0
        self._stop_ns: int | None = None
        self._resumed_ns = 0
        self._belated_until_ns = 0  # what is received before then may have waited while this process stood still
        self.progress_ns = time.monotonic_ns()

    def stood_still_since(self, since_ns: int) -> bool:
        """Whether this process was stopped (SIGSTOP, a suspended machine) at some time since then. Any thread."""
        stands = time.monotonic_ns() - self.progress_ns > STANDSTILL_NS
        return stands or self._resumed_ns > since_ns  # in this order: the publisher writes them the other way round

    def _notice_standstill(self, now_ns: int) -> None:
        """The loop turns every 100 ms; where it did not, nobody knows how long what now arrives has waited."""
        still_ns = now_ns - self.progress_ns
        if still_ns > STANDSTILL_NS:
            self._resumed_ns = now_ns
        self.progress_ns = now_ns
        if still_ns > BELATED_NS:
            self._belated_until_ns = now_ns + BELATED_NS  # ZeroMQ's own thread has to wake up, too
            log.warning("this process stood still", extra={"ms": still_ns // 1_000_000})
            for station in self._stations.values():
                station.last_fault_ns, station.last_fault = now_ns, f"stood still for {still_ns // 1_000_000} ms"

    def stop(self, by_ns: int) -> None:
        """Finish: as soon as nothing is open and nothing waits for its acknowledgement, at the latest by then."""
        self._stop_ns = by_ns

    def refresh(self) -> None:
        """Look whether the list of who may enter has changed. The main thread's: a disk may take its time."""
        self._door.refresh()

    def run(self) -> None:
        """The loop."""
        poller = self._poller()
        wake_ns = 0
        self.progress_ns = time.monotonic_ns()
        while not self._finished():
            wait_ns = wake_ns - time.monotonic_ns()
            # rounded up: too early would only be a turn for nothing
            ready = {each for each, _ in poller.poll(max(0, -(-wait_ns // 1_000_000)))}
            self._notice_standstill(time.monotonic_ns())
            for event in self._outbox.drain():
                self._take(event)
            more = self._door.turn()
            if self._router in ready:
                more = self._gateways.receive(self._trigger) or more
            if self._turn_out():
                poller = self._poller()
            if self._verdicts in ready:
                self._drop_subscriptions()
            now_ns = time.monotonic_ns()
            self._expire(now_ns)
            resend_ns = self._gateways.turn(now_ns)
            if now_ns >= self._heartbeat_ns:
                self._beat(now_ns)
            due = [station.ledger.next_due_ns() for station in self._stations.values()]
            next_ns = (*due, resend_ns, self._heartbeat_ns, now_ns + self._round_ns)
            wake_ns = 0 if more else min(t for t in next_ns if t is not None)
        self._beat(time.monotonic_ns())
        for name, endpoint in (("verdicts", self._verdicts), ("gateway", self._router)):
            self._door.unguard(name)
            endpoint.close(linger=500)
        self._door.close()
        self._context.term()

    def _poller(self) -> zmq.Poller:
        """What ends the loop's wait."""
        import zmq

        poller = zmq.Poller()
        for each in (self._outbox.fileno(), self._verdicts, self._router, *self._door.sockets):
            poller.register(each, zmq.POLLIN)
        return poller

    def _turn_out(self) -> bool:
        """Those inside who may not be any more have to go. True where the `verdicts` endpoint was made anew for it.

        ZeroMQ cannot send a single reader away: everyone is, comes again by himself, is asked who he is, and asks for
        what he missed. It takes two turns: the address has to be free first.
        """
        import zmq

        turned_out = self._door.turned_out()
        if "gateway" in turned_out:
            self._gateways.turn_out()
        if "verdicts" in turned_out and not self._leaving:
            self._leaving = self._verdicts.get_string(zmq.LAST_ENDPOINT)
            self._verdicts.unbind(self._leaving)
        if not self._door.closed("verdicts"):
            return False
        self._door.unguard("verdicts")
        self._verdicts.close(linger=0)
        self._verdicts = bind(self._context, zmq.XPUB, self._leaving, name="verdicts", door=self._door)
        self._leaving = ""
        log.info("every reader was sent away, to come again with a key that is allowed")
        return True

    def _finished(self) -> bool:
        """Whether `stop` was asked for and there is nothing left to do, or no time."""
        if self._stop_ns is None:
            return False
        for event in self._outbox.drain():  # what was put before the stop was asked for
            self._take(event)
        if time.monotonic_ns() >= self._stop_ns:
            for station in self._stations.values():
                for part in station.ledger.open_parts():
                    self._settle(part, Verdict.fault(Reason.SHUTDOWN), identity(station.recipe))
            return True
        return not any(s.ledger.counts.open for s in self._stations.values()) and not self._gateways.waiting

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._stations[event.part.station].ledger.open(event.part)
        else:
            self._settle(event.part, event.verdict, event.recipe, event.picture)

    def _trigger(self, station: Station, message: dict[str, Any], now_ns: int) -> str:
        """A gateway says that a part is before the camera; "" or why there will be no verdict for it."""
        if station.config.trigger != "gateway":
            return f"not_triggered: this station's trigger is {station.config.trigger}"
        if station.phase != "serving":
            return station.phase
        self._notice_standstill(now_ns)  # it may have stood still since the poll, with this message in the queue
        part = station.part(message["trigger_id"], now_ns)
        part.part_id, part.encoder = message.get("part_id"), message.get("encoder")
        if not station.ledger.open(part):
            return "duplicate"
        if now_ns < self._belated_until_ns:
            self._settle(part, Verdict.fault(Reason.TIMEOUT), identity(station.recipe))
            return ""
        station.pending.append(part)
        station.triggered.set()
        return ""

    def _expire(self, now_ns: int) -> None:
        for station in self._stations.values():
            for part in station.ledger.due(now_ns):
                reason = station.why_late(part, now_ns)
                with contextlib.suppress(ValueError):  # it is there where no frame has come for it
                    station.pending.remove(part)
                self._settle(part, Verdict.fault(reason), identity(station.recipe))

    def _settle(self, part: Part, verdict: Verdict, recipe: Identity, picture: Picture | None = None) -> None:
        """The one place where a part gets its verdict."""
        station = self._stations[part.station]
        settled = station.ledger.settle(part, verdict, time.monotonic_ns())
        kind = "" if settled is None else station.keeps(settled.verdict)
        if picture is not None and not kind:
            picture.frame.release()
        if settled is None:
            return
        if settled.verdict.outcome is Outcome.FAULT:
            station.last_fault_ns, station.last_fault = settled.t_ns, settled.verdict.reason.value
        message = verdict_message(settled, station.origin, recipe, self._clock)
        payload = encode(message)
        self._publish(self._topics[part.station][settled.verdict.outcome], payload)
        self._gateways.publish(part.station, settled.seq, payload, part.deadline_ns, settled.t_ns)
        self._histories[part.station].append(payload)
        if picture is not None and kind and station.shelf is not None:
            station.shelf.put(ToKeep(picture, message, kind))

    def _beat(self, now_ns: int) -> None:
        """Every station's heartbeat; and a log line where its state has changed."""
        self._heartbeat_ns = now_ns + HEARTBEAT_NS
        for station in self._stations.values():
            state, reason = station.state(now_ns)
            if self._states.get(station.name) != state:
                self._states[station.name] = state
                level = logging.WARNING if state in ("fault", "degraded") else logging.INFO
                log.log(level, "station is %s", state, extra={"station": station.name, "reason": reason})
            payload = encode(
                {
                    "v": 1,
                    "type": "heartbeat",
                    "line": station.origin.line,
                    "station": station.name,
                    "epoch": station.origin.epoch,
                    "last_seq": station.ledger.last_seq,
                    "ready": state in ("ready", "degraded"),
                    "state": state,
                    "reason": reason,
                    "counts": counts_message(station.ledger.counts),
                    "counters": {
                        **station.counters,
                        "late": station.ledger.counts.late,
                        "probes": station.engine.probes,
                        **self._gateways.counters,
                        "refused": self._door.refused,
                    },
                    "t_us": self._clock.utc_us(now_ns),
                }
            )
            self._publish(station.origin.topic("heartbeat"), payload)
            self._gateways.broadcast(payload)

    def _publish(self, topic: bytes, payload: bytes) -> None:
        """To every subscriber; one that does not read loses it, sees the gap, and asks for a replay."""
        import zmq

        self._verdicts.send_multipart([topic, payload], zmq.NOBLOCK)

    def _drop_subscriptions(self) -> None:
        """XPUB tells who subscribes to what; nobody here needs to know, but it must be taken off the queue."""
        import zmq

        while self._verdicts.poll(0):
            self._verdicts.recv_multipart(zmq.NOBLOCK)

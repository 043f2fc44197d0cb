"""Calibrate the deadline: hear a running line's verdicts, and say how long it takes from trigger to verdict.

Suggests deadline_ms, and for a belt's speed the least distance from camera to ejector. Exit 1 where a station's parts
do not suffice for a suggestion. The line is not touched.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from typing import Any

from ..client import Message, Subscriber
from ..errors import MissingError
from . import addresses
from .subscribe import Silence
from .terminal import Block, bar, columns, one_or_more, zero_or_more
from .timing_rules import CONFIDENCE, MARGIN, STAGES, Timing, distance_mm, parts_needed, quantiles

EJECTOR_MS = 30.0
BARS = 60

PATIENCE_S = 10.0  # so long it waits for somebody to be heard


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which line, how many parts, and the belt."""
    parser.add_argument("target", metavar="LINE", help="LINE.toml, or the address of the `verdicts` endpoint")
    parser.add_argument(
        "--parts", type=one_or_more, default=1000, metavar="N",
        help=f"so many of each station (1000; a bound for the slowest 0.1 %% needs {parts_needed()})",
    )  # fmt: skip
    parser.add_argument("--belt-mm-s", type=zero_or_more, metavar="V", help="the belt's speed: tells the distance")
    parser.add_argument(
        "--ejector-ms", type=zero_or_more, default=EJECTOR_MS, metavar="T",
        help="from the published verdict to the ejector's stroke (30: an assumption, 10 for gateway and PLC cycle and "
        "20 for the valve; measure yours)",
    )  # fmt: skip
    addresses.key_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Listen until every station has shown its parts, the line stops, or Ctrl-C; then tell."""
    address, _ = addresses.resolve(argparse.Namespace(target=args.target, gateway=None))
    listener = Listener(args.parts)
    block, silence, give_up_s = Block(sys.stderr), Silence(), time.monotonic() + PATIENCE_S
    with Subscriber(address, keys=addresses.keys(args)) as subscriber:
        try:
            while not listener.finished:
                message = subscriber.receive(0.2)
                if message is not None:
                    listener.take(message, time.time_ns() // 1000)
                    silence.broken(message)
                    give_up_s = time.monotonic() + PATIENCE_S
                silence.tell(listener.stations, address, subscriber.refusal)
                if time.monotonic() > give_up_s:
                    if listener.stations:
                        break  # the line is gone; what it showed until then is told
                    raise MissingError(
                        f"{address}: nobody is heard; start the line first: edge-inspector run LINE.toml"
                    )
                if listener.stations:
                    block.show(listener.progress())
        except KeyboardInterrupt:
            pass
    summaries = {name: summary(timing, args) for name, timing in listener.stations.items()}
    if args.json:
        print(json.dumps({"stations": summaries, "lost": listener.lost, "simulated": listener.simulated}))
    else:
        print("\n".join(_tell(listener, args)))
    heard = [timing for timing in listener.stations.values() if timing.parts]
    return 0 if heard and all(timing.deadline_ms is not None for timing in heard) else 1


class Listener:
    """Counts what a subscriber hears, each verdict once. lost: verdicts in between that were not heard."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._seen: dict[tuple[str, str], set[int]] = {}
        self._over: set[str] = set()
        self.stations: dict[str, Timing] = {}
        self.simulated = False

    def take(self, message: Message, arrived_us: int) -> None:
        """A verdict or a heartbeat. arrived_us: UTC."""
        if message["type"] not in ("verdict", "heartbeat"):
            return
        name = f"{message['line']}/{message['station']}"
        timing = self.stations.setdefault(name, Timing())
        if message["type"] == "heartbeat":
            if message["state"] == "stopping" and not message["counts"]["open"]:
                self._over.add(name)
            return
        seen = self._seen.setdefault((name, message["epoch"]), set())
        if message.get("replay") or message["seq"] in seen or timing.parts >= self._parts:
            return
        seen.add(message["seq"])
        self.simulated |= message["simulated"]
        timing.allowed_us = message["deadline_us"] - message["t_trigger_us"]
        timing.travel_us.append(arrived_us - message["t_publish_us"])
        if message["outcome"] == "fault":
            timing.faults[message["reason"]] += 1
            return
        latency = message["latency_us"]
        rest = latency["total"] - sum(latency[stage] for stage in STAGES[:4])
        for stage in STAGES:
            timing.stages[stage].append(max(0, rest) if stage == "rest" else latency[stage])

    @property
    def lost(self) -> int:
        """Gaps in the numbers of what was heard."""
        return sum(max(seen) - min(seen) + 1 - len(seen) for seen in self._seen.values() if seen)

    @property
    def restarts(self) -> int:
        """How often a daemon began anew meanwhile."""
        return sum(count - 1 for count in Counter(name for name, _ in self._seen).values())

    @property
    def finished(self) -> bool:
        """Whether no station has more to tell."""
        return bool(self.stations) and all(
            timing.parts >= self._parts or name in self._over for name, timing in self.stations.items()
        )

    def progress(self) -> list[str]:
        """A line a station."""
        return [f"{bar(timing.parts, self._parts)}  {name}: {timing.parts} of {self._parts} parts, "
                f"{timing.faults.total()} faults" for name, timing in self.stations.items()]  # fmt: skip


def summary(timing: Timing, args: argparse.Namespace) -> dict[str, Any]:
    """What --json prints of a station. bound_us: null where the parts do not suffice for one."""
    deadline_ms, now_ms = timing.deadline_ms, timing.allowed_us / 1000
    found: dict[str, Any] = {
        "parts": timing.parts,
        "faults": dict(timing.faults),
        "latency_us": {stage: timing.shown_us(stage) for stage in STAGES},
        "travel_us": quantiles(timing.travel_us),
        "bound_us": timing.bound_us,
        "parts_needed": parts_needed(),
        "present_deadline_ms": now_ms,
        "deadline_ms": deadline_ms,
        "refusal": timing.refusal,
    }
    if args.belt_mm_s is not None:
        found["belt_mm_s"], found["ejector_ms"] = args.belt_mm_s, args.ejector_ms
        found["present_distance_mm"] = distance_mm(args.belt_mm_s, now_ms, args.ejector_ms)
        found["distance_mm"] = deadline_ms and distance_mm(args.belt_mm_s, deadline_ms, args.ejector_ms)
    return found


def _tell(listener: Listener, args: argparse.Namespace) -> list[str]:
    lines = [line for name, timing in listener.stations.items() for line in _station(name, timing, args)]
    if listener.lost or listener.restarts:
        lines.append(f"{listener.lost} verdicts were not heard here, {listener.restarts} times the daemon began anew")
    if listener.simulated:
        lines.append("a simulated camera or engine is among them: measure again with the real ones")
    return lines or ["nobody was heard"]


def _station(name: str, timing: Timing, args: argparse.Namespace) -> list[str]:
    """The table, the histogram, the faults, the deadline and the distance."""
    lines = [f"{name}: trigger to verdict of {timing.judged} parts, ms"]
    if timing.judged:
        lines.append(f"   {'':10}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
        rows = {stage: timing.shown_us(stage) for stage in STAGES}
        lines += [f"   {stage:10}" + "".join(f"{us / 1000:9.2f}" for us in row.values()) for stage, row in rows.items()]
        lines.append(_histogram(timing.stages["total"]))
        travel = quantiles(timing.travel_us)
        if min(timing.travel_us) >= 0:  # else the clocks of two machines differ
            lines.append(f"   and from there to this reader p50 {travel['p50'] / 1000:.2f}, max "
                         f"{travel['max'] / 1000:.2f} ms")  # fmt: skip
    if timing.faults:
        reasons = ", ".join(f"{count} {reason}" for reason, count in timing.faults.most_common())
        lines.append(f"   {timing.faults.total()} OF {timing.parts} PARTS ARE FAULTS: {reasons}. Not in the table.")
    return [*lines, *_deadline(timing), *_distance(timing, args)]


def _histogram(values: list[int]) -> str:
    """A column for each part of the way from the fastest to the slowest, by powers: a tail stays visible."""
    low, high = max(1, min(values)), max(values) + 1
    growth = max(high / low, 1.001)
    counts = Counter(min(BARS - 1, int(BARS * math.log(max(value, low) / low, growth))) for value in values)
    return f"   {low / 1000:.1f} ms {columns([counts[n] for n in range(BARS)])} {high / 1000:.1f} ms"


def _deadline(timing: Timing) -> list[str]:
    now_ms = timing.allowed_us / 1000
    if timing.refusal:
        return [f"   no deadline can be suggested: {timing.refusal}"]
    bound_us, slowest_us = timing.bound_us, max(timing.stages["total"])
    if bound_us is None:
        basis = f"the slowest of only {timing.judged} parts"
        more = [
            f"   provisional: fewer than {parts_needed()} parts bound no p99.9; measure with --parts {parts_needed()}"
        ]
    else:
        basis = f"the bound of p99.9, {CONFIDENCE:.0%} sure by {timing.parts} parts"
        more = []
    basis_ms = (bound_us or slowest_us) / 1000
    return [
        f"   deadline_ms = {timing.deadline_ms}  # now {now_ms:g}; {basis_ms:.1f} ms ({basis}) x {MARGIN:g}, "
        "and the guard that the ledger keeps before a deadline",
        *more,
    ]


def _distance(timing: Timing, args: argparse.Namespace) -> list[str]:
    if args.belt_mm_s is None or not timing.parts:
        return []
    cases = {"now": timing.allowed_us / 1000, "then": timing.deadline_ms}
    return [
        f"   camera to ejector, {when}: at least {distance_mm(args.belt_mm_s, ms, args.ejector_ms):.1f} mm = "
        f"{args.belt_mm_s:g} mm/s x ({ms:g} ms deadline + {args.ejector_ms:g} ms ejector)"
        for when, ms in cases.items()
        if ms is not None
    ]

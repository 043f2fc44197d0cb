"""Send triggers to a station whose trigger is `gateway`, acknowledge the verdicts, and print both: for trying out."""

from __future__ import annotations

import argparse
import sys
import time

from ..client import GatewayClient, Message
from ..errors import FailedError
from . import addresses
from .subscribe import readable


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which line and station, how many and how fast."""
    addresses.arguments(parser)
    parser.add_argument("--station", help="the line's only one where not given")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="how many triggers (1)")
    parser.add_argument("--rate", type=float, default=1.0, metavar="R", help="how many in a second (1)")


def main(args: argparse.Namespace) -> int:
    """Send, wait for every verdict, print; exit 1 where a trigger was not accepted or got no verdict."""
    verdicts, gateway = addresses.resolve(args)
    with GatewayClient(gateway or verdicts, keys=addresses.keys(args)) as client:
        client.send(type="hello", gateway="edge-inspector-trigger", epoch=None, last_seq=0)
        welcome = _wait(client, "welcome", 3.0)
        if welcome is None:
            raise FailedError(f"nobody answers at {gateway or verdicts}; {client.refusal or 'is the line running?'}")
        known = {station["station"]: station for station in welcome["stations"]}
        name = args.station or (next(iter(known)) if len(known) == 1 else "")
        if name not in known:
            raise FailedError(f'no station "{name}"; --station is one of {", ".join(known)}')
        return _send(client, name, known[name], args)


def _send(client: GatewayClient, name: str, station: Message, args: argparse.Namespace) -> int:
    first = station["last_trigger_id"] + 1
    open_ids: set[int] = set()
    seen: set[int] = set()
    refused = sent = 0
    next_s = time.monotonic()
    patience_s = station["deadline_us"] / 1e6 + 1.0
    while sent < args.count or (open_ids and time.monotonic() < next_s + patience_s):
        if sent < args.count and time.monotonic() >= next_s:
            client.send(type="trigger", station=name, trigger_id=first + sent, t_us=time.time_ns() // 1000)
            open_ids.add(first + sent)
            sent += 1
            next_s += 1.0 / args.rate
        message = client.receive(0.05 if sent >= args.count else max(0.0, min(0.05, next_s - time.monotonic())))
        if message is None:
            continue
        if message["type"] == "trigger_ack" and not message["accepted"]:
            print(f"trigger {message['trigger_id']} not accepted: {message['reason']}")
            open_ids.discard(message["trigger_id"])
            refused += 1
        elif message["type"] == "verdict" and message["station"] == name:
            client.ack(message)
            if message["seq"] not in seen:  # it is sent again until our acknowledgement has arrived
                seen.add(message["seq"])
                open_ids.discard(message["trigger_id"])
                print(readable(message), flush=True)
        elif message["type"] == "error":
            print(f"edge-inspector: {message['reason']}", file=sys.stderr)
    if open_ids:
        print(f"edge-inspector: no verdict for triggers {sorted(open_ids)}", file=sys.stderr)
    return 1 if open_ids or refused else 0


def _wait(client: GatewayClient, kind: str, timeout_s: float) -> Message | None:
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0:
        message = client.receive(left)
        if message is not None and message["type"] == kind:
            return message
    return None

"""Print verdicts as they come, in order and each once. What was lost on the way is noticed and asked for again."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection
from datetime import datetime, timezone

from ..client import GatewayClient, InOrder, Message, Subscriber
from ..wire import encode
from . import addresses


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which line, and how to print."""
    addresses.arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, as it came")
    parser.add_argument("--heartbeats", action="store_true", help="print heartbeats as well")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N verdicts")


def main(args: argparse.Namespace) -> int:
    """Print until interrupted, or until N verdicts have come; exit 1 where some were lost for good."""
    verdicts, gateway = addresses.resolve(args)
    keys = addresses.keys(args)
    stations: dict[tuple[str, str], InOrder] = {}
    asked: dict[tuple[str, str], float] = {}
    printed = 0
    silence = Silence()
    client: GatewayClient | None = None  # made when something is missing: a key of role "read" may not do that
    with Subscriber(verdicts, keys=keys) as subscriber:
        try:
            while not args.count or printed < args.count:
                ready: list[Message] = []
                for message in (subscriber.receive(0.05), client.receive(0) if client is not None else None):
                    now_s = time.monotonic()
                    if message is None or message["type"] not in ("verdict", "heartbeat", "gap"):
                        continue
                    key = (message.get("line", ""), message["station"])
                    if message["type"] == "gap":
                        key = next((known for known in stations if known[1] == message["station"]), key)
                    station = stations.setdefault(key, InOrder())
                    silence.broken(message)
                    if message["type"] == "gap" and message["epoch"] != station.epoch:
                        continue
                    if message["type"] == "gap":
                        ready += station.give_up_before(message["oldest_seq"], now_s)
                        continue
                    ready += station.take(message, now_s)
                    if message["type"] == "heartbeat" and args.heartbeats:
                        _print(message, as_json=args.json)
                for key, station in stations.items():
                    now_s = time.monotonic()
                    ready += station.impatient(now_s)
                    if gateway is not None and station.wanted is not None and now_s - asked.get(key, 0.0) > 0.25:
                        asked[key] = now_s
                        client = client or GatewayClient(gateway, keys=keys)
                        client.send(type="replay", station=key[1], epoch=station.epoch, from_seq=station.wanted)
                silence.tell(stations, verdicts, subscriber.refusal)
                for message in ready:
                    _print(message, as_json=args.json)
                    printed += 1
        except KeyboardInterrupt:
            pass
    if client is not None:
        client.close()
    lost = sum(station.lost for station in stations.values())
    if lost:
        print(f"edge-inspector: {lost} verdicts were lost and could not be had again", file=sys.stderr)
    return 1 if lost else 0


class Silence:
    """Says on standard error that nobody is heard, and that a daemon was started anew."""

    def __init__(self) -> None:
        self._heard_s = time.monotonic()
        self._told = False
        self._refusal = ""
        self._epoch = ""

    def broken(self, message: Message) -> None:
        """Somebody was heard."""
        if self._told:
            print("edge-inspector: heard again", file=sys.stderr)
        self._heard_s, self._told, self._refusal = time.monotonic(), False, ""
        if message["epoch"] != self._epoch and not message.get("replay"):
            if self._epoch:
                print(f"edge-inspector: the daemon was started anew, epoch {message['epoch']}", file=sys.stderr)
            self._epoch = message["epoch"]

    def tell(self, stations: Collection[object], address: str, refusal: str = "") -> None:
        """Said once, after a second: a heartbeat comes every 100 ms. And why we are not let in, when that is known."""
        if not self._told and time.monotonic() - self._heard_s > 1.0:
            self._told = True
            word = "no heartbeat any more" if stations else "nobody is heard yet"
            print(f"edge-inspector: {word} at {address}", file=sys.stderr)
        if self._told and refusal and refusal != self._refusal:
            print(f"edge-inspector: {address}: {refusal}", file=sys.stderr)
            self._refusal = refusal


def _print(message: Message, *, as_json: bool) -> None:
    sys.stdout.write((encode(message).decode() if as_json else readable(message)) + "\n")
    sys.stdout.flush()


def readable(message: Message) -> str:
    """A verdict or a heartbeat in one line."""
    if message["type"] == "heartbeat":
        counts = " ".join(f"{key} {value}" for key, value in message["counts"].items())
        return f"{_clock(message['t_us'])} {message['station']} is {message['state']} {message['reason']} | {counts}"
    what = message["reason"] if message["outcome"] == "fault" else f"grade {message['grade']}"
    defects = ", ".join(
        f"{d['class']} {d['score']:.2f} at {d['box_px'][0]:.0f},{d['box_px'][1]:.0f}" for d in message["defects"]
    )
    return (
        f"{_clock(message['t_publish_us'])} {message['station']} #{message['seq']} "
        f"{message['part_id'] or message['trigger_id']} {message['outcome'].upper():6} {what} "
        f"{message['latency_us']['total'] / 1000:.1f} ms {defects}"
    ).rstrip()


def _clock(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, timezone.utc).astimezone().strftime("%H:%M:%S.%f")[:-3]

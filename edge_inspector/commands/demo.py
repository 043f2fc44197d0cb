"""Watch a whole line, each of its parts a process: a simulated conveyor with its PLC, a daemon that inspects drawn
circuit boards, the gateway between the two, and a subscriber that counts along.

Ends with a summary; exit 1 where daemon, subscriber and plant do not agree on what became of every part, or the gateway
or the plant did not live to the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..cameras.boards import Boards
from ..errors import ConfigError
from ..metrics import Histogram
from .subscribe import readable
from .terminal import Block, bar, columns, one_or_more, zero_or_more

SEED = 7
DEFECT_RATE = 0.25
PITCH_MM, EJECTOR_MM, TOLERANCE_MM, VIEW_MM = 50.0, 400.0, 16.0, 40.0
COUNTS_PER_MM = 10
MOST_RATE = 40.0  # boards a second; the PLC's scan could not tell more of them apart
LINE = """[line]
name = "demo"

[publish]
verdicts = "ipc://{folder}/verdicts"
gateway = "ipc://{folder}/gateway"

[[station]]
name = "top"
engine = "{engine}"
trigger = "gateway"
deadline_ms = {deadline_ms}

[station.camera]
kind = "plant"
address = "{folder}/lens"
seed = {seed}
defect_rate = {defect_rate}
"""
GATEWAY = """[gateway]
name = "demo"
daemon = "ipc://{folder}/gateway"
station = "top"
picture_ms = [0.0, {view_ms}]

[window]
distance = {distance}
tolerance = {tolerance}

[plc]
kind = "modbus-server"
address = "127.0.0.1:{port}"
"""
PLANT = """[plant]
parts = {parts}
[belt]
speed_mm_s = {speed_mm_s}
pitch_mm = {pitch_mm}
ejector_mm = {ejector_mm}
counts_per_mm = {counts_per_mm}
[plc]
tolerance_mm = {tolerance_mm}
[boards]
seed = {seed}
defect_rate = {defect_rate}
[modbus]
address = "127.0.0.1:{port}"
[lens]
address = "lens"
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """How many parts, how fast, and how to report."""
    parser.add_argument("--parts", type=one_or_more, default=200, metavar="N", help="so many boards (200)")
    parser.add_argument(
        "--rate", type=zero_or_more, default=10.0, metavar="R", help=f"boards a second, 0: {MOST_RATE:g}, the most (10)"
    )
    parser.add_argument("--engine", default="boards", help="which engine inspects (boards)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture and the log (demo/)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Run the line to its end, and compare what everyone says."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{args.out}: cannot be made: {error.strerror}; choose a folder with --out") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C, and leave nothing behind
    tally = Tally(args.out / "last-reject.png")
    block = Block(sys.stderr if args.json else sys.stdout)
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder, (args.out / "daemon.log").open("w") as log:
        line = _write(Path(folder), args)
        plant = Plant(Path(folder))
        others = [_start("gateway", str(Path(folder) / "gateway.toml"), stdout=subprocess.DEVNULL, stderr=log)]
        try:
            plant.wait_for_lens()
            daemon = _start("run", str(line), stdout=subprocess.DEVNULL, stderr=log)
            subscriber = _start("subscribe", str(line), "--json", "--heartbeats", stdout=subprocess.PIPE, stderr=log)
            others += [daemon, subscriber]
            threading.Thread(target=_end_with, args=(daemon, subscriber, plant), daemon=True).start()
            threading.Thread(target=_drain, args=(plant, daemon), daemon=True).start()
            try:
                _follow(subscriber, tally, plant, block, args.parts)
            except KeyboardInterrupt:  # drain, and hear it out
                plant.process.terminate()
                _follow(subscriber, tally, plant, block, args.parts)
            code = daemon.wait(10)
            gateway_lived = others[0].poll() is None
        finally:
            for process in (plant.process, *others):
                process.terminate()
                process.wait(10)
    if code != 0:
        print(f"edge-inspector: the daemon ended with {code}:", file=sys.stderr)
        print((args.out / "daemon.log").read_text()[-2000:], file=sys.stderr)
        return code
    told = plant.summary()
    summary = tally.summary(told)
    print(json.dumps(summary) if args.json else "\n".join(_tell(summary, tally.late, tally.picture)))
    if not (gateway_lived and told):
        print(f"edge-inspector: gateway or plant ended too early; see {args.out / 'daemon.log'}", file=sys.stderr)
        return 1
    return 0 if tally.adds_up() else 1


class Plant:
    """The simulated plant's process: drawn as it says, and its score in the end."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_inspector", "plant", str(folder / "plant.toml"), "--json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.drawing: list[str] = []
        self._lens = folder / "lens"
        self._summary: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for_lens(self) -> None:
        """Until a camera can find it, or it has ended without."""
        while not self._lens.exists() and self.process.poll() is None:
            time.sleep(0.02)

    def ask(self) -> None:
        """For the next drawing."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.write("status\n")
            self.process.stdin.flush()

    def summary(self) -> dict[str, Any]:
        """Its last word; empty where it had none."""
        self._reader.join(5)
        return self._summary

    def _read(self) -> None:
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.drawing = json.loads(line)["drawing"]
        said = self.process.stdout.read()
        self._summary = json.loads(said) if said.startswith("{") else {}


def _write(folder: Path, args: argparse.Namespace) -> Path:
    """The files of the line, the gateway and the plant; returns the line's."""
    rate = min(args.rate, MOST_RATE) or MOST_RATE
    if args.rate > MOST_RATE:
        print(f"edge-inspector: this belt can carry {MOST_RATE:g} boards a second at the most", file=sys.stderr)
    speed_mm_s = rate * PITCH_MM
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "folder": folder, "engine": args.engine, "parts": args.parts, "seed": SEED, "defect_rate": DEFECT_RATE,
        "port": port, "speed_mm_s": speed_mm_s, "pitch_mm": PITCH_MM, "ejector_mm": EJECTOR_MM,
        "counts_per_mm": COUNTS_PER_MM, "tolerance_mm": TOLERANCE_MM, "view_ms": VIEW_MM / speed_mm_s * 1000,
        "distance": EJECTOR_MM * COUNTS_PER_MM, "tolerance": (TOLERANCE_MM + 4) * COUNTS_PER_MM,
        "deadline_ms": min(200.0, 0.8 * (EJECTOR_MM - TOLERANCE_MM) / speed_mm_s * 1000),
    }  # fmt: skip
    for name, text in (("line.toml", LINE), ("gateway.toml", GATEWAY), ("plant.toml", PLANT)):
        (folder / name).write_text(text.format(**values))
    return folder / "line.toml"


class Tally:
    """What an independent subscriber knows: every verdict, the last heartbeat, and the truth of each board."""

    def __init__(self, picture: Path) -> None:
        self.picture = picture
        self._boards = Boards(seed=SEED, defect_rate=DEFECT_RATE)
        self._outcomes: Counter[str] = Counter()
        self._seqs: set[int] = set()
        self.latency = Histogram()
        self._recent: deque[str] = deque(maxlen=6)
        self._beat: dict[str, Any] = {"last_seq": 0, "state": "", "counts": {}}
        self._false_rejects = 0
        self._drawn_s = 0.0
        self._last_reject: tuple[int, dict[str, Any]] | None = None
        self.late = 0

    def take(self, message: dict[str, Any]) -> None:
        """Count one message."""
        if message["type"] == "heartbeat":
            self._beat = message
            return
        if message["seq"] in self._seqs:
            return
        self._seqs.add(message["seq"])
        self._outcomes[message["outcome"]] += 1
        self.latency.add(message["latency_us"]["total"])
        self.late += message["t_publish_us"] > message["deadline_us"]
        self._recent.append(readable(message))
        number = int(message["part_id"]) % 65_536  # the plant's PLC counts its boards in the low word of the tag
        defective = bool(self._boards.truth(number))
        self._false_rejects += not defective and message["outcome"] == "reject"
        if message["outcome"] == "reject":
            self._last_reject = (number, message)
            if time.monotonic() - self._drawn_s > 1.0:
                self.draw_last_reject()

    def adds_up(self) -> bool:
        """Whether the daemon's ledger and this count agree, with nothing open and nothing missing."""
        counts = self._beat["counts"]
        mine = {name: self._outcomes[name] for name in ("pass", "reject", "fault")}
        return (
            bool(counts)
            and counts["triggers"] == sum(mine.values()) + counts["open"]
            and counts["open"] == 0
            and all(counts[name] == count for name, count in mine.items())
        )

    def summary(self, plant: dict[str, Any]) -> dict[str, Any]:
        """Counts by the daemon's ledger; false rejects and gaps (verdicts that never arrived) by this subscriber; what
        lies in which bin by the plant: escapes are defective boards in the good one.
        """
        counts = self._beat["counts"] or dict.fromkeys(("triggers", "pass", "reject", "fault", "open"), 0)
        return {
            **counts,
            "escapes": plant.get("escapes"),
            "false_rejects": self._false_rejects,
            "gaps": self._beat["last_seq"] - len(self._seqs),
            "latency_us": self.latency.summary_us(),
            **{name: plant.get(name) for name in ("good_bin", "reject_bin", "good_rejected", "line_stops")},
        }

    def table(self, parts: int) -> list[str]:
        """The live picture."""
        done, latency, out = len(self._seqs), self.latency.summary_us(), self._outcomes
        shape = [sum(self.latency.counts[n : n + 6]) for n in range(350, 680, 6)]  # 1 ms to 700 ms
        return [
            f"{bar(done, parts)}  {done} of {parts} parts   line is {self._beat['state'] or 'not up yet'}",
            f"   pass {out['pass']:6}   reject {out['reject']:6}   fault {out['fault']:6}   "
            f"open {self._beat['counts'].get('open', 0):3}   false rejects {self._false_rejects}",
            f"   trigger to verdict: p50 {latency['p50'] / 1000:.1f} ms   p99 {latency['p99'] / 1000:.1f} ms   "
            f"max {latency['max'] / 1000:.1f} ms",
            f"   1 ms {columns(shape)} 700 ms",
            *(f"   {line}" for line in self._recent),
            *("" for _ in range(6 - len(self._recent))),
        ]

    def draw_last_reject(self) -> None:
        """Draw the board again (its number is enough), what was planted in blue and what was found in red."""
        import cv2
        import numpy as np

        if self._last_reject is None:
            return
        self._drawn_s = time.monotonic()
        number, message = self._last_reject
        pixels = np.zeros((640, 640, 3), np.uint8)
        planted = self._boards.draw(number, pixels)
        for defect in planted:
            x1, y1, x2, y2 = (int(v) for v in defect.box_px)
            cv2.rectangle(pixels, (x1 - 4, y1 - 4), (x2 + 4, y2 + 4), (255, 120, 0), 2)
        for found in message["defects"]:
            x1, y1, x2, y2 = (round(v) for v in found["box_px"])
            cv2.rectangle(pixels, (x1, y1), (x2, y2), (0, 0, 255), 2)
            text = f"{found['class']} {found['score']:.2f}"
            cv2.putText(pixels, text, (x1, max(12, y1 - 8)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 255), 2)
        cv2.imwrite(str(self.picture), pixels)


def _follow(subscriber: subprocess.Popen[str], tally: Tally, plant: Plant, block: Block, parts: int) -> None:
    """Count and draw to the end."""

    def lines() -> list[str]:
        return [*tally.table(parts), f"last reject: {tally.picture}", "", *plant.drawing]

    for message in _messages(subscriber):
        tally.take(message)
        if block.due:
            block.show(lines())
            plant.ask()
    tally.draw_last_reject()
    block.final(lines())


def _end_with(daemon: subprocess.Popen[str], subscriber: subprocess.Popen[str], plant: Plant) -> None:
    """Nobody waits for the words of a daemon that could not start, or has died."""
    if daemon.wait() == 0:
        time.sleep(3.0)  # its last words are on their way
    plant.process.terminate()
    subscriber.terminate()


def _drain(plant: Plant, daemon: subprocess.Popen[str]) -> None:
    """When all boards have fallen, the daemon has nothing more to do."""
    plant.process.wait()
    daemon.terminate()


def _messages(subscriber: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What the subscriber prints, until the daemon has said its last word, or has died without one."""
    assert subscriber.stdout is not None
    for line in subscriber.stdout:
        message = json.loads(line)
        yield message
        if message["type"] == "heartbeat" and message["state"] == "stopping" and not message["counts"]["open"]:
            return


def _start(*words: str, stdout: int | IO[str], stderr: IO[str]) -> subprocess.Popen[str]:
    """A process of ours, in a session of its own: Ctrl-C is for the demo, which then tells the others."""
    command = [sys.executable, "-m", "edge_inspector", *words]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, start_new_session=True)


def _tell(summary: dict[str, Any], late: int, picture: Path) -> list[str]:
    latency = ", ".join(f"{name} {value / 1000:.1f} ms" for name, value in summary["latency_us"].items())
    return [
        "",
        f"{summary['triggers']} triggers = {summary['pass']} pass + {summary['reject']} reject + "
        f"{summary['fault']} fault + {summary['open']} open; {summary['gaps']} gaps at the subscriber",
        f"{late} verdicts came after their deadline",
        f"{summary['good_bin']} boards in the good bin, {summary['escapes']} of them defective; "
        f"{summary['reject_bin']} in the reject bin, {summary['good_rejected']} of them good; "
        f"{summary['line_stops']} line stops",
        f"trigger to verdict: {latency}",
        f"last reject: {picture} (found: red, planted: blue)" if picture.exists() else "no board was rejected",
    ]

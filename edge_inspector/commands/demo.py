"""Watch a synthetic line: a daemon inspects drawn circuit boards, and a subscriber in another process counts along.

Ends with a summary; exit 1 where daemon and subscriber do not agree on what became of every part.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
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
LINE = """[line]
name = "demo"

[publish]
verdicts = "ipc://{folder}/verdicts"
gateway = "ipc://{folder}/gateway"

[[station]]
name = "top"
engine = "{engine}"
trigger = "camera"
deadline_ms = 200

[station.camera]
kind = "boards"
rate = {rate}
count = {parts}
seed = {seed}
defect_rate = {defect_rate}
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """How many parts, how fast, and how to report."""
    parser.add_argument("--parts", type=one_or_more, default=200, metavar="N", help="so many boards (200)")
    parser.add_argument(
        "--rate", type=zero_or_more, default=10.0, metavar="R", help="boards a second, 0: full speed (10)"
    )
    parser.add_argument("--engine", default="boards", help="which engine inspects (boards)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the picture and the log (demo/)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def main(args: argparse.Namespace) -> int:
    """Run daemon and subscriber to the end, and compare what they say."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{args.out}: cannot be made: {error.strerror}; choose a folder with --out") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as with Ctrl-C, and leave nothing behind
    tally = Tally(args.out / "last-reject.png")
    block = Block(sys.stderr if args.json else sys.stdout)
    with tempfile.TemporaryDirectory(prefix="edge-inspector-") as folder, (args.out / "daemon.log").open("w") as log:
        line = Path(folder) / "line.toml"
        line.write_text(LINE.format(folder=folder, engine=args.engine, rate=float(args.rate), parts=args.parts,
                                    seed=SEED, defect_rate=DEFECT_RATE))  # fmt: skip
        subscriber = _start("subscribe", str(line), "--json", "--heartbeats", stdout=subprocess.PIPE, stderr=log)
        daemon = _start("run", str(line), stdout=subprocess.DEVNULL, stderr=log)
        threading.Thread(target=_end_with, args=(daemon, subscriber), daemon=True).start()
        try:
            try:
                _follow(subscriber, tally, block, args.parts)
            except KeyboardInterrupt:  # drain, and hear it out
                daemon.terminate()
                _follow(subscriber, tally, block, args.parts)
            code = daemon.wait(10)
        finally:
            for process in (daemon, subscriber):
                process.terminate()
                process.wait(10)
    if code != 0:
        print(f"edge-inspector: the daemon ended with {code}:", file=sys.stderr)
        print((args.out / "daemon.log").read_text()[-2000:], file=sys.stderr)
        return code
    summary = tally.summary()
    print(json.dumps(summary) if args.json else "\n".join(_tell(summary, tally.late, tally.picture)))
    return 0 if tally.adds_up() else 1


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
        self._escapes = self._false_rejects = 0
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
        number = int(re.findall(r"\d+", message["part_id"])[0])
        defective = bool(self._boards.truth(number))
        self._escapes += defective and message["outcome"] == "pass"
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

    def summary(self) -> dict[str, Any]:
        """Counts by the daemon's ledger; the rest by this subscriber. gaps: verdicts that never arrived here."""
        counts = self._beat["counts"] or dict.fromkeys(("triggers", "pass", "reject", "fault", "open"), 0)
        return {
            **counts,
            "escapes": self._escapes,
            "false_rejects": self._false_rejects,
            "gaps": self._beat["last_seq"] - len(self._seqs),
            "latency_us": self.latency.summary_us(),
        }

    def table(self, parts: int) -> list[str]:
        """The live picture."""
        done, latency, out = len(self._seqs), self.latency.summary_us(), self._outcomes
        shape = [sum(self.latency.counts[n : n + 6]) for n in range(350, 680, 6)]  # 1 ms to 700 ms
        return [
            f"{bar(done, parts)}  {done} of {parts} parts   line is {self._beat['state'] or 'not up yet'}",
            f"   pass {out['pass']:6}   reject {out['reject']:6}   fault {out['fault']:6}   "
            f"open {self._beat['counts'].get('open', 0):3}   "
            f"escapes {self._escapes}   false rejects {self._false_rejects}",
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


def _follow(subscriber: subprocess.Popen[str], tally: Tally, block: Block, parts: int) -> None:
    """Count and draw to the end."""
    for message in _messages(subscriber):
        tally.take(message)
        block.show([*tally.table(parts), f"last reject: {tally.picture}"])
    tally.draw_last_reject()
    block.final([*tally.table(parts), f"last reject: {tally.picture}"])


def _end_with(daemon: subprocess.Popen[str], subscriber: subprocess.Popen[str]) -> None:
    """Nobody waits for the words of a daemon that could not start, or has died."""
    if daemon.wait() == 0:
        time.sleep(3.0)  # its last words are on their way
    subscriber.terminate()


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
        f"{summary['escapes']} defective boards passed, {summary['false_rejects']} good boards rejected",
        f"trigger to verdict: {latency}",
        f"last reject: {picture} (found: red, planted: blue)" if picture.exists() else "no board was rejected",
    ]

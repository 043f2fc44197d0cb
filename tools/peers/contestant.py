"""A contestant's process as its parent sees it: started, told to take a turn, listened to."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from .environments import NotRun

PATIENCE_S = 120  # for a model to be loaded
UNCOUNTED = 3  # the first of every turn: caches and clocks wake up


@dataclass(slots=True)
class Heard:
    """One turn. total_ms: from frame to message; added_ms: that less the network alone; boxes: of the first frame."""

    total_ms: list[float] = field(default_factory=list)
    added_ms: list[float] = field(default_factory=list)
    per_second: float = 0.0
    boxes: int = 0


class Contestant:
    """One process with its own interpreter; between two turns it waits for its standard input."""

    def __init__(
        self, name: str, command: Sequence[str], address: str, log: Path, environment: Mapping[str, str]
    ) -> None:
        """command: less the address, which comes last. log: takes what it prints, and lies in its working directory."""
        self.name = name
        self.about: dict[str, Any] = {}
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [*command, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                env={**os.environ, **environment}, bufsize=1, cwd=log.parent,
            )  # fmt: skip
        self._context = zmq.Context()
        self._address = address

    def ready(self) -> None:
        """Wait until its model is loaded, and keep what it tells of itself. Raises NotRun."""
        self.about = self._answer(PATIENCE_S)

    def boxes(self, seconds: float) -> list[float]:
        """Milliseconds from a picture in memory to boxes, for so long. Raises NotRun."""
        self._tell({"do": "boxes", "seconds": seconds})
        took: list[float] = self._answer(seconds + PATIENCE_S)["ms"]
        return took[UNCOUNTED:]

    def messages(self, seconds: float, rate: float) -> Heard:
        """Let it publish for so long, `rate` in a second (0: as fast as it can). Raises NotRun where any is missing."""
        self._tell({"do": "messages", "seconds": seconds, "rate": rate})
        with self._context.socket(zmq.SUB) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVHWM, 0)
            socket.set(zmq.RECONNECT_IVL, 20)
            socket.subscribe(b"")
            socket.connect(self._address)
            if self._receive(socket, more=True) is None:
                self._answer(0)
                raise self._gone("nothing is heard of it")
            self._tell({})  # we hear it: it may begin
            return self._listen(socket, seconds)

    def _listen(self, socket: zmq.Socket[bytes], seconds: float) -> Heard:
        heard, arrived_ns, sent = Heard(), [0], -1
        while len(arrived_ns) - 1 != sent:
            message = self._receive(socket, more=sent < 0)
            if message is None:
                if sent >= 0:
                    raise self._gone(f"{sent} messages were sent, {len(arrived_ns) - 1} came")
                sent = self._answer(seconds + PATIENCE_S)["sent"]
            elif message["type"] in ("boxes", "verdict"):
                arrived_ns.append(time.monotonic_ns())
                total_ms, infer_ms, boxes = _read(message)
                if len(arrived_ns) - 1 > UNCOUNTED:
                    heard.total_ms.append(total_ms)
                    heard.added_ms.append(total_ms - infer_ms)
                elif len(arrived_ns) == 2:
                    heard.boxes = boxes
        if len(heard.total_ms) < 2:
            raise self._gone(f"{sent} messages in {seconds:g} s are too few")
        heard.per_second = (len(heard.total_ms) - 1) * 1e9 / (arrived_ns[-1] - arrived_ns[UNCOUNTED + 1])
        return heard

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._context.term()

    def _receive(self, socket: zmq.Socket[bytes], *, more: bool) -> dict[str, Any] | None:
        """The next message; None where its answer came first, or (not more) where nothing comes any longer."""
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        if more:
            poller.register(self._process.stdout, zmq.POLLIN)
        if socket not in dict(poller.poll(PATIENCE_S * 1000 if more else 2000)):
            return None
        message: dict[str, Any] = json.loads(socket.recv_multipart()[-1])
        return message

    def _tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
        except OSError:
            raise self._gone("it ended") from None

    def _answer(self, patience_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        poller = zmq.Poller()
        poller.register(self._process.stdout, zmq.POLLIN)
        if not poller.poll(round(patience_s * 1000)):
            raise self._gone(f"no answer within {patience_s:.0f} s")
        if not (line := self._process.stdout.readline()):
            raise self._gone("it ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _gone(self, what: str) -> NotRun:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return NotRun(f"{what}; its last words: {lines[-1] if lines else 'none'}")


def _read(message: dict[str, Any]) -> tuple[float, float, int]:
    """From its frame until now and of that in the network, in ms; and how many boxes.

    A peer stamps its frame with the monotonic clock, a verdict of ours has UTC.
    """
    if message["type"] == "verdict":
        if message["outcome"] == "fault":
            raise NotRun(f"a verdict is a fault: {message['reason']}")
        total_ms = (time.time_ns() // 1000 - message["t_grab_us"]) / 1e3
        return total_ms, message["latency_us"]["infer"] / 1e3, len(message["defects"])
    return (time.monotonic_ns() - message["t_frame_ns"]) / 1e6, message["infer_ns"] / 1e6, len(message["boxes"])

"""The loop around one peer, in the peer's own environment: JSON lines in, JSON lines out, boxes over ZeroMQ.

python -I turns.py PEER.py MODEL HEIGHT WIDTH FRAMES.npy ADDRESS
PEER.py has `load(model, (height, width)) -> detect`, `detect(frame) -> (boxes, nanoseconds in the network alone)`,
`threads() -> str` and PACKAGES. Between two turns the process waits for standard input.
Imports nothing of edge-inspector.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

LEAST = 8  # frames in a turn, however long they take
Turn = Callable[..., dict[str, Any]]


def main() -> None:
    """Load the peer, say so, and take turns until standard input ends."""
    script, model, height, width, frames_path, address = sys.argv[1:]
    answers = own_answers()
    import zmq

    peer, frames = runpy.run_path(script), list(np.load(frames_path))
    detect = peer["load"](model, (int(height), int(width)))
    detect(frames[0])
    socket = zmq.Context().socket(zmq.PUB)
    socket.bind(address)
    about = {"versions": {name: version(name) for name in peer["PACKAGES"]}, "threads": peer["threads"]()}
    turns: dict[str, Turn] = {
        "boxes": lambda seconds: {"ms": boxes_turn(detect, frames, seconds)},
        "messages": lambda seconds, rate: messages_turn(detect, frames, socket, seconds, rate),
    }
    obey(turns, about, answers)


def own_answers() -> Any:
    """What was standard output; from now on, what anybody prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def obey(turns: Mapping[str, Turn], about: Mapping[str, Any], answers: Any) -> None:
    """Say that we are ready; then a turn for every line of standard input, with one line as the answer."""
    print(json.dumps(about), file=answers, flush=True)
    while line := sys.stdin.readline():
        command = json.loads(line)
        print(json.dumps(turns[command.pop("do")](**command)), file=answers, flush=True)


def boxes_turn(detect: Callable[[Any], object], frames: list[Any], seconds: float) -> list[float]:
    """Milliseconds from a picture in memory to boxes, one after the other."""
    took = []
    for frame, _ in paced(frames, seconds, 0.0):
        started_ns = time.monotonic_ns()
        detect(frame)
        took.append((time.monotonic_ns() - started_ns) / 1e6)
    return took


def messages_turn(
    detect: Callable[[Any], tuple[list[list[float]], int]], frames: list[Any], socket: Any, seconds: float, rate: float
) -> dict[str, Any]:
    """Say hello until it is heard; then publish the boxes of every frame, stamped before anything is done with it."""
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        socket.send_json({"type": "hello"})
    sys.stdin.readline()
    sent = 0
    for frame, frame_ns in paced(frames, seconds, rate):
        boxes, infer_ns = detect(frame)
        socket.send_json({"type": "boxes", "t_frame_ns": frame_ns, "infer_ns": infer_ns, "boxes": boxes})
        sent += 1
    return {"sent": sent}


def paced(frames: list[Any], seconds: float, rate: float) -> Iterator[tuple[Any, int]]:
    """Frames with the time each came, for so long; `rate` in a second (0: as fast as they are taken)."""
    due = time.monotonic()
    until, number = due + seconds, 0
    while time.monotonic() < until or number < LEAST:
        if rate:
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / rate
        yield frames[number % len(frames)], time.monotonic_ns()
        number += 1


if __name__ == "__main__":
    main()

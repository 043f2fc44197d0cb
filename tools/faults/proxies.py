"""Bad links: a TCP proxy that delays, stalls and cuts; one for messages that drops, repeats, delays, turns around."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import zmq


@dataclass
class Badness:
    """What a link does to what goes through it. Shares are of frames or messages; delays in seconds."""

    delay_s: tuple[float, float] = (0.0, 0.0)
    drop: float = 0.0
    repeat: float = 0.0
    swap: float = 0.0
    stall: bool = False


class TcpProxy:
    """In front of a TCP server on 127.0.0.1. frames: split the stream into Modbus frames, and hurt whole ones."""

    def __init__(self, port: int, target: int, *, frames: bool = False, seed: int = 1) -> None:
        self.bad = Badness()
        self._port, self._target, self._frames = port, target, frames
        self._random = random.Random(seed)  # noqa: S311 - nothing is secret here
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._half = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(5)

    def cut(self, *, mid_message: bool = False) -> None:
        """Break every connection; with half of the next message still let through."""
        if mid_message:
            self._half = True
        else:
            self._loop.call_soon_threadsafe(self._break)

    def close(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self._port))
        self._started.set()
        self._loop.run_forever()

    def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        for each in (writer, back):
            self._writers.discard(each)
            each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, in order; what is late holds up what is behind it, as TCP does."""
        held: bytes | None = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await self._read(reader):
                bad = self.bad
                while bad.stall:
                    await asyncio.sleep(0.01)
                if bad.delay_s[1]:
                    await asyncio.sleep(self._random.uniform(*bad.delay_s))
                if self._half:
                    self._half = False
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    self._break()
                    return
                if self._random.random() < bad.drop:
                    continue
                if held is None and self._random.random() < bad.swap:
                    held = data
                    continue
                copies = 2 if self._random.random() < bad.repeat else 1
                writer.write(data * copies + (held or b""))
                held = None
                await writer.drain()
        writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        if not self._frames:
            return await reader.read(4096)
        head = await reader.readexactly(6)
        return head + await reader.readexactly(int.from_bytes(head[4:6], "big"))


class MessageProxy(threading.Thread):
    """Between gateways (DEALER) and a daemon (ROUTER): whole messages are hurt, in both directions."""

    def __init__(self, front: str, back: str, *, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.bad = Badness()
        self._front, self._back = front, back
        self._random = random.Random(seed)  # noqa: S311 - nothing is secret here
        self._done = threading.Event()
        self._held: dict[str, list[bytes]] = {}
        self.start()

    def close(self) -> None:
        """End."""
        self._done.set()
        self.join(5)

    def run(self) -> None:
        """Pump."""
        context = zmq.Context()
        front = context.socket(zmq.ROUTER)
        front.set(zmq.LINGER, 0)
        front.bind(self._front)
        backs: dict[bytes, zmq.Socket[bytes]] = {}
        due: list[tuple[float, int, Callable[[], object]]] = []
        count = 0
        while not self._done.is_set():
            poller = zmq.Poller()
            for socket in (front, *backs.values()):
                poller.register(socket, zmq.POLLIN)
            poller.poll(2)
            with contextlib.suppress(zmq.Again):
                while True:
                    who, *frames = front.recv_multipart(zmq.NOBLOCK)
                    if who not in backs:
                        backs[who] = context.socket(zmq.DEALER)
                        backs[who].set(zmq.LINGER, 0)
                        backs[who].connect(self._back)
                    for at_s, data in self._hurt(f"out{who!r}", frames):
                        count += 1
                        due.append((at_s, count, partial(backs[who].send_multipart, data, zmq.NOBLOCK)))
            for who, socket in backs.items():
                with contextlib.suppress(zmq.Again):
                    while True:
                        frames = socket.recv_multipart(zmq.NOBLOCK)
                        for at_s, data in self._hurt(f"in{who!r}", frames):
                            count += 1
                            due.append((at_s, count, partial(front.send_multipart, [who, *data], zmq.NOBLOCK)))
            if self.bad.stall:
                continue
            now_s = time.monotonic()
            for entry in sorted(entry for entry in due if entry[0] <= now_s):
                with contextlib.suppress(zmq.ZMQError):
                    entry[2]()
            due = [entry for entry in due if entry[0] > now_s]
        context.destroy(linger=0)

    def _hurt(self, way: str, frames: list[bytes]) -> list[tuple[float, list[bytes]]]:
        """When to send what of it."""
        bad, now_s = self.bad, time.monotonic()
        if self._random.random() < bad.drop:
            return []
        if way not in self._held and self._random.random() < bad.swap:
            self._held[way] = frames
            return []
        sent = [frames] * (2 if self._random.random() < bad.repeat else 1)
        if way in self._held:
            sent.append(self._held.pop(way))
        return [(now_s + self._random.uniform(*bad.delay_s), each) for each in sent]


def free_port() -> int:
    """A port that nobody uses at the moment."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

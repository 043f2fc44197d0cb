"""The gateway's process around the real gate, and its end of the link to the PLC."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_inspector.gateway.base import Heard, Lost, PartRecord, PlcEvent, Shown
from edge_inspector.gateway.gate import Gate
from edge_inspector.gateway.registers import U16, VISION_SIZE, Registers, Result, Status

from .daemon import Message
from .events import MS, Wire
from .watch import Watch

if TYPE_CHECKING:
    from .plant import Plant

UTC_US = 1_790_000_000_000_000  # our clock, when the monotonic one began
CLOCK, SESSION = 3, 4  # offsets in the vision block


class Host:
    """Runs a gate as gateway/process.py does, and is its side of the link to the PLC: a Modbus server or client.

    Its clock is one that does not step: our monotonic clock, with an offset.
    """

    def __init__(self, plant: Plant, name: str, *, deaf: bool = False) -> None:
        self.name = name
        self._plant, self._plan, self._events, self._random = plant, plant.plan, plant.events, plant.random
        self._deaf = deaf  # reads the PLC, and is not read by it
        self.to_daemon, self.from_daemon = (Wire(plant.events, plant.random) for _ in range(2))
        self.to_plc, self.from_plc = (Wire(plant.events, plant.random) for _ in range(2))
        self.records: list[PartRecord] = []
        self.alarms: list[tuple[int, str, str]] = []
        self.unwell: list[tuple[int, int]] = []
        self.most = self._turns = 0
        self._life = 0
        self.start()

    def start(self) -> None:
        """A new process."""
        self._life += 1
        self.running = True
        self._stalled = self._stopped = False
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._mail: list[PlcEvent] = []
        self._inbox: list[Message] = []
        self._image: Registers = [0] * VISION_SIZE
        self._number: int | None = None
        self._echo: tuple[int, int] | None = None
        self._woken = False
        self._asked: tuple[int, int] | None = None
        self._writing: Registers = []
        self._written: Registers = []
        self._written_ns = 0
        life = self._life
        self.gate = Gate(
            self._plan.config(self.name),
            session=self._random.randrange(1, U16),
            utc_us=lambda ns: ns // 1000 + UTC_US,
            send=lambda message: self._send(life, message),
            closed=self.records.append,
            alarm=lambda what, why: self.alarms.append((self._events.now_ns, what, why)),
        )
        self._watch = Watch(self.unwell, self._plant.wrong)
        self._wake()
        if self._plan.client:
            self._soon(1, self._cycle)

    def kill(self) -> None:
        """Gone. A record that was not written yet is lost."""
        self._life += 1
        self.running = False
        self._plant.daemon.forget(self)

    def stall(self, whole: bool) -> None:
        """whole: SIGSTOP; else the gate's thread alone does not get on."""
        self._stalled, self._stopped = True, whole

    def go_on(self) -> None:
        """Everything that waited happens now."""
        if not self.running:
            return
        self._stalled = self._stopped = False
        waiting, self._waiting = self._waiting, []
        for call, args in waiting:
            call(*args)
        self._wake()

    def _soon(self, ms: float, call: Callable[..., None], *args: Any) -> None:
        self._events.after(ms, self._do, self._life, call, *args)

    def _do(self, life: int, call: Callable[..., None], *args: Any) -> None:
        if life != self._life:
            return
        if self._stopped:
            self._waiting.append((call, args))
        else:
            call(*args)

    # the gate's thread

    def _wake(self) -> None:
        if not self._woken and not self._stalled:
            self._woken = True
            self._soon(self._random.uniform(0.02, 0.2), self._turn)

    def _turn(self) -> None:
        self._woken = False
        if self._stalled:
            return
        now_ns, gate = self._events.now_ns, self.gate
        mail, self._mail = self._mail, []
        for event in mail:
            if isinstance(event, Heard):
                gate.heard(event)
            elif isinstance(event, Lost):
                gate.lost(event.reason, now_ns)
            else:
                gate.shown(event.number, event.t_ns)
            self._watch.plc(event)
        inbox, self._inbox = self._inbox[:64], self._inbox[64:]
        for message in inbox:
            gate.message(message, now_ns)
            self._watch.daemon(message, now_ns)
        due_ns = gate.turn(now_ns)
        self._image = gate.registers(now_ns)
        if not self._plan.client and gate.queue.number != self._number:
            self._number = gate.queue.number
            self._mail.append(Shown(gate.queue.number, now_ns))
        self._watch.look(Status(self._image[1]), now_ns)
        self._turns += 1
        if self._turns % 200 == 0:
            self.most = max(self.most, held(gate))
        self._events.at(max(due_ns, now_ns + MS // 10), self._do, self._life, self._wake)
        if self._inbox:
            self._wake()

    def _send(self, life: int, message: Message) -> None:
        if life == self._life:
            self._plant.check(message)
            self.to_daemon.carry(self._sent, life, message)

    def _sent(self, life: int, message: Message) -> None:
        if life == self._life:  # else the connection has ended
            self._plant.daemon.receive(self, message)

    @property
    def connection(self) -> int:
        """To the daemon: another one after each start."""
        return self._life

    def receive(self, connection: int, message: Message) -> None:
        """Something has arrived from the daemon."""
        if connection == self._life and self.running:
            self._inbox.append(message)
            self._do(self._life, self._wake)

    # as a Modbus server

    def asked(self, transaction: int) -> None:
        """The PLC reads."""
        if self.running:
            self._do(self._life, self._read, transaction)

    def told(self, transaction: int, words: Registers) -> None:
        """The PLC writes."""
        if self.running:
            self._do(self._life, self._take, transaction, words)

    def _read(self, transaction: int) -> None:
        words = list(self._image)
        words[CLOCK] = self._events.now_ns // MS % U16
        self.to_plc.carry(self._plant.plc.answered, transaction, words)

    def _take(self, transaction: int, words: Registers) -> None:
        t_ns = self._events.now_ns
        block = self._plant.codec.read_plc(words)
        assert block is not None
        age_ns = None
        if block.session and block.session == self._image[SESSION]:
            if self._echo is None or self._echo[0] != block.echo:
                self._echo = block.echo, t_ns
            now_ms, rest_ns = divmod(t_ns, MS)
            age_ns = (now_ms - block.echo) % U16 * MS + rest_ns
            if max(age_ns, t_ns - self._echo[1]) >= 30_000 * MS:
                age_ns = None
        self._mail.append(Heard(block, t_ns, age_ns))
        self._wake()
        self.to_plc.carry(self._plant.plc.confirmed, transaction)

    # as a Modbus client

    def _cycle(self) -> None:
        now_ns, plant = self._events.now_ns, self._plant
        self._soon(self._plan.poll_ms * self._random.uniform(0.95, 1.05), self._cycle)
        if self._asked is not None:
            if now_ns - self._asked[1] > 200 * MS:
                self._mail.append(Lost("no answer"))
                self._asked, self._writing, self._written = None, [], []
                self._wake()
            return
        shown = self._image.copy()
        shown[CLOCK] = 0
        if not self._deaf and (shown != self._written or now_ns - self._written_ns >= 100 * MS):
            self._written_ns, self._writing = now_ns, shown
            words = shown.copy()
            words[CLOCK] = now_ns // MS % U16
            self.to_plc.carry(plant.write_vision, self, self._life, words)
        self._asked = now_ns, now_ns
        self.to_plc.carry(plant.read_plc, self, self._life, now_ns)

    def wrote(self, life: int) -> None:
        """The PLC has taken what was written."""
        self._do(life, self._confirm)

    def _confirm(self) -> None:
        self._written = self._writing
        if self.gate.queue.number != self._number and self._written:
            self._number = self.gate.queue.number
            self._mail.append(Shown(self._number, self._events.now_ns))
            self._wake()

    def answered(self, life: int, asked_ns: int, words: Registers) -> None:
        """The PLC's block, as it was some time after `asked_ns`."""
        self._do(life, self._heard, asked_ns, words)

    def _heard(self, asked_ns: int, words: Registers) -> None:
        if self._asked is None or self._asked[0] != asked_ns:
            return
        self._asked = None
        block = self._plant.codec.read_plc(words)
        assert block is not None
        self._mail.append(Heard(block, self._events.now_ns, self._events.now_ns - asked_ns))
        self._wake()


def held(gate: Gate) -> int:
    """How many things a gate holds in all its containers."""
    total, todo, seen = 0, [gate], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, (dict, list, set, deque)):
            total += len(one)
            todo.extend(one.values() if isinstance(one, dict) else one)
        elif type(one).__module__.startswith("edge_inspector.gateway") and not isinstance(one, (PartRecord, Result)):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            todo.extend(getattr(one, name) for name in (*slots, *getattr(one, "__dict__", ())))
    return total

"""What [realtime] asks of the kernel: cores, SCHED_FIFO, locked memory. Owns these calls, and what mends a refusal.

publish goes first, as every verdict is its to give, if only a fault; then grab, as a part that nobody notices gets
none; then infer; then main, which must hear signals even if the engine spins; and last the engine's own threads, which
infer waits for. Without the table every call does nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .config import MOST_CORES, LineConfig
from .errors import ConfigError

BELOW = {"publish": 0, "grab": 1, "infer": 2, "main": 3}  # so far below `priority`
REST = 4
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # sys/mman.h
CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23  # linux/capability.h
CONF = "systemd/realtime.conf"


class Realtime:
    """The settings of one line, for the process that it runs in. Raises ConfigError for what it may not have."""

    def __init__(self, config: LineConfig) -> None:
        self._path, self._table = config.path, config.realtime

    def pin(self) -> None:
        """Keep every thread to the cores, and what it starts with it. Before an engine is loaded, which takes as many
        threads as it has cores.
        """
        if self._table.cores:
            _each(_threads(), self._pin)

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """What is started within keeps publish's priority: ZeroMQ's threads, which do the sending. Who may have none is
        refused here, before anything is bound.
        """
        former = os.sched_getscheduler(0), os.sched_getparam(0)
        self.enter("publish")
        try:
            yield
        finally:
            if self._table.priority:
                os.sched_setscheduler(0, *former)

    def enter(self, thread: str) -> None:
        """The calling thread takes the priority of what its name says it is; its camera's threads inherit it.

        Other names change nothing: `keep` may write for as long as it likes, beside all other processes.
        """
        below = BELOW.get(thread.partition("-")[0])
        if self._table.priority and below is not None:
            self._prioritise(0, below)

    def rest(self, *, but: int | None) -> None:
        """From the main thread once engines are warm, as loading one takes every core for seconds: it, which may hold
        the interpreter's lock that the others need, and all that have no priority yet: the engine's, as infer cannot be
        sooner than they are. but: the thread that gets none.
        """
        if self._table.priority:
            self.enter("main")
            _each([tid for tid in _threads() if tid != but], self._rest)

    def lock(self) -> None:
        """Read in what is mapped, and keep it in memory; what is mapped from now on, from its first use on (a stack of
        8 MB would be filled at once). Where there is a limit, memory beyond it could not be had at all.
        """
        if not self._table.lock_memory:
            return
        most = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        if most != resource.RLIM_INFINITY and not _may(CAP_IPC_LOCK):
            raise self._refused(
                "lock_memory",
                f"this process may lock {most // 1024} kB at most; expected LimitMEMLOCK=infinity in the unit "
                f"({CONF}), in a shell: sudo prlimit --pid $$ --memlock=unlimited",
            )
        libc = ctypes.CDLL(None, use_errno=True)
        for flags in (MCL_CURRENT, MCL_FUTURE | MCL_ONFAULT):
            if libc.mlockall(flags):
                reason = os.strerror(ctypes.get_errno())
                raise self._refused("lock_memory", f"the kernel says: {reason}; expected free memory for it: free -m")

    def refusals(self) -> dict[str, str]:
        """For each key that asks for something why this process may not have it, or "". Tried, and undone."""
        trials: dict[str, Callable[[], object]] = {
            "priority": lambda: self._prioritise(0, 0),
            "cores": lambda: self._pin(0),
            "lock_memory": self._try_lock,
        }
        said = {}
        for key, trial in trials.items():
            if getattr(self._table, key):
                said[key] = ""
                thread = threading.Thread(target=_tell, args=(trial, said, key))  # what it is given ends with it
                thread.start()
                thread.join()
        return said

    def _try_lock(self) -> None:
        try:
            self.lock()
        finally:
            ctypes.CDLL(None).munlockall()

    def _rest(self, tid: int) -> None:
        if os.sched_getscheduler(tid) != os.SCHED_FIFO:
            self._prioritise(tid, REST)

    def _pin(self, tid: int) -> None:
        """Set, and read back: of several cores the kernel takes those that it has, without a word."""
        wanted = set(self._table.cores)
        with contextlib.suppress(OSError):  # it has none of them
            os.sched_setaffinity(tid, wanted)
        if os.sched_getaffinity(tid) != wanted:
            os.sched_setaffinity(tid, range(MOST_CORES))  # as many as it may have
            have = _listed(os.sched_getaffinity(tid))
            raise self._refused(
                "cores", f"this process may have {have}; expected some of these (AllowedCPUs= in the unit, see: lscpu)"
            )

    def _prioritise(self, tid: int, below: int) -> None:
        priority = self._table.priority - below
        try:
            os.sched_setscheduler(tid, os.SCHED_FIFO, os.sched_param(priority))
        except PermissionError:
            most = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
            if most < priority and not _may(CAP_SYS_NICE):
                found = f"this process may have {most} at most; expected LimitRTPRIO={priority} in the unit ({CONF})"
                mend = f"in a shell: sudo prlimit --pid $$ --rtprio={priority}"
            else:
                found = f"the kernel forbids it; expected RestrictRealtime=no in the unit ({CONF})"
                mend = "or a control group with cpu.rt_runtime_us above 0"
            raise self._refused("priority", f"{found}, {mend}") from None

    def _refused(self, key: str, why: str) -> ConfigError:
        asked = getattr(self._table, key)
        found = str(asked).lower() if isinstance(asked, bool) else list(asked) if isinstance(asked, tuple) else asked
        return ConfigError(f"{self._path}: realtime.{key}: found {found}, but {why}")


def _threads() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


def _each(threads: list[int], do: Callable[[int], object]) -> None:
    for tid in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            do(tid)


def _tell(trial: Callable[[], object], said: dict[str, str], key: str) -> None:
    try:
        trial()
    except ConfigError as error:
        said[key] = str(error)


def _may(capability: int) -> bool:
    """Whether this process has one of root's powers (capabilities(7))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


def _listed(cores: set[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores)) if len(cores) < 9 else f"{len(cores)} cores"

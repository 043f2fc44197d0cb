"""What a process has used so far, as /proc tells it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
PROCESSOR_FIELDS = slice(11, 13)  # of /proc/PID/stat behind the name: utime, stime (proc_pid_stat(5))


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_s: user and system together. switches: from one thread to another, of all its threads."""

    cpu_s: float
    switches: int
    rss_mb: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """As it is now."""
        folder = Path("/proc", str(pid))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        tasks = list((folder / "task").iterdir())
        switches = 0
        for task in tasks:
            with contextlib.suppress(OSError):  # a thread that has just ended
                switches += sum(map(int, SWITCHES.findall((task / "status").read_text())))
        ticks = sum(map(int, fields[PROCESSOR_FIELDS]))
        descriptors = len(list((folder / "fd").iterdir()))
        return cls(ticks / os.sysconf("SC_CLK_TCK"), switches, resident_mb(pid), descriptors, len(tasks))


def resident_mb(pid: int) -> float:
    """Resident memory, in 10^6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def slope_mb(samples: list[float]) -> float:
    """How much memory grew over evenly spaced samples, by the straight line that fits them best."""
    n = len(samples)
    if n < 2:
        return 0.0
    middle = (n - 1) / 2
    slope = sum((x - middle) * y for x, y in enumerate(samples)) / sum((x - middle) ** 2 for x in range(n))
    return slope * (n - 1)

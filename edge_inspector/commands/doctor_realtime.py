"""The doctor's look at [realtime]: may this user have what the line asks for, or else the unit?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .finding import Finding

if TYPE_CHECKING:
    from ..config import LineConfig

UNIT = "edge-inspector@"
KERNEL = 50  # the interrupt threads' priority
BRAKE = Path("/proc/sys/kernel/sched_rt_runtime_us")  # -1: real-time threads may take a core for good


def realtime(config: LineConfig, unit_folders: tuple[str, ...]) -> Iterator[Finding]:
    """One finding for each key that asks for something; tried by this process, and undone."""
    from ..realtime import Realtime

    allowed = _of_unit(config.path.stem, unit_folders)
    table = config.realtime
    most = allowed.get("LimitRTPRIO", "0").replace("infinity", "99")
    by_unit = {
        "priority": most.isdigit() and int(most) >= table.priority and allowed.get("RestrictRealtime") == "no",
        "lock_memory": allowed.get("LimitMEMLOCK") == "infinity",
    }
    for key, refusal in Realtime(config).refusals().items():
        what, asked = f"realtime {key}", getattr(table, key)
        if not refusal:
            yield Finding("ok", what, f"{list(asked) if isinstance(asked, tuple) else asked}: this user may have it")
        elif by_unit.get(key):
            yield Finding("ok", what, f"{asked}: not for this user, but for the unit {UNIT}{config.path.stem}")
        else:
            yield Finding("missing", what, refusal)
    if table.priority >= KERNEL:
        detail = f"{table.priority} is not below the kernel's interrupt threads ({KERNEL}): a camera's frames may wait"
        yield Finding("optional", "interrupts", detail, "priority = 20 in [realtime]")
    if table.priority and BRAKE.is_file() and BRAKE.read_text().strip() == "-1":
        detail = "a thread that spins would have its core for good, and may keep systemd's watchdog from ending it"
        yield Finding("optional", "real-time brake", detail, "sudo sysctl kernel.sched_rt_runtime_us=950000")


def _of_unit(line: str, folders: tuple[str, ...]) -> dict[str, str]:
    """The settings of the line's installed unit with its drop-ins; of several the last counts."""
    texts = [
        path.read_text()
        for pattern in (f"{UNIT}.service", f"{UNIT}.service.d/*.conf", f"{UNIT}{line}.service.d/*.conf")
        for folder in reversed(folders)
        for path in sorted(Path(folder).glob(pattern))
    ]
    return dict(re.findall(r"^(\w+)=(.*)$", "\n".join(texts), re.MULTILINE))

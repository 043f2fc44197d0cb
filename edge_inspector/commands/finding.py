"""One line of the doctor's report, and how its checks ask: versions without importing, the rest in another process."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

PROBE_S = 60.0
State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True)
class Finding:
    """optional: it is not there, and nothing that was asked for needs it. mend: the command, or what to do."""

    state: State
    what: str
    detail: str
    mend: str = ""


def pip() -> str:
    """How to call the pip that installs for this Python."""
    return f"{sys.executable} -m pip"


def version_of(name: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def probe(code: str) -> tuple[bool, str]:
    """Run code in another Python, as a driver's library may crash or hang; what it printed, or why it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {PROBE_S:g} s"
    if done.returncode:
        return False, (done.stderr.strip().splitlines() or [f"crashed with {done.returncode}"])[-1]
    return True, done.stdout.strip()

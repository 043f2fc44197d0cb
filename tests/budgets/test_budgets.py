"""What a part may cost, as counts: copies, allocations, page faults, system calls, bytes, log lines, wake-ups.

No engine computes here, so that all of it is ours. Each budget is about twice what was counted when it was
written; a change that needs more has to say so here.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_inspector.commands.bench import nothing, write_line
from edge_inspector.commands.bench_frames import SIZE
from edge_inspector.commands.bench_heard import Heard
from edge_inspector.commands.bench_pipeline import Pipeline
from edge_inspector.commands.bench_usage import Usage

from ..faults.rig import boards, running, step

PARTS = 300
FRAME_BYTES = SIZE[0] * SIZE[1] * 3
COUNTS = struct.Struct("QQ")


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """One station, whose engine costs nothing."""
    return write_line(tmp_path, nothing(tmp_path), "nothing")


@pytest.fixture
def pipeline(line: Path) -> Iterator[Pipeline]:
    """Warm: everything has been used once."""
    with Pipeline(line, waits=True) as made:
        made.turn(PARTS, heard=Heard())
        yield made


def page_faults(pid: int) -> int:
    """Of the process, so far: each is a page of memory that it had not before."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_no_new_memory(pipeline: Pipeline) -> None:
    """A picture's worth of new memory is 960 page faults: nothing that large is made anew for a part."""
    before = page_faults(pipeline.pid)
    pipeline.turn(PARTS, heard=Heard())
    assert (page_faults(pipeline.pid) - before) / PARTS < 10


def test_copies_and_large_allocations(tmp_path: Path, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is copied once, by the camera; an eighth of it is kept to recognise a frozen one. No large block."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here to build what counts: apt-get install gcc")
    library, counts = tmp_path / "counting.so", tmp_path / "counts"
    flags = ["-shared", "-fPIC", "-O2", "-fno-builtin", "-fno-tree-loop-distribute-patterns"]
    subprocess.run(["cc", *flags, "-o", library, Path(__file__).with_name("counting.c"), "-ldl"], check=True)
    counts.write_bytes(COUNTS.pack(0, 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("COUNTING", str(counts))
    with Pipeline(line, waits=True) as pipeline:
        pipeline.turn(PARTS, heard=Heard())
        before = COUNTS.unpack(counts.read_bytes())
        pipeline.turn(PARTS, heard=Heard())
        copied, blocks = (now - then for now, then in zip(COUNTS.unpack(counts.read_bytes()), before, strict=True))
    assert 1.0 <= copied / PARTS / FRAME_BYTES < 1.25
    assert blocks / PARTS < 0.1


def test_system_calls(pipeline: Pipeline, tmp_path: Path) -> None:
    """Between two threads a bell and a wait; to the subscriber a write."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here: apt-get install strace")
    table = tmp_path / "strace"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", table, "-p", str(pipeline.pid)], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    if b"attached" not in (said := tracer.stderr.readline()):
        pytest.skip(f"strace may not: {said.decode()}")
    pipeline.turn(PARTS, heard=Heard())
    tracer.terminate()
    tracer.wait(30)
    calls = {row.split()[-1]: int(row.split()[3]) for row in table.read_text().splitlines() if re.match(r" *\d", row)}
    calls.pop("total")
    assert sum(calls.values()) / PARTS < 60, calls
    assert sum(calls.get(name, 0) for name in ("mmap", "munmap", "madvise", "brk")) / PARTS < 0.2, calls


def test_bytes_on_the_wire(tmp_path: Path) -> None:
    """A verdict with a defect fits into one packet."""
    with running(tmp_path, camera=boards(30), script=[step(reject=True)]) as daemon:
        daemon.wait_for_verdicts(5)
        longest = max(len(json.dumps(verdict, separators=(",", ":"))) for verdict in daemon.ears.verdicts)
    assert longest < 1200


def test_nothing_is_logged_while_all_is_well(tmp_path: Path) -> None:
    """Only changes are."""
    with running(tmp_path, camera=boards(50), script=[step()]) as daemon:
        daemon.wait_for_verdicts(20)
        before = daemon.log.read_text()
        daemon.wait_for_verdicts(120)
        assert daemon.log.read_text() == before


def test_wake_ups_when_idle(tmp_path: Path) -> None:
    """A line to which nobody sends a trigger: heartbeats, the watchdog, and looks whether it should stop."""
    with running(tmp_path, camera=boards(0), script=[step()], trigger="gateway") as daemon:
        daemon.wait_for(lambda: daemon.ears.beats and daemon.ears.beats[-1]["ready"])
        before, seconds = Usage.of(daemon.process.pid), 3.0
        time.sleep(seconds)
        assert (Usage.of(daemon.process.pid).switches - before.switches) / seconds < 150

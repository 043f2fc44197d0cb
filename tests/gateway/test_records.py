"""The file of records: every part a whole line, rotated, and a disk that fails costs records but never time."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_inspector.errors import ConfigError
from edge_inspector.gateway import records as module
from edge_inspector.gateway.records import Records

from .samples import part, status, verdict

ROOT = Path(__file__).parents[2]


def ids(path: Path) -> list[int]:
    """Of the parts in a file, each line of which must be whole."""
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]


def kept(path: Path) -> list[Path]:
    """All files, the oldest first."""
    old = [path.with_name(f"{path.name}.{n}") for n in range(module.FILES, 0, -1)]
    return [file for file in [*old, path] if file.exists()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where records go."""
    return tmp_path / "parts.jsonl"


def test_each_part_is_a_line(file: Path) -> None:
    """With everything that is known of it; verdicts and statuses are not kept."""
    records = Records(file)
    records.start()
    records.verdict(verdict(1))
    records.status(status())
    for seq in range(1, 101):
        records.part(part(seq, "pass" if seq % 2 else "reject"))
    records.close()
    assert ids(file) == list(range(1, 101))
    first = json.loads(file.read_bytes().splitlines()[0])
    assert first["action"] == "pass"
    assert first["encoder"] == 2**32 - 5
    assert first["t_written_us"] is None
    assert records.dropped == 0


def test_a_restart_goes_on_in_the_same_file(file: Path) -> None:
    """A line that a lost mains left unfinished does not spoil the next."""
    file.write_bytes(b'{"id":1}\n{"id":2,"ta')
    records = Records(file)
    records.start()
    records.part(part(3))
    records.close()
    lines = file.read_bytes().splitlines()
    assert lines[:2] == [b'{"id":1}', b'{"id":2,"ta']
    assert json.loads(lines[2])["id"] == 3


def test_files_are_rotated_and_the_oldest_goes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten files at the most, none larger than allowed, and no record lost or twice in those that are left."""
    monkeypatch.setattr(module, "LARGEST", 3000)
    records = Records(file)
    records.start()
    for seq in range(1, 201):
        records.part(part(seq))
    records.close()
    files = kept(file)
    assert len(files) == module.FILES
    assert all(each.stat().st_size <= 3000 for each in files)
    found = [seq for each in files for seq in ids(each)]
    assert found == list(range(found[0], 201))
    assert found[0] > 1


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """At the start, and not when the first part comes."""
    for path in (tmp_path / "nowhere" / "parts.jsonl", tmp_path):
        with pytest.raises(ConfigError, match=r"gateway\.records: .*expected a file"):
            Records(path).start()


SMALL_DISK = """
import json, logging, sys
from pathlib import Path
from edge_inspector.gateway.records import Records
from tests.gateway.samples import part, until

logging.basicConfig(level=logging.INFO, format="%(message)s")
filler, file = Path(sys.argv[1], "filler"), Path(sys.argv[1], "parts.jsonl")
filler.write_bytes(bytes(12 << 10))
records = Records(file)
records.start()
for seq in range(1, 31):
    records.part(part(seq))
until(records._waiting.empty)
lost = records.dropped
filler.unlink()
for seq in range(31, 36):
    records.part(part(seq))
records.close()
print(json.dumps([lost, records.dropped, [json.loads(line)["id"] for line in file.read_bytes().splitlines()]]))
"""


def test_a_full_disk_costs_records_and_one_line_in_the_log(tmp_path: Path) -> None:
    """They are counted, none is torn, and when there is room again writing goes on."""
    mount = f"mount -t tmpfs -o size=16k tmpfs {tmp_path}"
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, for a small disk of its own")
    command = [*alone, f'{mount} && exec "$0" -c "$1" {tmp_path}', sys.executable, SMALL_DISK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    lost, lost_in_the_end, found = json.loads(done.stdout)
    assert 0 < lost <= 30
    assert lost_in_the_end - lost <= 1  # the last of the first ones may still have been on its way
    assert len(found) + lost_in_the_end == 35
    assert found[-5:] == [31, 32, 33, 34, 35]
    assert done.stderr.splitlines() == ["records are lost", "records are written again"]


def test_a_disk_that_hangs_makes_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads stands for it: so many records wait, the others are counted, and `close` comes back."""
    monkeypatch.setattr(module, "WAITING", 50)  # some more fit into the pipe
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that it can be opened
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    records = Records(pipe)
    records.start()
    for seq in range(1, 2001):
        records.part(part(seq))
    assert 1000 < records.dropped <= 2000 - 50
    records.close()
    os.close(reader)

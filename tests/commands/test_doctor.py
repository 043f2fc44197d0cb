"""The doctor, really run: on this machine, where a library is hidden, and on lines that could and could not run."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_inspector.commands import doctor as doctor_command
from edge_inspector.commands import doctor_devices, doctor_line

ROOT = Path(__file__).parents[2]
LINE = """
[line]
name = "line1"
[publish]
verdicts = "{verdicts}"
gateway = "ipc://{folder}/gateway"
[[station]]
name = "top"
engine = "{engine}"
deadline_ms = 1000
[station.camera]
{camera}
"""
BOARDS = 'kind = "boards"\nrate = 2.0'


def doctor(*words: str, python: tuple[str, ...] = (), **environment: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and for each thing its state and the rest of its line."""
    command = [sys.executable, *python, "-m", "edge_inspector", "doctor", *words]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr, done.stderr
    rows = [re.split(r"\s{2,}", row, maxsplit=2) for row in done.stdout.splitlines()]
    assert all(row[0] in ("ok", "missing", "optional") for row in rows), done.stdout
    return done.returncode, {what: (state, rest) for state, what, rest in rows}


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """A line that can run here."""
    engine = tmp_path / "engines" / "scripted"
    engine.mkdir(parents=True)
    (engine / "model.toml").write_text('labels = ["short"]\ninput_size = [64, 64]\n[[script]]\ndelay_ms = 2\n')
    (engine / "recipe.toml").write_text("[reject]\ncritical = 1\n")
    return rewrite(tmp_path / "line.toml")


def rewrite(path: Path, *, verdicts: str = "", engine: str = "scripted", camera: str = BOARDS) -> Path:
    """The line's file, with something else in it."""
    folder = path.parent
    verdicts = verdicts or f"ipc://{folder}/verdicts"
    path.write_text(LINE.format(folder=folder, verdicts=verdicts, engine=engine, camera=camera))
    return path


@contextlib.contextmanager
def listener() -> Iterator[int]:
    """A TCP port of the loopback where connections are made and nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_this_machine_is_well() -> None:
    """Where the tests run everything needed is there, and the exit code says so."""
    code, found = doctor()
    assert code == 0, found
    assert found["python"][0] == "ok"
    assert found["numpy"][0] == "ok"
    assert "CPU" in found["openvino devices"][1]
    assert "v4l/v4l2" in found["opencv"][1]
    assert not [what for what, (state, _) in found.items() if state == "missing"]


@pytest.mark.parametrize(("library", "module"), [("pyzmq", "zmq"), ("numpy", "numpy"), ("openvino", "openvino")])
def test_a_missing_library_is_named_with_the_command_that_mends_it(tmp_path: Path, library: str, module: str) -> None:
    """In an environment that lacks one library the doctor still runs, says which, and exits with 1."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(rf"({library}|{module})([.-]|$)", path.name):
            (tmp_path / path.name).symlink_to(path)
    code, found = doctor(python=("-S",), PYTHONPATH=f"{tmp_path}:{ROOT}")  # -S: no other site-packages
    assert code == 1
    state, rest = found[library]
    assert state == "missing"
    assert re.search(rf"not installed  -> \S+ -m pip install '{library}>=", rest)
    assert found["msgspec"][0] == "ok"


def test_a_missing_extra_is_no_fault(tmp_path: Path) -> None:
    """What only an extra needs is optional, and says what for."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith("torch"):
            (tmp_path / path.name).symlink_to(path)
    code, found = doctor(python=("-S",), PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert code == 0, found
    assert found["torch"][0] == "optional"
    assert "only for training" in found["torch"][1]


@pytest.mark.parametrize(
    "version",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)",
    ],
)
def test_an_nvidia_driver_is_read_from_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The driver's version and every GPU's name, as the closed and the open kernel module write them."""
    (tmp_path / "version").write_text(version + "\nGCC version:  gcc version 12.2.0 (Debian)\n")
    for n in range(2):
        (tmp_path / "gpus" / str(n)).mkdir(parents=True)
        (tmp_path / "gpus" / str(n) / "information").write_text(f"Model: \t\t NVIDIA L{n}\nIRQ:   \t\t 16\n")
    monkeypatch.setattr(doctor_devices, "DRIVER", tmp_path)
    monkeypatch.setattr(doctor_devices, "version_of", lambda name: None)
    (driver,) = [found for found in doctor_devices.accelerators() if found.what == "nvidia driver"]
    assert driver.state == "ok"
    assert re.fullmatch(r"5\d\d\.\d+\.\d+: NVIDIA L[01], NVIDIA L[01]", driver.detail)


def test_a_line_that_could_run(line: Path) -> None:
    """Its file, both endpoints, its engine and its camera are all well."""
    code, found = doctor(str(line))
    assert code == 0, found
    assert found["verdicts"] == ("ok", f"ipc://{line.parent}/verdicts: free")
    assert found["engine scripted"][0] == found["top engine"][0] == found["top camera"][0] == "ok"


def test_where_pictures_are_kept_is_looked_at(line: Path) -> None:
    """A place where they cannot be, and a limit beyond the disk, are said; the line could run all the same."""
    text = line.read_text().replace('name = "top"', 'name = "top"\nkeep = ["fault"]')
    for more, state, says in (
        ('keep_folder = "kept"', "ok", r"/kept: 0 MB of 1000 MB, \d+ MB free on that disk"),
        ('keep_folder = "kept"\nkeep_mb = 1000000000', "optional", r"free on that disk  -> keep_mb = \d+ in \[line\]"),
        ('keep_folder = "line.toml"', "optional", r"line.toml: nothing can be written there  -> sudo install"),
    ):
        line.write_text(text.replace('"line1"', f'"line1"\n{more}'))
        (found,) = [each for each in doctor_line.line(line) if each.what == "kept pictures"]
        assert found.state == state
        assert re.search(says, f"{found.detail}  -> {found.mend}")


def test_a_line_that_runs_is_recognised(line: Path) -> None:
    """Where the daemon already listens the doctor hears its heartbeat, and disturbs nothing."""
    command = [sys.executable, "-m", "edge_inspector", "run", str(line)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stderr is not None
            assert any(" ready " in said for said in daemon.stderr)
            time.sleep(0.3)
            code, found = doctor(str(line))
            assert daemon.poll() is None
        finally:
            daemon.kill()
    assert code == 0
    assert found["verdicts"] == ("ok", f"ipc://{line.parent}/verdicts: a daemon answers, line1/top is ready")


def test_a_wrong_file_is_reported_like_anything_else(line: Path) -> None:
    """The message of the configuration error stands in the report, and the rest of the machine is still looked at."""
    line.write_text(line.read_text().replace("gateway =", "gatewya ="))
    code, found = doctor(str(line))
    assert code == 1
    assert 'unknown key "gatewya"; the nearest known one is "gateway"' in found["line"][1]
    assert found["numpy"][0] == "ok"


def test_an_engine_that_is_not_there(line: Path) -> None:
    """A station's engine that nobody has, with those that are there."""
    code, found = doctor(str(rewrite(line, engine="other")))
    assert code == 1
    assert found["top engine"][0] == "missing"
    assert "scripted" in found["top engine"][1]


@pytest.mark.parametrize(("answers", "state"), [(True, "ok"), (False, "missing")])
def test_a_network_camera(line: Path, answers: bool, state: str) -> None:
    """Whether somebody answers at the camera's address; the password in it is not shown."""
    with listener() as port:
        if answers:
            source = f"rtsp://user:secret@127.0.0.1:{port}/cam"
            code, found = doctor(str(rewrite(line, camera=f'kind = "opencv"\nsource = "{source}"')))
    if not answers:
        source = f"http://user:secret@127.0.0.1:{port}/cam"
        code, found = doctor(str(rewrite(line, camera=f'kind = "opencv"\nsource = "{source}"')))
    assert found["top camera"][0] == state
    assert "secret" not in str(found)
    assert code == (0 if answers else 1)


def test_a_camera_that_is_not_plugged_in(line: Path) -> None:
    """A device that does not exist is missing, not merely optional, where a line needs it."""
    code, found = doctor(str(rewrite(line, camera='kind = "opencv"\nsource = "/dev/video97"')))
    assert code == 1
    assert found["top camera /dev/video97"][0] == "missing"


def test_an_address_that_another_program_has(line: Path) -> None:
    """A port where something else listens cannot be the daemon's."""
    with listener() as port:
        code, found = doctor(str(rewrite(line, verdicts=f"tcp://127.0.0.1:{port}")))
    assert code == 1
    assert found["verdicts"][0] == "missing"
    assert "another program listens there" in found["verdicts"][1]


def test_a_name_instead_of_an_address(line: Path) -> None:
    """ZeroMQ binds addresses and interfaces, not names of machines."""
    name = 'tcp://plant-pc.invalid:5571"\ninsecure = true # "'
    code, found = doctor(str(rewrite(line, verdicts=name)))
    assert code == 1
    assert "ZeroMQ binds addresses" in found["verdicts"][1]


@pytest.mark.parametrize(
    ("version", "state", "detail"),
    [
        ("3.15.9", "optional", "3.15.9 is too old; only for the gateway to a PLC over Modbus TCP"),
        ("3.16", "ok", "3.16"),
        ("3.99.1", "ok", "3.99.1"),
        ("4.0.0", "optional", "4.0.0 is too new; only for the gateway to a PLC over Modbus TCP"),
    ],
)
def test_a_library_between_two_versions(monkeypatch: pytest.MonkeyPatch, version: str, state: str, detail: str) -> None:
    """As metadata write it: both ends count."""
    monkeypatch.setattr(doctor_command, "version_of", lambda name: version)
    found = doctor_command._library("pymodbus<4,>=3.16", "gateway")
    assert (found.state, found.what, found.detail) == (state, "pymodbus", detail)


def test_a_library_is_told_once() -> None:
    """Though several extras ask for it."""
    names = [found.what for found in doctor_command._libraries()]
    assert len(names) == len(set(names))

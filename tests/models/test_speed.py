"""An engine that became slow is refused; one on a machine that is busy at the moment is not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_inspector.cli import main
from edge_inspector.errors import EngineMissing
from edge_inspector.models import speed
from edge_inspector.models.folder import Engine, find
from edge_inspector.models.manifest import Build, Machine, Manifest

from . import tiny

LINE = '[line]\nname = "l"\n[[station]]\nname = "top"\nengine = "tiny"\ndeadline_ms = 2000\n'
CAMERA = '[station.camera]\nkind = "boards"\n'


@pytest.fixture(name="engines", scope="module")
def _engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small engine, built for this machine."""
    folder = tmp_path_factory.mktemp("speed") / "engines"
    tiny.engine(folder)
    assert main(["build", "tiny", "--engines", str(folder), "--target", "openvino"]) == 0
    return folder


def built_in(engine: Engine, latency_ms: float) -> Engine:
    """The engine as if its build had taken so long."""
    manifest = Manifest(
        engine="tiny", target="openvino", precision="fp16", file="model.onnx", file_sha256="", model_sha256="",
        machine=Machine("openvino", ""), built="", build_s=0.0, latency_ms=latency_ms,
    )  # fmt: skip
    return dataclasses.replace(engine, build=Build(engine.folder / "builds" / "b", manifest))


@pytest.fixture(name="soon")
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other chances for as long as usual."""
    monkeypatch.setattr(speed, "AGAIN_S", 0.3)


def calm(took_ms: float) -> int:
    """An inference that takes so long, and waits for no processor."""
    return int(took_ms * 1e6)


@pytest.mark.parametrize(("took_ms", "refused"), [(14.9, False), (15.1, True)])
def test_half_as_long_again_is_too_slow(took_ms: float, refused: bool, engines: Path, soon: None) -> None:
    """A lower power mode, say. What to do about it, and the command that takes it for the measure from now on."""
    engine = built_in(find("tiny", engines), 10.0)
    if not refused:
        assert speed.refuse_slower(engine, int(took_ms * 1e6), lambda: calm(took_ms)) == int(took_ms * 1e6)
        return
    with pytest.raises(EngineMissing, match=r"takes 15\.1 ms, and took 10 ms .*--target openvino --precision fp16"):
        speed.refuse_slower(engine, int(took_ms * 1e6), lambda: calm(took_ms))


def test_one_good_time_of_many_is_enough(engines: Path, soon: None) -> None:
    """A moment in which something else had the processor is no reason."""
    times = itertools.chain([40.0, 30.0, 20.0, 12.0], itertools.repeat(99.0))
    engine = built_in(find("tiny", engines), 10.0)
    assert speed.refuse_slower(engine, 50_000_000, lambda: calm(next(times))) == 12_000_000


def test_a_busy_machine_is_no_slow_engine(engines: Path, soon: None) -> None:
    """Other programs on every processor, all the time: that says nothing of the engine, so it may start."""
    cores = os.sched_getaffinity(0)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * len(cores))]

    def computed() -> int:
        started = time.monotonic_ns()
        until = time.thread_time_ns() + 20_000_000
        while time.thread_time_ns() < until:
            pass
        return time.monotonic_ns() - started

    try:
        time.sleep(0.5)
        assert speed.refuse_slower(built_in(find("tiny", engines), 1.0), 50_000_000, computed) > 1_500_000
    finally:
        for each in busy:
            each.kill()
            each.wait()


def test_without_a_build_there_is_nothing_to_compare(engines: Path) -> None:
    """model.onnx itself was never timed."""
    engine = dataclasses.replace(find("tiny", engines), build=None)
    assert speed.refuse_slower(engine, 10**12, lambda: calm(1e6)) == 10**12


@pytest.mark.parametrize("command", ["check", "run"])
def test_no_line_starts_with_it(command: str, engines: Path, tmp_path: Path) -> None:
    """Exit 3, with the command to type; the build stays as it is."""
    build = find("tiny", engines).build
    assert build is not None
    path = build.folder / "manifest.json"
    before = path.read_bytes()
    path.write_text(json.dumps(json.loads(before) | {"latency_ms": 1e-3}))  # a thousand times as fast as it can be
    (tmp_path / "line.toml").write_text(LINE + CAMERA)
    try:
        words = [sys.executable, "-m", "edge_inspector", command, "line.toml"]
        (tmp_path / "engines").symlink_to(engines)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        path.write_bytes(before)
    assert done.returncode == 3, done.stderr
    assert "when it was built" in done.stderr
    assert "edge-inspector build tiny" in done.stderr
    assert "--target openvino --precision fp16" in done.stderr

"""The demo as its user runs it: plant, daemon, gateway and subscriber, a summary, and a ledger that adds up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import psutil
import pytest

DEMO = [sys.executable, "-m", "edge_inspector", "demo", "--json"]
MODEL = """labels = ["short"]
input_size = [640, 640]
[[script]]
[[script]]
boxes = [[100.0, 100.0, 140.0, 150.0, 0.9, 0.0]]
"""
TOO_SLOW = " alone takes "  # the daemon refuses a deadline that the engine cannot keep


@pytest.fixture
def engine(tmp_path: Path) -> tuple[str, str]:
    """Every other board is a reject, in no time: what is asked of the line does not hang on how busy the machine is."""
    folder = tmp_path / "engines" / "every-other"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MODEL)
    (folder / "recipe.toml").write_text("[default]\nthreshold = 0.5\nfloor = 0.25\n")
    return "--engine", str(folder)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [*DEMO, "--out", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_the_demo_counts_every_part(tmp_path: Path) -> None:
    """Forty boards by its own engine: all have a verdict, nothing is missing, and no defective one passes."""
    ended = run(tmp_path, "--parts", "40", "--rate", "10")
    if ended.returncode == 78 and TOO_SLOW in ended.stderr:
        pytest.skip("this machine is too slow, or too busy, for the demo's engine")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert list(summary) == [
        "triggers", "pass", "reject", "fault", "open", "escapes", "false_rejects", "gaps", "latency_us",
        "good_bin", "reject_bin", "good_rejected", "line_stops",
    ]  # fmt: skip
    assert list(summary["latency_us"]) == ["p50", "p99", "p999", "max"]
    assert 0 < summary["triggers"] == summary["pass"] + summary["reject"] + summary["fault"] <= 40
    assert (summary["open"], summary["gaps"], summary["escapes"]) == (0, 0, 0)
    assert summary["good_bin"] + summary["reject_bin"] == 40
    assert summary["good_bin"] <= summary["pass"]


def test_any_rate_adds_up(tmp_path: Path, engine: tuple[str, str]) -> None:
    """Faster than the belt goes: every part falls, and there is a picture of a reject."""
    ended = run(tmp_path, "--parts", "120", "--rate", "400", *engine)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["good_bin"] + summary["reject_bin"] == 120
    assert summary["triggers"] == summary["pass"] + summary["reject"] + summary["fault"] <= 120
    assert 0 < summary["good_bin"] <= summary["pass"]
    assert summary["reject"] > 0
    assert summary["gaps"] == 0
    assert cv2.imread(str(tmp_path / "last-reject.png")).shape == (640, 640, 3)
    assert "can carry 40 boards a second at the most" in ended.stderr


def test_ctrl_c_ends_with_a_summary(tmp_path: Path, engine: tuple[str, str]) -> None:
    """As fast as the belt goes: whoever has seen enough still gets the account of what was inspected."""
    command = [*DEMO, "--out", str(tmp_path), "--parts", "1000", "--rate", "0", *engine]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stderr is not None
    while "  0 of 1000 parts" in demo.stderr.readline():  # it tells every two seconds how far it is
        pass
    demo.send_signal(signal.SIGINT)
    printed, said = demo.communicate(timeout=30)
    assert demo.returncode == 0, said
    summary = json.loads(printed)
    assert 0 < summary["triggers"] < 1000
    assert summary["gaps"] == 0


def test_a_gateway_that_dies_is_told(tmp_path: Path, engine: tuple[str, str]) -> None:
    """Everything is rejected from then on, which adds up; but nobody shall take it for a good end."""
    command = [*DEMO, "--out", str(tmp_path), "--parts", "120", "--rate", "20", *engine]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stderr is not None
    while "  0 of 120 parts" in demo.stderr.readline():
        pass
    (gateway,) = [each for each in psutil.Process(demo.pid).children() if "gateway" in each.cmdline()]
    gateway.kill()
    printed, said = demo.communicate(timeout=60)
    assert demo.returncode == 1, said
    summary = json.loads(printed)
    assert summary["good_bin"] + summary["reject_bin"] == 120
    assert summary["triggers"] < 120
    assert summary["good_bin"] <= summary["pass"]
    assert "ended too early" in said


def test_a_demo_that_cannot_start_ends(tmp_path: Path) -> None:
    """The daemon's exit code and its words are passed on."""
    ended = run(tmp_path, "--engine", "nope")
    assert ended.returncode == 3
    assert 'no engine "nope"' in ended.stderr


@pytest.mark.parametrize("words", [("--parts", "0"), ("--rate", "-1"), ("--rate", "nan")])
def test_numbers_that_cannot_be_meant(tmp_path: Path, words: tuple[str, str]) -> None:
    """Wrong usage is 2."""
    assert run(tmp_path, *words).returncode == 2

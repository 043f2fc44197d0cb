"""Timing: the rules on made-up latencies, and the command on a real daemon."""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_inspector.commands import calibrate_timing
from edge_inspector.commands.calibrate_timing import Listener
from edge_inspector.commands.timing_rules import (
    SHARE,
    STAGES,
    Timing,
    distance_mm,
    parts_needed,
    quantiles,
    upper_place,
)
from edge_inspector.errors import MissingError
from edge_inspector.ledger import guard_for

from ..faults.rig import boards, running, step


def timing(total_us: list[int], **faults: int) -> Timing:
    """A station that took so long; the stages do not matter."""
    made = Timing({stage: list(total_us) for stage in STAGES}, list(total_us), Counter(faults))
    made.allowed_us = 300_000
    return made


def test_quantiles() -> None:
    """The smallest value that such a share does not exceed."""
    assert quantiles(list(range(1, 1001))) == {"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000}
    assert quantiles([7]) == {"p50": 7, "p90": 7, "p99": 7, "p999": 7, "max": 7}
    assert set(quantiles([]).values()) == {0}


def test_how_many_parts_bound_the_slowest() -> None:
    """2995 by the textbook's formula; one fewer gives no bound."""
    assert parts_needed() == 2995
    assert upper_place(2994) is None
    assert upper_place(2995) == 2995
    assert upper_place(0) is None


@pytest.mark.parametrize("count", [2995, 5000, 20_000])
def test_the_bound_holds_as_often_as_it_says(count: int) -> None:
    """Drawn 20 000 times: the bound lies below the true quantile in no more than 5 % of all, and is not slack."""
    place = upper_place(count)
    assert place is not None
    below = np.random.default_rng(3).binomial(count, SHARE, 20_000)  # values that lie below the true quantile
    assert (below >= place).mean() <= 0.056
    assert (below >= place - 1).mean() > 0.05


def test_a_deadline_leaves_margin_and_guard() -> None:
    """Before it the ledger's guard, before that a fifth more than was seen; one ms less would not do."""
    for slowest_us in (900, 8_000, 40_000, 90_000, 700_000):
        deadline_ms = timing([slowest_us] * 3000).deadline_ms
        assert deadline_ms is not None
        for ms, enough in ((deadline_ms, True), (deadline_ms - 1, False)):
            assert (ms * 1_000_000 - guard_for(ms * 1_000_000) >= slowest_us * 1200) is enough


def test_few_parts_bound_nothing() -> None:
    """A thousand parts give a provisional deadline by the slowest, and no bound."""
    made = timing(list(range(10_001, 11_001)))
    assert made.bound_us is None
    assert made.refusal == ""
    assert made.deadline_ms == timing([11_000] * 3000).deadline_ms


def test_a_part_out_of_time_is_slower_than_any() -> None:
    """One timeout in 3000 parts hides the bound; in 10 000 it only moves it."""
    times = list(range(10_000, 20_000))
    assert "raise deadline_ms" in timing(times[:3000], timeout=1).refusal
    clean, hidden = timing(times), timing(times[:-1], timeout=1)
    assert hidden.refusal == ""
    assert hidden.bound_us == clean.bound_us
    assert timing(times, camera_fault=3).bound_us == clean.bound_us  # says nothing of the time


def test_a_line_full_of_faults_is_refused() -> None:
    """More than 1 % of whatever kind, or nothing but faults."""
    assert "mend the line first" in timing([10_000] * 900, no_frame=100).refusal
    assert timing([10_000] * 900, no_frame=100).deadline_ms is None
    assert timing([], timeout=5).refusal == "no part was inspected in time"


def test_the_distance() -> None:
    """Half a metre a second for 100 ms and 30 ms more."""
    assert distance_mm(500, 100, 30) == pytest.approx(65.0)


def verdict(seq: int, *, epoch: str = "a", **more: Any) -> dict[str, Any]:
    """As it comes."""
    latency = {"wait": 1, "preprocess": 2, "infer": 3, "decide": 4, "total": 15}
    return {"type": "verdict", "line": "l", "station": "s", "epoch": epoch, "seq": seq, "outcome": "pass",
            "reason": "ok", "simulated": False, "t_trigger_us": 0, "deadline_us": 200, "t_publish_us": 15,
            "latency_us": latency, **more}  # fmt: skip


def test_each_verdict_counts_once() -> None:
    """Twice, replayed, or beyond what was asked for: not counted; gaps and restarts are."""
    listener = Listener(5)
    for seq, more in ((3, {}), (3, {}), (4, {"replay": True}), (5, {}), (1, {"epoch": "b"})):
        listener.take(verdict(seq, **more), 20)
    found = listener.stations["l/s"]
    assert (found.judged, listener.lost, listener.restarts) == (3, 1, 1)
    assert found.stages["rest"] == [5, 5, 5]
    assert found.travel_us == [5, 5, 5]
    assert not listener.finished
    for seq in range(2, 20):
        listener.take(verdict(seq, epoch="b"), 20)
    assert found.parts == 5
    assert listener.finished


def command(*words: str) -> int:
    """As typed."""
    parser = argparse.ArgumentParser()
    calibrate_timing.arguments(parser)
    return calibrate_timing.main(parser.parse_args(words))


def test_a_running_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real daemon, whose engine takes 20 ms: stages add up, and the deadline and the distance follow the rule."""
    with running(tmp_path, camera=boards(rate=25.0), script=[step(delay_ms=20)], deadline_ms=500.0) as daemon:
        daemon.wait_for_verdicts(1)
        words = ("--parts", "60", "--belt-mm-s", "500", "--ejector-ms", "40")
        assert command(str(tmp_path / "line.toml"), *words, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert command(f"ipc://{tmp_path}/v", *words) == 0
        said = capsys.readouterr().out
    (name, top), *others = found["stations"].items()
    assert (name, others, found["simulated"]) == ("line1/top", [], True)
    assert top["parts"] == 60
    assert top["latency_us"]["infer"]["p50"] >= 20_000
    assert top["latency_us"]["total"]["p50"] >= top["latency_us"]["infer"]["p50"]
    assert top["present_deadline_ms"] == 500
    assert top["bound_us"] is None
    assert top["deadline_ms"] * 1000 > top["latency_us"]["total"]["max"] * 1.2
    assert top["distance_mm"] == pytest.approx(0.5 * (top["deadline_ms"] + 40))
    assert top["present_distance_mm"] == pytest.approx(0.5 * 540)
    assert "provisional: fewer than 2995 parts" in said
    assert "270.0 mm = 500 mm/s x (500 ms deadline + 40 ms ejector)" in said
    assert "deadline_ms = " in said


def test_a_line_with_timeouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tenth part takes too long: counted loudly, no deadline, exit 1. It ends with the line."""
    script = [*(step(delay_ms=1) for _ in range(9)), step(delay_ms=400)]
    with running(tmp_path, camera=boards(rate=10.0), script=script, deadline_ms=200.0) as daemon:
        daemon.wait_for_verdicts(1)
        assert command(str(tmp_path / "line.toml"), "--parts", "30") == 1
    said = capsys.readouterr().out
    assert "OF 30 PARTS ARE FAULTS" in said
    assert "no deadline can be suggested" in said
    assert "deadline_ms = " not in said


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever: exit 3, and what to start."""
    monkeypatch.setattr(calibrate_timing, "PATIENCE_S", 0.5)
    with pytest.raises(MissingError, match="nobody is heard; start the line first: edge-inspector run"):
        command(f"ipc://{tmp_path}/v")


def test_a_line_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No heartbeat says that it ends: what it showed until then is told."""
    monkeypatch.setattr(calibrate_timing, "PATIENCE_S", 1.0)
    with running(tmp_path, camera=boards(rate=25.0), script=[step()]) as daemon:
        daemon.wait_for_verdicts(1)
        threading.Timer(1.0, daemon.process.kill).start()
        command(f"ipc://{tmp_path}/v", "--parts", "100000", "--json")
    parts = json.loads(capsys.readouterr().out)["stations"]["line1/top"]["parts"]
    assert 0 < parts < 1000

"""Faults done to a whole line of real processes: no defective part in the good bin, and parts pass again afterwards.

The detector is perfect, so that every escape would be ours. `python -m tools.faults` does the same with 2,000 parts.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tools.faults.chain import running
from tools.faults.scenarios import SCENARIOS, Scenario, possible, run

PARTS = 100
Runs = dict[str, "Future[dict[str, Any]]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runs]:
    """All that were asked for, two at a time: most of it is waiting."""
    with ThreadPoolExecutor(2) as pool:
        wanted = {item.callspec.params["scenario"].name for item in request.session.items if _of_a_run(item)}
        yield {
            scenario.name: pool.submit(run, scenario, tmp_path_factory.mktemp("line"), parts=PARTS)
            for scenario in SCENARIOS
            if scenario.name in wanted and not possible(scenario)
        }


def _of_a_run(item: Any) -> bool:
    return item.module.__name__ == __name__ and "scenario" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.short], ids=lambda each: each.name)
def test_no_escape(runs: Runs, scenario: Scenario) -> None:
    """Every part falls, every defective one into the reject bin; each has one record, which says what became of it."""
    if why := possible(scenario):
        pytest.skip(why)
    summary = runs[scenario.name].result()
    assert summary["parts"] == PARTS, summary["logs"]
    assert summary["escapes"] == 0, summary["logs"]
    assert summary["good_bin"] > 0, summary["logs"]
    assert None not in [event["passes_ms"] for event in summary["events"]], summary["logs"]
    passed = [part for part in summary["gateway"] if part["action"] == "pass"]
    assert all(part["outcome"] == "pass" and part["why"] == "ok" for part in passed)
    if "gateway killed" not in scenario.name:  # it dies with the records of what is on the belt
        assert summary["good_bin"] <= len(passed)
    names = [(part["trigger_id"], part["epoch"]) for part in summary["gateway"] if part["trigger_id"]]
    assert len(set(names)) == len(names)


def test_too_many_faults_stop_the_line(tmp_path: Path) -> None:
    """The engine hangs for longer than five parts take: the belt stops, until the operator has acknowledged."""
    delays = (4.0,) * 30 + (900.0,) + (4.0,) * 100
    with running(tmp_path, parts=100, line_stop_after=5, delays_ms=delays) as chain:
        summary = chain.summary()
    assert summary["line_stops"] >= 1
    assert summary["escapes"] == 0
    assert summary["parts"] == 100


def test_stopping_the_gateway_drops_vision_ok_first(tmp_path: Path) -> None:
    """SIGTERM ends it with 0, and the PLC has been told."""
    with running(tmp_path, parts=100) as chain:
        chain.wait_for_parts(20)
        chain.gateway.send_signal(signal.SIGTERM)
        assert chain.gateway.wait(10) == 0
        summary = chain.summary()
    assert summary["escapes"] == 0
    assert summary["good_bin"] > 0
    assert [part for part in chain.records() if part["why"] == "not_healthy"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A second gateway for a PLC that polls cannot start: exit 3, and the first one goes on."""
    with running(tmp_path, parts=100) as chain:
        chain.wait_for_parts(10)
        other = chain.start_gateway("g2")
        chain.wait_with_parts_left(lambda: other.poll() is not None)
        assert other.returncode == 3
        before = chain.status()["good_bin"]
        summary = chain.summary()
    assert summary["escapes"] == 0
    assert summary["good_bin"] > before
    with socket.socket():
        assert "g2" not in json.dumps(chain.records())

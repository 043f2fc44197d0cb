"""The suite of every runner, on TensorRT; and that its rows are those of the original."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edge_inspector import runners
from edge_inspector.errors import EngineFault, EngineMissing
from edge_inspector.models import gate
from edge_inspector.models.folder import find
from edge_inspector.models.golden import drawn
from edge_inspector.runners.tensorrt import TensorRTRunner

from ..runners import test_contract as suite

ENGINES = Path(__file__).parents[2] / "engines"

# fixtures come from where a test is collected: these run here, on the runner of conftest.py
test_two_lanes = suite.test_two_lanes_with_inputs_of_their_own
test_every_lane = suite.test_every_lane_gives_the_same_rows
test_an_answer_stays = suite.test_an_answer_stays_until_the_lanes_next_submit
test_rows = suite.test_rows_as_the_contract_says


def test_the_golden_rows(runner: TensorRTRunner) -> None:
    """What its original found in exact float32 is found here."""
    gate.prove(find("boards", ENGINES), runner)


def test_collect_without_submit(runner: TensorRTRunner) -> None:
    """The rows of an earlier part must not be taken for an answer."""
    runner.submit(0)
    runner.collect(0)
    for lane in (0, 1):
        with pytest.raises(EngineFault, match="without being submitted"):
            runner.collect(lane)


def test_made_used_and_closed_in_different_threads(plan: Path, target: str) -> None:
    """As in the daemon. pycuda would end the process where a thread that ends leaves a context behind."""
    runner = TensorRTRunner(plan, "detect", target)
    found = []

    def use() -> None:
        for lane, pixels in enumerate(drawn(runner.inputs[0].shape[:2], count=2)):
            runner.inputs[lane][:] = pixels
            runner.submit(lane)
        found.extend(np.array(runner.collect(lane)[0]) for lane in (0, 1))

    for work in (use, runner.close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [rows.shape[1] for rows in found] == [6, 6]
    assert np.isfinite(found).all()


def test_a_plan_cut_short_is_refused(plan: Path, target: str, tmp_path: Path) -> None:
    """With TensorRT's own reason and the command that builds it anew."""
    short = tmp_path / "model.plan"
    short.write_bytes(plan.read_bytes()[: plan.stat().st_size // 2])
    with pytest.raises(EngineMissing, match=rf"refuses it: .+; run: edge-inspector build .* --target {target}"):
        TensorRTRunner(short, "detect", target)


def test_a_plan_of_another_task_is_refused(plan: Path, target: str) -> None:
    """A detector is no classifier."""
    with pytest.raises(EngineMissing, match=r"expected image: uint8 \[1, H, W, 3\], scores: float32 \[1, C\]; found"):
        TensorRTRunner(plan, "classify", target)


def test_the_machine_is_described(target: str) -> None:
    """Every key that a build depends on has a value."""
    machine = runners.machine(target)
    assert machine.runtime == target
    assert all((machine.version, machine.device, machine.compute_capability, machine.driver, machine.cuda))

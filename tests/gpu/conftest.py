"""Whether there is a GPU here, asked in another process, as a driver's library may crash; and the plan for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from edge_inspector.runners.tensorrt import TensorRTRunner

ROOT = Path(__file__).parents[2]
GIVEN = "EDGE_INSPECTOR_GPU_PLAN"  # a plan that was built before, as target:path; built here where not given
PROBE = """
import sys
from edge_inspector import runners
from edge_inspector.errors import EngineMissing
try:
    print(runners.machine(sys.argv[1]).compute_capability)
except EngineMissing as error:
    sys.exit(str(error))
"""


@cache
def probe(target: str) -> tuple[str, str]:
    """The GPU's compute capability, such as "89"; or "" and why there is none."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, target], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    said = (done.stderr.strip().splitlines() or [f"the driver crashed: {done.returncode}"])[-1]
    return ("", said) if done.returncode else (done.stdout.strip().replace(".", ""), "")


@cache
def chosen() -> tuple[str, str]:
    """The target that works here; or "" and why none does."""
    given = os.environ.get(GIVEN, "").partition(":")[0]
    reasons = []
    for target in [given] if given else ["tensorrt", "tensorrt-rtx"]:
        capability, why = probe(target)
        if capability:
            return target, ""
        reasons.append(f"{target}: {why}")
    return "", "; ".join(reasons)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where there is no GPU."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.gpu)
    if here and not chosen()[0]:
        for item in here:
            item.add_marker(pytest.mark.skip(reason=chosen()[1]))


@pytest.fixture(scope="session")
def target() -> str:
    """`tensorrt` or `tensorrt-rtx`."""
    return chosen()[0]


@pytest.fixture(scope="session")
def plan(target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """engines/boards, compiled for the GPU that is here."""
    if given := os.environ.get(GIVEN, "").partition(":")[2]:
        return Path(given)
    from edge_inspector.models.compile import compile_plan

    into = tmp_path_factory.mktemp("boards") / "model.plan"
    capabilities = (probe(target)[0],) if target == "tensorrt-rtx" else ()
    compile_plan(
        ROOT / "engines" / "boards" / "model.onnx", into, target=target, capabilities=capabilities, timing_cache=None,
        progress=lambda what, share: None,
    )  # fmt: skip
    return into


@pytest.fixture
def runner(plan: Path, target: str) -> Iterator[TensorRTRunner]:
    """A runner that is open."""
    made = TensorRTRunner(plan, "detect", target)
    yield made
    made.close()
    made.close()  # a second time is allowed

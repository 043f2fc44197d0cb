"""Tests run in a few processes, whole files in each: what a file starts is started once. The longest come first."""

from __future__ import annotations

from typing import Any

import pytest

SYSTEMD = "tests/systemd/"  # one guest for all of them
LONGEST = (
    "tests/gateway/test_faults.py", "tests/tools/test_train.py", SYSTEMD, "tests/commands/test_bench.py",
    "tests/faults/test_engine.py",
    "tests/gateway/test_opcua.py", "tests/commands/test_demo.py", "tests/plant/test_ports.py",
    "tests/commands/test_doctor", "tests/commands/test_calibrate", "tests/commands/test_import.py", "tests/faults/",
    "tests/commands/", "tests/gateway/", "tests/test_service.py", "tests/models/test_fuzz_import.py", "tests/cameras/",
    "tests/models/test_gate.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long file begun last would leave the other processors idle."""

    def place(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """By file; but what shares the systemd guest stays together."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SYSTEMD if nodeid.startswith(SYSTEMD) else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # it would begin with what has many tests, not with what takes long
    return ByFile(config, log)

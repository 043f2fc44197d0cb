"""Tests run in as many processes as there are processors, whole files in each: what a file starts is started once."""

from __future__ import annotations

from typing import Any

import pytest

SYSTEMD = "tests/systemd/"  # one guest for all of them


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """By file; but what shares the systemd guest stays together."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SYSTEMD if nodeid.startswith(SYSTEMD) else str(super()._split_scope(nodeid))

    return ByFile(config, log)

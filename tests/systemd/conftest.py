"""One guest for all of them, with both units installed as systemd/README.md says, and lines to run there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import guest as guests
from .guest import RECIPE, Guest

UNITS = Path(__file__).parents[2] / "systemd"
LINE = """
[line]
name = "{name}"
[[station]]
name = "top-1"
engine = "{engine}"
trigger = "{trigger}"
deadline_ms = {deadline_ms}
[station.camera]
{camera}
"""
STEPS = {
    "fast": "[[script]]\ndelay_ms = 5\n",
    "slow": "[[script]]\ndelay_ms = 400\n",
    "hangs": "[[script]]\ndelay_ms = 2\n" * 25 + "[[script]]\ndelay_ms = 60000\n",
}
BOARDS = 'kind = "boards"\nrate = 20'


@pytest.fixture(scope="package")
def guest() -> Iterator[Guest]:
    """A guest with the unit installed as the README says, and three scripted engines."""
    readme = (UNITS / "README.md").read_text()
    found = re.search(r"```sh install\n(.*?)```", readme, re.DOTALL)
    assert found
    with guests.booted() as guest:
        guest.run("bash", "-euc", 'sudo() { "$@"; }; cd /src\n' + found[1])
        for name, steps in STEPS.items():
            folder = f"/etc/edge-inspector/engines/{name}"
            guest.write(f"{folder}/model.toml", f'labels = ["short"]\ninput_size = [64, 64]\n{steps}')
            guest.write(f"{folder}/recipe.toml", RECIPE)
        yield guest


@pytest.fixture
def line(guest: Guest) -> Iterator[Callable[..., str]]:
    """Writes a line's file and gives its unit, which is stopped in the end."""
    units = []

    def write(
        name: str, *, engine: str = "fast", trigger: str = "camera", deadline_ms: float = 80, camera: str = BOARDS
    ) -> str:
        text = LINE.format(name=name, engine=engine, trigger=trigger, deadline_ms=deadline_ms, camera=camera)
        guest.write(f"/etc/edge-inspector/{name}.toml", text)
        units.append(f"edge-inspector@{name}")
        return units[-1]

    yield write
    for unit in units:
        guest.run("systemctl", "stop", unit)
        guest.run("systemctl", "reset-failed", unit, check=False)

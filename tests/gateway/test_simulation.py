"""No defective part in the good bin, whatever goes wrong; and good parts pass, or it would be easy.

More seeds than here: `python -m tests.gateway.simulation 0 20000`.
"""

from __future__ import annotations

import pytest

from .simulation.faults import FAULTS
from .simulation.judge import judged
from .simulation.plan import draw
from .simulation.plant import Plant


def after(seed: int, kinds: tuple[str, ...] | None = None) -> Plant:
    """The scenario, when all is over."""
    plant = Plant(draw(seed, kinds))
    plant.run()
    return plant


def test_nothing_goes_wrong() -> None:
    """All good parts that are not too close pass, and nothing else."""
    good = 0
    for seed in range(20):
        plant = after(seed, ())
        assert judged(plant) == [], plant.plan
        good += sum(thing.good_bin for thing in plant.belt.things)
    assert good > 100


@pytest.mark.parametrize("kind", FAULTS)
def test_one_thing_goes_wrong(kind: str) -> None:
    """Each kind of fault by itself."""
    for seed in range(100, 103):
        plant = after(seed, (kind,))
        assert judged(plant) == [], plant.plan


@pytest.mark.parametrize("seed", range(1000, 1120))
def test_anything_goes_wrong(seed: int) -> None:
    """Up to three faults, perhaps at the same time."""
    plant = after(seed)
    assert judged(plant) == [], plant.plan

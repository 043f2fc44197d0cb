"""`python -m tests.gateway.simulation FIRST LAST`: run many scenarios by hand; says which seeds went wrong, and how."""

from __future__ import annotations

import sys

from .judge import judged
from .plan import draw
from .plant import Plant


def main(first: int, last: int) -> int:
    """Run the seeds from first to last - 1; returns how many went wrong."""
    wrong = 0
    for seed in range(first, last):
        plant = Plant(draw(seed))
        plant.run()
        found = judged(plant)
        if found:
            wrong += 1
            print(seed, *(fault.kind for fault in plant.plan.faults), found[0], sep="  ", flush=True)  # noqa: T201
    print(f"{last - first} scenarios, {wrong} went wrong")  # noqa: T201
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))

"""What the daemon asks of a runner: lanes, each with an input buffer, a submit and a collect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..contract import Answer
from ..types import Pixels


class Runner(Protocol):
    """Runs one engine. `inputs[lane]` is that lane's buffer, uint8 [H, W, 3] BGR: write there, then submit.

    The buffer belongs to the lane from submit to collect. Every lane is independent; two let the host prepare part
    n+1 while part n computes. simulated: true where no engine computes (a script): every verdict says so.
    The infer thread is the only caller.
    """

    simulated: bool
    inputs: Sequence[Pixels]

    def submit(self, lane: int) -> None:
        """Start the inference of what lies in `inputs[lane]` and return at once. Raises EngineFault, EngineLost."""
        ...

    def collect(self, lane: int) -> Answer:
        """Wait for the lane and return its outputs, in the order of the contract (contract.py).

        The arrays are the lane's own and valid until its next submit. Raises EngineFault (the lane can be used
        again) or EngineLost (it cannot).
        """
        ...

    def close(self) -> None:
        """Release the device; may be called twice."""
        ...

"""OpenVINO on the CPU: the embedded default where there is no NVIDIA GPU. Owns the compiled model and its requests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault, EngineMissing
from ..types import Pixels


class OpenVinoRunner:
    """A paced line wants the shortest answer: one stream of all cores, and a request that waits beside the one that
    computes. A backlog (a folder at full speed) wants the most answers: two streams, and again one request that waits.
    """

    simulated = False

    def __init__(self, model: Path, *, backlog: bool = False) -> None:
        # importing openvino reports home, unless this package is not there; a line PC reports to nobody
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        core, streams = openvino.Core(), 2 if backlog else 1
        try:
            settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": streams}
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
        except RuntimeError as error:
            raise EngineMissing(f"{model}: OpenVINO cannot use it: {_first_line(error)}") from None
        _check_contract(compiled, model)
        self._requests: list[Any] = [compiled.create_infer_request() for _ in range(streams + 1)]
        # each request's own input memory, so that the letterbox is written where the engine reads
        self.inputs: Sequence[Pixels] = [request.get_input_tensor(0).data[0] for request in self._requests]
        self._outputs = [request.get_output_tensor(0).data for request in self._requests]

    def submit(self, lane: int) -> None:
        """Start the lane's request."""
        try:
            self._requests[lane].start_async()
        except RuntimeError as error:
            raise EngineFault(f"OpenVINO: {_first_line(error)}") from None

    def collect(self, lane: int) -> NDArray[np.float32]:
        """Wait for the lane's request. Raises EngineFault; the request can be started again."""
        try:
            self._requests[lane].wait()
        except RuntimeError as error:
            raise EngineFault(f"OpenVINO: {_first_line(error)}") from None
        rows: NDArray[np.float32] = self._outputs[lane][0]
        return rows

    def close(self) -> None:
        """Nothing to do: the requests go with this object."""


def _check_contract(compiled: Any, model: Path) -> None:
    """The one contract of every detector. Raises EngineMissing."""
    inputs = [(port.get_element_type().get_type_name(), port.partial_shape) for port in compiled.inputs]
    outputs = [(port.get_element_type().get_type_name(), port.partial_shape) for port in compiled.outputs]
    fits = (
        len(inputs) == len(outputs) == 1
        and inputs[0][0] == "u8"
        and inputs[0][1].is_static
        and len(inputs[0][1]) == 4
        and inputs[0][1].to_shape()[0] == 1
        and inputs[0][1].to_shape()[3] == 3
        and outputs[0][0] == "f32"
        and outputs[0][1].is_static
        and len(outputs[0][1]) == 3
        and outputs[0][1].to_shape()[2] == 6
    )
    if not fits:
        described = (
            f"{[f'{kind} {shape}' for kind, shape in inputs]} -> {[f'{kind} {shape}' for kind, shape in outputs]}"
        )
        raise EngineMissing(f"{model}: expected u8 [1,H,W,3] -> f32 [1,K,6], found {described}")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[0] if lines else type(error).__name__

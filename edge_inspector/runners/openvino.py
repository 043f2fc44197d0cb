"""OpenVINO on the CPU: the embedded default where there is no NVIDIA GPU. Owns the compiled model and its requests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import INPUT, OUTPUTS, Answer, Tensor, breach
from ..errors import EngineFault, EngineMissing
from ..models.manifest import Machine
from ..types import Pixels

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}


class OpenVinoRunner:
    """A paced line wants the shortest answer: one stream of all cores, and a request that waits beside the one that
    computes. A backlog (a folder at full speed) wants the most answers: two streams, and again one request that waits.
    """

    simulated = False

    def __init__(self, model: Path, task: str, *, precision: str = "auto", backlog: bool = False) -> None:
        """precision: `fp32` computes in float32; everything else in what OpenVINO holds best for this processor."""
        openvino = _library()
        core, streams = openvino.Core(), 2 if backlog else 1
        settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": streams, **(EXACT if precision == "fp32" else {})}
        try:
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
        except RuntimeError as error:
            raise EngineMissing(f"{model}: OpenVINO cannot use it: {_first_line(error)}") from None
        broken = breach(task, [_tensor(port) for port in compiled.inputs], [_tensor(port) for port in compiled.outputs])
        if broken:
            raise EngineMissing(f"{model}: {broken}")
        self._requests: list[Any] = [compiled.create_infer_request() for _ in range(streams + 1)]
        # each request's own input memory, so that the letterbox is written where the engine reads
        self.inputs: Sequence[Pixels] = [request.get_input_tensor(0).data[0] for request in self._requests]
        self._outputs: list[Answer] = [
            tuple(request.get_tensor(name).data[0, ...] for name in OUTPUTS[task]) for request in self._requests
        ]

    def submit(self, lane: int) -> None:
        """Start the lane's request."""
        try:
            self._requests[lane].start_async()
        except RuntimeError as error:
            raise EngineFault(f"OpenVINO: {_first_line(error)}") from None

    def collect(self, lane: int) -> Answer:
        """Wait for the lane's request. Raises EngineFault; the request can be started again."""
        try:
            self._requests[lane].wait()
        except RuntimeError as error:
            raise EngineFault(f"OpenVINO: {_first_line(error)}") from None
        return self._outputs[lane]

    def close(self) -> None:
        """Nothing to do: the requests go with this object."""


def machine() -> Machine:
    """OpenVINO's version and the processor."""
    openvino = _library()
    name = str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"))
    return Machine("openvino", openvino.get_version().partition("-")[0], name)


def _library() -> Any:
    # importing openvino reports home, unless this package is not there; a line PC reports to nobody
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _tensor(port: Any) -> Tensor:
    kind = np.dtype(port.get_element_type().to_dtype()).name
    shape = tuple(n.get_length() if n.is_static else None for n in port.partial_shape)
    names = port.get_names()  # several, where OpenVINO has taken an operator away
    named = next((name for name in names if name == INPUT or any(name in each for each in OUTPUTS.values())), None)
    return Tensor(named or port.get_any_name(), kind, shape)


def _first_line(error: Exception) -> str:
    noise = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "-- ", "While validat")
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(noise)]
    return lines[0] if lines else type(error).__name__

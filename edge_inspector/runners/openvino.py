"""OpenVINO on the CPU: the embedded default where there is no NVIDIA GPU. Owns the compiled model and its requests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import INPUT, OUTPUTS, Answer, Tensor, breach
from ..errors import EngineFault, EngineMissing, ModelRefused
from ..models.manifest import Machine
from ..types import Pixels

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
CONVOLVES = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"}
LEAST_CHANNELS, LEAST_GRID = 8, 4  # what has fewer is a prediction, or no map


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


def activations(model: Path, pixels: Pixels) -> list[NDArray[np.float32]]:
    """The last maps that a network makes of a picture of its input's size before its answer: float32 [C, h, w].

    Of each size of grid (a detector may have three) the one nearest to the outputs. Computed in FP32.
    Raises ModelRefused where it has none: a transformer's tokens lie in no grid.
    """
    core = _library().Core()
    try:
        network = core.read_model(model)
        maps = _last_maps(network)
        if not maps:
            raise ModelRefused(
                f"{model}: has no map of {LEAST_CHANNELS} or more channels ahead of a layer with weights (is it a "
                "transformer?), so there are no activations to show"
            )
        before = len(network.outputs)
        network.add_outputs(maps)
        request = core.compile_model(network, "CPU", EXACT).create_infer_request()
        request.infer([pixels[None]])
    except RuntimeError as error:
        raise EngineMissing(f"{model}: OpenVINO cannot use it: {_first_line(error)}") from None
    return [np.array(request.get_output_tensor(before + n).data[0], np.float32) for n in range(len(maps))]


def _last_maps(network: Any) -> list[Any]:
    """Upstream from the outputs, past the last layers with weights (predictions), to the first maps of each grid."""
    size = tuple(network.input(0).shape)[1:3]
    rank = {node.get_friendly_name(): n for n, node in enumerate(network.get_ordered_ops())}
    found: dict[tuple[int, int], tuple[int, Any]] = {}
    waiting, seen = [(result.input_value(0), False) for result in network.get_results()], set()
    while waiting:
        output, beyond = waiting.pop()
        node, index = output.get_node(), output.get_index()
        name, kind = node.get_friendly_name(), node.get_type_name()
        if (name, index, beyond) in seen or kind in ("Constant", "ShapeOf"):
            continue
        seen.add((name, index, beyond))
        grid = _grid(output, size) if beyond and not _is_linear(node) else None
        if grid is not None:
            found[grid] = max(found.get(grid, (-1, output)), (rank[name], output), key=lambda each: each[0])
            continue
        weights = kind in CONVOLVES
        beyond |= weights or (kind == "MatMul" and any(len(_shape(each)) == 2 for each in node.input_values()))
        waiting += [(each, beyond) for each in node.input_values()[: 1 if weights else None]]
    return [output for _, (_, output) in sorted(found.items(), reverse=True)]


def _is_linear(node: Any) -> bool:
    """Whether this is a convolution, or the adding of its bias: a prediction, not what it is made from."""
    kind = node.get_type_name()
    return kind in CONVOLVES or (kind == "Add" and any(_shape(each)[-2:] == (1, 1) for each in node.input_values()))


def _grid(output: Any, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of a map [1, C, h, w] that lies over a picture of (height, width), as coarse in x as in y; else None."""
    shape = tuple(n or 0 for n in _shape(output))  # 0: open
    if len(shape) != 4 or shape[0] != 1 or shape[1] < LEAST_CHANNELS or min(shape[2:]) < LEAST_GRID:
        return None
    down, across = size[0] / shape[2], size[1] / shape[3]
    alike = min(down, across) >= 1 and abs(down - across) <= 0.25 * max(down, across)
    return shape[2:] if alike and output.get_element_type().is_real() else None


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
    names = port.get_names()  # several, where OpenVINO has taken an operator away
    named = next((name for name in names if name == INPUT or any(name in each for each in OUTPUTS.values())), None)
    return Tensor(named or port.get_any_name(), kind, _shape(port))


def _shape(port: Any) -> tuple[int | None, ...]:
    """None where a dimension is open; () also where their number is."""
    shape = port.partial_shape
    return tuple(n.get_length() if n.is_static else None for n in shape) if shape.rank.is_static else ()


def _first_line(error: Exception) -> str:
    noise = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "-- ", "While validat")
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(noise)]
    return lines[0] if lines else type(error).__name__

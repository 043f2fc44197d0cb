"""Compiles a graph with TensorRT 10, TensorRT 11 or TensorRT-RTX, on one path: strongly typed, tensors by name.

Precision is in the graph. Owns the builder's settings, its progress, its timing cache, and what its errors mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..contract import Tensor
from ..errors import EngineMissing, ModelRefused
from .trt import library, listener

Progress = Callable[[str, float], None]

# what quantises while it runs has no fixed scales, which TensorRT needs
DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "ConvInteger", "MatMulInteger"}
STATIC = (
    "give it fixed scales: export the model without quantisation, import it, then run: "
    "edge-inspector calibrate int8 NAME and edge-inspector build NAME --precision int8"
)
TOLD = 5  # so many of the parser's errors are told


def compile_plan(
    model: Path,
    into: Path,
    *,
    target: str,
    capabilities: tuple[str, ...],
    timing_cache: Path | None,
    progress: Progress,
) -> tuple[str, ...]:
    """Write the plan of an ONNX file; returns its inputs and outputs in words.

    capabilities: such as "89", for TensorRT-RTX on any machine, () for the GPU that is here. timing_cache: read and
    written anew, for the next build. progress: is called with a phase and the share done, 0 to 1. Raises ModelRefused
    where TensorRT does not take the graph, EngineMissing where it cannot build here.
    """
    refuse_dynamic(model)
    trt = library(target)
    said = listener(trt)
    try:
        builder = trt.Builder(said)
    except (TypeError, RuntimeError) as error:  # a factory that returned nothing
        raise EngineMissing(
            f"{target} cannot build here: {said.why(str(error))}; it needs a GPU and its driver"
        ) from None
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # without the flag, all networks are
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    _parse(trt, network, model, target=target, said=said)
    config = builder.create_builder_config()
    _configure(trt, config, target=target, capabilities=capabilities)
    timed = timing_cache if target == "tensorrt" else None  # TensorRT-RTX times nothing at the build
    if timed is not None:
        known = timed.read_bytes() if timed.is_file() else b""
        cache = config.create_timing_cache(known) or config.create_timing_cache(b"")  # a damaged one is begun anew
        config.set_timing_cache(cache, False)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise monitor.stopped
    if plan is None:
        raise ModelRefused(f"{model}: {target} {trt.__version__} cannot build it: {said.why()}")
    into.write_bytes(plan)
    if timed is not None:
        fresh = timed.with_name(f"{timed.name}.new")
        fresh.write_bytes(config.get_timing_cache().serialize())
        os.replace(fresh, timed)
    progress("written", 1.0)
    return tuple(_describe(trt, network))


def refuse_dynamic(model: Path) -> None:
    """Raise ModelRefused for a graph that is quantised while it runs, or that is none."""
    import onnx

    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf's own, which is no ValueError
        raise ModelRefused(f"{model}: is not an ONNX graph: {error}; import the model again") from None
    found = sorted({node.op_type for node in graph.node} & DYNAMIC)
    if found:
        raise ModelRefused(
            f"{model}: is quantised dynamically ({', '.join(found)}), which is not for TensorRT; {STATIC}"
        )


def _parse(trt: Any, network: Any, model: Path, *, target: str, said: Any) -> None:
    parser = trt.OnnxParser(network, said)
    if parser.parse_from_file(str(model)):
        return
    errors = [parser.get_error(n) for n in range(parser.num_errors)]
    lines = list(dict.fromkeys(f"{each.node_operator()} {each.node_name()!r}: {each.desc()}" for each in errors))
    more = [f"and {len(lines) - TOLD} more"] if len(lines) > TOLD else []
    text = "; ".join([*lines[:TOLD], *more]) or said.why()
    raise ModelRefused(
        f"{model}: {target} {trt.__version__} does not take this graph: {text}; export the model without these "
        "operators (often another opset_version, or fixed shapes), or run it with OpenVINO: --target openvino"
    )


def _configure(trt: Any, config: Any, *, target: str, capabilities: tuple[str, ...]) -> None:
    config.clear_flag(trt.BuilderFlag.TF32)  # where a graph says float32, it is meant
    if target != "tensorrt-rtx":
        return
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else a lane cannot be captured as a CUDA graph
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for n, capability in enumerate(capabilities):
        known = getattr(trt.ComputeCapability, f"SM{capability}", None)
        if known is None:
            names = ", ".join(sorted((each[2:] for each in dir(trt.ComputeCapability) if each[:2] == "SM"), key=int))
            raise EngineMissing(f"{target} {trt.__version__} knows no compute capability {capability}: it has {names}")
        config.set_compute_capability(known, n)


def _describe(trt: Any, network: Any) -> list[str]:
    """TensorRT's own view of what goes in and out."""
    inputs = [network.get_input(n) for n in range(network.num_inputs)]
    outputs = [network.get_output(n) for n in range(network.num_outputs)]
    kinds = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}
    return [
        str(Tensor(each.name, kinds.get(each.dtype, str(each.dtype)), tuple(n if n >= 0 else None for n in each.shape)))
        for each in (*inputs, *outputs)
    ]


def _monitor(trt: Any, progress: Progress) -> Any:
    """TensorRT's progress as one share. An exception (Ctrl-C as well) must not cross C++: it is kept in `stopped`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped: BaseException | None = None
            self._phases: dict[str, list[int]] = {}  # name -> steps, steps done; the outermost first
            self._share = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = [max(1, steps), 0]
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            if name in self._phases:
                self._phases[name][1] = step + 1
            self._tell(name)
            return self.stopped is None

        def phase_finish(self, name: str) -> None:
            self._phases.pop(name, None)

        def _tell(self, name: str) -> None:
            share = 0.0
            for steps, done in reversed(list(self._phases.values())):
                share = min(1.0, (done + share) / steps)
            self._share = max(self._share, share)  # phases that TensorRT had not announced make no step back
            try:
                if self.stopped is None:
                    progress(name, self._share)
            except BaseException as error:
                self.stopped = error

    return Monitor()

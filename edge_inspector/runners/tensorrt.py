"""TensorRT and TensorRT-RTX on an NVIDIA GPU. Owns the deserialised plan and its two lanes, each with a context."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..contract import INPUT, OUTPUTS, Answer, Tensor, breach
from ..errors import EngineFault, EngineLost, EngineMissing, FailedError
from ..models.manifest import Machine
from ..models.trt import library, listener
from ..types import Pixels
from .cuda import Device, Lane, Shapes, immortal
from .libcuda import driver_version

log = logging.getLogger(__name__)

LANES = 2
CLOSE_S = 1.0  # so long close() waits for what still computes


class TensorRTRunner:
    """Two lanes: while one computes, the other's copies run and the host prepares its part.

    Made and warmed up in one thread, used in another, closed in any. Raises EngineMissing for whatever keeps the plan
    from running here.
    """

    simulated = False

    def __init__(self, plan: Path, task: str, target: str) -> None:
        trt = library(target)
        content = _read(plan, target)
        self._device, self._said = Device(), listener(trt)
        self._device.open()
        self._lost = False
        self._outputs = tuple(OUTPUTS[task])
        try:
            with self._device.current():
                self._runtime, self._engine = deserialise(trt, content, plan, target=target, said=self._said)
                sides = _tensors(trt, self._engine)
                if wrong := breach(task, *sides):
                    raise EngineMissing(f"{plan}: {wrong}; run: {_mend(plan, target)}")
                self._contexts = [self._context() for _ in range(LANES)]
                self._lanes = [self._device.lane(*map(_shapes, sides)) for _ in range(LANES)]
                self.graphs = [self._prepare(number) for number in range(LANES)]  # which lanes launch a CUDA graph
        except FailedError as error:
            raise EngineMissing(f"{plan}: does not run on this machine: {error}") from error
        self._flying = [False] * LANES
        self.inputs: Sequence[Pixels] = [lane.host[INPUT][0] for lane in self._lanes]

    def submit(self, lane: int) -> None:
        """Put the lane's copies and computation into its stream. Raises EngineFault or EngineLost."""
        self._flying[lane] = False  # until all of it is under way there is nothing to collect
        with self._current():
            self._lanes[lane].start(lambda: self._compute(lane))
        self._flying[lane] = True

    def collect(self, lane: int) -> Answer:
        """Wait for the lane's last event, and for nothing else. Raises EngineFault or EngineLost."""
        if not self._flying[lane]:
            raise EngineFault(f"lane {lane} was collected without being submitted")
        self._flying[lane], chosen = False, self._lanes[lane]
        with self._current():
            chosen.wait()
        return tuple(chosen.host[name][0] for name in self._outputs)

    def elapsed_ms(self, begin: tuple[int, int], end: tuple[int, int]) -> float:
        """The device's time between two marks of collected parts: (lane, mark), the marks are named in cuda.py."""
        with self._current():
            first, last = (self._lanes[lane].marks[mark] for lane, mark in (begin, end))
            return float(first.time_till(last))

    def close(self) -> None:
        """Free the GPU's memory. Where the GPU is lost or hangs, that is left to the end of the process."""
        if not self._lanes:
            return
        lanes, rest = self._lanes, [self._contexts, self._engine, self._runtime]
        self.inputs, self._lanes, self._contexts, self._engine, self._runtime = (), [], [], None, None
        try:
            if self._lost or not _idle(self._device, lanes):
                raise EngineLost("it still computes")
            with self._device.current():
                for lane in lanes:
                    lane.drop_graph()
                while rest:  # contexts, then their engine, then its runtime
                    rest.pop(0)
                for lane in lanes:
                    lane.free()
        except FailedError as error:  # freeing would wait for the device, and that for ever
            immortal([lanes, rest, self._said])
            log.warning("the GPU keeps its memory until this process ends", extra={"reason": str(error)})

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        try:
            with self._device.current():
                yield
        except EngineLost:
            self._lost = True
            raise

    def _context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineFault(f"TensorRT makes no execution context: {self._said.why()}")
        return context

    def _prepare(self, number: int) -> bool:
        """Give the lane's memory to its context, run it once, and make the graph. True where there is one."""
        lane, context = self._lanes[number], self._contexts[number]
        for name, address in lane.address.items():
            if not context.set_tensor_address(name, address):
                raise EngineFault(f"TensorRT takes no address for {name}: {self._said.why()}")
        lane.start(lambda: self._compute(number))  # TensorRT asks for one run before it is captured
        lane.wait()
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX knows, TensorRT always can
        if capturable is None or capturable(lane.stream):
            why = lane.capture(lambda: self._compute(number))
        else:
            why = "TensorRT-RTX says that this plan cannot be captured; built without REQUIRE_USER_ALLOCATION"
        if why:
            log.warning("no CUDA graph: each part is launched step by step", extra={"lane": number, "reason": why})
        return not why

    def _compute(self, number: int) -> None:
        if not self._contexts[number].execute_async_v3(self._lanes[number].stream):
            raise EngineFault(f"TensorRT: {self._said.why()}")


def machine(target: str) -> Machine:
    """What this machine is to a target. Raises EngineMissing, with the step that mends it, for what is not here."""
    trt = library(target)
    device = Device()
    return Machine(
        target, trt.__version__, device.name, device.compute_capability, driver_version(), device.driver.version
    )


def deserialise(trt: Any, content: bytes, plan: Path, *, target: str, said: Any) -> tuple[Any, Any]:
    """Runtime and engine of a plan's content. Raises EngineMissing with TensorRT's own reason.

    That is: another version of TensorRT, another GPU, a file cut short.
    """
    runtime = trt.Runtime(said)
    engine = runtime.deserialize_cuda_engine(content) if runtime is not None else None
    if engine is None:
        raise EngineMissing(f"{plan}: {target} {trt.__version__} refuses it: {said.why()}; run: {_mend(plan, target)}")
    return runtime, engine


def _read(plan: Path, target: str) -> bytes:
    try:
        return plan.read_bytes()
    except OSError as error:
        raise EngineMissing(f"{plan}: {error.strerror}; run: {_mend(plan, target)}") from None


def _tensors(trt: Any, engine: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs."""
    kinds = {trt.DataType.UINT8: "uint8", trt.DataType.FLOAT: "float32"}
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        kind = engine.get_tensor_dtype(name)
        shape = tuple(n if n >= 0 else None for n in engine.get_tensor_shape(name))
        side = sides[engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT]
        side.append(Tensor(name, kinds.get(kind, str(kind)), shape))
    return sides


def _shapes(side: Sequence[Tensor]) -> Shapes:
    return {each.name: (tuple(n or 0 for n in each.shape), each.dtype) for each in side}


def _idle(device: Device, lanes: Sequence[Lane]) -> bool:
    """Whether all that was started has ended, now or within a moment; asks, and never waits for the device itself."""
    until = time.monotonic() + CLOSE_S
    with device.current():
        while not all(lane.idle for lane in lanes):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    return True


def _mend(plan: Path, target: str) -> str:
    """The command that builds the plan anew; it lies in engines/<name>/builds/<id>/."""
    engine = plan.absolute().parents[2]
    return f"edge-inspector build {engine.name} --engines {engine.parent} --target {target}"

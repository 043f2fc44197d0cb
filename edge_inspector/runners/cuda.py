"""A CUDA device by pycuda: its context, and lanes of pinned and device memory, a stream, events and a graph.

The only file that knows pycuda. pycuda aborts the process where a thread ends with a context on its stack, so a context
is current only inside `Device.current()`, pushed and popped by whichever thread comes.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineFault, EngineMissing
from .libcuda import LOST, CudaError, Libcuda

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream, which libraries may use
BEGUN, COPIED_IN, COMPUTED, DONE = range(4)  # a lane's marks

Shapes = Mapping[str, tuple[tuple[int, ...], str]]  # tensor -> shape and NumPy's name of the type


class Device:
    """The first GPU, by its primary context, which TensorRT's CUDA runtime uses too.

    The context stays until the process ends: pycuda's way to release it leaves it behind on the thread's stack.
    Raises EngineMissing where driver, GPU or pycuda are not there.
    """

    def __init__(self) -> None:
        self.driver = Libcuda()
        self._pycuda = _pycuda()
        try:
            self._pycuda.init()
            self._device: Any = self._pycuda.Device(0)
            self.name: str = self._device.name()
            self.compute_capability = ".".join(str(n) for n in self._device.compute_capability())
        except self._pycuda.Error as error:
            raise EngineMissing(f"the first GPU does not answer: {error}; see: nvidia-smi") from None
        self._context: Any = None
        self._probe: Any = None

    def open(self) -> None:
        """Make the context. Raises EngineMissing where the GPU lets nobody in."""
        made = ctypes.c_void_p()
        try:
            # this takes a second, and pycuda would hold the interpreter lock for it: heartbeats would stop
            self.driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(made), ctypes.c_int(0))
            self._context = self._device.retain_primary_context()
            self.driver.call("cuDevicePrimaryCtxRelease_v2", ctypes.c_int(0))
        except (CudaError, self._pycuda.Error) as error:
            raise EngineMissing(f"{self.name} cannot be used: {error}; who uses it says: nvidia-smi") from None
        immortal(self._context)
        with self.current():
            self._probe = self._pycuda.Stream(NON_BLOCKING)
        immortal(self._probe)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Inside, CUDA calls of this thread go to this device; their errors become EngineFault or EngineLost."""
        pushed = False
        try:
            self._context.push()
            pushed = True
            yield
        except (self._pycuda.Error, CudaError, EngineFault) as error:
            stream = int(self._probe.handle) if pushed and self._probe else 0
            raise self.driver.failure(error, self._number(error), stream) from None
        finally:
            if pushed:
                self._context.pop()

    def lane(self, inputs: Shapes, outputs: Shapes) -> Lane:
        """A lane; inside `current()`."""
        return Lane(self._pycuda, self.driver, inputs, outputs)

    def _number(self, error: Exception) -> int:
        """Errors of pycuda have the driver's words alone: `<call> failed: <words>`, and ` - <more>` at times."""
        if isinstance(error, CudaError):
            return error.number
        words = str(error).partition(" failed: ")[2].partition(" - ")[0]
        return next((number for number in LOST if self.driver.text(number) == words), 0)


class Lane:
    """One input and its outputs in pinned memory and on the device, a stream of its own, and four marks in it.

    host: tensor -> the pinned array, where letterboxes write and answers are read; address: tensor -> the device's.
    The marks keep time; the last one blocks who waits for it instead of spinning, as the cores belong to cameras and
    letterboxes. Made and freed inside `Device.current()`.
    """

    def __init__(self, pycuda: Any, driver: Libcuda, inputs: Shapes, outputs: Shapes) -> None:
        self._pycuda, self._driver = pycuda, driver
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        shapes = {**inputs, **outputs}
        self.host: dict[str, NDArray[Any]] = {
            name: pycuda.pagelocked_empty(shape, np.dtype(kind)) for name, (shape, kind) in shapes.items()
        }
        self._memory = {name: pycuda.mem_alloc(array.nbytes) for name, array in self.host.items()}
        self.address = {name: int(memory) for name, memory in self._memory.items()}
        self._stream = pycuda.Stream(NON_BLOCKING)
        self.stream = int(self._stream.handle)
        blocking = pycuda.event_flags.BLOCKING_SYNC
        self.marks = [pycuda.Event(0), pycuda.Event(0), pycuda.Event(0), pycuda.Event(blocking)]
        self._graph = 0
        for name in self._inputs:  # fresh memory holds anything
            self.host[name].fill(0)

    def start(self, compute: Callable[[], None]) -> None:
        """Copy in, compute, copy out: everything is put into the stream, nothing is waited for.

        Without a graph `compute` puts the work into the stream; with one it is not called.
        """
        self.marks[BEGUN].record(self._stream)
        for name in self._inputs:
            self._pycuda.memcpy_htod_async(self._memory[name], self.host[name], self._stream)
        self.marks[COPIED_IN].record(self._stream)
        if self._graph:
            self._driver.launch(self._graph, self.stream)
        else:
            compute()
        self.marks[COMPUTED].record(self._stream)
        for name in self._outputs:
            array = self.host[name].reshape(-1)
            array[0] = array[-1] = np.nan  # an answer that never comes must not look like the one before it
            self._pycuda.memcpy_dtoh_async(self.host[name], self._memory[name], self._stream)
        self.marks[DONE].record(self._stream)

    def wait(self) -> None:
        """Sleep until the lane's own work has ended; what else the device does is not waited for."""
        self.marks[DONE].synchronize()

    @property
    def idle(self) -> bool:
        """Whether all that was put into the stream has ended."""
        return bool(self._stream.is_done())

    def capture(self, compute: Callable[[], None]) -> str:
        """Make a graph of `compute`, to be launched from now on; "" or why there is none. The lane must be idle."""
        try:
            self._graph = self._driver.capture(self.stream, compute)
            for name in self._outputs:  # every byte 255: no number
                self._pycuda.memset_d8_async(self._memory[name], 255, self.host[name].nbytes, self._stream)
            self.start(compute)
            self.wait()
        except (CudaError, EngineFault) as error:
            self.drop_graph()
            if isinstance(error, CudaError) and error.number in LOST:
                raise
            return str(error)
        if any(np.isnan(self.host[name]).all() for name in self._outputs):
            self.drop_graph()
            return "a graph was made, but it does not compute the outputs"
        return ""

    def drop_graph(self) -> None:
        """Compute without it from now on."""
        graph, self._graph = self._graph, 0
        if graph:
            self._driver.forget(graph)

    def free(self) -> None:
        """Give everything back; a pinned array goes when nobody holds a view of it any more."""
        self.drop_graph()
        self.marks.clear()
        self.host.clear()
        self._memory.clear()
        self._stream = None


def immortal(thing: object) -> None:
    """Keep an object until the process has ended: its destructor would ask a device that may never answer."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _pycuda() -> Any:
    """pycuda.driver. Raises EngineMissing with what to do."""
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        if error.name != "pycuda":
            raise EngineMissing(f"pycuda does not load: {error}; run: pip install --force-reinstall pycuda") from None
        raise EngineMissing(
            "pycuda is not installed; run: pip install 'edge-inspector[tensorrt]' (that compiles it, with nvcc and the "
            "headers of the CUDA toolkit: docs/jetson.md)"
        ) from None
    except ImportError as error:
        raise EngineMissing(
            f"pycuda does not load: {error}; it was built for another CUDA or Python; run: "
            "pip install --force-reinstall --no-cache-dir --no-binary :all: pycuda"
        ) from None
    return pycuda.driver

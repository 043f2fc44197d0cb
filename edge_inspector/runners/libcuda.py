"""The NVIDIA driver's own library, by ctypes, for what pycuda has not: graphs, error numbers, versions without pycuda.

Every call here gives up the interpreter lock while it runs. Owns the list of errors after which a process must restart.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import EngineFault, EngineLost, EngineMissing, FailedError

NAME = "libcuda.so.1"
NOT_READY = 600  # CUDA_ERROR_NOT_READY: asked whether work has ended, and it has not
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not end a capture

# Errors that the process cannot recover from, as numbered and described in cuda.h of CUDA 13.0 (enum cudaError_enum).
# Of most it says: "This leaves the process in an inconsistent state and any further CUDA work will return the same
# error. To continue using CUDA, the process must be terminated and relaunched." Of the others the reason is given.
LOST = {
    3: "NOT_INITIALIZED",  # of a driver that was initialised: it has gone
    4: "DEINITIALIZED",  # the driver is shutting down
    46: "DEVICE_UNAVAILABLE",  # the device is gone, or another process has it for itself
    100: "NO_DEVICE",  # of a device that was there: it fell off the bus
    101: "INVALID_DEVICE",  # likewise
    201: "INVALID_CONTEXT",  # the context that was current has gone
    214: "ECC_UNCORRECTABLE",  # memory gave a wrong value and says so: nothing computed from it can be trusted
    220: "NVLINK_UNCORRECTABLE",  # likewise on the link
    226: "CONTAINED",
    700: "ILLEGAL_ADDRESS",
    702: "LAUNCH_TIMEOUT",
    709: "CONTEXT_IS_DESTROYED",  # the context that was current has gone
    710: "ASSERT",  # "The context cannot be used anymore, and must be destroyed."
    714: "HARDWARE_STACK_ERROR",
    715: "ILLEGAL_INSTRUCTION",
    716: "MISALIGNED_ADDRESS",
    717: "INVALID_ADDRESS_SPACE",
    718: "INVALID_PC",
    719: "LAUNCH_FAILED",
    721: "TENSOR_MEMORY_LEAK",
    806: "MPS_RPC_FAILURE",  # the server that shares the GPU among processes does not answer any more
    810: "MPS_CLIENT_TERMINATED",  # "To continue using CUDA, the process must be terminated and relaunched."
    911: "EXTERNAL_DEVICE",
    999: "UNKNOWN",  # nobody knows what still works: a fresh process does
}

# cuInit's refusals that have a mending step of their own; the numbers are cuda.h's
REFUSALS = {
    34: "a stub of libcuda is loaded in place of the driver's; take the toolkit's stubs folder out of LD_LIBRARY_PATH",
    100: "the driver sees no NVIDIA GPU; look for it with: lspci | grep -i nvidia, and: nvidia-smi",
    802: "the driver's services are not running yet; see: systemctl status 'nvidia-*'",
    803: "the driver's library and its kernel module are of different versions; reboot",
    804: "the CUDA compatibility package does not support this GPU; remove it, or update the driver",
}


class CudaError(Exception):
    """A driver call that failed. number: CUresult."""

    def __init__(self, call: str, number: int, text: str) -> None:
        super().__init__(f"{call} failed: {text} (CUDA error {number})")
        self.number = number


class Libcuda:
    """The loaded and initialised driver. Raises EngineMissing, with the mending step, where there is none."""

    def __init__(self) -> None:
        try:
            # global: a pycuda that was built where no driver was does not name this library, and finds it so
            self._library = ctypes.CDLL(NAME, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EngineMissing(
                f"no NVIDIA driver on this machine: {NAME}: {error}; install it (Ubuntu: sudo ubuntu-drivers install; "
                "a Jetson has it from JetPack) and reboot, or build for the processor, with --target openvino"
            ) from None
        number = self.number("cuInit", ctypes.c_uint(0))
        if number:
            why = REFUSALS.get(number, "see: nvidia-smi, and: sudo dmesg | grep -i nvrm")
            raise EngineMissing(f"the NVIDIA driver refuses: {self.text(number)} (CUDA error {number}): {why}")

    def number(self, name: str, *arguments: object) -> int:
        """Call a function; its CUresult, 0 for success."""
        return int(getattr(self._library, name)(*arguments))

    def call(self, name: str, *arguments: object) -> None:
        """Call a function. Raises CudaError."""
        number = self.number(name, *arguments)
        if number:
            raise CudaError(name, number, self.text(number))

    def text(self, number: int) -> str:
        """The driver's own words for an error."""
        words = ctypes.c_char_p()
        known = self._library.cuGetErrorString(ctypes.c_int(number), ctypes.byref(words)) == 0
        return words.value.decode() if known and words.value else "an error this driver has no words for"

    def read(self, name: str, *arguments: object) -> int:
        """Call a function whose first parameter is where it writes an int. Raises CudaError."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    @property
    def version(self) -> str:
        """The CUDA version that the driver speaks, such as "13.0"."""
        version = self.read("cuDriverGetVersion")
        return f"{version // 1000}.{version % 1000 // 10}"

    def failure(self, error: Exception, number: int, stream: int) -> FailedError:
        """A failed call as what the daemon does about it: EngineLost where this process cannot use the GPU again.

        Whatever the call itself said, a stream without work is asked too: a dead context answers everything, also
        that, with the error it died of.
        """
        if number not in LOST:
            probed = self.number("cuStreamQuery", ctypes.c_void_p(stream)) if stream else 0
            number = probed if probed in LOST else number
        return verdict(error, number)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Record what `work` puts into a stream as a graph ready to launch; its handle. Nothing is computed.

        Raises CudaError, or what `work` raises; the stream takes work again in either case.
        """
        handle, graph, executable = ctypes.c_void_p(stream), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(THREAD_LOCAL))
        try:
            work()
        except BaseException:
            self.number("cuStreamEndCapture", handle, ctypes.byref(graph))
            raise
        self.call("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            self.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self.number("cuGraphDestroy", graph)
        assert executable.value is not None
        return executable.value

    def launch(self, graph: int, stream: int) -> None:
        """Compute a graph in a stream. Raises CudaError."""
        self.call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def forget(self, graph: int) -> None:
        """Free a graph."""
        self.number("cuGraphExecDestroy", ctypes.c_void_p(graph))


def verdict(error: Exception, number: int) -> FailedError:
    """EngineLost for an error that a process does not recover from, EngineFault for any other."""
    if number in LOST:
        return EngineLost(f"{error}: CUDA_ERROR_{LOST[number]} ({number}): this process cannot use the GPU again")
    return EngineFault(str(error))


def driver_version() -> str:
    """Of the kernel's driver, such as "580.65.06"; on an old Jetson its release, such as "L4T 35.3.1"; "" if unknown.

    The kernel's file first: a Jetson has it too, while NVML came to them late. NVML is for containers without it.
    """
    try:
        said = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        said = None
    if said:
        return said[1]
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(96)
        if nvml.nvmlInit_v2() == 0 and nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text))) == 0:
            return text.value.decode()
    except (OSError, AttributeError):
        pass
    try:
        release = re.search(r"R(\d+).*?REVISION: ([\d.]+)", Path("/etc/nv_tegra_release").read_text())
    except OSError:
        return ""
    return f"L4T {release[1]}.{release[2]}" if release else ""

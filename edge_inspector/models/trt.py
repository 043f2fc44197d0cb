"""TensorRT's Python module, whichever of the three it is, and its logger. The only file that imports it."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from ..errors import EngineMissing

log = logging.getLogger(__name__)

INSTALL = {
    "tensorrt": "on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, and make the virtual "
    "environment with --system-site-packages (docs/jetson.md); elsewhere run: pip install tensorrt",
    "tensorrt-rtx": "run: pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
}
TOLD = 8  # so many errors are kept, the last ones


def library(target: str) -> Any:
    """The Python module of a target. Raises EngineMissing where it is not installed or does not load."""
    try:
        if target == "tensorrt":
            import tensorrt

            return tensorrt
        try:
            import tensorrt_rtx
        except ModuleNotFoundError:  # the name in the two wheels that need no compiling; the third only renames
            import tensorrt_rtx_bindings as tensorrt_rtx
        return tensorrt_rtx
    except (ImportError, OSError) as error:  # OSError: a shared library that it loads itself
        raise EngineMissing(f"{target} is not usable here: {error}; {INSTALL[target]}") from None


def listener(trt: Any) -> Any:
    """TensorRT's logger: warnings go to ours, errors are kept for the exception that follows them."""

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=TOLD)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(message)
            elif severity == trt.ILogger.WARNING:
                log.warning("TensorRT: %s", message)

        def why(self, otherwise: str = "it gives no reason") -> str:
            text = "; ".join(dict.fromkeys(self._errors))
            self._errors.clear()
            return text or otherwise

    return Listener()

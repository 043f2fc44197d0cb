"""What the daemon asks of a camera: three methods and two facts. The grab thread is the only caller."""

from __future__ import annotations

from typing import Protocol

from ..types import Pixels, Shot


class Camera(Protocol):
    """A source of frames.

    simulated: no sensor stands behind it (a folder, a drawing); every verdict says so.
    waits: it can stand still until the reader is ready, so that nothing is lost (a folder at full speed). A real
    camera does not wait: it must be read without pause or its frames grow old.
    """

    simulated: bool
    waits: bool

    def open(self) -> tuple[int, int]:
        """Open, and return (height, width) of the frames to come. Raises CameraMissing. Called again after a fault.

        A finite source goes on behind the last frame it gave.
        """
        ...

    def read(self, into: Pixels) -> Shot | None:
        """Wait for the next frame and write it into `into`, uint8 [height, width, 3], BGR.

        Returns None where there is none yet (after 0.2 s at the most, for a source that may rest longer between
        parts), so that the caller can look whether it should stop. Raises CameraFault where the source failed (then it
        is closed and opened again), FrameFault where only this frame is bad (then the part named by its `shot` gets a
        fault verdict and the next read goes on, without opening again), and EndOfStream after the last frame of a
        finite source, as often as it is asked. After any of them the contents of `into` mean nothing.
        """
        ...

    def close(self) -> None:
        """Let go of the device; may be called twice, and before open."""
        ...

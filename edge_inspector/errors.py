"""The exception tree. Each branch has one meaning for the process:

InspectorError
├── ConfigError        78  the configuration is wrong; restarting will not help
├── MissingError        3  a camera, engine or library is not here
│   ├── CameraMissing
│   └── EngineMissing
├── FailedError         1  something broke while running
│   ├── CameraFault        no frame can be had at the moment; the camera is opened again
│   │   └── FrameFault         this one frame is bad, its part gets a fault verdict; the source goes on
│   ├── EngineFault        this inference failed; the part gets a fault verdict
│   ├── EngineLost         the accelerator cannot be used again in this process
│   └── OutboxFull         the publisher stands still
├── ModelRefused        1  a model file that cannot become an engine, or an engine that does not prove itself
└── EndOfStream         -  a finite source (folder, video) has delivered all it had
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .types import Shot


class InspectorError(Exception):
    """Base of all errors of this package; `exit_code` is what the process ends with when nobody handles it."""

    exit_code = 1


class ConfigError(InspectorError):
    """The configuration is wrong: the message names file, key, what was found and what was expected."""

    exit_code = 78


class MissingError(InspectorError):
    """A camera, engine or library that was asked for is not here; the message names the command that mends it."""

    exit_code = 3


class CameraMissing(MissingError):
    """The camera could not be opened."""


class EngineMissing(MissingError):
    """The engine's folder or one of its files is absent or unusable on this machine."""


class FailedError(InspectorError):
    """Something broke while running."""


class CameraFault(FailedError):
    """An open camera stopped delivering: time-out, lost connection, changed picture size."""


class FrameFault(CameraFault):
    """One frame cannot be had (a broken file), the next ones can: do not open again. `shot` says which part it is."""

    def __init__(self, message: str, shot: Shot) -> None:
        super().__init__(message)
        self.shot = shot


class EngineFault(FailedError):
    """One inference failed, or returned something that is no answer. Never turned into an empty result."""


class EngineLost(FailedError):
    """The accelerator cannot be used again by this process (a sticky CUDA error): the process must restart."""


class OutboxFull(FailedError):
    """The publisher has not taken anything from its outbox for so long that it is full."""


class EndOfStream(InspectorError):
    """A finite source has delivered its last frame. Not a failure."""


class ModelRefused(InspectorError):
    """A model cannot become an engine as it is; the message says why, and what to do about it."""

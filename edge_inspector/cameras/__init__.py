"""Cameras: every source of frames, one library a file, all held to the protocol in base.py."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import cast

from ..config import BoardsConfig, CameraConfig, OpenCVConfig, PlantConfig, ReplayConfig
from .base import Camera

_CAMERAS: dict[type[CameraConfig], tuple[str, str]] = {
    OpenCVConfig: (".opencv", "OpenCVCamera"),
    ReplayConfig: (".replay", "ReplayCamera"),
    BoardsConfig: (".boards", "BoardsCamera"),
    PlantConfig: (".plant", "PlantCamera"),
}


def make(config: CameraConfig, *, base: Path) -> Camera:
    """The camera that `config` describes, not yet opened. base: the folder that relative paths start from."""
    module, name = _CAMERAS[type(config)]
    kind = getattr(importlib.import_module(module, __package__), name)
    if isinstance(config, OpenCVConfig):
        return cast(Camera, kind(config, base=base))
    if isinstance(config, ReplayConfig):
        return cast(Camera, kind(base / config.path, rate=config.rate, loop=config.loop))
    if isinstance(config, PlantConfig):
        return cast(Camera, kind(**{**dataclasses.asdict(config), "address": base / config.address}))
    assert isinstance(config, BoardsConfig)
    return cast(Camera, kind(**dataclasses.asdict(config)))

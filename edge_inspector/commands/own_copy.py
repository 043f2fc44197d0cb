"""An engine that came with the package, copied to where the user's engines lie: nothing is written into the package."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from ..models.folder import Engine

SHIPPED = ("model.onnx", "recipe.toml", "README.md", "golden", "model.toml")


def own(engine: Engine, engines: Path) -> Engine:
    """The engine in `engines`; one that lies elsewhere is copied there, and this is said."""
    folder = engines / engine.folder.name
    if engine.folder.resolve() == folder.resolve():
        return engine
    making = engines / f".{folder.name}.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for name in SHIPPED:
        path = engine.folder / name
        if path.is_dir():
            shutil.copytree(path, making / name)
        elif path.is_file():
            shutil.copyfile(path, making / name)
    os.rename(making, folder)
    print(f"copied   {engine.folder}, which came with edge-inspector, to {folder}")
    return dataclasses.replace(engine, folder=folder)

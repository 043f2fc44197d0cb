"""Runners: what computes an engine, one library a file, all held to the protocol in base.py."""

from __future__ import annotations

from ..models.folder import Engine
from ..models.manifest import Machine, refuse_other_machine
from .base import Runner


def make(engine: Engine, *, backlog: bool = False) -> Runner:
    """The runner for an engine on this machine. backlog: parts wait for it, not it for parts.

    Raises EngineMissing where something is absent, or the engine was compiled for another machine.
    """
    tables, build = engine.tables, engine.build
    if tables.script:
        from .scripted import ScriptedRunner

        assert tables.input_size is not None
        return ScriptedRunner(tables.script, tables.input_size, by_mark=tables.by_mark)
    if build is not None:
        refuse_other_machine(build, machine(build.manifest.target), engine.model)
    if build is not None and build.manifest.target != "openvino":
        from .tensorrt import TensorRTRunner

        return TensorRTRunner(build.file, tables.task, build.manifest.target)
    from .openvino import OpenVinoRunner

    precision = build.manifest.precision if build else "auto"
    return OpenVinoRunner(build.file if build else engine.model, tables.task, precision=precision, backlog=backlog)


def machine(target: str) -> Machine:
    """What this machine is to a target. Raises EngineMissing where it cannot run there."""
    if target == "openvino":
        from . import openvino

        return openvino.machine()
    from . import tensorrt

    return tensorrt.machine(target)

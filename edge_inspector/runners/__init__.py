"""Runners: what computes an engine, one library a file, all held to the protocol in base.py."""

from __future__ import annotations

from ..models.folder import Engine
from .base import Runner


def make(engine: Engine, *, backlog: bool = False) -> Runner:
    """The runner for an engine on this machine. backlog: parts wait for it, not it for parts. Raises EngineMissing."""
    if engine.tables.script:
        from .scripted import ScriptedRunner

        assert engine.tables.input_size is not None
        return ScriptedRunner(engine.tables.script, engine.tables.input_size)
    from .openvino import OpenVinoRunner

    return OpenVinoRunner(engine.model, backlog=backlog)

"""What the infer thread does not compute."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge_inspector import runners
from edge_inspector.config import load
from edge_inspector.infer import Inferrer
from edge_inspector.line import assign
from edge_inspector.mailbox import FramePool, Intake, Outbox
from edge_inspector.station import Decided, EngineHealth, Event, Job, Station
from edge_inspector.types import Shot
from edge_inspector.wire import Origin

from .faults.rig import boards, step, write_line


@pytest.mark.parametrize(("deadline_ms", "said"), [(1000, ["overload", "ok"]), (60_000, ["ok", "ok"])])
def test_a_part_that_would_be_late_makes_way_for_others(tmp_path: Path, deadline_ms: int, said: list[str]) -> None:
    """Of two that wait for an engine which takes 2 s the first is given up, the second has nobody to make way for."""
    config = load(write_line(tmp_path, camera=boards(10), script=[step()], deadline_ms=deadline_ms))
    (assigned,) = assign(config)
    health = EngineHealth(service_ns=2e9)
    origin = Origin("line1", "top", "e", assigned.engine.identity, simulated=True)
    station = Station(assigned.config, origin, assigned.recipe, health)
    intake: Intake[Job] = Intake(("top",), capacity=8)
    outbox: Outbox[Event] = Outbox()
    inferrer = Inferrer(assigned.engine, runners.make(assigned.engine), health, intake, outbox)
    pool = FramePool(2, (64, 64))
    for number in (1, 2):
        shot, pixels = Shot(time.monotonic_ns()), pool.take()
        assert pixels is not None
        part = station.part(number, shot.t_grab_ns)
        part.shot = shot
        assert intake.put("top", Job(station, pool.frame(pixels, shot), part))
    intake.close()
    inferrer.stop()
    inferrer.run()
    decided = [event for event in outbox.drain() if isinstance(event, Decided)]
    assert [event.verdict.reason.value for event in decided] == said
    assert [event.part.trigger_id for event in decided] == [1, 2]
    assert np.count_nonzero([event.part.t_submit_ns for event in decided]) == said.count("ok")
    assert len(pool) == 2

"""How the simulated conveyor looks on a terminal: parts move from the photo-eye to the ejector, then into their bin."""

from __future__ import annotations

from collections.abc import Callable

from ..plant.simulation import Simulation

WIDTH = 64
BEFORE_MM = 60.0  # what is shown before the photo-eye
GREEN, RED, GREY, OFF = "\x1b[32m", "\x1b[31m", "\x1b[90m", "\x1b[0m"
UNKNOWN, PASSED, FAILED = "□", "■", "x"


def conveyor(simulation: Simulation, defective: Callable[[int], bool], problem: str, *, colour: bool) -> list[str]:
    """The lines to draw. A part's glyph is what the PLC holds of it, its colour is the truth."""
    score, belt, table = simulation.score, simulation.belt, simulation.belt.table
    plc = simulation.plc
    cells = ["─"] * WIDTH
    marks = [" "] * WIDTH

    def cell(mm: float) -> int:
        return round((mm + BEFORE_MM) / (BEFORE_MM + table.ejector_mm) * (WIDTH - 1))

    held = _held(simulation)
    for number, mm in reversed(belt.parts):
        at = cell(mm)
        if 0 <= at < WIDTH:
            glyph = held.get(number, UNKNOWN)
            cells[at] = f"{RED if defective(number) else GREEN}{glyph}{OFF}" if colour else glyph
    for mm, mark in ((table.lens_mm, "◎"), (0.0, "│"), (table.ejector_mm, "▼")):
        marks[cell(mm)] = mark
    if plc is None:
        state = "PLC is off"
    elif problem:
        state = problem
    else:
        state = "parts may pass" if simulation.healthy else "everything is ejected"
    head = (
        f"{score.fallen} of {simulation.parts} parts   good bin {score.good_bin}   reject bin {score.reject_bin}   "
        f"escapes {len(score.escaped)}   {state}"
    )
    active = ", ".join(simulation.active) or "nothing"
    return [
        head,
        "",
        f"  {''.join(marks)}",
        f"  {''.join(cells)}  {'→ good' if belt.passing else '↓ reject'}",
        "",
        f"  good rejected {score.good_rejected}   line stops {simulation.line_stops}   "
        f"belt {belt.speed_mm_s:.0f} mm/s   amiss: {active}",
    ]


def _held(simulation: Simulation) -> dict[int, str]:
    """By part number, what the PLC's shift register holds."""
    held: dict[int, str] = {}
    for part in simulation.plc.parts if simulation.plc is not None else ():
        number = simulation.numbers.get(part.trigger.encoder)
        if number is not None:
            held[number] = FAILED if part.failed else PASSED if part.passed else UNKNOWN
    return held

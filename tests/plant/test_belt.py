"""The conveyor is physics: parts keep their order, none is lost, and each falls where the diverter leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.plant.belt import U32, Belt, BeltEvent, BeltTable, EyeEdge, Fell, UnderLens

# mm/s and seconds: forwards, backwards, standing still
MOVES = st.lists(st.tuples(st.integers(-1500, 3000), st.sampled_from([0.001, 0.0025, 0.02, 0.3])), max_size=40)
TABLES = st.builds(
    BeltTable,
    pitch_mm=st.floats(40, 120),
    jitter_mm=st.floats(0, 60),
    encoder_start=st.sampled_from([0, 5, U32 - 1, U32 - 3000]),
)


def run(belt: Belt, moves: list[tuple[int, float]]) -> list[BeltEvent]:
    """Move so, then forwards until all parts have fallen."""
    events: list[BeltEvent] = []
    for speed, dt_s in moves:
        belt.speed_mm_s = float(speed)
        events += belt.advance(dt_s)
    belt.speed_mm_s = 1000.0
    for _ in range(100_000):
        if belt.empty:
            break
        events += belt.advance(0.05)
    return events


@given(table=TABLES, moves=MOVES, count=st.integers(1, 12))
def test_no_part_is_lost_and_none_overtakes(table: BeltTable, moves: list[tuple[int, float]], count: int) -> None:
    """Whatever the belt does: each part falls once, in its order, and was at the photo-eye before."""
    events = run(Belt(table, count=count), moves)
    assert [e.number for e in events if isinstance(e, Fell)] == list(range(1, count + 1))
    seen: list[int] = []
    for event in events:
        if isinstance(event, EyeEdge) and event.number not in seen:
            assert event.forward
            seen.append(event.number)
        else:
            assert event.number in seen
    assert seen == list(range(1, count + 1))


@given(table=TABLES, moves=MOVES)
def test_a_part_is_as_far_along_as_the_encoder_says(table: BeltTable, moves: list[tuple[int, float]]) -> None:
    """From the first edge to the fall the encoder counts the ejector's distance, whatever happened between."""
    events = run(Belt(table, count=5), moves)
    first: dict[int, int] = {}
    for event in events:
        if isinstance(event, EyeEdge) and event.forward:
            assert event.encoder == first.setdefault(event.number, event.encoder)
        elif isinstance(event, Fell):
            counts = (event.encoder - first[event.number]) % U32
            assert abs(counts - table.ejector_mm * table.counts_per_mm) <= 1


@given(table=TABLES, moves=MOVES, cut=st.integers(2, 9))
def test_the_size_of_a_step_does_not_matter(table: BeltTable, moves: list[tuple[int, float]], cut: int) -> None:
    """One long step or many short ones: the same things happen at the same counts."""
    whole, cut_up = Belt(table, count=6), Belt(table, count=6)
    for speed, dt_s in moves:
        whole.speed_mm_s = cut_up.speed_mm_s = float(speed)
        together = [(type(e), e.number, e.encoder) for e in whole.advance(dt_s)]
        apart = [(type(e), e.number, e.encoder) for _ in range(cut) for e in cut_up.advance(dt_s / cut)]
        assert len(apart) == len(together) or abs(len(apart) - len(together)) <= 1  # one at the very end of a step
        if len(apart) == len(together):
            assert [each[:2] for each in apart] == [each[:2] for each in together]
            assert all(abs(one[2] - other[2]) <= 1 for one, other in zip(apart, together, strict=True))
        else:
            return


def test_what_happens_comes_in_its_order() -> None:
    """Within one long step, by place; the time into the step grows."""
    belt = Belt(BeltTable(), count=4)
    belt.speed_mm_s = 1000.0
    events = belt.advance(0.7)
    assert [e.after_s for e in events] == sorted(e.after_s for e in events)
    assert [type(e) for e in events if e.number == 1] == [EyeEdge, UnderLens, Fell]
    assert [e.after_s for e in events if e.number == 1] == pytest.approx([0.06, 0.08, 0.46])


def test_the_encoder_wraps() -> None:
    """At 2^32, downwards as well."""
    belt = Belt(BeltTable(encoder_start=U32 - 100), count=1)
    belt.speed_mm_s = 1000.0
    belt.advance(0.02)
    assert belt.encoder == 100
    belt.speed_mm_s = -1000.0
    belt.advance(0.04)
    assert belt.encoder == U32 - 300


def test_a_part_carried_back_breaks_the_beam_with_its_end() -> None:
    """And its front is no edge then; forwards again, it is."""
    belt = Belt(BeltTable(), count=1)
    belt.speed_mm_s = 1000.0
    (front,) = belt.advance(0.065)  # 5 mm behind the photo-eye: still in the beam
    belt.speed_mm_s = -1000.0
    assert belt.advance(0.02) == []
    belt.speed_mm_s = 1000.0
    (again,) = belt.advance(0.02)
    assert isinstance(front, EyeEdge)
    assert isinstance(again, EyeEdge)
    assert again.encoder == front.encoder
    belt.advance(0.04)
    belt.speed_mm_s = -1000.0
    (back,) = belt.advance(0.03)
    assert isinstance(back, EyeEdge)
    assert not back.forward
    assert back.encoder == front.encoder + 300


def test_the_diverter_decides_when_the_part_is_there() -> None:
    """Not before and not after."""
    belt = Belt(BeltTable(), count=2)
    belt.speed_mm_s = 1000.0
    belt.passing = True
    belt.advance(0.45)
    belt.passing = False
    (one,) = [e for e in belt.advance(0.02) if isinstance(e, Fell)]
    belt.passing = True
    (two,) = [e for e in belt.advance(0.05) if isinstance(e, Fell)]
    assert (one.good_bin, two.good_bin) == (False, True)


def test_what_the_lens_shows() -> None:
    """The nearest part in view, 0 for the bare belt; also a moment after the last step."""
    belt = Belt(BeltTable(view_mm=40), count=2)
    belt.speed_mm_s = 1000.0
    assert belt.under_lens() == 0
    belt.advance(0.065)  # part 1 at 5 mm
    assert belt.under_lens() == 1
    assert belt.under_lens(0.03) == 1
    assert belt.under_lens(0.04) == 0
    assert belt.under_lens(0.06) == 2

"""What detections mean for a part: tables of cases, and properties that must hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.judge import judge
from edge_inspector.recipe import Limits, Recipe, RecipeTables, Rule, SizeStep, fit_recipe
from edge_inspector.types import Detections, Outcome, Reason, Severity, Verdict
from edge_inspector.zones import Box, Point, Zone, area

LABELS = ("short", "open", "spur")
Found = tuple[Box, float, int]  # box, score, label


def recipe(**tables: Any) -> Recipe:
    """A recipe for LABELS."""
    return fit_recipe("test", "0" * 64, RecipeTables(**tables), LABELS)


def detections(found: Sequence[Found]) -> Detections:
    """Detections as the engine gives them, best first."""
    found = sorted(found, key=lambda each: -each[1])
    return Detections(
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for _, _, label in found], np.int16),
    )


def verdict_on(*found: Found, **tables: Any) -> Verdict:
    """What a recipe says of these."""
    return judge(detections(found), recipe(**tables))


def square(x: float, y: float, size: float) -> tuple[Point, ...]:
    """A square polygon."""
    return ((x, y), (x + size, y), (x + size, y + size), (x, y + size))


BOX: Box = (10.0, 10.0, 20.0, 18.0)


def test_nothing_found_is_a_pass() -> None:
    """An empty answer of an engine that works is grade A."""
    assert verdict_on() == Verdict(Outcome.PASS, Reason.OK, grade="A")


@pytest.mark.parametrize(
    ("score", "defects", "near_misses", "suppressed"),
    [
        (0.1875, 0, 0, 0),  # below the floor: noise, not counted
        (0.25, 0, 1, 1),  # at the floor
        (0.4375, 0, 1, 1),
        (0.5, 1, 0, 0),  # at the threshold
        (1.0, 1, 0, 0),
    ],
)
def test_scores(score: float, defects: int, near_misses: int, suppressed: int) -> None:
    """Floor and threshold belong to what lies above them; a near-miss is listed and counted as suppressed."""
    verdict = verdict_on((BOX, score, 0), default=Rule(threshold=0.5, floor=0.25))
    assert (len(verdict.defects), len(verdict.near_misses), verdict.suppressed) == (defects, near_misses, suppressed)
    assert verdict.outcome is (Outcome.REJECT if defects else Outcome.PASS)


def test_each_class_has_its_rule() -> None:
    """A rule is for the class it names, the default for all others; defects carry the class's name."""
    tables: dict[str, Any] = {"classes": {"open": Rule(threshold=0.9, floor=0.8)}}
    assert verdict_on((BOX, 0.7, 1), **tables).outcome is Outcome.PASS
    assert verdict_on((BOX, 0.7, 1), **tables).suppressed == 0
    assert [d.label for d in verdict_on((BOX, 0.7, 2), (BOX, 0.95, 1), **tables).defects] == ["open", "spur"]


@pytest.mark.parametrize(
    ("rule", "scale", "counts"),
    [
        (Rule(min_px=10.0), None, True),  # the longer side, and the limit belongs to what counts
        (Rule(min_px=10.5), None, False),
        (Rule(max_px=10.0), None, True),
        (Rule(max_px=9.5), None, False),
        (Rule(min_mm=2.0), 5.0, True),
        (Rule(min_mm=2.5), 5.0, False),
        (Rule(max_mm=2.0), 5.0, True),
        (Rule(max_mm=1.5), 5.0, False),
        (Rule(min_px=5.0, min_mm=2.5), 5.0, False),  # both must hold
        (Rule(max_px=9.5, max_mm=50.0), 5.0, False),
    ],
)
def test_sizes(rule: Rule, scale: float | None, counts: bool) -> None:
    """Sizes are the longer side in pixels or millimetres; what they take out is counted."""
    verdict = verdict_on((BOX, 0.9, 0), default=rule, px_per_mm=scale)
    assert verdict.outcome is (Outcome.REJECT if counts else Outcome.PASS)
    assert verdict.suppressed == (0 if counts else 1)
    assert verdict.near_misses == ()


def test_area_is_known_where_the_scale_is() -> None:
    """Square millimetres of the box, or None."""
    assert verdict_on((BOX, 0.9, 0)).defects[0].area_mm2 is None
    assert verdict_on((BOX, 0.9, 0), px_per_mm=4.0).defects[0].area_mm2 == pytest.approx(10 * 8 / 16)


@pytest.mark.parametrize(
    ("zones", "counts", "name"),
    [
        ((), True, None),
        ((Zone(name="in", polygon=square(0, 0, 50)),), True, "in"),
        ((Zone(name="edge", polygon=square(15, 0, 50)),), True, "edge"),  # any part of the box
        ((Zone(name="far", polygon=square(30, 30, 50)),), False, None),
        ((Zone(name="far", polygon=square(30, 30, 5)), Zone(name="in", polygon=square(0, 0, 50))), True, "in"),
        ((Zone(name="other", polygon=square(0, 0, 50), classes=("open",)),), True, None),  # not for this class
        ((Zone(name="mine", polygon=square(30, 30, 5), classes=("short",)),), False, None),
        ((Zone(name="out", polygon=square(0, 0, 50), mode="exclude"),), False, None),
        ((Zone(name="out", polygon=square(15, 0, 50), mode="exclude"),), True, None),  # on its border: counts
        ((Zone(name="out", polygon=square(0, 0, 50), mode="exclude", classes=("open",)),), True, None),
        (
            (Zone(name="in", polygon=square(0, 0, 50)), Zone(name="out", polygon=square(5, 5, 20), mode="exclude")),
            False,
            "in",
        ),
        ((Zone(name="inner", polygon=square(12, 12, 2)),), True, "inner"),  # a zone smaller than the box
    ],
)
def test_zones(zones: tuple[Zone, ...], counts: bool, name: str | None) -> None:
    """Include zones are touched, exclude zones contain; zones of other classes do not matter."""
    verdict = verdict_on((BOX, 0.9, 0), zones=zones)
    assert verdict.outcome is (Outcome.REJECT if counts else Outcome.PASS)
    assert verdict.suppressed == (0 if counts else 1)
    if counts:
        assert verdict.defects[0].zone == name


STEPS = (SizeStep(severity=Severity.MAJOR, from_px=10.0), SizeStep(severity=Severity.CRITICAL, from_mm=4.0))


@pytest.mark.parametrize(
    ("side", "expected"),
    [(9.5, Severity.MINOR), (10.0, Severity.MAJOR), (19.5, Severity.MAJOR), (20.0, Severity.CRITICAL)],
)
@pytest.mark.parametrize("steps", [STEPS, STEPS[::-1]])
def test_severity_by_size(side: float, expected: Severity, steps: tuple[SizeStep, ...]) -> None:
    """The worst step that is reached counts, in whatever order they stand."""
    rule = Rule(severity=Severity.MINOR, severity_by_size=steps)
    verdict = verdict_on(((0.0, 0.0, 3.0, side), 0.9, 0), default=rule, px_per_mm=5.0)
    assert [d.severity for d in verdict.defects] == [expected]


def test_size_never_lowers_a_severity() -> None:
    """A step with a lesser severity than the class's own does not soften it."""
    rule = Rule(severity=Severity.CRITICAL, severity_by_size=(SizeStep(severity=Severity.MINOR, from_px=0.0),))
    assert verdict_on((BOX, 0.9, 0), default=rule).defects[0].severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("limits", "minors", "majors", "rejected"),
    [
        (Limits(), 1, 0, True),
        (Limits(minor=3), 2, 0, False),
        (Limits(minor=3), 3, 0, True),
        (Limits(minor=0), 50, 0, False),  # 0: that severity alone never rejects
        (Limits(minor=0, major=2), 50, 1, False),
        (Limits(minor=0, major=2), 0, 2, True),
        (Limits(minor=3, major=3), 2, 2, False),  # severities are counted apart
    ],
)
def test_limits(limits: Limits, minors: int, majors: int, rejected: bool) -> None:
    """As many of one severity as its limit make a reject."""
    found: list[Found] = [(BOX, 0.9, 0)] * minors + [(BOX, 0.9, 1)] * majors
    classes = {"short": Rule(severity=Severity.MINOR), "open": Rule(severity=Severity.MAJOR)}
    verdict = verdict_on(*found, classes=classes, reject=limits)
    assert verdict.outcome is (Outcome.REJECT if rejected else Outcome.PASS)
    assert len(verdict.defects) == minors + majors


@pytest.mark.parametrize(
    ("severity", "grade"),
    [(None, "A"), (Severity.MINOR, "B"), (Severity.MAJOR, "C"), (Severity.CRITICAL, "D")],
)
def test_grades(severity: Severity | None, grade: str) -> None:
    """The grade is the worst defect's, also where the part passes; a near-miss does not spoil an A."""
    found: list[Found] = [(BOX, 0.3, 1)] + ([] if severity is None else [(BOX, 0.9, 0), (BOX, 0.9, 2)])
    classes = {"short": Rule(severity=severity or Severity.MINOR), "spur": Rule(severity=Severity.MINOR)}
    verdict = verdict_on(*found, classes=classes, reject=Limits(minor=0, major=0, critical=9))
    assert verdict.outcome is Outcome.PASS
    assert verdict.grade == grade


def test_label_beyond_the_recipe_raises() -> None:
    """A class that the recipe has no rule for is an error, and not a rule of another class."""
    with pytest.raises(IndexError):
        verdict_on((BOX, 0.9, len(LABELS)))


coordinates = st.integers(0, 40).map(float)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 20), st.integers(1, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
founds = st.tuples(boxes, st.integers(0, 64).map(lambda n: n / 64), st.integers(0, 2))
polygons = (
    st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=6, unique=True)
    .map(tuple)
    .filter(lambda points: is_simple(points) and area(points) > 0)
)
zone_lists = st.lists(
    st.builds(
        Zone,
        name=st.sampled_from("uvw"),
        polygon=polygons,
        mode=st.sampled_from(["include", "exclude"]),
        classes=st.sampled_from([(), ("short",), ("open", "spur")]),
    ),
    max_size=3,
).map(tuple)
rules = st.builds(
    Rule,
    threshold=st.sampled_from([0.5, 0.75, 1.0]),
    floor=st.sampled_from([0.125, 0.25, 0.5]),
    severity=st.sampled_from(Severity),
    severity_by_size=st.lists(
        st.builds(SizeStep, severity=st.sampled_from(Severity), from_px=st.integers(0, 20)), max_size=2
    ).map(tuple),
    min_px=st.none() | st.integers(0, 10),
    max_px=st.none() | st.integers(10, 20),
)
recipes = st.builds(
    recipe,
    default=rules,
    classes=st.dictionaries(st.sampled_from(LABELS), rules, max_size=2),
    zones=zone_lists,
    reject=st.builds(Limits, minor=st.integers(0, 3), major=st.integers(0, 3), critical=st.integers(1, 3)),
    px_per_mm=st.none() | st.just(4.0),
)


@settings(deadline=None)
@given(st.lists(founds, max_size=6), founds, recipes)
def test_more_defects_never_make_a_pass(found: list[Found], one_more: Found, by: Recipe) -> None:
    """Whatever is found in addition, a reject stays a reject and the grade does not get better."""
    before, after = judge(detections(found), by), judge(detections([*found, one_more]), by)
    if before.outcome is Outcome.REJECT:
        assert after.outcome is Outcome.REJECT
    assert after.grade is not None
    assert before.grade is not None
    assert after.grade >= before.grade


@settings(deadline=None)
@given(st.lists(founds, max_size=6), recipes)
def test_nothing_is_taken_out_silently(found: list[Found], by: Recipe) -> None:
    """Every detection at or above its class's floor is a defect or counted; every near-miss is among the counted."""
    verdict = judge(detections(found), by)
    heard = [each for each in found if each[1] >= by.rules[each[2]].floor]
    assert len(verdict.defects) + verdict.suppressed == len(heard)
    assert len(verdict.near_misses) <= verdict.suppressed
    assert all(d.score >= by.rules[by.labels.index(d.label)].threshold for d in verdict.defects)
    assert all(d.score < by.rules[by.labels.index(d.label)].threshold for d in verdict.near_misses)


@settings(deadline=None)
@given(st.lists(founds, max_size=6), recipes)
def test_judge_rejects_or_passes_and_says_why(found: list[Found], by: Recipe) -> None:
    """Judging never makes a fault, and never a pass of a part whose critical defects reach their limit."""
    verdict = judge(detections(found), by)
    assert verdict.outcome in (Outcome.PASS, Outcome.REJECT)
    assert verdict.grade in ("A", "B", "C", "D")
    criticals = sum(d.severity is Severity.CRITICAL for d in verdict.defects)
    if criticals >= by.tables.reject.critical:
        assert verdict.outcome is Outcome.REJECT
    if not verdict.defects:
        assert verdict.outcome is Outcome.PASS


def crosses(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two closed segments have a point in common, or nearly."""

    def area(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return area(a, b, c) * area(a, b, d) <= 0 and area(c, d, a) * area(c, d, b) <= 0


def is_simple(polygon: Sequence[Point]) -> bool:
    """Whether no two sides meet but where they join."""
    n = len(polygon)
    sides = [(polygon[k], polygon[(k + 1) % n]) for k in range(n)]
    pairs = ((j, k) for j in range(n) for k in range(j + 2, n) if (j, k) != (0, n - 1))
    return not any(crosses(*sides[j], *sides[k]) for j, k in pairs)


def raster(polygon: Sequence[Point], box: Box, steps: int = 24) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Brute force: which of the points of a grid within the box lie in the polygon, by summing up angles."""
    where = (np.arange(steps) + 0.5) / steps + 1e-6
    x, y = np.meshgrid(box[0] + (box[2] - box[0]) * where, box[1] + (box[3] - box[1]) * where)
    turned = np.zeros_like(x)
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        ux, uy, vx, vy = ax - x, ay - y, bx - x, by - y
        turned += np.arctan2(ux * vy - uy * vx, ux * vx + uy * vy)
    return np.abs(turned) > np.pi


def meets(polygon: Sequence[Point], box: Box) -> bool:
    """Whether a side of the polygon meets one of the box: slivers slip between the points of a raster."""
    corners = [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]
    sides = list(zip(polygon, (*polygon[1:], polygon[0]), strict=True))
    return any(crosses(*side, corners[k - 1], corners[k]) for side in sides for k in range(4))


@settings(deadline=None, max_examples=400)
@given(polygons, boxes)
def test_geometry_against_brute_force(polygon: tuple[Point, ...], box: Box) -> None:
    """Boxes a quarter of a pixel off the polygon's grid: touching and containing are what a raster of points says."""
    box = (box[0] + 0.25, box[1] + 0.25, box[2] + 0.25, box[3] + 0.25)
    zone, inside = Zone(name="z", polygon=polygon), raster(polygon, box)
    if inside.any():
        assert zone.touches(box)
    if not inside.all():
        assert not zone.contains(box)
    margin = (box[0] - 0.5, box[1] - 0.5, box[2] + 0.5, box[3] + 0.5)
    if not raster(polygon, margin, 96).any() and not meets(polygon, margin):
        assert not zone.touches(box)
    if raster(polygon, margin, 96).all() and not zone.contains(box):
        assert zone.touches(margin)
        assert not zone.contains(margin)


C_SHAPE = (
    (0.0, 0.0),
    (100.0, 0.0),
    (100.0, 20.0),
    (20.0, 20.0),
    (20.0, 80.0),
    (100.0, 80.0),
    (100.0, 100.0),
    (0.0, 100.0),
)


@pytest.mark.parametrize(
    ("box", "touches", "contains"),
    [
        ((2, 2, 18, 98), True, True),  # in the back of the C
        ((30, 30, 90, 70), False, False),  # in its mouth
        ((10, 30, 90, 70), True, False),
        ((30, 10, 90, 90), True, False),  # all corners in its arms, the middle in its mouth
        ((-10, -10, 110, 110), True, False),  # all of it
        ((-30, 40, -10, 60), False, False),
        ((-10, 40, 120, 45), True, False),  # across the back, no corner and no vertex inside
    ],
)
def test_concave_zone(box: Box, touches: bool, contains: bool) -> None:
    """A zone in the shape of a C: its mouth is outside."""
    zone = Zone(name="c", polygon=C_SHAPE)
    assert (zone.touches(box), zone.contains(box)) == (touches, contains)
    turned = Zone(name="c", polygon=C_SHAPE[::-1])
    assert (turned.touches(box), turned.contains(box)) == (touches, contains)


def test_notch_as_high_as_the_box() -> None:
    """A box across a notch that begins and ends on the box's own sides is not all inside: its defect must count."""
    notched = ((0.0, 0.0), (30.0, 0.0), (50.0, 40.0), (70.0, 0.0), (100.0, 0.0), (100.0, 100.0), (0.0, 100.0))
    box = (20.0, 0.0, 80.0, 40.0)
    assert not raster(notched, box).all()
    assert not Zone(name="n", polygon=notched, mode="exclude").contains(box)


def test_zone_over_the_whole_frame_contains_boxes_at_every_edge() -> None:
    """Boxes are clipped to the frame, so a zone that ends with the frame must treat all four edges alike."""
    frame = Zone(name="f", polygon=((0.0, 0.0), (640.0, 0.0), (640.0, 480.0), (0.0, 480.0)), mode="exclude")
    assert frame.contains((0.0, 0.0, 9.0, 9.0))
    assert frame.contains((631.0, 100.0, 640.0, 109.0))
    assert frame.contains((100.0, 471.0, 109.0, 480.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "includes"}, 'mode: found "includes", expected "include" or "exclude"'),
        ({"polygon": ((0.0, 0.0), (1.0, 1.0))}, "polygon: found 2 points, expected three or more"),
    ],
)
def test_wrong_zones(change: dict[str, Any], message: str) -> None:
    """A zone that cannot be one is refused."""
    with pytest.raises(ValueError, match=message):
        Zone(**{"name": "z", "polygon": square(0, 0, 1), **change})


def test_the_area_of_what_was_found_counts_where_the_model_tells_it() -> None:
    """A round hole fills less than its box."""
    box = np.array([[10.0, 10.0, 30.0, 30.0]], np.float32)
    found = Detections(box, np.array([0.9], np.float32), np.array([0], np.int16), np.array([300.0], np.float32))
    tables = RecipeTables(px_per_mm=10.0)
    recipe = fit_recipe("r", "0" * 64, tables, ("hole",))
    assert judge(found, recipe).defects[0].area_mm2 == pytest.approx(3.0)

"""Thresholds are the best there are, and the bounds are those of the tables."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.commands.operating_point import (
    Choice,
    Evidence,
    Hit,
    allowed_escapes,
    at_least,
    at_most,
    between,
    choose,
    parts_needed,
)

FLOOR = 0.05
TENTHS = st.integers(1, 9).map(lambda tenth: tenth / 10)
HITS = st.lists(st.builds(Hit, st.integers(0, 2), st.integers(0, 2), TENTHS), max_size=4)
PARTS = st.lists(st.tuples(HITS, st.booleans()), min_size=1, max_size=9)
LIMITS = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 2))


def evidence_of(parts: list[tuple[list[Hit], bool]], limits: tuple[int, int, int]) -> Evidence:
    """As the command makes it."""
    return Evidence([hits for hits, _ in parts], [defective for _, defective in parts], limits=limits)


def tried(evidence: Evidence, allowed: int) -> int | None:
    """Every threshold between all scores, for every class."""
    values = (FLOOR, *(tenth / 10 - 0.01 for tenth in range(2, 10)), 1.0)
    counts = (evidence.counts(thresholds) for thresholds in itertools.product(values, repeat=3))
    return min((rejects for escapes, rejects in counts if escapes <= allowed), default=None)


@settings(max_examples=60, deadline=None)
@given(PARTS, LIMITS, st.integers(0, 2))
def test_no_other_thresholds_are_better(
    parts: list[tuple[list[Hit], bool]], limits: tuple[int, int, int], allowed: int
) -> None:
    """Against every combination there is; where it stops early, it says that it did."""
    evidence = evidence_of(parts, limits)
    expected = tried(evidence, allowed)
    found = choose(evidence, allowed, classes=3, floor=FLOOR)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.best
        assert found.escapes <= allowed
        assert found.false_rejects == expected
        assert evidence.counts(found.thresholds) == (found.escapes, found.false_rejects)
    hasty = choose(evidence, allowed, classes=3, floor=FLOOR, patience=0)
    assert (hasty is None) == (expected is None)
    if hasty is not None and expected is not None:
        assert hasty.escapes <= allowed
        assert hasty.false_rejects >= expected
        assert not hasty.best or hasty.false_rejects == expected


@settings(max_examples=60, deadline=None)
@given(PARTS, LIMITS, st.tuples(TENTHS, TENTHS, TENTHS))
def test_a_part_is_rejected_as_the_limits_say(
    parts: list[tuple[list[Hit], bool]], limits: tuple[int, int, int], thresholds: tuple[float, ...]
) -> None:
    """Also for some of the parts, and though only the strongest hits are kept."""
    evidence = evidence_of(parts, limits)
    expected = []
    for hits, _ in parts:
        counted = [hit.severity for hit in hits if hit.score >= thresholds[hit.label]]
        expected.append(any(0 < limit <= counted.count(severity) for severity, limit in enumerate(limits)))
    assert evidence.rejected(thresholds).tolist() == expected
    every_other = np.arange(len(parts)) % 2 == 0
    assert evidence.only(every_other).rejected(thresholds).tolist() == expected[::2]


def test_a_threshold_keeps_its_distance_from_both_sides() -> None:
    """Midway between the weakest defect that must be found and the strongest find on a good part."""
    parts = [([Hit(0, 2, 0.8)], True), ([Hit(0, 2, 0.7)], True), ([Hit(0, 2, 0.3)], False), ([], False)]
    assert choose(evidence_of(parts, (1, 1, 1)), 0, classes=1, floor=FLOOR) == Choice((0.5,), 0, 0, best=True)


def test_what_costs_nothing_is_caught_though_it_may_escape() -> None:
    """An escape that is allowed is not wanted."""
    parts = [([Hit(0, 2, 0.8)], True), ([Hit(0, 2, 0.4)], True), ([Hit(0, 2, 0.2)], False)]
    assert choose(evidence_of(parts, (1, 1, 1)), 1, classes=1, floor=FLOOR) == Choice((0.3,), 0, 0, best=True)


def test_each_class_pays_for_itself() -> None:
    """The class that is noisy on good parts gets a high threshold where another one finds its parts anyway."""
    noisy = [([Hit(1, 2, 0.6)], False)] * 5
    parts = [([Hit(0, 2, 0.5), Hit(1, 2, 0.5)], True), ([Hit(0, 2, 0.3)], False), ([Hit(1, 2, 0.9)], True), *noisy]
    assert choose(evidence_of(parts, (1, 1, 1)), 0, classes=2, floor=FLOOR) == Choice((0.4, 0.75), 0, 0, best=True)


def test_a_part_on_which_nothing_is_found_cannot_be_caught() -> None:
    """Then no thresholds hold the bound."""
    assert choose(evidence_of([([], True)], (1, 1, 1)), 0, classes=1, floor=FLOOR) is None


def test_many_classes_do_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand classes only those count that were found, and no class is tried again and again."""
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 1000, (60, 50)), random.random((60, 50)).round(3)
    hits = [
        [Hit(int(label), 2, float(score)) for label, score in zip(*each, strict=True)]
        for each in zip(labels, scores, strict=True)
    ]
    evidence, tried, rejected = (
        Evidence(hits, [n % 2 == 0 for n in range(60)], limits=(1, 1, 1)),
        [0],
        Evidence.rejected,
    )

    def counted(self: Evidence, thresholds: tuple[float, ...]) -> np.ndarray:
        tried[0] += 1
        assert tried[0] < 30_000
        return rejected(self, thresholds)

    monkeypatch.setattr(Evidence, "rejected", counted)
    told: list[float] = []
    found = choose(evidence, 1, classes=1000, floor=FLOOR, tell=told.append)
    assert found is not None
    assert found.escapes <= 1
    assert len(found.thresholds) == 1000
    assert told == sorted(told)
    never_found = set(range(1000)) - set(labels.ravel().tolist())
    assert never_found
    assert {found.thresholds[label] for label in never_found} == {between(FLOOR, 1.0)}


@pytest.mark.parametrize(
    ("events", "parts", "expected"),
    [(0, 300, 0.009936), (0, 10, 0.258866), (1, 10, 0.394163), (5, 10, 0.777559), (10, 10, 1.0), (0, 0, 1.0)],
)
def test_upper_bounds(events: int, parts: int, expected: float) -> None:
    """Of Clopper and Pearson's limits, one-sided 95 %, as tables for 90 % two-sided have them."""
    assert at_most(events, parts) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("events", "parts", "expected"), [(0, 10, 0.0), (1, 10, 0.005116), (5, 10, 0.222441)])
def test_lower_bounds(events: int, parts: int, expected: float) -> None:
    """The same from below."""
    assert at_least(events, parts) == pytest.approx(expected, abs=2e-6)


def test_how_many_parts_a_proof_takes() -> None:
    """Without an escape ln(0.05) / ln(1 - rate) of them; with one, more."""
    assert parts_needed(0.001) == 2995
    assert parts_needed(0.01) == 299
    assert parts_needed(0.01, events=1) == 473


def test_allowed_escapes_are_not_lost_to_rounding() -> None:
    """0.07 of 100 are 7, though 0.07 * 100 is a hair more and 0.29 * 100 a hair less."""
    assert [allowed_escapes(100, rate) for rate in (0.07, 0.29, 0.001)] == [7, 29, 0]


def test_a_number_between_two_is_short() -> None:
    """As somebody would type it; the upper end is allowed, the lower is not."""
    assert between(0.41, 0.62) == 0.52
    assert between(0.50001, 0.50003) == 0.50002
    assert between(0.5, 0.5) == 0.5

"""Choosing thresholds: of those that let at most so many defective parts pass, the ones with the fewest false rejects.

Pure: scores in, thresholds out. Words as in VDI/VDE/VDMA 2632-3: a defective part that passes is an escape (slip), a
good part that is rejected a false reject (pseudo-reject).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Thresholds = tuple[float, ...]  # one a class
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Hit:
    """A detection that zones and sizes let count. severity: its number, 0 for the mildest."""

    label: int
    severity: int
    score: float


class Evidence:
    """What was found on every labelled part, and how many hits of each severity reject one (0: never alone)."""

    def __init__(self, hits: Sequence[Sequence[Hit]], defective: Sequence[bool], *, limits: Sequence[int]) -> None:
        self.defective = np.array(defective, bool)
        self._limits = np.array(limits)
        rows = [(part, *row) for part, found in enumerate(hits) for row in _strongest(found, limits)]
        table = np.array(rows, float).reshape(-1, 4)
        self._part, self._label, self._severity = table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2]
        self._score = table[:, 3]
        self._slot = self._part * len(limits) + self._severity.astype(int)

    def of_known_labels(self) -> tuple[list[int], Evidence]:
        """The labels that occur, and the same evidence with their places in that list for numbers."""
        known, here = np.unique(self._label, return_inverse=True)
        other = object.__new__(Evidence)
        other.defective, other._limits = self.defective, self._limits
        other._part, other._label, other._severity = self._part, here.reshape(-1), self._severity
        other._score, other._slot = self._score, self._slot
        return known.tolist(), other

    def only(self, chosen: NDArray[np.bool_]) -> Evidence:
        """The same of some of the parts, whose numbers become others."""
        new, here = np.cumsum(chosen) - 1, chosen[self._part]
        other = object.__new__(Evidence)
        other.defective, other._limits = self.defective[chosen], self._limits
        other._part, other._label = new[self._part[here]], self._label[here]
        other._severity, other._score = self._severity[here], self._score[here]
        other._slot = other._part * len(self._limits) + other._severity.astype(int)
        return other

    def rejected(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Which parts these thresholds reject: what judge() says of them."""
        counts = np.bincount(
            self._slot[self._score >= np.array(thresholds)[self._label]],
            minlength=len(self.defective) * len(self._limits),
        ).reshape(-1, len(self._limits))
        return np.asarray(((self._limits > 0) & (counts >= self._limits)).any(axis=1))

    def escaped(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Which parts are defective and pass."""
        return self.defective & ~self.rejected(thresholds)

    def counts(self, thresholds: Thresholds) -> tuple[int, int]:
        """Escapes and false rejects."""
        rejected = self.rejected(thresholds)
        return int((self.defective & ~rejected).sum()), int((~self.defective & rejected).sum())

    def scores(self, label: int, *, defective: bool) -> list[float]:
        """The different scores of a class on defective or on good parts, rising."""
        here = (self._label == label) & (self.defective[self._part] == defective)
        return [float(score) for score in np.unique(self._score[here])]

    def next_scores(self, part: int, thresholds: Thresholds) -> list[tuple[int, float]]:
        """For every class that has one, the part's best hit that its threshold takes out, as (class, score)."""
        mine = (self._part == part) & (self._score < np.array(thresholds)[self._label])
        best: dict[int, float] = {}
        for label, score in zip(self._label[mine].tolist(), self._score[mine].tolist(), strict=True):
            best[label] = max(score, best.get(label, 0.0))
        return list(best.items())


def _strongest(hits: Sequence[Hit], limits: Sequence[int]) -> list[tuple[int, int, float]]:
    """Of each class and severity so many as reject a part: more never matter."""
    seen: Counter[tuple[int, int]] = Counter()
    rows = []
    for hit in sorted(hits, key=lambda hit: hit.score, reverse=True):
        seen[hit.label, hit.severity] += 1
        if seen[hit.label, hit.severity] <= limits[hit.severity]:
            rows.append((hit.label, hit.severity, hit.score))
    return rows


@dataclass(frozen=True, slots=True)
class Choice:
    """Thresholds and what they do to the parts they were chosen on. best: no others have fewer false rejects."""

    thresholds: Thresholds
    escapes: int
    false_rejects: int
    best: bool


def allowed_escapes(parts: int, rate: float) -> int:
    """How many of so many defective parts may pass at this rate."""
    return math.floor(rate * parts + 1e-9)


def choose(
    evidence: Evidence,
    allowed: int,
    *,
    classes: int,
    floor: float,
    patience: int = 15_000,
    tell: Callable[[float], None] = lambda share: None,
) -> Choice | None:
    """Thresholds with the fewest false rejects among those with at most `allowed` escapes; None where there are none.

    Classes of which nothing was found are left out of the search: theirs lies midway between floor and 1.

    tell: is called with the share of `patience` that is used up.
    """
    labels, known = evidence.of_known_labels()
    found = _choose(known, allowed, classes=len(labels), floor=floor, patience=patience, tell=tell)
    if found is None:
        return None
    thresholds = dict(zip(labels, found.thresholds, strict=True))
    unknown = between(floor, 1.0)
    return replace(found, thresholds=tuple(thresholds.get(label, unknown) for label in range(classes)))


def _choose(
    evidence: Evidence, allowed: int, *, classes: int, floor: float, patience: int, tell: Callable[[float], None]
) -> Choice | None:
    """Branch and bound.

    It starts with thresholds of 1, then takes the defective part that is dearest to catch and tries each way to go on:
    let it escape, or lower the threshold of one class to its score. Lowering never takes a false reject back, so a
    branch with as many as the best answer so far is cut. It tries `patience` ways at most; where that is not enough,
    the answer holds the bound all the same, but a better one may exist.
    """
    lowest = (floor,) * classes
    if evidence.counts(lowest)[0] > allowed:
        return None
    best = _raised(evidence, _common(evidence, allowed, classes, floor), allowed)
    fewest = evidence.counts(best)[1]
    dear = {int(part): _cost(evidence, int(part), classes) for part in np.flatnonzero(evidence.defective)}
    stack: list[tuple[Thresholds, frozenset[int]]] = [((1.0,) * classes, frozenset())]
    seen, used = set(stack), 0
    while stack and used < patience and fewest:
        used += 1
        tell(used / patience)
        here, let_go = stack.pop()
        escaped = [int(part) for part in np.flatnonzero(evidence.escaped(here))]
        cost = evidence.counts(here)[1]
        if len(escaped) <= allowed:
            if cost < fewest:
                best = _raised(evidence, here, allowed)
                fewest = evidence.counts(best)[1]
            continue
        to_catch = sorted((part for part in escaped if part not in let_go), key=dear.__getitem__, reverse=True)
        left = allowed - sum(part in let_go for part in escaped)
        if max(cost, dear[to_catch[left]]) >= fewest:  # at most `left` of them may escape yet
            continue
        dearest = to_catch[0]
        ways = [_lowered(here, label, score) for label, score in evidence.next_scores(dearest, here)]
        used += len(ways)
        ways.sort(key=lambda way: evidence.counts(way)[1], reverse=True)  # the cheapest is taken from the stack first
        nodes = [(way, let_go) for way in ways] + ([(here, let_go | {dearest})] if left else [])
        stack += [node for node in nodes if node not in seen]
        seen.update(nodes)
    best = _centred(evidence, best, floor)
    return Choice(best, *evidence.counts(best), best=not stack or not fewest)


def cross_validate(
    evidence: Evidence,
    fold: NDArray[np.int_],
    *,
    rate: float,
    classes: int,
    floor: float,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[int, int]:
    """Escapes and false rejects where the parts of each fold are judged by thresholds chosen on all the others.

    Where on those the rate cannot be held, with the fewest escapes that can be. tell: the share that is done.
    """
    escapes = rejects = 0
    folds = np.unique(fold)
    for n, each in enumerate(folds):
        tell(n / len(folds))
        others, judged = evidence.only(fold != each), evidence.only(fold == each)
        allowed = max(allowed_escapes(int(others.defective.sum()), rate), others.counts((floor,) * classes)[0])
        choice = choose(others, allowed, classes=classes, floor=floor, patience=2500)
        assert choice is not None
        escaped, rejected = judged.counts(choice.thresholds)
        escapes, rejects = escapes + escaped, rejects + rejected
    return escapes, rejects


def _lowered(thresholds: Thresholds, label: int, score: float) -> Thresholds:
    return (*thresholds[:label], score, *thresholds[label + 1 :])


def _common(evidence: Evidence, allowed: int, classes: int, floor: float) -> Thresholds:
    """The highest threshold, one for all classes, with few enough escapes."""
    scores = sorted({score for label in range(classes) for score in evidence.scores(label, defective=True)})
    ways = [(value,) * classes for value in (floor, *(score for score in scores if score > floor), 1.0)]
    return ways[_last(ways, lambda way: evidence.counts(way)[0] <= allowed)]


def _raised(evidence: Evidence, thresholds: Thresholds, allowed: int) -> Thresholds:
    """One class after the other as high as the bound on escapes lets it be, the one that saves most first.

    None can be raised a second time. Once none saves a false reject, their order does not matter.
    """
    waiting, fewest = list(range(len(thresholds))), evidence.counts(thresholds)[1]
    while waiting and fewest:
        ways = [_raised_one(evidence, thresholds, allowed, label) for label in waiting]
        rejects = [evidence.counts(way)[1] for way in ways]
        first = min(range(len(ways)), key=lambda n: (rejects[n], -sum(ways[n])))
        if rejects[first] >= fewest:
            break
        thresholds, fewest = ways[first], rejects[first]
        del waiting[first]
    for label in waiting:
        thresholds = _raised_one(evidence, thresholds, allowed, label)
    return thresholds


def _raised_one(evidence: Evidence, thresholds: Thresholds, allowed: int, label: int) -> Thresholds:
    scores = [score for score in evidence.scores(label, defective=True) if score > thresholds[label]]
    ways = [_lowered(thresholds, label, value) for value in (thresholds[label], *scores, 1.0)]
    return ways[_last(ways, lambda way: evidence.counts(way)[0] <= allowed)]


def _cost(evidence: Evidence, part: int, classes: int) -> float:
    """The fewest false rejects with which a part can be caught, or a bound below it; infinite where it never is."""
    top = (1.0,) * classes
    if evidence.rejected(top)[part]:
        return 0.0
    ways = evidence.next_scores(part, top)
    return min((evidence.counts(_lowered(top, label, score))[1] for label, score in ways), default=math.inf)


def _centred(evidence: Evidence, thresholds: Thresholds, floor: float) -> Thresholds:
    """Each threshold between the last score that is needed and the next that would reject a good part.

    On the way down it catches what can be caught for nothing.
    """
    for label in range(len(thresholds)):
        thresholds = _lowered(thresholds, label, _centre(evidence, thresholds, label, floor))
    return thresholds


def _centre(evidence: Evidence, thresholds: Thresholds, label: int, floor: float) -> float:
    highest, most = thresholds[label], evidence.counts(thresholds)[1]

    def at(value: float) -> tuple[int, int]:
        return evidence.counts(_lowered(thresholds, label, value))

    good = [score for score in evidence.scores(label, defective=False) if floor <= score < highest]
    falls = [highest, *reversed(good), floor]
    too_low = falls[min(_last(falls, lambda value: at(value)[1] <= most) + 1, len(falls) - 1)]
    rises = [score for score in evidence.scores(label, defective=True) if too_low < score < highest] + [highest]
    fewest = at(rises[0])[0]
    return between(too_low, rises[_last(rises, lambda value: at(value)[0] <= fewest)])


def between(low: float, high: float) -> float:
    """The shortest decimal above `low` and up to `high`, near their middle."""
    middle = (low + high) / 2
    short = (round(middle, digits) for digits in range(2, 17))
    return next((value for value in short if low < value <= high), high)


def _last(values: Sequence[T], holds: Callable[[T], bool]) -> int:
    """The index of the last value for which a condition holds that holds for the first, and once lost stays so."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(values[middle]) else (low, middle)
    return low


def at_most(events: int, parts: int, *, confidence: float = CONFIDENCE) -> float:
    """The upper one-sided bound of a rate, of which `events` in `parts` were seen (Clopper and Pearson 1934)."""
    if events >= parts:
        return 1.0
    return _root(lambda rate: _binomial(events, parts, rate) > 1.0 - confidence)


def at_least(events: int, parts: int, *, confidence: float = CONFIDENCE) -> float:
    """The lower one-sided bound."""
    return 1.0 - at_most(parts - events, parts, confidence=confidence) if parts else 0.0


def parts_needed(rate: float, *, events: int = 0) -> int:
    """How many defective parts prove a rate at 95 %, where so many of them escape."""
    low, high = events, events + 1
    while at_most(events, high) > rate:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most(events, middle) > rate else (low, middle)
    return high


def _binomial(events: int, parts: int, rate: float) -> float:
    """The probability of at most so many events."""
    logs = [
        math.lgamma(parts + 1) - math.lgamma(n + 1) - math.lgamma(parts - n + 1)
        + n * math.log(rate) + (parts - n) * math.log1p(-rate)
        for n in range(events + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(value) for value in logs)


def _root(above: Callable[[float], bool]) -> float:
    """Where in 0..1 a condition that holds on the left ends, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high

"""The conveyor as physics, without a clock: where the parts are, and what happens while it moves.

A part's position is that of its front edge, in mm behind the photo-eye. A beam that becomes broken is an edge: by the
front of a part that comes, and by the end of a part that is carried back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..tables import at_least, within

U32 = 1 << 32
LEAD_MM = 60.0  # how far before the photo-eye a part is laid on the belt
GAP_MM = 1.0  # between two parts at the least, so that the photo-eye can tell them apart


@dataclass(frozen=True, slots=True, kw_only=True)
class BeltTable:
    """Geometry. speed_mm_s / pitch_mm: parts a second. jitter_mm: how far a pitch may be longer or shorter.

    lens_mm, ejector_mm: behind the photo-eye. view_mm: the lens shows the part whose front edge is nearest to lens_mm,
    where it is at most half of this away. encoder_start: what the encoder counts at first, unsigned 32 bits.
    """

    speed_mm_s: float = 1000.0
    pitch_mm: float = 50.0
    jitter_mm: float = 0.0
    length_mm: float = 30.0
    lens_mm: float = 20.0
    view_mm: float = 40.0
    ejector_mm: float = 400.0
    counts_per_mm: float = 10.0
    encoder_start: int = 0

    def __post_init__(self) -> None:
        within("speed_mm_s", self.speed_mm_s, 1.0, 20_000.0)
        at_least("length_mm", self.length_mm, 1.0)
        at_least("pitch_mm", self.pitch_mm, self.length_mm + GAP_MM)
        at_least("jitter_mm", self.jitter_mm, 0.0)
        at_least("lens_mm", self.lens_mm, 0.0)
        within("view_mm", self.view_mm, 1.0, self.pitch_mm)
        at_least("ejector_mm", self.ejector_mm, self.lens_mm + self.view_mm)
        within("counts_per_mm", self.counts_per_mm, 0.1, 1000.0)
        within("encoder_start", self.encoder_start, 0, U32 - 1)


@dataclass(frozen=True, slots=True)
class EyeEdge:
    """The beam has become broken. number: of the part. encoder: as latched. after_s: into the step."""

    number: int
    encoder: int
    after_s: float
    forward: bool


@dataclass(frozen=True, slots=True)
class UnderLens:
    """A part has come to stand exactly under the lens, moving forward."""

    number: int
    encoder: int
    after_s: float


@dataclass(frozen=True, slots=True)
class Fell:
    """A part has left the belt, into the bin that the diverter led to at that moment."""

    number: int
    encoder: int
    after_s: float
    good_bin: bool


BeltEvent = EyeEdge | UnderLens | Fell


class Belt:
    """Lays parts 1 to `count`. speed_mm_s is what it runs at, below 0 backwards; passing: the diverter, led to the good
    bin only where it is True. pitch_mm and jitter_mm hold for the parts that are laid from now on.
    """

    def __init__(self, table: BeltTable, *, count: int, seed: int = 1) -> None:
        self.table = table
        self.speed_mm_s = 0.0
        self.pitch_mm, self.jitter_mm = table.pitch_mm, table.jitter_mm
        self.passing = False
        self._count = count
        self._laid = 0
        self._moved_mm = 0.0  # how far the belt has moved since the start
        self._next_mm = LEAD_MM  # how far it will have moved when the next part's front edge is at the photo-eye
        self._parts: deque[tuple[int, float]] = deque()  # number, and how far the belt moves till it is at the eye
        self._random = np.random.default_rng((seed, 3))
        self._lay()

    @property
    def encoder(self) -> int:
        """Counts now, unsigned 32 bits."""
        return self._counts(self._moved_mm)

    @property
    def parts(self) -> list[tuple[int, float]]:
        """Number and position in mm of each part on the belt, the foremost first."""
        return [(number, self._moved_mm - start_mm) for number, start_mm in self._parts]

    @property
    def empty(self) -> bool:
        """Whether all parts were laid and have fallen."""
        return not self._parts and self._laid == self._count

    def under_lens(self, after_s: float = 0.0) -> int:
        """The number of the part that the lens shows, 0 for none, so long after the last step."""
        seen_mm = self._moved_mm + self.speed_mm_s * after_s - self.table.lens_mm
        away_mm, number = min(((abs(seen_mm - start), number) for number, start in self._parts), default=(math.inf, 0))
        return number if away_mm <= self.table.view_mm / 2 else 0

    def advance(self, dt_s: float) -> list[BeltEvent]:
        """Move for so long at the present speed; returns what happened, in its order."""
        before_mm = self._moved_mm
        self._moved_mm = after_mm = before_mm + self.speed_mm_s * dt_s
        if after_mm >= before_mm:
            self._lay()
            found = self._forward(before_mm, after_mm)
        else:
            length_mm = self.table.length_mm
            found = [
                (start + length_mm, 0, number)
                for number, start in self._parts
                if after_mm < start + length_mm <= before_mm
            ]
            found.sort(reverse=True)
        events = [self._event(where, kind, number, before_mm) for where, kind, number in found]
        while self._parts and self._moved_mm >= self._parts[0][1] + self.table.ejector_mm:
            self._parts.popleft()
        return events

    def _forward(self, before_mm: float, after_mm: float) -> list[tuple[float, int, int]]:
        """Where each thing happened, what (0 eye, 1 lens, 2 ejector), and to which part."""
        places = (0.0, self.table.lens_mm, self.table.ejector_mm)
        return sorted(
            (start + place, kind, number)
            for number, start in self._parts
            for kind, place in enumerate(places)
            if before_mm < start + place <= after_mm
        )

    def _event(self, where_mm: float, kind: int, number: int, before_mm: float) -> BeltEvent:
        encoder, after_s = self._counts(where_mm), (where_mm - before_mm) / self.speed_mm_s
        if kind == 0:
            return EyeEdge(number, encoder, after_s, self.speed_mm_s > 0)
        return UnderLens(number, encoder, after_s) if kind == 1 else Fell(number, encoder, after_s, self.passing)

    def _lay(self) -> None:
        """Lay the parts that have come so near to the photo-eye."""
        while self._laid < self._count and self._next_mm <= self._moved_mm + LEAD_MM:
            self._laid += 1
            self._parts.append((self._laid, self._next_mm))
            pitch_mm = self.pitch_mm + self.jitter_mm * float(self._random.uniform(-1.0, 1.0))
            self._next_mm += max(pitch_mm, self.table.length_mm + GAP_MM)

    def _counts(self, moved_mm: float) -> int:
        return (self.table.encoder_start + math.floor(moved_mm * self.table.counts_per_mm + 1e-6)) % U32

"""Recipe: what counts as a defect and how many make a reject. Owns the keys of a recipe file."""

from __future__ import annotations

import difflib
import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError
from .lens import Lens, parse_lens
from .tables import read_file, read_table, read_toml
from .types import Severity
from .zones import Zone


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeStep:
    """From this size on (the longer side of the box) a defect has this severity. Give from_px or from_mm."""

    severity: Severity
    from_px: float | None = None
    from_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one class is judged. Sizes are the longer side of the box; the mm keys need the recipe's camera or px_per_mm.

    From `threshold` on a detection counts; between `floor` and it, it is a near-miss; below, it is noise.
    """

    threshold: float = 0.5
    floor: float = 0.25
    severity: Severity = Severity.CRITICAL
    severity_by_size: tuple[SizeStep, ...] = ()
    min_px: float | None = None
    max_px: float | None = None
    min_mm: float | None = None
    max_mm: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.floor <= self.threshold <= 1.0:
            raise ValueError(f"threshold: found floor {self.floor}, threshold {self.threshold}; expected "
                             "0 < floor <= threshold <= 1")  # fmt: skip
        for lowest, highest in (("min_px", "max_px"), ("min_mm", "max_mm")):
            low, high = getattr(self, lowest), getattr(self, highest)
            for key, value in ((lowest, low), (highest, high)):
                if value is not None and not 0.0 <= value < math.inf:
                    raise ValueError(f"{key}: found {value}, expected 0 or more")
            if low is not None and high is not None and low > high:
                raise ValueError(f"{highest}: found {high}, expected {lowest} or more, which is {low}")
        for step in self.severity_by_size:
            if (step.from_px is None) == (step.from_mm is None):
                raise ValueError("severity_by_size: expected either from_px or from_mm in each entry")

    @property
    def needs_scale(self) -> bool:
        """Whether any limit is in millimetres."""
        return (self.min_mm, self.max_mm) != (None, None) or any(s.from_mm is not None for s in self.severity_by_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many defects of a severity make a reject; 0: that severity alone never does."""

    minor: int = 1
    major: int = 1
    critical: int = 1

    def __post_init__(self) -> None:
        for severity in Severity:
            if getattr(self, severity.value) < 0:
                raise ValueError(f"{severity.value}: found {getattr(self, severity.value)}, expected 0 or more")
        if self.critical == 0:
            raise ValueError("critical: found 0, expected 1 or more: a critical defect must be able to reject a part")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTables:
    """The keys of a recipe file. `default` holds for every class, in what the class's own table does not say.

    camera: a camera file, relative to the recipe's; it measures in mm wherever in the frame. px_per_mm: one scale for
    the whole frame, for a view from straight above through a lens without distortion.
    """

    default: Rule = field(default_factory=Rule)
    classes: dict[str, Rule] = field(default_factory=dict)
    zones: tuple[Zone, ...] = ()
    reject: Limits = field(default_factory=Limits)
    px_per_mm: float | None = None
    camera: str | None = None

    def __post_init__(self) -> None:
        if self.px_per_mm is not None and not 0 < self.px_per_mm < math.inf:
            raise ValueError(f"px_per_mm: found {self.px_per_mm}, expected more than 0")
        if self.px_per_mm is not None and self.camera is not None:
            raise ValueError("px_per_mm: found it beside camera, expected one of them: each says how large a mm is")
        needed = any(rule.needs_scale for rule in (self.default, *self.classes.values()))
        if needed and self.px_per_mm is None and self.camera is None:
            raise ValueError("px_per_mm: found nothing, expected it, or camera, as limits in mm are given; "
                             "`edge-inspector calibrate camera` finds both")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe fitted to an engine's classes: rules[i] judges labels[i].

    sha256: of the file's bytes, and behind them those of the camera file where it names one. lens: that file.
    """

    name: str
    sha256: str
    tables: RecipeTables
    labels: tuple[str, ...]
    rules: tuple[Rule, ...]
    lens: Lens | None = None

    @property
    def floor(self) -> float:
        """The lowest floor of all classes: what the engine finds below it is noise for every class."""
        return min(rule.floor for rule in self.rules)


def load_recipe(path: Path, labels: tuple[str, ...]) -> Recipe:
    """Read a recipe file for an engine that knows `labels`. Raises ConfigError: also for a class it does not know."""
    raw = read_file(path)
    found = read_toml(path, raw)
    classes, default = found.get("classes"), found.get("default", {})
    if isinstance(classes, dict) and isinstance(default, dict):
        for name, rule in classes.items():
            if isinstance(rule, dict):
                classes[name] = {**default, **rule}
            read_table(path, classes[name], Rule, f"classes.{name}")  # one by one: a message can name the class
    tables: RecipeTables = read_table(path, found, RecipeTables, "")
    named = [(f"classes.{name}", name) for name in tables.classes]
    named += [(f"zones[{n}].classes", name) for n, zone in enumerate(tables.zones) for name in zone.classes]
    for where, name in named:
        if name not in labels:
            near = difflib.get_close_matches(name, labels, n=1, cutoff=0.0)[0]
            raise ConfigError(f'{path}: {where}: the engine knows no class "{name}"; the nearest is "{near}"')
    name = path.parent.name if path.stem == "recipe" else path.stem  # an engine's own recipe goes by the engine's name
    seen = b"" if tables.camera is None else read_file(path.parent / tables.camera)
    lens = None if tables.camera is None else parse_lens(path.parent / tables.camera, seen)
    return fit_recipe(name, hashlib.sha256(raw + seen).hexdigest(), tables, labels, lens)


def refuse_for_frame(recipe: Recipe, path: Path, size: tuple[int, int]) -> None:
    """Raise ConfigError for an include zone outside frames of (height, width): with it, nothing could ever count.

    And for a camera file that was made for frames of another size: its millimetres would be wrong.
    """
    if recipe.lens is not None and (recipe.lens.height, recipe.lens.width) != size:
        raise ConfigError(
            f"{path}: camera: found {recipe.tables.camera}, made for frames of {recipe.lens.width} x "
            f"{recipe.lens.height}, expected {size[1]} x {size[0]} pixels: `edge-inspector calibrate camera`"
        )
    frame = (0.0, 0.0, float(size[1]), float(size[0]))
    for n, zone in enumerate(recipe.tables.zones):
        if zone.mode == "include" and not zone.touches(frame):
            raise ConfigError(
                f'{path}: zones[{n}].polygon: found zone "{zone.name}" outside the frame, '
                f"expected it within {size[1]} x {size[0]} pixels"
            )


def fit_recipe(
    name: str, sha256: str, tables: RecipeTables, labels: tuple[str, ...], lens: Lens | None = None
) -> Recipe:
    """Give every class of the engine its rule."""
    rules = tuple(tables.classes.get(label, tables.default) for label in labels)
    return Recipe(name, sha256, tables, labels, rules, lens)

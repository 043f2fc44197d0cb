"""A recipe file: what it means, and that a wrong one says where it is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_inspector.errors import ConfigError
from edge_inspector.recipe import Recipe, Rule, load_recipe
from edge_inspector.types import Severity

LABELS = ("missing_hole", "short", "spur")
RIGHT = """
px_per_mm = 24.0

[default]
threshold = 0.6
severity = "minor"

[classes.short]
threshold = 0.4
min_mm = 0.1
[[classes.short.severity_by_size]]
severity = "critical"
from_mm = 0.5

[reject]
minor = 3

[[zones]]
name = "label"
mode = "exclude"
polygon = [[0, 0], [10, 0], [10, 10.5]]
classes = ["spur"]
"""


def load(folder: Path, text: str) -> Recipe:
    """Write a recipe file and load it."""
    path = folder / "pcb.toml"
    path.write_text(text)
    return load_recipe(path, LABELS)


def test_right_recipe(tmp_path: Path) -> None:
    """Every key arrives, and every class of the engine has its rule."""
    recipe = load(tmp_path, RIGHT)
    assert recipe.name == "pcb"
    assert recipe.labels == LABELS
    assert [rule.threshold for rule in recipe.rules] == [0.6, 0.4, 0.6]
    assert recipe.rules[1].severity is Severity.MINOR  # from [default], as it says nothing else
    assert recipe.rules[1].severity_by_size[0].from_mm == 0.5
    assert recipe.tables.reject.minor == 3
    assert recipe.tables.zones[0].polygon == ((0.0, 0.0), (10.0, 0.0), (10.0, 10.5))
    assert recipe.tables.zones[0].classes == ("spur",)


def test_empty_recipe_rejects_everything_it_knows(tmp_path: Path) -> None:
    """Without a word, every class is critical, everywhere, in every size, and one is enough."""
    recipe = load(tmp_path, "")
    assert recipe.rules == (Rule(),) * 3
    assert recipe.rules[0].severity is Severity.CRITICAL
    assert recipe.tables.reject.critical == recipe.tables.reject.major == recipe.tables.reject.minor == 1


def test_sha256_is_the_files(tmp_path: Path) -> None:
    """The checksum in a verdict is what `sha256sum` says of the file."""
    text = RIGHT + "# a comment counts as well: \u00b5\n"
    assert load(tmp_path, text).sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_floor_is_the_lowest_of_all_classes(tmp_path: Path) -> None:
    """What any class still wants to hear of is asked of the engine."""
    assert load(tmp_path, "[classes.spur]\nfloor = 0.1").floor == 0.1
    every = "".join(f"[classes.{label}]\nfloor = 0.4\n" for label in LABELS)
    assert load(tmp_path, "[default]\nfloor = 0.01\n" + every).floor == 0.4


ZONE = '[[zones]]\nname = "z"\npolygon = [[0, 0], [9, 0], [9, 9]]\n'
WRONG = [
    # text, then what the message must hold beside the file: key, found, expected
    ("treshold = 1", ["treshold: ", "unknown key", "nearest known one"]),
    ("[default]\ntreshold = 0.5", ['default.treshold: unknown key "treshold"', '"threshold"']),
    ("[classes.short]\nmin_m = 1", ['classes.short.min_m: unknown key "min_m"', '"min_mm"']),
    ("[reject]\nminors = 1", ['reject.minors: unknown key "minors"', '"minor"']),
    ("[rejects]\nminor = 1", ['rejects: unknown key "rejects"', '"reject"']),
    (ZONE + "klasses = []", ['zones[0].klasses: unknown key "klasses"', '"classes"']),
    (
        '[[default.severity_by_size]]\nseverity = "minor"\nfrom_p = 1',
        ['default.severity_by_size[0].from_p: unknown key "from_p"', '"from_px"'],
    ),
    ("[classes.shrot]", ["classes.shrot: ", 'no class "shrot"', 'nearest is "short"']),
    ('[default]\nthreshold = "0.5"', ["default.threshold: ", 'found "0.5" (str)', "expected float"]),
    ("[default]\nthreshold = 1.5", ["default.threshold: ", "threshold 1.5", "<= 1"]),
    ("[default]\nthreshold = nan", ["default.threshold: ", "nan", "expected"]),
    ("[default]\nfloor = 0.0", ["default.", "floor 0.0", "expected 0 < floor"]),
    ("[default]\nfloor = 0.9", ["default.", "floor 0.9, threshold 0.5", "floor <= threshold"]),
    ("[default]\nmin_mm = 1", ["px_per_mm: ", "found nothing", "expected it"]),
    ("px_per_mm = 0", ["px_per_mm: ", "found 0", "expected more than 0"]),
    ("px_per_mm = nan", ["px_per_mm: ", "found nan", "expected more than 0"]),
    ("[reject]\ncritical = 0", ["reject.critical: ", "found 0", "expected 1 or more"]),
    ("[reject]\nmajor = -1", ["reject.major: ", "found -1", "expected 0 or more"]),
    ("[reject]\nmajor = 1.5", ["reject.major: ", "found 1.5", "expected int"]),
    ("classes = 3", ["classes: ", "found 3", "expected"]),
    ("zones = [1]", ["zones[0]: ", "found 1", "expected"]),
    (ZONE + 'mode = "inside"', ["zones[0].mode: ", 'found "inside"', 'expected "include" or "exclude"']),
    (ZONE.replace(", [9, 9]", ""), ["zones[0].polygon: ", "found 2 points", "expected three"]),
    (ZONE.replace("[9, 9]", "[9, 9, 9]"), ["zones[0].polygon[2]: ", "found [9, 9, 9]", "expected array of length 2"]),
    ("[[zones]]\npolygon = [[0, 0], [9, 0], [9, 9]]", ["zones[0].name: ", "found nothing", "expected this key"]),
    (
        '[[default.severity_by_size]]\nseverity = "minor"',
        ["default.severity_by_size: ", "expected either from_px or from_mm"],
    ),
    ("threshold 5", ["is not TOML", "line 1"]),
]


@pytest.mark.parametrize(("text", "parts"), WRONG)
def test_wrong_recipes(tmp_path: Path, text: str, parts: list[str]) -> None:
    """The message names the file, the key, what was found and what was expected."""
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'pcb.toml'}: ")
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param(
            '[classes.short]\nthreshold = "0.5"',
            ["classes.short.threshold: ", 'found "0.5"', "expected float"],
        ),
        pytest.param(
            "[classes.short]\nthreshold = 1.5",
            ["classes.short.threshold: ", "1.5"],
        ),
        pytest.param(
            ZONE + 'classes = ["shrot"]',
            ["zones[0].classes", 'no class "shrot"', 'nearest is "short"'],
        ),
        pytest.param(
            "px_per_mm = 0",
            ["pcb.toml: px_per_mm: "],
        ),
        pytest.param(
            '[[default.severity_by_size]]\nseverity = "bad"\nfrom_px = 1',
            ["default.severity_by_size[0].severity: ", "bad", "expected", "minor"],
        ),
    ],
)
def test_wrong_recipes_say_where(tmp_path: Path, text: str, parts: list[str]) -> None:
    """The message names the very key that is wrong, also inside tables with free names."""
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[default]\nmin_px = nan",
        "[default]\nmin_px = inf",
        "[default]\nmax_px = -1",
        "[default]\nmin_px = 20\nmax_px = 10",
        "px_per_mm = inf\n[default]\nmin_mm = 1",
        ZONE.replace("[9, 9]", "[nan, 9]"),
        ZONE.replace("[9, 9]", "[5, 0]"),
    ],
)
def test_recipe_that_can_never_reject_is_refused(tmp_path: Path, text: str) -> None:
    """A limit that is no number, limits the wrong way round, a zone without area: each would let everything pass."""
    with pytest.raises(ConfigError, match="expected"):
        load(tmp_path, text)


def test_absent_recipe(tmp_path: Path) -> None:
    """A file that is not there is a wrong configuration, with its path in the message."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_recipe(tmp_path / "none.toml", LABELS)


def test_a_class_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    """A class's table changes single keys of [default], and nothing else."""
    recipe = load(tmp_path, '[default]\nthreshold = 0.4\nfloor = 0.2\n[classes.short]\nseverity = "minor"\n')
    rule = recipe.rules[LABELS.index("short")]
    assert (rule.threshold, rule.floor, rule.severity.value) == (0.4, 0.2, "minor")

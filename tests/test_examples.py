"""The examples are documentation: they load, and they name every key there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_inspector import config, recipe, zones

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_line_loads() -> None:
    """As it stands, without a # taken away."""
    loaded = config.load(EXAMPLES / "line.toml")
    assert [station.name for station in loaded.station] == ["top", "side"]


def test_the_real_camera_loads_too(tmp_path: Path) -> None:
    """What is commented out is right as well."""
    before, after = (EXAMPLES / "line.toml").read_text().split("# A real camera.")
    text = before + "\n".join(line.removeprefix("# ") for line in after.splitlines()[1:] if line.startswith("# "))
    path = tmp_path / "line.toml"
    path.write_text(text.replace('path = "../engines/boards/golden"', 'path = "."'))
    assert config.load(path).station[2].camera == config.OpenCVConfig(
        source="rtsp://192.168.1.20/stream1", width=1280, height=1024, fps=30, fourcc="MJPG"
    )


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("line.toml", (config.LineTable, config.PublishConfig, config.StationConfig, *config.CAMERAS.values())),
        ("recipe.toml", (recipe.RecipeTables, recipe.Rule, recipe.SizeStep, recipe.Limits, zones.Zone)),
    ],
)
def test_every_key_is_documented(file: str, kinds: tuple[type, ...]) -> None:
    """A key that is added to a table is added to the example."""
    text = (EXAMPLES / file).read_text()
    for kind in kinds:
        for field in dataclasses.fields(kind):
            assert f"{field.name} =" in text or f"[{field.name}" in text or f".{field.name}]" in text, field.name


def test_the_recipe_loads() -> None:
    """For an engine that knows the classes it names."""
    loaded = recipe.load_recipe(EXAMPLES / "recipe.toml", ("open", "spur", "copper"))
    assert loaded.rules[0].threshold == 0.45

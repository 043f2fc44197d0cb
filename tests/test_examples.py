"""The examples are documentation: they load, and they name every key there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_inspector import config, recipe, zones
from edge_inspector.gateway import config as gateway

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
        ("line.toml", (config.LineTable, config.PublishConfig, config.RealtimeTable, config.StationConfig)),
        ("line.toml", tuple(config.CAMERAS.values())),
        ("gateway.toml", tuple(gateway.TABLES.values())),
        ("recipe.toml", (recipe.RecipeTables, recipe.Rule, recipe.SizeStep, recipe.Limits, zones.Zone)),
    ],
)
def test_every_key_is_documented(file: str, kinds: tuple[type, ...]) -> None:
    """A key that is added to a table is added to the example."""
    text = (EXAMPLES / file).read_text()
    for kind in kinds:
        for field in dataclasses.fields(kind):
            assert f"{field.name} =" in text or f"[{field.name}" in text or f".{field.name}]" in text, field.name


def test_the_gateway_loads() -> None:
    """As it stands; and it can speak with the example of a line, but for the station's trigger."""
    loaded = gateway.load(EXAMPLES / "gateway.toml")
    line = config.load(EXAMPLES / "line.toml")
    assert (loaded.opcua, loaded.mqtt, loaded.curve) == (None, None, None)
    assert loaded.gateway.daemon == line.publish.gateway
    assert loaded.gateway.station in [station.name for station in line.station]


def test_what_the_gateway_leaves_out_loads_too(tmp_path: Path) -> None:
    """With every table that is commented out."""
    before, after = (EXAMPLES / "gateway.toml").read_text().split("Take the # away from what is needed.")
    path = tmp_path / "gateway.toml"
    path.write_text(before + "\n".join(line.removeprefix("# ") for line in after.splitlines()))
    loaded = gateway.load(path)
    assert loaded.opcua is not None
    assert loaded.opcua.users == {"mes": "mes.password"}
    assert loaded.mqtt == gateway.MqttTable(
        broker="192.168.1.5:8883", user="line1", password="mqtt.password", ca="plant-ca.pem"
    )
    assert loaded.curve == gateway.CurveTable(secret="keys/ejector1.secret", server="keys/server.public")


def test_the_gateway_shows_the_defaults() -> None:
    """A value that stands there without a comment sign and has a default is that default."""
    loaded = gateway.load(EXAMPLES / "gateway.toml")
    for table in (loaded.gateway, loaded.window, loaded.plc):
        for field in dataclasses.fields(table):
            if field.default is not dataclasses.MISSING:
                assert getattr(table, field.name) == field.default, field.name


def test_the_recipe_loads() -> None:
    """For an engine that knows the classes it names."""
    loaded = recipe.load_recipe(EXAMPLES / "recipe.toml", ("open", "spur", "copper"))
    assert loaded.rules[0].threshold == 0.45

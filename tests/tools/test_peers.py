"""The contest with those peers that need no download: real processes, real messages, figures, table, chart."""

from __future__ import annotations

import contextlib
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from edge_inspector.models.golden import drawn
from tests.models.zoo import Net, image_shape
from tools.peers.__main__ import HERE, OURS, start
from tools.peers.chart import chart
from tools.peers.contest import Contest
from tools.peers.material import Material, import_engine
from tools.peers.report import figures, table

SIZE = (128, 160)


def yolov8(size: tuple[int, int]) -> onnx.ModelProto:
    """The layout of a YOLOv8 with two classes, [1, 4 + 2, places]: boxes about places, a dozen or two above 0.25."""
    net = Net(3)
    raw = [net.conv(level, (12, 6), kernel=1, gain=2.0) for level in net.backbone()]
    joined = net.op("Concat", *[net.op("Reshape", each, net.constant([1, 6, -1])) for each in raw], axis=2)
    box, logit = net.ops("Split", joined, net.constant([4, 2]), count=2, axis=1)
    centres = [np.mgrid[: size[0] // s, : size[1] // s].reshape(2, -1)[::-1] * s for s in (8, 16, 32)]
    xy = np.concatenate(centres, 1)
    base = np.concatenate([xy, np.full_like(xy, 24)])[None]
    box = net.op("Add", net.op("Mul", net.op("Sigmoid", box), net.constant(8.0)), net.constant(base, "float32"))
    score = net.op("Sigmoid", net.op("Sub", logit, net.constant(2.0)))
    notes = {"task": "detect", "names": "{0: 'scratch', 1: 'dent'}", "imgsz": str(list(size)), "stride": "32"}
    outputs = {"output0": (net.op("Concat", box, score, axis=1), None)}
    return net.model({"images": image_shape(size)}, outputs, metadata=notes)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of one round of very short turns, with a contestant that cannot start."""
    folder = tmp_path_factory.mktemp("peers")
    made = Material(folder / "frames.npy", folder / "tiny.onnx", folder, folder, SIZE)
    np.save(made.frames, np.stack(list(drawn((256, 320)))))
    onnx.save(yolov8(SIZE), made.onnx)
    import_engine(made.onnx, folder)
    with contextlib.ExitStack() as stack:
        everybody = [start(OURS, [sys.executable, "-m", "tools.peers.ours", str(folder)], made, folder, stack)]
        for name, script in (("ONNX Runtime", "with_onnxruntime.py"), ("OpenCV", "with_opencv.py")):
            command = [sys.executable, "-I", str(HERE / "turns.py"), str(HERE / script), str(made.onnx)]
            everybody.append(start(name, [*command, *map(str, SIZE)], made, folder, stack))
        everybody.append(start("Nobody", [sys.executable, "-c", "raise SystemExit('not today')"], made, folder, stack))
        result = Contest(everybody, seconds=0.1, pace_hz=50.0, rest_s=0.0).hold(1, lambda _: 1000.0)
        return figures(result, {one.name: one.about for one in everybody}, ours=OURS, seconds=0.1)


def test_all_find_the_same_boxes(told: dict[str, Any]) -> None:
    """Ours, through a whole line, and a user's own loops: of the first frame, as many and more than a few."""
    boxes = {name: each["boxes"] for name, each in told["contestants"].items()}
    assert boxes.keys() == {OURS, "ONNX Runtime", "OpenCV"}
    assert told["boxes_agree"]
    assert min(boxes.values()) >= 10


def test_figures_are_consistent(told: dict[str, Any]) -> None:
    """A message takes longer than what was added to the network, and every ratio belongs to its two figures."""
    ours = told["contestants"][OURS]
    assert "over_ours" not in ours
    for each in told["contestants"].values():
        paced = each["paced"]
        assert paced["ms"]["n"] == paced["added_ms"]["n"] >= 5
        assert 0 < paced["added_ms"]["p50"] < paced["ms"]["p50"] <= paced["ms"]["p99"]
        assert each["full_speed"]["fps"]["min"] > 0
        assert each["versions"]["numpy"] == np.__version__
        if each is not ours:
            ratio = each["paced"]["ms"]["p50"] / ours["paced"]["ms"]["p50"]
            assert each["over_ours"]["paced_ms"]["median"] == pytest.approx(ratio, abs=0.02)
    assert told["bare"]["ours_over_it"]["median"] == pytest.approx(ours["full_speed"]["fps"]["median"] / 1000, abs=1e-3)


def test_who_cannot_run_is_told_with_the_reason(told: dict[str, Any]) -> None:
    """In the figures and below the table, and the others go on."""
    assert told["not_run"] == {"Nobody": "it ended; its last words: not today"}
    assert "- Nobody did not run: it ended; its last words: not today" in table(told)


def test_table_and_chart(told: dict[str, Any]) -> None:
    """Every row of the tables has as many cells as its head; the chart is XML with a bar for every figure."""
    blocks = [block.splitlines() for block in table(told).split("\n\n")[:2]]
    assert [len(rows) for rows in blocks] == [2 + 4, 2 + 2]
    for rows in blocks:
        assert {row.count("|") for row in rows} == {rows[0].count("|")}
    bars = ElementTree.fromstring(chart(told)).findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars].count("ours") == 2
    assert len(bars) == 3 + 1 + 3
    assert max(float(bar.get("width", "")) for bar in bars) < 760

"""The benchmark on an engine whose time is known: short, but with all of its processes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_inspector.cli import main
from edge_inspector.commands import bench, bench_soak
from edge_inspector.commands.bench_heard import STAGES, Heard
from edge_inspector.commands.bench_usage import slope_mb
from edge_inspector.metrics import Histogram

from ..faults.rig import boards, step, write_line

TAKES_MS = 8.0


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Its engine takes 8 ms, and finds something in every second picture."""
    script = [step(delay_ms=TAKES_MS), step(delay_ms=TAKES_MS, reject=True)]
    return write_line(tmp_path, camera=boards(10), script=script, deadline_ms=2000)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_everything_is_measured(
    line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each figure is there, is possible, and stands in the picture and the table."""
    for name, value in {"TURN_S": 0.4, "PAUSES_S": {1: 1}, "MANY": (2,), "PLC_S": 3.0, "OVERLOAD_PARTS": 30}.items():
        monkeypatch.setattr(bench, name, value)
    drawn = tmp_path / "bench.svg"
    words = ["bench", str(line), "--rounds", "2", "--parts", "6000", "--rate", "30", "--picture", str(drawn)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "scripted"
    assert 0 < found["bare_fps"]["min"] <= found["bare_fps"]["median"] <= 1000 / TAKES_MS
    assert found["pipeline_to_bare"]["median"] > 0.2
    assert found["latency_ms"]["p50"] > TAKES_MS
    assert list(found["latency_ms"]) == ["p50", "p90", "p99", "p999", "max"]
    assert 0 < found["added_ms"]["p50"] <= found["added_ms"]["p99"]
    assert set(found["stages_ms"]) == set(STAGES)
    assert found["parts"] == 6000
    assert found["null_engine_fps"] > 0
    assert found["descriptors_growth"] == 0
    assert found["stations"]["2"]["least_to_most_judged"] > 0
    assert found["to_the_plc"]["parts"] > 0
    assert {"rss_slope_mb", "deadline_misses", "noise", "machine", "libraries", "date"} <= set(found)
    assert found["first_after_rest"]["1"] > 0
    assert "scripted" in "".join(ElementTree.parse(drawn).getroot().itertext())
    assert "pipeline / bare engine" in bench.table(found)


@pytest.mark.slow
def test_a_soak_has_a_verdict(line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 and `ok` where nothing was found; else 1, and what it is in words."""
    words = ["bench", str(line), "--soak", "8s", "--rate", "25", "--picture", str(tmp_path / "soak.svg"), "--json"]
    code = main(words)
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is (not found["found"]) is (code == 0)
    assert len(found["rss_mb"]) == bench_soak.BLOCKS
    assert found["parts_at_rate"] == sum(found["outcomes"].values()) > 100
    assert found["outcomes"]["defect"] > 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, []),
        ({"rss_slope_mb": 5.1}, ["memory grew by 5.1 MB (5 allowed)"]),
        ({"descriptors_growth": 2, "threads_growth": 1}, ["2 descriptors more than at first", "1 threads more"]),
        ({"tail": 1.6}, ["p99.9 is 1.6 times p50"]),
        ({"tail": 1.6, "bare_tail": 1.5}, []),
        ({"drift": 1.2}, ["slower with time"]),
        ({"deadline_misses": 1}, ["1 verdicts missed"]),
    ],
)
def test_what_a_soak_complains_of(wrong: dict[str, float], told: list[str]) -> None:
    """A tail that the engine has as well is not the pipeline's."""
    fine = {"deadline_misses": 0, "rss_slope_mb": 0.2, "descriptors_growth": 0, "threads_growth": 0, "drift": 1.0}
    words = bench_soak.findings({**fine, "tail": 1.4, "bare_tail": 1.2, **wrong})
    assert len(words) == len(told)
    assert all(found.startswith(wanted) for found, wanted in zip(words, told, strict=True))


@pytest.mark.parametrize("text", ["10", "0s", "h", "5d"])
def test_what_is_no_time(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused as any wrong option is."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--soak", text])
    assert "is no time such as 90s, 10m or 1h" in capsys.readouterr().err


def test_a_slope() -> None:
    """What came at once is no growth over the whole time, and noise is none."""
    assert slope_mb([100.0 + n for n in range(11)]) == pytest.approx(10.0)
    assert abs(slope_mb([100.0, 101.0] * 50)) < 0.05
    assert slope_mb([7.0]) == 0.0


def test_histograms_add_up() -> None:
    """Two of them in one are what one would have counted; the curve says the same as the percentiles."""
    whole, halves = Histogram(), (Histogram(), Histogram())
    for value in range(1, 2001):
        whole.add(value)
        halves[value % 2].add(value)
    halves[0].merge(halves[1])
    assert halves[0].counts == whole.counts
    assert (halves[0].total, halves[0].max_us) == (2000, 2000)
    curve = whole.curve()
    assert curve[-1] == (1.0, 2000)
    for share in (0.5, 0.9, 0.999):
        assert whole.percentile(share) == next(us for upto, us in curve if upto >= share)


def test_what_a_subscriber_hears() -> None:
    """Stages add up to the whole; a late message is a miss even if it says nothing of it."""
    latency = {"wait": 100, "preprocess": 500, "infer": 8000, "decide": 200, "total": 8900}
    message = {
        "reason": "ok", "outcome": "pass", "station": "top", "latency_us": latency, "t_grab_us": 1_000_000,
        "t_publish_us": 1_008_900, "deadline_us": 1_010_000,
    }  # fmt: skip
    heard = Heard()
    heard.take(message, 1_009_300)
    assert (heard.total.max_us, heard.added.max_us, heard.misses) == (9300, 1300, 0)
    assert heard.timed[0].took_us == (100, 500, 8000, 200, 100, 400)
    assert sum(heard.timed[0].took_us) == heard.total.max_us
    heard.take(message, 1_010_001)
    assert heard.misses == 1

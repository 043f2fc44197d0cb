"""Signals in mid-part, a clock that steps, a full disk, and a start that cannot be."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ..cameras import servers
from .rig import boards, must_add_up, running, step, write_line

REAL_BOARDS = Path(__file__).parents[3] / "shared" / "data" / "deeppcb" / "images"


def test_sigterm_in_mid_part(tmp_path: Path) -> None:
    """Parts in the engine are finished, those that cannot be are faults; exit 0 and nothing open."""
    with running(tmp_path, camera=boards(20), script=[step(delay_ms=120)], deadline_ms=400) as daemon:
        daemon.wait_for_verdicts(5)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert daemon.ears.beats[-1]["state"] == "stopping"


def test_sigint_and_sigterm_while_starting(tmp_path: Path) -> None:
    """A start can be broken off."""
    with running(tmp_path, camera=boards(20), script=[step(delay_ms=150)]) as daemon:
        daemon.wait_for(lambda: daemon.ears.beats)
        daemon.send(signal.SIGINT)
        assert daemon.process.wait(20) == 0
        must_add_up(daemon)


def test_sighup_swaps_the_recipe_between_two_parts(tmp_path: Path) -> None:
    """Every verdict names the recipe it was judged by; a wrong recipe is refused and the old one stays."""
    with running(tmp_path, camera=boards(30), script=[step(reject=True, delay_ms=5)]) as daemon:
        recipe = tmp_path / "engines" / "scripted" / "recipe.toml"
        daemon.wait_for_verdicts(10)
        recipe.write_text("[default]\nthreshold = 0.95\nfloor = 0.25\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for(lambda: daemon.ears.verdicts[-1]["outcome"] == "pass")
        recipe.write_text("[default]\nthreshhold = 0.5\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for(lambda: "recipes not reloaded" in daemon.log.read_text())
        assert 'the nearest known one is "threshold"' in daemon.log.read_text()
        daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 10)
        assert daemon.stop() == 0
        must_add_up(daemon)
        said = [(v["recipe"]["sha256"], v["outcome"]) for v in daemon.ears.verdicts]
        assert len(set(said)) == 2
        assert len({sha for sha, _ in said}) == 2
        assert daemon.ears.verdicts[-1]["suppressed"] == 1
        assert daemon.ears.verdicts[-1]["near_misses"][0]["class"] == "short"


def test_signals_at_any_moment(tmp_path: Path) -> None:
    """A signal that comes while the main thread looks for the one before it does not stop that thread for ever."""
    with running(tmp_path, camera=boards(30), script=[step()]) as daemon:
        daemon.wait_for_verdicts(1)
        for _ in range(2000):
            daemon.send(signal.SIGHUP)
            time.sleep(0.0005)
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_the_wall_clock_steps_by_an_hour(tmp_path: Path) -> None:
    """Times in verdicts go on as if nothing had happened: they follow the monotonic clock."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here to build the clock: apt-get install gcc")
    library, offset = tmp_path / "wallclock.so", tmp_path / "offset"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("wallclock.c")], check=True)
    offset.write_text("0")
    env = {"LD_PRELOAD": str(library), "WALLCLOCK": str(offset)}
    with running(tmp_path, camera=boards(30), script=[step(delay_ms=3)], env=env) as daemon:
        daemon.wait_for_verdicts(30)
        offset.write_text("3600")
        daemon.wait_for_verdicts(90)
        offset.write_text("-3600")
        daemon.wait_for_verdicts(150)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert daemon.ears.reasons["ok"] >= 140
        times = [verdict["t_publish_us"] for verdict in daemon.ears.verdicts]
        assert times == sorted(times)
        assert times[-1] - times[0] < 600_000_000
        logged = [datetime.fromisoformat(line[:19]) for line in daemon.log.read_text().splitlines()]
        assert logged[0] - logged[-1] > timedelta(minutes=50)  # the clock of that process did step


def test_the_disk_is_full(tmp_path: Path) -> None:
    """Nothing can be logged any more: verdicts go on."""
    with running(tmp_path, camera=boards(30), script=[step(), step(error="boom")], stderr="/dev/full") as daemon:
        daemon.wait_for_verdicts(60)
        daemon.send(signal.SIGHUP)
        daemon.wait_for_verdicts(90)
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_second_daemon_does_not_take_the_address(tmp_path: Path) -> None:
    """ZeroMQ would let it take over an ipc path without a word: it is refused with 3, and the first goes on."""
    with running(tmp_path, camera=boards(20), script=[step()]) as daemon:
        daemon.wait_until_ready()
        command = [sys.executable, "-m", "edge_inspector", "run", str(tmp_path / "line.toml")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 3
        assert "another process is listening" in second.stderr
        daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 20)
        assert daemon.stop() == 0
        must_add_up(daemon)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("deadline_ms = 300.0", "deadline_ms = 20.0"), 78, "deadline_ms: found 20, expected"),
        (('engine = "scripted"', 'engine = "scriptd"'), 3, "scripted"),
        (("rate = 20.0", 'rate = "x"'), 78, 'found "x" (str), expected float'),
        (('name = "top"', 'nme = "top"'), 78, 'the nearest known one is "name"'),
        (('trigger = "camera"', 'recipe = "none.toml"'), 78, "expected a recipe file"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_what_cannot_start_says_why(
    tmp_path: Path, command: str, change: tuple[str, str], code: int, says: str
) -> None:
    """`run` and `check` end alike: the exit code tells systemd what to do, the text tells the engineer."""
    line = write_line(tmp_path, camera=boards(20), script=[step(delay_ms=25)])
    line.write_text(line.read_text().replace(*change))
    ended = subprocess.run(
        [sys.executable, "-m", "edge_inspector", command, str(line)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    assert says in ended.stderr


@pytest.mark.slow
def test_a_hundred_real_boards(tmp_path: Path) -> None:
    """100 pictures, 100 verdicts by the demo's engine, and no gap at a subscriber in another process."""
    if not REAL_BOARDS.is_dir():
        pytest.skip("the DeepPCB pictures are not beside the project")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted(REAL_BOARDS.iterdir())[::10]:
        (pictures / path.name).symlink_to(path)
    camera = f'kind = "replay"\npath = "{pictures}"'
    line = write_line(tmp_path, camera=camera, script=[step()], deadline_ms=10_000)
    line.write_text(line.read_text().replace('engine = "scripted"', 'engine = "boards"'))
    command = [sys.executable, "-m", "edge_inspector"]
    reader = subprocess.Popen(
        [*command, "subscribe", str(line), "--json", "--count", "100"], stdout=subprocess.PIPE, text=True
    )
    daemon = subprocess.Popen([*command, "run", str(line)])
    printed, _ = reader.communicate(timeout=100)
    assert daemon.wait(30) == 0
    verdicts = [json.loads(text) for text in printed.splitlines()]
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, 101))
    assert [verdict["part_id"] for verdict in verdicts] == sorted(path.stem for path in pictures.iterdir())
    assert {verdict["outcome"] for verdict in verdicts} <= {"pass", "reject"}


def test_replay_is_deterministic(tmp_path: Path) -> None:
    """Two runs over the same pictures differ in nothing but times, a damaged picture among them included."""
    pytest.importorskip("cv2")
    import cv2
    import numpy as np

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    chance = np.random.default_rng(3)
    for number in range(30):
        cv2.imwrite(str(pictures / f"{number:03}.png"), chance.integers(0, 255, (240, 320, 3), np.uint8))
    (pictures / "007.png").write_bytes(b"not a picture")
    shutil.copy(pictures / "003.png", pictures / "004.png")
    write_line(tmp_path, camera=boards(1), script=[step(), step(reject=True, delay_ms=2)])
    runs = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-m", "edge_inspector", "replay", str(pictures), "--engine", "scripted",
             "--engines", str(tmp_path / "engines")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 1, ended.stderr  # one picture ended in a fault
        verdicts = [json.loads(text) for text in ended.stdout.splitlines()]
        for verdict in verdicts:
            for key in [key for key in verdict if key.endswith("_us")]:
                del verdict[key]
        runs.append(json.dumps(verdicts))
    assert runs[0] == runs[1]
    verdicts = json.loads(runs[0])
    assert [verdict["part_id"] for verdict in verdicts] == [f"{number:03}" for number in range(30)]
    assert verdicts[7]["reason"] == "camera_fault"


def test_over_tcp(tmp_path: Path) -> None:
    """The same on the loopback: verdicts to `subscribe`, triggers from `trigger`, and an open address is refused."""
    line = write_line(tmp_path, camera=boards(0), trigger="gateway", script=[step(delay_ms=2)])
    verdicts, gateway = (f"tcp://{servers.closed_port()}" for _ in range(2))
    text = line.read_text().replace(f"ipc://{tmp_path}/v", verdicts).replace(f"ipc://{tmp_path}/g", gateway)
    line.write_text(text)
    command = [sys.executable, "-m", "edge_inspector"]
    daemon = subprocess.Popen([*command, "run", str(line)])
    try:
        reader = subprocess.Popen(
            [*command, "subscribe", verdicts, gateway, "--json", "--count", "10"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(20):  # until it is up
            sent = subprocess.run([*command, "trigger", str(line), "--count", "10", "--rate", "50"], check=False)
            if sent.returncode == 0:
                break
        printed, _ = reader.communicate(timeout=60)
        assert sent.returncode == 0
        assert [json.loads(text)["seq"] for text in printed.splitlines()] == list(range(1, 11))
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0
    line.write_text(text.replace("tcp://127.0.0.1", "tcp://0.0.0.0"))
    refused = subprocess.run([*command, "run", str(line)], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 78
    assert "insecure" in refused.stderr


def test_a_recipe_for_another_camera_is_refused(tmp_path: Path) -> None:
    """An include zone outside the frame would let everything pass: at the start 78, at SIGHUP the old one stays."""
    zone = '[[zones]]\nname = "far"\npolygon = [[9000, 0], [9100, 0], [9100, 90]]\n'
    line = write_line(tmp_path, camera=boards(30), script=[step(reject=True)])
    recipe = tmp_path / "engines" / "scripted" / "recipe.toml"
    right = recipe.read_text()
    recipe.write_text(right + zone)
    command = [sys.executable, "-m", "edge_inspector", "run", str(line)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 78
    assert 'found zone "far" outside the frame, expected it within 640 x 640' in ended.stderr
    with running(tmp_path, camera=boards(30), script=[step(reject=True)]) as daemon:
        daemon.wait_until_ready()
        recipe.write_text(right + zone)
        daemon.send(signal.SIGHUP)
        daemon.wait_for(lambda: "recipes not reloaded" in daemon.log.read_text())
        daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 10)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert set(daemon.ears.reasons) == {"defect"}

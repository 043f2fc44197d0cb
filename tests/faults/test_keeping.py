"""Pictures of hard parts: what is kept is what was published, and no disk costs a verdict, a buffer or the process."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_inspector.commands.looking import read_picture

from .rig import Daemon, Message, boards, must_add_up, running, step

ALL = 'keep = ["reject", "fault", "near_miss"]'
REJECT = step(reject=True)
NEAR_MISS = REJECT.replace("0.9", "0.3")


def keeping(folder: Path, *, keep: str = ALL, line: str = "", **more: Any) -> contextlib.AbstractContextManager[Daemon]:
    """A daemon that keeps pictures in `folder`/kept."""
    return running(folder, station=keep, line=f'keep_folder = "kept"\n{line}', **more)


def kept(folder: Path) -> list[Message]:
    """The records, oldest first; every picture must be whole and have one, and every record a picture."""
    pictures = sorted((folder / "kept").glob("*.bmp"))
    assert [path.stem for path in pictures] == [path.stem for path in sorted((folder / "kept").glob("*.json"))]
    assert not list((folder / "kept").glob("*.part"))
    for path in pictures:
        assert read_picture(path).shape == (640, 640, 3)
    return [json.loads(path.with_suffix(".json").read_bytes()) for path in pictures]


def counters(daemon: Daemon) -> dict[str, int]:
    """What became of the pictures, as the last heartbeat said."""
    return {name: daemon.ears.beats[-1]["counters"][name] for name in ("kept", "keep_skipped", "keep_failed")}


def test_the_picture_is_that_of_the_part_and_the_record_what_was_published(tmp_path: Path) -> None:
    """Of every reject, fault and near-miss, and of nothing else; while the next parts are already in the buffers."""
    (tmp_path / "pictures").mkdir()
    chance = np.random.default_rng(5)
    for number in range(40):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number:02}.png"), chance.integers(0, 255, (480, 640, 3), np.uint8))
    camera = 'kind = "replay"\npath = "pictures"\nrate = 0'
    slow = REJECT.replace("delay_ms = 0.0", "delay_ms = 15.0")
    script = [step(delay_ms=15), slow, slow.replace("0.9", "0.3"), step(delay_ms=15, error="boom")]
    with keeping(tmp_path, camera=camera, script=script) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        heard = {verdict["seq"]: verdict for verdict in daemon.ears.verdicts}
        assert len(heard) == 40
        said = counters(daemon)
    files = sorted((tmp_path / "kept").glob("*.bmp"))
    assert len(files) == said["kept"] >= 25  # a slow disk may have skipped some
    assert sum(said.values()) == 30
    for file in files:
        record = json.loads(file.with_suffix(".json").read_bytes())
        verdict = heard[record["seq"]]
        assert {key: record[key] for key in verdict} == verdict
        assert np.array_equal(read_picture(file), read_picture(tmp_path / "pictures" / f"{record['part_id']}.png"))
        assert record["kind"] == {"reject": "reject", "fault": "fault", "pass": "near_miss"}[verdict["outcome"]]
        assert file.stem.endswith(f"-top-{record['part_id']}-{record['kind']}")
        assert (record["labels"], record["thresholds"]) == (["short"], [0.5])
        assert (record["camera"], record["size_px"]) == ("replay", [640, 480])


@pytest.mark.parametrize("kind", ["reject", "fault", "near_miss"])
def test_only_what_is_asked_for(tmp_path: Path, kind: str) -> None:
    """One of the three."""
    script = [step(), REJECT, NEAR_MISS, step(error="boom")]
    with keeping(tmp_path, keep=f'keep = ["{kind}"]', camera=boards(25, 20), script=script) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        assert sum(counters(daemon).values()) == 5
    assert {record["kind"] for record in kept(tmp_path)} == {kind}


def test_without_it_there_is_no_folder(tmp_path: Path) -> None:
    """And no counter."""
    with keeping(tmp_path, keep="", camera=boards(25, 10), script=[REJECT]) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        assert "kept" not in daemon.ears.beats[-1]["counters"]
    assert not (tmp_path / "kept").exists()


def test_an_engine_that_fails_on_and_on_does_not_fill_the_folder(tmp_path: Path) -> None:
    """Three of a row are kept: the others would only drive out what is worth a look."""
    with keeping(tmp_path, camera=boards(25, 30), script=[step(error="boom")]) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
    assert [record["reason"] for record in kept(tmp_path)] == ["engine_fault"] * 3


def test_the_newest_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    """With what an earlier run has left there, finished or not; the folder never grows beyond its limit."""
    folder = tmp_path / "kept"
    (folder / "20200101T000000.000000Z-top-1-reject.bmp").mkdir(parents=True)  # no file, so not one of ours
    foreign = [folder / name for name in ("notes.txt", "20200101-top-1-reject.bmp", "x-reject.json", "a/b.bmp")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1_000_000))
    earlier = [folder / f"20200101T000000.00000{n}Z-top-{n}-reject.{end}" for n in (1, 2) for end in ("bmp", "json")]
    earlier.append(folder / "20200101T000000.000003Z-side-3-fault.bmp.part")
    for path in earlier:
        path.write_bytes(bytes(1_500_000))
    with keeping(tmp_path, line="keep_mb = 9", camera=boards(20, 30), script=[REJECT]) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        said, verdicts = counters(daemon), daemon.ears.verdicts
    assert said["keep_failed"] == 0
    assert all(path.exists() for path in foreign)
    assert not any(path.exists() for path in earlier)
    ids = [int(path.stem.split("-")[3]) for path in sorted(folder.glob("2*Z-top-board-*.bmp"))]
    assert 5 <= len(ids) <= 7
    if not said["keep_skipped"]:
        assert ids == [verdict["seq"] for verdict in verdicts][-len(ids) :]
    ours = [path for path in folder.glob("2*Z-*") if path.is_file()]
    assert sum(path.stat().st_size for path in ours) <= 9_000_000


def small_disk(folder: Path, size: str) -> list[str]:
    """A command that runs another with a disk of its own at `folder`; skips where that cannot be."""
    folder.mkdir(parents=True)
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={size} tmpfs {folder}"
    if not shutil.which("unshare") or subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, for a small disk of its own")
    return [*alone, f'{mount} && exec "$@"', "sh"]


def test_a_full_disk(tmp_path: Path) -> None:
    """Costs pictures, which are counted, and one line in the log, which says what to do; with room it goes on."""
    inside = small_disk(tmp_path / "kept", "5m")
    with keeping(tmp_path, camera=boards(20), script=[REJECT], inside=inside) as daemon:
        daemon.wait_for(lambda: daemon.ears.beats and daemon.ears.beats[-1]["counters"]["keep_failed"] >= 20)
        assert daemon.ears.state == "ready"
        disk = Path(f"/proc/{daemon.process.pid}/root{tmp_path}/kept")  # as the daemon sees it
        whole = sorted(disk.iterdir())
        assert {path.suffix for path in whole} == {".bmp", ".json"}
        assert len(whole) == 2 * counters(daemon)["kept"]
        before = counters(daemon)["kept"]
        for path in whole:
            path.unlink()
        daemon.wait_for(lambda: counters(daemon)["kept"] > before)
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert set(daemon.ears.reasons) == {"defect"}
    log = daemon.log.read_text()
    told = log.count('reason="No space left on device" mend="make room on that disk, or lower keep_mb"')
    assert 1 <= told <= 2  # it may have been full again
    assert "pictures are kept again" in log


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("a file in its place", 'reason="File exists" mend="a folder that the daemon\'s user may write'),
        ("read-only", 'reason="Read-only file system" mend="let the service write there'),
        ("a limit for files", 'reason="File too large" mend="raise keep_mb, or the limit for files of this process"'),
        ("keep_mb", 'reason="a single picture is larger than keep_mb"'),
    ],
)
def test_a_folder_that_cannot_be_written(tmp_path: Path, trouble: str, says: str) -> None:
    """From the start: the line starts and stays ready, and says once what to mend."""
    inside, line = [], ""
    if trouble == "read-only":
        inside = small_disk(tmp_path / "kept", "5m,ro")
    elif trouble == "a limit for files":
        inside = ["prlimit", "--fsize=1000000"]
    elif trouble == "keep_mb":
        line = "keep_mb = 1"
    else:
        (tmp_path / "kept").write_text("")
    with keeping(tmp_path, line=line, camera=boards(25, 40), script=[REJECT], inside=inside) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        assert set(daemon.ears.reasons) == {"defect"}
        assert {beat["state"] for beat in daemon.ears.beats} == {"starting", "ready", "stopping"}
        assert counters(daemon) == {"kept": 0, "keep_skipped": 0, "keep_failed": 40}
    log = daemon.log.read_text()
    assert log.count("pictures are not kept") == 1
    assert says in log
    if (tmp_path / "kept").is_dir():
        assert not list((tmp_path / "kept").iterdir())


def test_an_answer_that_comes_too_late_gives_its_place_back(tmp_path: Path) -> None:
    """What was published is the fault; the picture waited in vain, and the next ones are kept."""
    late = REJECT.replace("delay_ms = 0.0", "delay_ms = 330.0")
    script = [REJECT] + [late] * 10 + [REJECT] * 100
    with keeping(tmp_path, camera=boards(2.5, 15), script=script, deadline_ms=250) as daemon:
        assert daemon.process.wait(30) == 0
        must_add_up(daemon)
        assert daemon.ears.reasons["timeout"] >= 10  # more than there are places
        kept = daemon.ears.reasons["defect"]
        assert kept >= 2
        assert counters(daemon) == {"kept": kept, "keep_skipped": 0, "keep_failed": 0}


def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    """Somebody has moved the pictures away, folder and all."""
    with keeping(tmp_path, camera=boards(20), script=[REJECT]) as daemon:
        daemon.wait_for(lambda: daemon.ears.beats and daemon.ears.beats[-1]["counters"]["kept"] >= 5)
        (tmp_path / "kept").rename(tmp_path / "moved")
        daemon.wait_for(lambda: len(list((tmp_path / "kept").glob("*.bmp"))) >= 5)
        assert daemon.stop() == 0
        must_add_up(daemon)
    assert kept(tmp_path)


def test_a_disk_that_hangs(tmp_path: Path) -> None:
    """No verdict waits for it, no buffer is missing, the line stays ready; with the disk back, pictures come again."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here to build the disk: apt-get install gcc")
    library, hangs = tmp_path / "slowdisk.so", tmp_path / "hangs"
    source = Path(__file__).with_name("slowdisk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    hangs.touch()
    env = {"LD_PRELOAD": str(library), "SLOWDISK": str(hangs)}
    with keeping(tmp_path, camera=boards(50), script=[REJECT], env=env) as daemon:
        daemon.wait_for_verdicts(100)
        assert daemon.ears.state == "ready"
        assert set(daemon.ears.reasons) == {"defect"}
        said = counters(daemon)
        assert (said["kept"], said["keep_failed"]) == (0, 0)
        assert said["keep_skipped"] >= 80
        hangs.unlink()
        daemon.wait_for(lambda: counters(daemon)["kept"] >= 20)
        hangs.touch()
        daemon.wait_for_verdicts(len(daemon.ears.verdicts) + 20)
        assert daemon.stop() == 0  # nor does the end wait for it
        must_add_up(daemon)
        assert Counter(daemon.ears.reasons)["defect"] == len(daemon.ears.verdicts)


def test_a_killed_daemon_leaves_no_half_picture(tmp_path: Path) -> None:
    """What is there under its own name is whole."""
    with keeping(tmp_path, camera=boards(60), script=[REJECT]) as daemon:
        daemon.wait_for(lambda: daemon.ears.beats and daemon.ears.beats[-1]["counters"]["kept"] >= 10)
        daemon.process.kill()
        daemon.process.wait()
    for path in (tmp_path / "kept").glob("*.part"):
        path.unlink()
    for path in sorted((tmp_path / "kept").glob("*.json"))[-1:]:  # the record comes first
        if not path.with_suffix(".bmp").exists():
            path.unlink()
    assert len(kept(tmp_path)) >= 10

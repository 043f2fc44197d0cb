"""Where kept pictures lie: how they are called, and what is taken out for new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_inspector.codec import from_json
from edge_inspector.kept import OURS, KeptFolder, name_of, records, stored
from edge_inspector.wire import VerdictMessage

from .test_wire import golden


def message(**changes: object) -> VerdictMessage:
    """A verdict, as it is published."""
    return from_json(json.dumps({**json.loads(golden("verdict")), **changes}).encode(), VerdictMessage)


def test_names_sort_by_time_and_are_ours() -> None:
    """Whatever the part is called: no name leaves the folder, and none is taken for a stranger's."""
    ids = ["a/../../b", "..", "Käfer 7", "x" * 200, "", None, "-", "a\\b", "plain-7.2_x"]
    names = [name_of(message(part_id=part_id, t_trigger_us=n), "near_miss") for n, part_id in enumerate(ids)]
    assert names == sorted(names)
    for name in names:
        assert OURS.fullmatch(f"{name}.bmp")
        assert OURS.fullmatch(f"{name}.json.part")
        assert "/" not in name
        assert len(name) < 150
    assert names[-1] == "19700101T000000.000008Z-top-plain-7.2_x-near_miss"
    assert name_of(message(part_id=None, trigger_id=17), "fault").endswith("-top-17-fault")


@pytest.mark.parametrize(
    "name",
    [
        "20260101T000000.000000Z-top-1-reject.png",
        "20260101T000000.000000Z-top-1-pass.bmp",
        "20260101T000000.000000Z-top-1-reject.bmp.bak",
        "20260101T000000Z-top-1-reject.bmp",
        "x20260101T000000.000000Z-top-1-reject.bmp",
        "20260101T000000.000000Z-reject.bmp",
        ".bmp",
    ],
)
def test_others_are_not_ours(tmp_path: Path, name: str) -> None:
    """They are neither counted nor deleted."""
    (tmp_path / name).write_bytes(bytes(100))
    assert stored(tmp_path) == {}
    folder = KeptFolder(tmp_path, 50)
    folder.add("20270101T000000.000000Z-top-2-reject", bytes(40), b"{}")
    assert (tmp_path / name).stat().st_size == 100


def test_the_oldest_go_in_pairs_and_a_tenth_is_made_free(tmp_path: Path) -> None:
    """So that the folder need not be looked through for each picture; what somebody has deleted counts no more."""
    folder = KeptFolder(tmp_path, 1000)
    names = [f"20260101T0000{n:02}.000000Z-top-{n}-reject" for n in range(30)]
    for name in names[:10]:
        folder.add(name, bytes(90), bytes(10))
    assert sorted(stored(tmp_path)) == names[:10]
    folder.add(names[10], bytes(90), bytes(10))
    assert sorted(stored(tmp_path)) == names[2:11]
    for name in names[2:8]:
        (tmp_path / f"{name}.bmp").unlink()
        (tmp_path / f"{name}.json").unlink()
    for name in names[11:17]:
        folder.add(name, bytes(90), bytes(10))
    assert sorted(stored(tmp_path)) == names[8:17]
    for name in names[17:]:
        folder.add(name, bytes(90), bytes(10))
        assert sum(size for _, size in stored(tmp_path).values()) <= 1000
    assert all(len(paths) == 2 for paths, _ in stored(tmp_path).values())


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Its name may be ours, what it leads to is not."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "else").write_bytes(bytes(5000))
    (tmp_path / "kept" / "20260101T000000.000000Z-top-1-reject.bmp").symlink_to(tmp_path / "else")
    KeptFolder(tmp_path / "kept", 1000).add("20270101T000000.000000Z-top-2-reject", bytes(900), b"{}")
    assert len(list((tmp_path / "kept").iterdir())) == 3
    assert (tmp_path / "else").stat().st_size == 5000


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """Where the second file fails the first goes, too."""
    name = "20260101T000000.000000Z-top-1-reject"
    (tmp_path / f"{name}.bmp.part").mkdir()
    with pytest.raises(IsADirectoryError):
        KeptFolder(tmp_path, 1000).add(name, bytes(90), b"{}")
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.bmp.part"]


def test_records_that_are_none_are_left_out(tmp_path: Path) -> None:
    """Half a file, one of something else; the others come oldest first."""
    right = {**message(), "kind": "reject", "labels": ["a"], "thresholds": [0.5], "camera": "boards", "size_px": [4, 3]}
    name = "20260101T0000{:02}.000000Z-top-1-reject.json".format
    for n, content in enumerate([json.dumps(right), json.dumps(right)[:200], "", "{}", json.dumps(right)]):
        (tmp_path / name(n)).write_text(content)
    (tmp_path / "other.json").write_text(json.dumps(right))
    found = list(records(tmp_path))
    assert [path.name for path, _ in found] == [name(n).replace("json", "bmp") for n in (0, 4)]
    assert found[0][1]["size_px"] == (4, 3)
    assert found[0][1]["defects"] == right["defects"]

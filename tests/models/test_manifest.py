"""builds/: what is there is what was built, or the engine is missing; and it changes at once or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.codec import from_json
from edge_inspector.errors import EngineMissing, FailedError
from edge_inspector.models import builds, manifest
from edge_inspector.models.folder import find
from edge_inspector.models.manifest import Build, Machine, Manifest

MACHINE = Machine("openvino", "2026.4", "a processor")


def engine(folder: Path) -> Path:
    """An engine folder; its graph is never read here."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.toml").write_text('task = "detect"\nlabels = ["a"]\n')
    return folder


def build(folder: Path, number: int) -> Build:
    """A finished build; the number makes it another than the others."""
    content = b"plan %d" % number
    with builds.making(folder) as making:
        (making / "model.plan").write_bytes(content)
        made = Manifest(
            engine=folder.name,
            target="openvino",
            precision="fp16",
            file="model.plan",
            file_sha256=manifest.sha256(content),
            model_sha256=manifest.sha256(b"graph"),
            machine=MACHINE,
            built=f"2026-11-23T09:00:{number:02}.000Z",
            build_s=1.5,
            former=builds.former(folder),
        )
        return builds.finish(folder, making, made)


def running(folder: Path) -> str:
    """What the build that runs holds."""
    found = find(folder.name, folder.parent).build
    assert found is not None
    return found.file.read_text()


def test_the_newest_runs_and_its_former_is_kept(tmp_path: Path) -> None:
    """Of three builds two stay; the manifest reads back as it was written."""
    folder = engine(tmp_path / "e")
    assert find("e", tmp_path).build is None
    made = [build(folder, number) for number in (1, 2, 3)]
    assert running(folder) == "plan 3"
    assert [each.folder.is_dir() for each in made] == [False, True, True]
    assert from_json((made[2].folder / "manifest.json").read_bytes(), Manifest) == made[2].manifest
    assert made[2].manifest.former == made[1].folder.name


def test_rolling_back_twice_is_where_it_began(tmp_path: Path) -> None:
    """And once more is the former again; both stay whole."""
    folder = engine(tmp_path / "e")
    build(folder, 1)
    build(folder, 2)
    for wanted in ("plan 1", "plan 2", "plan 1"):
        assert builds.roll_back(folder).file.read_text() == wanted
        assert running(folder) == wanted


def test_before_the_first_build_model_onnx_ran(tmp_path: Path) -> None:
    """So that is what a roll-back of the first build returns to."""
    folder = engine(tmp_path / "e")
    build(folder, 1)
    assert builds.roll_back(folder) is None
    assert find("e", tmp_path).build is None


@pytest.mark.parametrize("mend", ["roll back", "build anew"])
def test_a_damaged_build_does_not_take_the_sound_one_before_it_along(mend: str, tmp_path: Path) -> None:
    """A roll-back returns to the sound one; a new build keeps it as its former."""
    folder = engine(tmp_path / "e")
    first = build(folder, 1)
    (build(folder, 2).folder / "manifest.json").write_text("{")
    if mend == "build anew":
        assert build(folder, 3).manifest.former == first.folder.name
    builds.roll_back(folder)
    assert running(folder) == "plan 1"


def test_there_may_be_nothing_to_roll_back_to(tmp_path: Path) -> None:
    """No build, a former that is damaged, or one of another graph: it says so and changes nothing."""
    folder = engine(tmp_path / "e")
    with pytest.raises(EngineMissing, match="no former build"):
        builds.roll_back(folder)
    first = build(folder, 1)
    build(folder, 2)
    (folder / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(EngineMissing, match=r"another model.onnx"):
        builds.roll_back(folder)
    first.file.write_bytes(b"pla")
    with pytest.raises(EngineMissing, match="is not the file that was built"):
        builds.roll_back(folder)
    assert running(folder) == "plan 2"


def test_what_was_not_finished_is_gone(tmp_path: Path) -> None:
    """An exception in the middle leaves the former build; what a killed process left goes with the next build."""
    folder = engine(tmp_path / "e")
    build(folder, 1)

    def interrupted() -> None:
        with builds.making(folder) as making:
            (making / "model.plan").write_bytes(b"half a plan")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(path.name for path in (folder / "builds").iterdir()) == [
        "20261123T090001.000Z-openvino-fp16", "current", "lock",
    ]  # fmt: skip
    for left in ("making", "20251123T090001.000Z-openvino-fp16"):
        (folder / "builds" / left).mkdir()
        (folder / "builds" / left / "model.plan").write_bytes(b"half a plan")
    build(folder, 2)
    assert len(list((folder / "builds").iterdir())) == 4  # two builds, the link and the lock
    assert running(folder) == "plan 2"


def test_one_builds_at_a_time(tmp_path: Path) -> None:
    """The second is told to wait, and disturbs nothing."""
    folder = engine(tmp_path / "e")
    with builds.making(folder) as making:
        (making / "model.plan").write_bytes(b"half a plan")
        with pytest.raises(FailedError, match="another process builds"), builds.making(folder):
            pass
        assert (making / "model.plan").is_file()


def _text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def _set(old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def _link(to: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder.parent / "current").unlink()
        (folder.parent / "current").symlink_to(to)

    return change


def _copied(folder: Path) -> None:
    """As a copy through a file system without links makes it."""
    (folder.parent / "current").unlink()
    shutil.copytree(folder, folder.parent / "current")


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder.parent)
    folder.parent.write_text("")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "an empty manifest": _text("manifest.json", ""),
    "garbage": _text("manifest.json", "\x00\xff garbage"),
    "a list": _text("manifest.json", "[]"),
    "nested too deep": _text("manifest.json", "[" * 100_000),
    "another target": _set('"target":"openvino"', '"target":"abacus"'),
    "another precision": _set('"precision":"fp16"', '"precision":"fp4"'),
    "a file elsewhere": _set('"file":"model.plan"', '"file":"../../model.onnx"'),
    "a name that is none": _set('"file":"model.plan"', '"file":"a\\u0000b"'),
    "no name": _set('"file":"model.plan"', '"file":""'),
    "a very long name": _set('"file":"model.plan"', f'"file":"{"x" * 5000}"'),
    "no plan": lambda folder: (folder / "model.plan").unlink(),
    "a truncated plan": _text("model.plan", "pla"),
    "an empty plan": _text("model.plan", ""),
    "a folder for a plan": lambda folder: ((folder / "model.plan").unlink(), (folder / "model.plan").mkdir()),
    "a dangling link": _link("20200101T000000.000Z-openvino-fp16"),
    "a link to itself": _link("current"),
    "a link upwards": _link(".."),
    "a link out of here": _link("/usr/bin"),
    "a link that was copied": _copied,
    "builds is a file": _a_file,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_build_is_no_engine(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """It says which file, and the command to type; and the graph does not run in its place."""
    damage(build(engine(tmp_path / "e"), 1).folder)
    with pytest.raises(EngineMissing, match=rf"e/builds.*run: edge-inspector build e --engines {tmp_path}"):
        find("e", tmp_path)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200), at=st.integers(0, 10_000), name=st.sampled_from(["manifest.json", "model.plan"]))
def test_any_bytes_are_the_build_or_no_engine(
    raw: bytes, at: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever overwrites a part of a file: what is found is what was built, or EngineMissing, and nothing else."""
    folder = engine(tmp_path_factory.mktemp("any") / "e")
    made = build(folder, 1)
    path = made.folder / name
    content = path.read_bytes()
    place = at % (len(content) + 1)
    path.write_bytes(content[:place] + raw + content[place + len(raw) :] if at % 2 else content[:place] + raw)
    with contextlib.suppress(EngineMissing):
        assert running(folder) == "plan 1"


def test_a_build_replaces_what_is_damaged(tmp_path: Path) -> None:
    """A link that was copied as a folder, too."""
    folder = engine(tmp_path / "e")
    for n, damage in enumerate((_copied, _link("nowhere"), _text("manifest.json", "{}")), 1):
        damage(build(folder, n).folder)
        build(folder, n + 10)
        assert running(folder) == f"plan {n + 10}"
        assert os.readlink(folder / "builds" / "current").endswith("openvino-fp16")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "2026.5"}, "version: built for 2026.4, here 2026.5"),
        ({"device": "another"}, "device: built for a processor, here another"),
        ({"device": ""}, "device: built for a processor, here none"),
    ],
)
def test_another_machine_is_told_from_this_one(tmp_path: Path, change: dict[str, str], told: str) -> None:
    """With the command that builds it for the machine that is here."""
    made = build(engine(tmp_path / "e"), 1)
    model = tmp_path / "e" / "model.onnx"
    manifest.refuse_other_machine(made, MACHINE, model)
    with pytest.raises(EngineMissing, match=rf"{told}; run: edge-inspector build e .*--target openvino --precision"):
        manifest.refuse_other_machine(made, dataclasses.replace(MACHINE, **change), model)
    model.write_bytes(b"another graph")
    with pytest.raises(EngineMissing, match=r"model.onnx has changed since"):
        manifest.refuse_other_machine(made, MACHINE, model)


def test_a_build_for_other_gpus_names_them(tmp_path: Path) -> None:
    """What was built without a GPU is held to its compute capabilities."""
    folder = engine(tmp_path / "e")
    made = build(folder, 1)
    elsewhere = dataclasses.replace(
        made, manifest=dataclasses.replace(made.manifest, machine=Machine("rtx", "1"), capabilities=("89", "120"))
    )
    model = folder / "model.onnx"
    manifest.refuse_other_machine(elsewhere, Machine("rtx", "1", "GPU", "8.9", "580", "13.0"), model)
    with pytest.raises(EngineMissing, match="compute capability: built for 89, 120, here 90"):
        manifest.refuse_other_machine(elsewhere, Machine("rtx", "1", "GPU", "9.0", "580", "13.0"), model)

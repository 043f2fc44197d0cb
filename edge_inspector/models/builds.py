"""How builds/ changes: one maker at a time, in a folder of its own that becomes a build at once or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineMissing, FailedError
from . import manifest
from .manifest import Build, Manifest

MAKING = "making"  # only one at a time holds the lock, so what lies there is its own or was left by one that died


@contextlib.contextmanager
def making(engine: Path) -> Iterator[Path]:
    """An empty folder in builds/ to make a build in; it goes at the end, unless it was finished.

    Raises FailedError where another process builds the same engine.
    """
    with _alone(engine) as builds:
        folder = builds / MAKING
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def finish(engine: Path, folder: Path, build: Manifest) -> Build:
    """Make what was made the build that runs; returns it where it lies from now on."""
    manifest.sync(folder / build.file)
    manifest.write(folder, build)
    final = folder.with_name(manifest.named(build))
    os.rename(folder, final)
    manifest.install(engine, final)
    return Build(final, build)


def shelve(folder: Path, build: Manifest) -> Path:
    """Keep what was made for other machines, in place of its like; what runs here stays. Returns where it lies."""
    manifest.sync(folder / build.file)
    manifest.write(folder, build)
    final = folder.with_name(manifest.named(build))
    kind = final.name.partition("-")[2]
    os.rename(folder, final)
    manifest.sync(final.parent)
    for other in final.parent.glob("2*"):
        if other != final and other.name.partition("-")[2] == kind:
            shutil.rmtree(other, ignore_errors=True)
    return final


def former(engine: Path) -> str:
    """The name of the build that a new one replaces, or of the newest sound one; "" where model.onnx itself runs."""
    try:
        build = manifest.current(engine)
    except EngineMissing:
        build = _newest_sound(engine)
    return build.folder.name if build else ""


def _newest_sound(engine: Path) -> Build | None:
    """Of the builds for this machine that are whole, the one made last: their names begin with the time."""
    for folder in sorted(filter(manifest.is_local, (engine / "builds").glob("2*")), reverse=True):
        with contextlib.suppress(EngineMissing):
            return manifest.load(folder)
    return None


def roll_back(engine: Path) -> Build | None:
    """Put the former build back, and make what ran until now its former; None: model.onnx itself runs again.

    Where what ran until now is damaged, the newest sound build is put back. Raises EngineMissing where there is none.
    """
    with _alone(engine):
        try:
            now = manifest.current(engine)
        except EngineMissing:
            before = _newest_sound(engine)
            if before is None:
                raise
            manifest.install(engine, before.folder)
            return before
        if now is None:
            raise EngineMissing(f"{engine / 'builds'}: there is no former build to put back")
        if not now.manifest.former:
            (engine / "builds" / "current").unlink()
            return None
        before = manifest.load(now.folder.with_name(now.manifest.former))
        if manifest.sha256((engine / "model.onnx").read_bytes()) != before.manifest.model_sha256:
            raise EngineMissing(f"{before.folder}: was built from another model.onnx than the one that is here now")
        again = dataclasses.replace(before.manifest, former=now.folder.name)
        manifest.write(before.folder, again)
        manifest.install(engine, before.folder)
        return Build(before.folder, again)


@contextlib.contextmanager
def _alone(engine: Path) -> Iterator[Path]:
    """The lock on builds/, which goes with the process that held it."""
    builds = engine / "builds"
    if builds.exists() and not builds.is_dir():
        raise EngineMissing(f"{builds}: is no folder, and builds go there; remove it")
    builds.mkdir(exist_ok=True)
    with (builds / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedError(f"{engine}: another process builds this engine at the moment; wait for it") from None
        yield builds

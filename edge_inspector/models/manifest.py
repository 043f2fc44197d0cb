"""The manifest beside a compiled engine: from what, by what and for which machine it was made. Owns builds/.

`engines/<name>/builds/<id>/` holds a compiled file and its manifest.json; the link `builds/current` says
which one runs. Without any, an engine runs from its model.onnx, on the CPU.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..codec import Mismatch, from_json, to_json
from ..errors import EngineMissing

TARGETS = ("openvino", "tensorrt", "tensorrt-rtx")
PRECISIONS = ("fp32", "fp16", "int8")
NAMED = re.compile(rf"[^-]+-({'|'.join(TARGETS)})-({'|'.join(PRECISIONS)})(?:-sm\d+)*")  # as `named` has it


@dataclass(frozen=True, slots=True)
class Machine:
    """What a compiled engine depends on. device: the GPU's or the processor's name; "" for what is not there.

    compute_capability: such as "8.9". Where it was built for a machine that is not this one, device and driver are "".
    """

    runtime: str
    version: str
    device: str = ""
    compute_capability: str = ""
    driver: str = ""
    cuda: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The keys of manifest.json. file: beside it. capabilities: compute capabilities built for, such as "89".

    latency_ms: median of bare inferences when it was built, 0 where it could not run. former: the build that was
    current before, "" for none: what `build --rollback` puts back.
    """

    engine: str
    target: str
    precision: str
    file: str
    file_sha256: str
    model_sha256: str
    machine: Machine
    built: str
    build_s: float
    latency_ms: float = 0.0
    capabilities: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    kept_fp32: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    former: str = ""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f'target: found "{self.target}", expected {" or ".join(TARGETS)}')
        if self.precision not in PRECISIONS:
            raise ValueError(f'precision: found "{self.precision}", expected {" or ".join(PRECISIONS)}')
        for name in (self.file, self.former):
            if Path(name).name != name or "\0" in name:
                raise ValueError(f'found "{name}", expected the name of what lies beside')


@dataclass(frozen=True, slots=True)
class Build:
    """A compiled engine that is here: its folder in builds/, and what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def file(self) -> Path:
        """What the runner loads."""
        return self.folder / self.manifest.file


def current(engine: Path) -> Build | None:
    """The build that runs, of the engine folder; None where there is none. Raises EngineMissing for a damaged one."""
    link = engine / "builds" / "current"
    try:
        name = os.readlink(link)
    except FileNotFoundError:
        return None
    except OSError as error:  # no link, but a copy that followed it, say
        why = "expected a link to a build" if error.errno == errno.EINVAL else error.strerror
        raise EngineMissing(f"{link}: {why}; run: {_again(engine)}") from None
    if Path(name).name != name:
        raise EngineMissing(f"{link}: points to {name}, not to a build beside it; run: {_again(engine)}")
    return load(link.with_name(name))


def load(folder: Path) -> Build:
    """One of an engine's builds. Raises EngineMissing, with the command to type, where it is not what was built."""
    again = _again(folder.parent.parent, folder.name)
    try:
        manifest = from_json((folder / "manifest.json").read_bytes(), Manifest)
        content = (folder / manifest.file).read_bytes()
    except (OSError, Mismatch) as error:
        raise EngineMissing(f"{folder}: is no usable build: {error}; run: {again}") from None
    if sha256(content) != manifest.file_sha256:
        raise EngineMissing(f"{folder / manifest.file}: is not the file that was built; run: {again}")
    return Build(folder, manifest)


def refuse_other_machine(build: Build, machine: Machine, model: Path) -> None:
    """Raise EngineMissing, with the command to type, where model or machine are not those it was built for."""
    manifest, engine = build.manifest, build.folder.parent.parent
    changed = [
        f"{key.name.replace('_', ' ')}: built for {was}, here {here or 'none'}"
        for key in dataclasses.fields(Machine)
        if (was := getattr(manifest.machine, key.name)) and was != (here := getattr(machine, key.name))
    ]
    if sha256(model.read_bytes()) != manifest.model_sha256:
        changed.insert(0, f"{model.name} has changed since")
    here = machine.compute_capability.replace(".", "")
    if manifest.capabilities and here not in manifest.capabilities:
        changed.append(f"compute capability: built for {', '.join(manifest.capabilities)}, here {here or 'none'}")
    if changed:
        raise EngineMissing(
            f'engine "{engine.name}" was not built for this machine: {"; ".join(changed)}; '
            f"run: {command(engine, manifest.target, manifest.precision)}"
        )


def write(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, at once or not at all."""
    fresh = folder / "manifest.json.new"
    fresh.write_bytes(to_json(manifest) + b"\n")
    sync(fresh)
    os.replace(fresh, folder / "manifest.json")
    sync(folder)


def install(engine: Path, folder: Path) -> None:
    """Make a finished build in builds/ the one that runs, at once or not at all.

    All others go, but its former and those for other machines.
    """
    kept = {"current", folder.name, load(folder).manifest.former}
    link = engine / "builds" / "current"
    fresh = link.with_name("current.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    if link.is_dir() and not link.is_symlink():  # a copy that followed the link
        shutil.rmtree(link)
    os.replace(fresh, link)
    sync(link.parent)
    for other in link.parent.iterdir():
        if other.name not in kept and is_local(other) and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file or folder would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(content: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def named(build: Manifest) -> str:
    """The name of a build's folder; at its end, what it was built for, if not for the machine that it was built on."""
    elsewhere = "" if build.machine.device else "".join(f"-sm{each}" for each in build.capabilities)
    return f"{build.built.replace('-', '').replace(':', '')}-{build.target}-{build.precision}{elsewhere}"


def is_local(folder: Path) -> bool:
    """Whether a build's folder has the name of one that was made for the machine that it was made on."""
    return "-sm" not in folder.name


def where(engine: Path) -> str:
    """How to name an engine in a command that somebody may type."""
    return shlex.join([engine.name, "--engines", str(engine.parent)])


def command(engine: Path, target: str, precision: str) -> str:
    """What to type to build an engine anew."""
    return f"edge-inspector build {where(engine)} --target {target} --precision {precision}"


def _again(engine: Path, name: str = "") -> str:
    """The command that builds anew what a folder's name tells of, or that of the newest build that is there."""
    for each in (name, *sorted((path.name for path in (engine / "builds").glob("2*")), reverse=True)):
        found = NAMED.fullmatch(each)
        if found:
            return command(engine, *found.groups())
    return command(engine, "auto", "fp16")

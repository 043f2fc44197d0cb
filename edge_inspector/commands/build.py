"""Compile an engine for this machine, and make it the one that runs where it proves itself on its golden pictures.

The engine that ran before is kept: `--rollback` puts it back, and a second time returns. A running daemon keeps what it
has loaded until it is started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .. import runners
from ..contract import INPUT, OUTPUTS, Tensor
from ..errors import EngineMissing, FailedError, ModelRefused
from ..models import builds, int8, manifest
from ..models.folder import Engine, ModelTables, find, graph_of
from ..models.gate import doubts, prove
from ..models.golden import infer
from ..models.manifest import PRECISIONS, TARGETS, Build, Machine, Manifest
from ..models.speed import median_ms
from ..runners.base import Runner
from ..service import log_to
from ..tables import read_file, read_table, read_toml
from .own_copy import own
from .terminal import Block, bar


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, how exact, for what."""
    parser.add_argument("name", metavar="NAME", help="an engine's name")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="of the network (fp16)")
    parser.add_argument("--target", choices=("auto", *TARGETS), default="auto", help="the GPU's, else openvino (auto)")
    parser.add_argument(
        "--sm", nargs="+", default=[], metavar="89", type=_capability, help="tensorrt-rtx: for these GPUs elsewhere"
    )
    parser.add_argument("--rollback", action="store_true", help="put the former build back, and do nothing else")
    parser.set_defaults(refuse=parser.error)


def main(args: argparse.Namespace) -> int:
    """Build or roll back. Until the last moment nothing changes for who runs the engine."""
    if args.sm and args.target not in ("auto", "tensorrt-rtx"):
        args.refuse(f"--sm is for --target tensorrt-rtx; {args.target} is built where it runs")
    log_to(least=logging.WARNING)
    try:
        engine = _engine(args.name, args.engines)
        if args.rollback:
            return _roll_back(engine)
        return _build(own(engine, args.engines), args)
    except OSError as error:
        raise FailedError(
            f"{error.filename or args.engines}: {error.strerror or error}; no build was changed"
        ) from None


def _build(engine: Engine, args: argparse.Namespace) -> int:
    capabilities = tuple(dict.fromkeys(args.sm))
    target, machine = _target(args.target, capabilities)
    print(f'engine "{engine.folder.name}": building for {target} in {args.precision}', flush=True)
    with builds.making(engine.folder) as folder:
        draft = _compile(engine, folder, machine, precision=args.precision, capabilities=capabilities)
        size = (folder / draft.file).stat().st_size / 1e6
        print(f"built    {draft.file}, {size:.1f} MB in {draft.build_s:.1f} s{_kept(draft)}")
        if capabilities:
            shelved = builds.shelve(folder, draft)
        else:
            draft = _proved(engine, folder, draft)
            build = builds.finish(engine.folder, folder, draft)
    if capabilities:
        link = shlex.join(["ln", "-sfn", shelved.name, f"{engine.folder.name}/builds/current"])
        print(f"proved   not here: it is for sm {', '.join(capabilities)}; the daemon proves it there, at its start")
        print(f"built    {shelved}; what runs on this machine stays as it is")
        print(f"there    copy {engine.folder} to that machine's engines/, and in engines/ run: {link}")
    else:
        print(f"current  {build.folder}; to put the former back: {_rollback(engine)}")
    return 0


def _compile(
    engine: Engine, folder: Path, machine: Machine, *, precision: str, capabilities: tuple[str, ...]
) -> Manifest:
    """Make the file that the runner loads, and its manifest, in an empty folder."""
    target, block, started_s = machine.runtime, Block(sys.stderr), time.monotonic()
    model_sha256 = manifest.sha256(graph_of(engine.folder, engine.tables))
    source, warnings = _source(engine, precision)
    file = folder / ("model.onnx" if target == "openvino" else "model.plan")
    tensors: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def show(phase: str, share: float) -> None:
        block.show([f"{bar(round(100 * share), 100)} {phase}  {time.monotonic() - started_s:.0f} s"])

    if target == "openvino":
        shutil.copyfile(source, file)  # OpenVINO compiles when it loads, in the precision that the manifest names
    else:
        tensors, kept = _plan(source, file, target=target, precision=precision, capabilities=capabilities, show=show)
    block.final([f"{bar(1, 1)} compiled"])
    return Manifest(
        engine=engine.folder.name,
        target=target,
        precision=precision,
        file=file.name,
        file_sha256=manifest.sha256(file.read_bytes()),
        model_sha256=model_sha256,
        machine=machine,
        built=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        build_s=round(time.monotonic() - started_s, 3),
        capabilities=capabilities or _here(machine),
        tensors=tensors,
        kept_fp32=kept,
        warnings=warnings,
        former=builds.former(engine.folder),
    )


def _plan(
    source: Path,
    file: Path,
    *,
    target: str,
    precision: str,
    capabilities: tuple[str, ...],
    show: Callable[[str, float], None],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write TensorRT's plan; returns its tensors, and the operators that stay FP32 in a network of half precision."""
    from ..models.compile import compile_plan, refuse_dynamic
    from ..models.halve import to_fp16

    refuse_dynamic(source)
    kept: tuple[str, ...] = ()
    graph = source
    if precision == "fp16":
        show("half precision", 0.0)
        graph = file.with_name("half.onnx")
        kept = to_fp16(source, graph)
    cache = file.parent.with_name("timing.cache")
    tensors = compile_plan(graph, file, target=target, capabilities=capabilities, timing_cache=cache, progress=show)
    if graph != source:
        graph.unlink()
    return tensors, kept


def _proved(engine: Engine, folder: Path, draft: Manifest) -> Manifest:
    """Run it as the daemon would. Raises EngineMissing where it does not give the golden rows again."""
    candidate = dataclasses.replace(engine, build=Build(folder, draft))
    doubtful = doubts(candidate)
    runner = runners.make(candidate)
    try:
        off = prove(candidate, runner)
        latency_ms = round(median_ms(runner), 3)
        tensors = draft.tensors or _tensors(candidate, runner)
    except EngineMissing as error:
        why, blind = str(error).partition("; run: ")[0], "does not do what" in str(error)
        mend = "; try --precision fp32" if blind and draft.precision != "fp32" else ""
        raise EngineMissing(f"{why}; nothing was changed{mend}") from None
    finally:
        runner.close()
    print(f"proved   on the golden pictures: scores off by {off:.1%} at most; median latency {latency_ms:.2f} ms")
    for doubt in doubtful:
        print(f"warning  {doubt}")
    return dataclasses.replace(draft, latency_ms=latency_ms, tensors=tensors, warnings=(*draft.warnings, *doubtful))


def _tensors(engine: Engine, runner: Runner) -> tuple[str, ...]:
    """What goes in and out, in words."""
    picture = runner.inputs[0]
    names = (INPUT, *OUTPUTS[engine.tables.task])
    values: tuple[NDArray[Any], ...] = (picture, *infer(runner, picture))
    return tuple(
        str(Tensor(name, str(value.dtype), (1, *value.shape))) for name, value in zip(names, values, strict=True)
    )


def _source(engine: Engine, precision: str) -> tuple[Path, tuple[str, ...]]:
    """The graph to compile, and warnings from when it was made. Raises EngineMissing where INT8 is not of use."""
    if precision != "int8":
        return engine.model, ()
    return engine.folder / int8.MODEL, int8.installed(engine.folder).warnings


def _target(asked: str, capabilities: tuple[str, ...]) -> tuple[str, Machine]:
    """What to build for. auto: what this machine can run, a GPU first."""
    if capabilities:
        from ..models.trt import library

        return "tensorrt-rtx", Machine("tensorrt-rtx", library("tensorrt-rtx").__version__)
    if asked != "auto":
        return asked, runners.machine(asked)
    for target in ("tensorrt", "tensorrt-rtx"):
        try:
            return target, runners.machine(target)
        except EngineMissing:
            continue
    return "openvino", runners.machine("openvino")


def _here(machine: Machine) -> tuple[str, ...]:
    return (machine.compute_capability.replace(".", ""),) if machine.compute_capability else ()


def _kept(draft: Manifest) -> str:
    return f"; {len(draft.kept_fp32)} operators before and behind the network stay FP32" if draft.kept_fp32 else ""


def _engine(name: str, engines: Path) -> Engine:
    """The engine without its build: to mend one that is damaged is what a build is for."""
    folder = engines / name
    if not (folder / "builds").exists() or not (folder / "model.onnx").is_file():
        engine = find(name, engines)
        if engine.tables.script:
            raise ModelRefused(f'engine "{name}" is a script (model.toml); there is nothing to build')
        return engine
    path = folder / "model.toml"
    tables: ModelTables = read_table(path, read_toml(path, read_file(path)), ModelTables, "")
    return Engine(folder, tables, {"name": name, "sha256": ""})


def _roll_back(engine: Engine) -> int:
    """Put the former build back; whether it still fits this machine, the daemon says at its start."""
    build = builds.roll_back(engine.folder)
    if build is None:
        print(f"current  {engine.model} itself, through OpenVINO")
        return 0
    was = build.manifest
    print(f"current  {build.folder}: {was.target}, {was.precision}, built {was.built}")
    print(f"         to return: {_rollback(engine)}")
    return 0


def _rollback(engine: Engine) -> str:
    return f"edge-inspector build {manifest.where(engine.folder)} --rollback"


def _capability(text: str) -> str:
    """8.9 and 89 are the same."""
    digits = text.replace(".", "").removeprefix("sm")
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no compute capability, such as 89")
    return digits

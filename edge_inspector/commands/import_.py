"""Make an engine of an ONNX file that a framework exported: recognise its head, complete the graph, prove it.

engines/NAME/ appears complete or not at all. Exit 1 where the file is refused; the message says why and what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..errors import ConfigError, ModelRefused
from ..models import int8
from ..models.folder import ModelTables
from ..models.heads.base import Hints
from ..tables import NAME, read_file, read_table, read_toml
from .importing import Wanted, make
from .importing_texts import clean, next_steps, printable
from .isolated import GB, isolated
from .terminal import Block

STEP_S = 120.0
OF_THE_GRAPH = ("builds", int8.MODEL, int8.REPORT)  # what is made from model.onnx, and from no other


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to import, and what the file does not tell."""
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="as exported; weights beside it are read as well")
    parser.add_argument("--name", required=True, type=_name, help="the engine's name")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")
    parser.add_argument("--replace", action="store_true", help="in place of the engine of that name")
    parser.add_argument(
        "--golden", type=Path, metavar="DIR", help="pictures to prove it by; synthetic ones if not given"
    )
    told = parser.add_argument_group("where the file does not tell")
    told.add_argument("--head", help="which family it is; the message that asks for it lists them")
    told.add_argument("--classes", type=_names, default=(), help="names: comma separated, or a file with a name a line")
    told.add_argument("--good", type=_names, help="classes that a good part has (classifiers, segmentation)")
    told.add_argument("--size", type=_size, metavar="H[xW]", help="of an input whose size is open")
    told.add_argument("--scale", type=_number, help="what pixels, 0 to 255, are multiplied by, such as 1/255")
    told.add_argument("--mean", type=_numbers, metavar="R,G,B", help="subtracted after that, in the network's order")
    told.add_argument("--std", type=_divisors, metavar="R,G,B", help="divided by after that")
    colour = told.add_mutually_exclusive_group()
    colour.add_argument("--rgb", dest="colour", action="store_const", const="rgb", help="it was trained on RGB")
    colour.add_argument("--bgr", dest="colour", action="store_const", const="bgr", help="it was trained on BGR")
    told.add_argument("--resize", choices=("letterbox", "stretch"), help="how pictures are fitted to the input")


def main(args: argparse.Namespace) -> int:
    """Import it and say what it is; raises ModelRefused."""
    target = args.engines / args.name
    if args.golden is not None and not args.golden.is_dir():
        raise ModelRefused(f"{args.golden}: is no folder; expected pictures in it, for --golden")
    hints = Hints(
        head=args.head, labels=args.classes, scale=args.scale, mean=args.mean, std=args.std, colour=args.colour,
        size=args.size, resize=args.resize, good=args.good,
    )  # fmt: skip
    block = Block(sys.stderr)
    try:
        with _workplace(target, replace=args.replace) as folder:
            wanted = Wanted(file=args.file, name=args.name, folder=folder, hints=hints, golden=args.golden)
            memory = 6 * GB + 6 * min(2 * GB, _weight(args.file))
            lines = isolated(
                partial(make, wanted), lambda step: block.final([f"{step} ..."]), memory=memory, step_s=STEP_S
            )
            lines += _carry_over(target, folder)
            _install(folder, target)
    except ModelRefused as error:
        raise ModelRefused(printable(str(error))) from None
    except OSError as error:
        raise ModelRefused(f"{error.filename or target}: {error.strerror}; see to it, then import again") from None
    print("\n".join([*map(printable, lines), f"engine     {target}", *next_steps(args.name, str(args.engines))]))
    return 0


@contextlib.contextmanager
def _workplace(target: Path, *, replace: bool) -> Iterator[Path]:
    """A folder beside the target for what is not finished; it is gone at the end, whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _clean(target.parent)
    if target.exists() and not replace:
        raise ModelRefused(
            f'{target}: there is an engine "{target.name}" already; add --replace, or choose another --name'
        )
    folder = target.parent / f".{target.name}.importing-{os.getpid()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _carry_over(former: Path, folder: Path) -> list[str]:
    """Bring into a new engine what people made of the former one, and say what of it cannot be; lines to print."""
    if not former.is_dir():
        return []
    lines, gone = [], [name for name in OF_THE_GRAPH if (former / name).exists()]
    if _graph(former) == _graph(folder):
        gone = []
    elif gone:
        lines.append(f"gone       {', '.join(gone)}, made from another graph: calibrate and build again")
    for path in former.iterdir():
        if path.name not in gone and not (folder / path.name).exists():
            if path.is_dir():
                shutil.copytree(path, folder / path.name, symlinks=True)
            else:
                shutil.copy2(path, folder / path.name)
    if (former / "recipe.toml").is_file():
        labels, before = (_labels(each) for each in (folder, former))
        into = "recipe.toml" if labels == before else "recipe.toml.former"
        shutil.copy2(former / "recipe.toml", folder / into)
        lines.append(
            "kept       recipe.toml, as its classes are the same"
            if labels == before
            else "recipe     is a new one, as the classes are others; that of before is recipe.toml.former"
        )
    return lines


def _graph(folder: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (folder / "model.onnx").read_bytes()
    return b""


def _labels(folder: Path) -> tuple[str, ...]:
    path = folder / "model.toml"
    with contextlib.suppress(ConfigError):
        tables: ModelTables = read_table(path, read_toml(path, read_file(path)), ModelTables, "")
        return tables.labels
    return ()


def _install(folder: Path, target: Path) -> None:
    """Put the finished engine in its place; a former one goes only then."""
    former = target.parent / f".{target.name}.replaced-{os.getpid()}"
    if target.exists():
        target.rename(former)
    folder.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _clean(engines: Path) -> None:
    """Remove what killed imports left, and put back an engine that one had just moved away."""
    for left in (*engines.glob(".*.importing-*"), *engines.glob(".*.replaced-*")):
        name, _, tail = left.name[1:].rpartition(".")
        kind, _, process = tail.partition("-")
        if process.isdigit() and not _alive(int(process)):
            if kind == "replaced" and not (engines / name).exists():
                left.rename(engines / name)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _weight(file: Path) -> int:
    """Bytes of the file and all beside it, where its weights may be."""
    with contextlib.suppress(OSError):
        return sum(each.stat().st_size for each in file.parent.iterdir() if each.is_file())
    return 0


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected letters, digits, '.', '_' or '-', a letter or digit first"
        )
    return text


def _names(text: str) -> tuple[str, ...]:
    path = Path(text)
    try:
        names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None
    names = [name.strip() for name in names if name.strip()]
    if (text and not names) or len(set(names)) < len(names) or clean(names) != tuple(names):
        raise argparse.ArgumentTypeError(f"{text}: expected different names, comma separated or one a line of a file")
    return tuple(names)


def _number(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text}: expected a number such as 0.5 or 1/255") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text}: expected a number such as 0.5 or 1/255")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(_number(part) for part in text.split(","))
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text}: expected one number or three, comma separated")
    return values * (3 // len(values))


def _divisors(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if 0.0 in values:
        raise argparse.ArgumentTypeError(f"{text}: expected no 0 to divide by")
    return values


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and 0 < int(part) <= 8192 for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: expected height x width in pixels, such as 480x640, or one number")
    return int(parts[0]), int(parts[-1])

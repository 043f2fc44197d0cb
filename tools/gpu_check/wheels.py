"""The folder of wheels that travels to a machine without a network: joined, unpacked, and made small before."""

from __future__ import annotations

import lzma
import re
import shutil
import sys
import zipfile
from pathlib import Path

PIECE = 16 << 20  # bytes
BIG = 64 << 20  # of a wheel, unpacked: from there on xz is worth its minutes


def pack(folder: Path) -> list[Path]:
    """Replace every big wheel by pieces of it, `<wheel>.xz.000` and so on; returns them.

    A wheel's own compression hides from xz what is alike, so it is stored without. TensorRT-RTX: 95 MB become 66.
    """
    made = []
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            if sum(info.file_size for info in packed.infolist()) < BIG:
                continue
            print(f"{wheel.name}: compressing, which takes minutes ...", file=sys.stderr, flush=True)
            plain, small = wheel.with_suffix(".plain"), wheel.with_suffix(".small")
            with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as stored:
                for info in packed.infolist():
                    stored.writestr(info.filename, packed.read(info))
        with plain.open("rb") as source, lzma.open(small, "wb", preset=9) as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        made += _split(small, wheel)
        for each in (plain, small, wheel):
            each.unlink()
    return made


def unpack(folder: Path, site: Path) -> list[str]:
    """Install all wheels of a folder, and those there in pieces, into `site`; returns their names.

    No pip: these are wheels with nothing to compile, and a bare machine may have none. Raises ValueError for a wheel
    of another Python, OSError or lzma.LZMAError for damaged pieces.
    """
    site.mkdir(parents=True, exist_ok=True)
    wheels = sorted(folder.glob("*.whl"))
    for name in sorted({path.name.partition(".xz.")[0] for path in folder.glob("*.xz.*")}):
        wheels.append(_join(folder, name, site.parent))
    if not wheels:
        raise ValueError(f"{folder}: holds no wheels and no pieces of any; see: python -m tools.gpu_check --help")
    for wheel in wheels:
        _refuse_other_python(wheel)
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
    for data in site.glob("*.data"):  # what a wheel wants beside its packages
        for kind in ("purelib", "platlib"):
            if (data / kind).is_dir():
                shutil.copytree(data / kind, site, dirs_exist_ok=True)
    return [wheel.name for wheel in wheels]


def _split(small: Path, wheel: Path) -> list[Path]:
    pieces: list[Path] = []
    with small.open("rb") as source:
        while content := source.read(PIECE):
            pieces.append(wheel.with_name(f"{wheel.name}.xz.{len(pieces):03}"))
            pieces[-1].write_bytes(content)
    return pieces


def _join(folder: Path, name: str, into: Path) -> Path:
    pieces = sorted(folder.glob(f"{name}.xz.*"))
    expected = [f"{name}.xz.{n:03}" for n in range(len(pieces))]
    if [piece.name for piece in pieces] != expected:
        raise ValueError(f"{folder}: pieces of {name}: found {[p.name for p in pieces]}, expected {expected}")
    reader, joined = lzma.LZMADecompressor(), into / name
    with joined.open("wb") as sink:
        for piece in pieces:
            sink.write(reader.decompress(piece.read_bytes()))
    if not reader.eof:
        raise ValueError(f"{folder}: the last piece of {name} is missing: the compressed wheel has no end")
    return joined


def _refuse_other_python(wheel: Path) -> None:
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for tag in wheel.stem.split("-")[-3].split("."):
        number = re.fullmatch(r"cp3(\d+)", tag)
        stable = "abi3" in wheel.stem and number and int(number[1]) <= sys.version_info.minor
        if tag.startswith("py") or tag == here or stable:
            return
    raise ValueError(f"{wheel.name}: is for another Python than this, {here}")

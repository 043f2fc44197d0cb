"""Say what is installed, what answers and what is missing, each with the command that mends it.

Exit code 0 where nothing needed is missing, else 1. With a line's or a gateway's file also whether that could run here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from . import doctor_devices, doctor_gateway, doctor_line
from .doctor_line import UNIT, unit_folder
from .finding import Finding, State, pip, version_of

PACKAGE = "edge-inspector"
EXTRAS = {
    "gateway": "the gateway to a PLC over Modbus TCP",
    "opcua": "a gateway that tells OPC UA clients",
    "mqtt": "a gateway that tells an MQTT broker",
    "systemd": "log lines with fields",
    "models": "importing and building engines",
    "tensorrt": "engines on an NVIDIA GPU",
    "tensorrt-rtx": "engines on an NVIDIA GPU of a PC",
    "train": "training",
}
APT = {"systemd-python": "sudo apt-get install libsystemd-dev pkg-config && "}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The line's or gateway's file, where there is one."""
    parser.add_argument("file", type=Path, nargs="?", metavar="LINE.toml|GATEWAY.toml", help="could this run here?")


def main(args: argparse.Namespace) -> int:
    """Print the report; returns 1 where something needed is missing."""
    findings = [*_libraries(), *doctor_devices.accelerators(), *doctor_devices.cameras(), *_systemd()]
    of_gateway = args.file is not None and doctor_gateway.is_gateway(args.file)
    findings += doctor_line.engines(None if of_gateway else args.file)
    if of_gateway:
        findings += doctor_gateway.gateway(args.file)
    elif args.file is not None:
        findings += doctor_line.line(args.file)
    width = max(len(finding.what) for finding in findings)
    for found in findings:
        print(f"{found.state:8}  {found.what:{width}}  {found.detail}{'  -> ' if found.mend else ''}{found.mend}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _libraries() -> Iterator[Finding]:
    """Python, and each library by what the package's metadata asks for."""
    new_enough = sys.version_info >= (3, 10)
    yield Finding("ok" if new_enough else "missing", "python", f"{platform.python_version()} ({sys.executable})")
    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("missing", PACKAGE, "not installed, so nobody knows what it needs", f"{pip()} install .")
        return
    yield Finding("ok", PACKAGE, importlib.metadata.version(PACKAGE))
    told: set[str] = set()  # what several extras ask for is told once
    for requirement in requirements:
        needed, _, marker = (part.strip() for part in requirement.partition(";"))
        extra = re.search(r"extra == ['\"]([\w-]+)", marker)
        older = re.search(r"python_version < ['\"]3\.(\d+)", marker)
        if (extra and extra[1] not in EXTRAS) or (older and sys.version_info >= (3, int(older[1]))):
            continue
        if needed not in told:
            told.add(needed)
            yield _library(needed, extra[1] if extra else None)


def _library(needed: str, extra: str | None) -> Finding:
    """Whether a requirement such as `numpy>=1.23` or `pymodbus<4,>=3.16` is met."""
    name = re.split(r"[^\w.-]", needed)[0]
    state: State = "optional" if extra else "missing"
    mend = f"{APT.get(name, '')}{pip()} install '{needed}'"
    purpose = f"; only for {EXTRAS[extra]}" if extra else ""
    version = version_of(name)
    if version is None:
        return Finding(state, name, f"not installed{purpose}", mend)
    least = re.search(r">=\s*([\d.]+)", needed)
    if least and _numbers(version) < _numbers(least[1]):
        return Finding(state, name, f"{version} is too old{purpose}", mend)
    beyond = re.search(r"<\s*([\d.]+)", needed)
    if beyond and _numbers(version) >= _numbers(beyond[1]):
        return Finding(state, name, f"{version} is too new{purpose}", mend)
    return Finding("ok", name, version)


def _systemd() -> Iterator[Finding]:
    """Whether systemd runs this machine, and knows the unit."""
    if Path("/run/systemd/system").is_dir():
        yield Finding("ok", "systemd", "runs this machine")
    else:
        yield Finding("optional", "systemd", "does not run this machine: nobody restarts a line that fails")
    folder = unit_folder()
    if folder is None:
        yield Finding("optional", "unit", f"{UNIT} is not installed", "see systemd/README.md")
    else:
        yield Finding("ok", "unit", f"{folder}/{UNIT}")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.split("+")[0])]

"""Where a command finds a line: a TOML file names both endpoints, or they are given as addresses."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import load
from ..errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """TARGET and GATEWAY."""
    parser.add_argument("target", metavar="TARGET", help="LINE.toml, or the address of the `verdicts` endpoint")
    parser.add_argument("gateway", nargs="?", metavar="GATEWAY", help="the address of the `gateway` endpoint")


def resolve(args: argparse.Namespace) -> tuple[str, str | None]:
    """The addresses of `verdicts` and `gateway`; the latter is None where nobody named it. Raises ConfigError."""
    if "://" in args.target:
        return args.target, args.gateway
    if not Path(args.target).suffix:
        raise ConfigError(f'"{args.target}" is neither a LINE.toml nor an address such as tcp://127.0.0.1:5571')
    return load(Path(args.target)).endpoints

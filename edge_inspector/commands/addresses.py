"""Where a command finds a line, and with which key it comes: a TOML file names all of it, or it is given."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import load
from ..errors import ConfigError
from ..keys import SERVER, ClientKeys


def arguments(parser: argparse.ArgumentParser) -> None:
    """TARGET, GATEWAY, and the keys."""
    parser.add_argument("target", metavar="TARGET", help="LINE.toml, or the address of the `verdicts` endpoint")
    parser.add_argument("gateway", nargs="?", metavar="GATEWAY", help="the address of the `gateway` endpoint")
    key_arguments(parser)


def key_arguments(parser: argparse.ArgumentParser) -> None:
    """The keys alone."""
    parser.add_argument(
        "--key", type=Path, metavar="NAME.secret",
        help="the key to come with, where the line asks for one (with LINE.toml: the daemon's own, if you may read it)",
    )  # fmt: skip
    parser.add_argument(
        "--server-key", type=Path, metavar="server.public",
        help="the daemon's public key (with LINE.toml: from its key folder; else from beside NAME.secret)",
    )  # fmt: skip


def resolve(args: argparse.Namespace) -> tuple[str, str | None]:
    """The addresses of `verdicts` and `gateway`; the latter is None where nobody named it. Raises ConfigError."""
    if "://" in args.target:
        return args.target, args.gateway
    if not Path(args.target).suffix:
        raise ConfigError(f'"{args.target}" is neither a LINE.toml nor an address such as tcp://127.0.0.1:5571')
    return load(Path(args.target)).endpoints


def keys(args: argparse.Namespace) -> ClientKeys | None:
    """The keys to come with, None where the line asks for none. Raises ConfigError."""
    folder = None if "://" in args.target else load(Path(args.target)).key_folder
    secret: Path | None = args.key or (folder and folder / f"{SERVER}.secret")
    if secret is None:
        if args.server_key is not None:
            raise ConfigError("--server-key without --key: give the secret key to come with as well")
        return None
    return ClientKeys(secret, args.server_key or (folder or secret.parent) / f"{SERVER}.public")

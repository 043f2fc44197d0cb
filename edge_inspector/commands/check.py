"""Check a line's TOML file: keys, recipes, engines, and whether the engine can keep the deadline on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import keys, runners
from ..config import load
from ..infer import Inferrer
from ..line import assign, refuse_deadline
from ..mailbox import Intake, Outbox
from ..realtime import Realtime
from ..station import EngineHealth


def arguments(parser: argparse.ArgumentParser) -> None:
    """The line's file."""
    parser.add_argument("line", type=Path, metavar="LINE.toml")


def main(args: argparse.Namespace) -> int:
    """Say what each station is; raises ConfigError (78) or EngineMissing (3) with what is wrong."""
    config = load(args.line)
    if config.key_folder is not None:
        keys.server_secret(config.key_folder)
        keys.read_clients(config.key_folder / keys.CLIENTS)
    Realtime(config).pin()  # an engine's time is that on the line's cores
    best: dict[Path, float] = {}
    for found in assign(config):
        folder = found.engine.folder
        if folder not in best:
            runner = runners.make(found.engine)
            best[folder] = Inferrer(found.engine, runner, EngineHealth(), Intake((), capacity=1), Outbox()).warm_up()
            runner.close()
        refuse_deadline(config, found.config, best[folder])
        kept = f", keeps {' '.join(found.config.keep)} in {config.keep_folder}" if found.config.keep else ""
        print(
            f"station {found.config.name}: engine {found.engine.identity['name']} ({best[folder] / 1e6:.1f} ms of "
            f"{found.config.deadline_ms:g} ms), recipe {found.recipe_path}, trigger {found.config.trigger}{kept}"
        )
    print(f"{args.line}: fit to run")
    return 0

"""Run a line until it is stopped. Finite cameras end it, too.

Exit codes: 0 stopped, 1 failed, 2 usage, 3 hardware or engine missing, 78 configuration.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .. import daemon, service


def arguments(parser: argparse.ArgumentParser) -> None:
    """The line's file."""
    parser.add_argument("line", type=Path, metavar="LINE.toml", help="what to inspect, and how")
    parser.add_argument("--verbose", action="store_true", help="log more than changes of state")


def main(args: argparse.Namespace) -> int:
    """Run."""
    service.log_to(least=logging.DEBUG if args.verbose else logging.INFO)
    return daemon.run(args.line)

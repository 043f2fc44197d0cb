"""Run a gateway until it is stopped: from the daemon's verdicts to the PLC, rejecting by default.

Exit codes: 0 stopped, 1 failed, 2 usage, 3 a port or library missing, 78 configuration.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .. import service
from ..daemon import Signals
from ..gateway import process


def arguments(parser: argparse.ArgumentParser) -> None:
    """The gateway's file."""
    parser.add_argument("gateway", type=Path, metavar="GATEWAY.toml", help="which daemon, which PLC, and the window")
    parser.add_argument("--verbose", action="store_true", help="log more than changes of state")


def main(args: argparse.Namespace) -> int:
    """Run."""
    service.log_to(least=logging.DEBUG if args.verbose else logging.INFO)
    signals = Signals()
    with signals.handled():
        return process.run(args.gateway, lambda: signals.stop, service.Service())

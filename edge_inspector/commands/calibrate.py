"""Calibrate: make an engine fast (int8), choose thresholds, measure the lens (camera) and the line (timing)."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType
from typing import Any

KINDS = {
    "int8": "quantise an engine with pictures of your parts",
    "threshold": "choose thresholds from labelled parts, and say how sure that is",
    "camera": "measure lens and scale, so that sizes are millimetres",
    "timing": "measure trigger to verdict on a running line, and choose the deadline",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and what is its own. The module of the chosen one is imported, the others are not."""
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True, parser_class=_Late)
    for kind, text in KINDS.items():
        kinds.add_parser(kind, help=text)


def main(args: argparse.Namespace) -> int:
    """Do it; the exit code is its own."""
    code: int = _module(args.kind).main(args)
    return code


class _Late(argparse.ArgumentParser):
    """A parser that asks its module for arguments when it is chosen."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse calls it for the sub-parser whose name was given."""
        module = _module(self.prog.split()[-1])
        self.description = module.__doc__
        module.arguments(self)
        return super().parse_known_args(args, namespace)


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f".calibrate_{kind}", __package__)

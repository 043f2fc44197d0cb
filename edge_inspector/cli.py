"""The command line: `edge-inspector COMMAND ...`. A command's module is imported when it is chosen."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from . import __version__
from .errors import InspectorError

COMMANDS = {
    "import": "make an engine of any ONNX file that a framework exported",
    "build": "compile an engine for this machine",
    "calibrate": "make an engine fast, set thresholds, measure camera and timing",
    "evaluate": "measure an engine on labelled pictures, and see what it gets wrong",
    "explain": "show what drove an engine's verdict on a picture, as a heat map",
    "run": "inspect: run the line that a TOML file describes",
    "gateway": "carry verdicts to a PLC over Modbus TCP, rejecting by default",
    "check": "say what is wrong with a line's TOML file, without starting",
    "demo": "watch a synthetic line being inspected",
    "plant": "run a simulated conveyor with a PLC",
    "subscribe": "print verdicts as they come",
    "trigger": "send triggers, as a gateway would, and print what comes back",
    "keys": "make keys, and say who may enter with them",
    "replay": "inspect a folder of pictures at full speed, without a network",
    "export": "make a data set for labelling of the pictures a line has kept",
    "bench": "measure this machine: engine, pipeline, latency, memory",
    "doctor": "what is installed, what answers, what is missing",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2: wrong usage, as argparse has it)."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] not in COMMANDS:
        return _overview(words)
    name = "import_" if words[0] == "import" else words[0]  # a module cannot have the name of a keyword
    module = importlib.import_module(f".commands.{name}", __package__)
    parser = argparse.ArgumentParser(prog=f"edge-inspector {words[0]}", description=module.__doc__)
    module.arguments(parser)
    try:
        code: int = module.main(parser.parse_args(words[1:]))
    except InspectorError as error:
        print(f"edge-inspector: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime"):
            raise
        mend = "pip install 'edge-inspector[models]'"
        print(f"edge-inspector: {error.name} is not installed; run: {mend}", file=sys.stderr)  # noqa: T201
        return 3
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _overview(words: list[str]) -> int:
    lines = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="edge-inspector",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Every trigger gets exactly one verdict, by its deadline, and an error never looks like a pass.",
        epilog=f"commands:\n{lines}\n\nedge-inspector COMMAND --help says more.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.parse_args(words)
    return 2

"""The layers hold: imports go downward only, and every heavy library is imported late and in its own files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import edge_inspector
from edge_inspector.cli import COMMANDS

PACKAGE = Path(edge_inspector.__file__).parent
ROOT = PACKAGE.parent

# from the top to the bottom; a module may import those of a layer below its own
LAYERS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("daemon",),
    ("line", "plant"),
    ("grab", "infer", "publisher", "keeper", "endpoints", "gateways", "doorkeeper", "handshake", "gateway", "cameras",
     "runners", "models", "service", "realtime", "client"),
    ("station", "kept", "wire", "metrics", "mailbox", "ledger", "nms", "blobs", "preprocess", "judge",
     "recipe", "lens", "zones", "keys", "config", "tables", "codec", "contract"),
    ("errors", "types"),
    ("",),  # the package itself, for its version
)  # fmt: skip
PURE, BOTTOM = LAYERS[6], LAYERS[7]  # in these two a file may import those that stand behind it

# within a layer, who may import what else (a folder: all that is in it); a folder's __init__ may import what is in it
BESIDE = {
    "commands": {"commands.subscribe"},  # how a verdict reads in a terminal; beside what is no command itself
    "grab": {"cameras.base"},
    "infer": {"models.answers", "models.folder", "models.gate", "models.speed", "runners.base"},
    "publisher": {"doorkeeper", "endpoints", "gateways"},
    "endpoints": {"doorkeeper"},
    "gateways": {"doorkeeper"},  # who sent a message is asked when it is taken
    "doorkeeper": {"handshake"},
    "client": {"handshake"},
    "cameras": {"cameras.base"},
    "cameras.boards": {"cameras.board_defects", "cameras.board_layouts"},  # the camera, and how its boards are drawn
    "cameras.plant": {"cameras.boards"},  # what the plant's camera sees
    "cameras.replay": {"cameras.opencv"},  # a video file in place of a folder is read as OpenCV reads it
    "runners": {"runners.base", "models.folder", "models.manifest"},
    "runners.tensorrt": {"models.trt", "runners.cuda", "runners.libcuda"},
    "runners.cuda": {"runners.libcuda"},
    "models": {"models.folder", "models.heads.base", "models.manifest"},
    "models.heads": {"models.heads.tensors"},
    "models.heads.boxes": {"models.heads.detr"},
    "models.heads.maps": {"models.heads.anomalies", "models.heads.pooling"},
    "models.heads.anomalies": {"models.heads.pooling"},
    "models.compile": {"models.trt"},
    "models.source": {"models.external", "models.graph", "models.signature"},
    "models.external": {"models.graph"},
    "models.signature": {"models.graph"},
    "models.gate": {"models.golden", "runners.base"},
    "models.golden": {"runners.base"},
    "models.speed": {"runners.base"},
    "gateway": {"gateway.base", "gateway.config", "gateway.registers"},
    "gateway.daemon_side": {"gateway.clocks"},
    "gateway.gate": {
        "gateway.daemon_side",
        "gateway.pairing",
        "gateway.parts",
        "gateway.plc_side",
        "gateway.queue",
        "gateway.window",
    },
    "gateway.link": {"gateway.daemon_side"},
    "gateway.pairing": {"gateway.clocks", "gateway.daemon_side", "gateway.parts"},
    "gateway.parts": {"gateway.daemon_side"},
    "gateway.opcua": {"gateway.opcua_nodes", "gateway.opcua_server"},
    "gateway.plc_side": {"gateway.window"},
    "gateway.process": {
        "gateway.gate",
        "gateway.link",
        "gateway.modbus",
        "gateway.modbus_client",
        "gateway.watchers",
        "service",
    },
    "plant.config": {"plant.belt", "plant.plc", "plant.ports"},
    "plant.simulation": {
        "plant.belt",
        "plant.config",
        "plant.lens",
        "plant.plc",
        "plant.ports",
        "plant.score",
    },
}

THIRD_PARTY = {
    "numpy": None,  # anywhere, at any time: what flows is arrays
    "msgspec": {"codec"},
    "tomli": {"codec"},
    "zmq": {"publisher", "endpoints", "gateways", "doorkeeper", "handshake", "client", "keys", "gateway.link"},
    "cv2": {"cameras", "commands", "preprocess", "blobs", "models.golden", "keeper"},
    "openvino": {"runners.openvino", "models.quantize", "models.signature"},
    "tensorrt": {"models.trt"},
    "tensorrt_rtx": {"models.trt"},
    "tensorrt_rtx_bindings": {"models.trt"},
    "pycuda": {"runners.cuda"},
    "onnx": {"models"},
    "onnxruntime": {"models.quantize"},
    "faster_coco_eval": {"commands.evaluate_coco"},
    "systemd": {"service"},
    "pymodbus": {"gateway.modbus_client", "plant.ports"},
    "asyncua": {"gateway.opcua", "gateway.opcua_nodes", "gateway.opcua_server"},
    "paho": {"gateway.mqtt"},
}

# the part of the product that must never be able to name a device, a socket or a clock of its own
DECIDES = (
    "judge", "ledger", "lens", "nms", "recipe", "zones", "gateway.gate", "gateway.queue", "gateway.registers",
    "gateway.window", "plant.belt", "plant.plc",
)  # fmt: skip


@cache
def modules() -> dict[str, ast.Module]:
    """Name within the package -> its code; a folder has the name of its __init__, the package that of ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(), str(path))
    return found


def is_folder(module: str) -> bool:
    """Whether the module is a folder's __init__."""
    return (PACKAGE / Path(*module.split(".")) / "__init__.py").is_file() if module else True


def inside(module: str) -> set[str]:
    """The modules of this package that a module imports, however and whenever."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.split(".") if module else []
            up = node.level - is_folder(module)
            base = base[: len(base) - up] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                inner = ".".join([*base, alias.name])
                found.add(inner if inner in modules() else ".".join(base))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.split(".")[0] == "edge_inspector" for name in names), f"{module}: not relative"
    return found - {module}


def outside(module: str) -> Iterator[tuple[str, bool]]:
    """Every import from elsewhere: the library's name, and whether it happens while the module is imported."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0], at_once
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for each in ast.walk(node):
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and not each.value.startswith("."):
                    yield each.value.split(".")[0], at_once
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for each in node.body:
                yield from visit(each, False)
            for each in node.orelse:
                yield from visit(each, at_once)
            return
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not later)

    yield from visit(modules()[module], True)


def top_of(module: str) -> str:
    """The folder or file in the package."""
    return module.partition(".")[0]


def layer(module: str) -> int:
    """How far from the top."""
    return next(n for n, names in enumerate(LAYERS) if top_of(module) in names)


def allowed(module: str, imported: str) -> bool:
    """Whether the table above lets a module import another."""
    if layer(imported) != layer(module):
        return layer(imported) > layer(module)
    names = LAYERS[layer(module)]
    if names in (PURE, BOTTOM):
        return names.index(imported) > names.index(module)
    if is_folder(module) and imported.startswith(f"{module}."):
        return True
    if top_of(module) == "commands" and imported.partition(".")[2].rstrip("_") not in COMMANDS:
        return True
    steps = module.split(".")
    return any(imported in BESIDE.get(".".join(steps[: n + 1]), ()) for n in range(len(steps)))


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downward(module: str) -> None:
    """A module knows what is below it, and nothing of what is above or beside it but what the table says."""
    assert any(top_of(module) in names for names in LAYERS), f"{module} has no place in the table of layers"
    wrong = sorted(each for each in inside(module) if not allowed(module, each))
    assert not wrong, f"{module} must not import {', '.join(wrong)}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_libraries_are_imported_late_and_by_their_owners(module: str) -> None:
    """At import there is the standard library and NumPy; everything else comes when it is needed, in its own files."""
    for library, at_once in outside(module):
        if library in (sys.stdlib_module_names | {"tomllib"}):
            continue
        assert library in THIRD_PARTY, f"{module} imports {library}, which nobody owns"
        owners = THIRD_PARTY[library]
        assert owners is None or {module, top_of(module)} & owners, f"{module} imports {library}: that is for {owners}"
        assert owners is None or not at_once, f"{module} imports {library} while being imported"


@pytest.mark.parametrize("module", DECIDES)
def test_what_decides_has_no_clock_and_no_device(module: str) -> None:
    """Pure functions of arrays and frozen values: nothing to mock, and nothing that can hang."""
    libraries = {library for library, _ in outside(module)}
    assert not libraries & {"time", "datetime", "os", "socket", "threading", "subprocess", "random", "logging", "zmq"}


def test_the_table_is_not_out_of_date() -> None:
    """Every exception is needed: one that is not would hide the next mistake."""
    for module, exceptions in BESIDE.items():
        users = [each for each in modules() if each == module or each.startswith(f"{module}.")]
        used = set().union(*(inside(each) for each in users))
        assert exceptions <= used, f"{module} does not import {exceptions - used} any more"


BARE = """
import importlib, json, pkgutil, sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top.startswith("_sysconfigdata") or top in ("numpy", "edge_inspector"):
            return None
        raise ModuleNotFoundError(f"not in a bare environment: {name}", name=name)

sys.meta_path.insert(0, Bare())
before = set(sys.modules)
import edge_inspector
package = sorted(set(sys.modules) - before)
import edge_inspector.cli
command_line = [name for name in sys.modules if name.partition(".")[0] == "numpy"]
import numpy, numpy.typing
before = set(sys.modules)
names = ["edge_inspector", *(m.name for m in pkgutil.walk_packages(edge_inspector.__path__, "edge_inspector."))]
failed = {}
for name in names:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "edge_inspector"]:
        del sys.modules[loaded]  # so that each is the first to be imported: no order hides a circle
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
heavy = [name for name in set(sys.modules) - before if name.startswith("numpy.")]
print(json.dumps({"package": package, "command_line": command_line, "names": names, "failed": failed, "heavy": heavy}))
"""


def test_bare_environment() -> None:
    """With the standard library and NumPy alone every module can be imported, and NumPy brings no friends along."""
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["names"]) == len(modules())
    assert report["failed"] == {}
    assert report["heavy"] == []
    assert report["package"] == ["edge_inspector"]  # importing the package costs nothing
    assert report["command_line"] == []  # and `edge-inspector --help` needs not even NumPy

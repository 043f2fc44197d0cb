"""Damages models in a thousand ways and imports each: every one is refused in words or becomes a complete engine.

`python -m tests.models.fuzz_import --count 1000 --seed 1` prints what came of them; `--only 17` shows one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx

from edge_inspector import cli
from edge_inspector.commands import import_

from . import zoo
from .zoo_more import MORE

SIZE = (64, 96)
COMPLETE = {"README.md", "golden", "model.onnx", "model.toml", "recipe.toml"}
NUMBERS = (0, -1, 1, 2, 3, 7, 300, 4096, 2**31 - 1, 2**31, 2**62, -(2**63))
PLACES = ("/etc/passwd", "../../secret", "none.bin", "", "a\x00b", "part.onnx", "/dev/zero", "x" * 3000)
NOTES = {
    "names": ("{0: 'x'", "{0: 'x', 5: 'y'}", "[1] * 10**9", "(" * 5000, "{}", "{0: '', 1: '\\n', 2: '|'}", "'abc'",
              "{'a': 1, 2: 'b'}", "{0: 'x', 1: 'x', 2: 'x'}", "[[], [], []]", "{[]: 1}", "\x00"),
    "imgsz": ("[0, -3]", "[99999999, 99999999]", "640", "[1, 1]", "['a', None]", "[64.5, 96]", "[" * 3000, "[2, 3000]"),
    "task": ("classify", "segment", "pose", "obb", "nothing", ""),
    "end2end": ("True", "x"),
    "stride": ("0", "-1"),
}  # fmt: skip


def originals() -> list[onnx.ModelProto]:
    """Every layout of the zoos, small."""
    made = [layout.make(size=(160, 160) if "yolov10" in name else SIZE) for name, layout in zoo.ZOO.items()]
    made.append(zoo.yolov8(size=SIZE, dynamic=True))
    return [*made, *(layout.make(size=layout.size) for layout in MORE.values())]


def mutate(chance: random.Random, models: list[onnx.ModelProto]) -> bytes:
    """One damaged file."""
    model = onnx.ModelProto()
    model.CopyFrom(chance.choice(models))
    if chance.random() < 0.35:
        return chance.choice(BYTES)(chance, bytearray(model.SerializeToString()))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        with contextlib.suppress(IndexError, ValueError):  # nothing of that kind is left in it
            chance.choice(STRUCTURE)(chance, model)
    return model.SerializeToString()


def _flip(chance: random.Random, content: bytearray) -> bytes:
    for _ in range(chance.choice((1, 3, 30))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def _flip_start(chance: random.Random, content: bytearray) -> bytes:
    """Where the graph begins: lengths and types."""
    for _ in range(chance.choice((1, 2))):
        content[chance.randrange(min(200, len(content)))] = chance.randrange(256)
    return bytes(content)


def _flip_end(chance: random.Random, content: bytearray) -> bytes:
    """Where inputs, outputs and the opset are."""
    content[-chance.randrange(1, min(400, len(content)))] = chance.randrange(256)
    return bytes(content)


def _cut(chance: random.Random, content: bytearray) -> bytes:
    return bytes(content[: chance.randrange(len(content))])


def _cut_out(chance: random.Random, content: bytearray) -> bytes:
    start = chance.randrange(len(content))
    del content[start : start + chance.choice((1, 8, 500))]
    return bytes(content)


def _insert(chance: random.Random, content: bytearray) -> bytes:
    start = chance.randrange(len(content))
    content[start:start] = chance.randbytes(chance.choice((1, 4, 200)))
    return bytes(content)


def _double(chance: random.Random, content: bytearray) -> bytes:
    """Messages of protobuf that follow each other are merged."""
    return bytes(content + content[chance.randrange(len(content)) :])


def _noise(chance: random.Random, content: bytearray) -> bytes:
    return chance.randbytes(chance.choice((1, 50, 5000)))


BYTES: tuple[Callable[[random.Random, bytearray], bytes], ...] = (
    _flip, _flip_start, _flip_end, _cut, _cut_out, _insert, _double, _noise,
)  # fmt: skip


def _declared(chance: random.Random, model: onnx.ModelProto) -> None:
    value = chance.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    what = chance.randrange(5)
    if what == 0:
        value.type.tensor_type.elem_type = chance.randrange(30)
    elif what == 1:
        value.type.tensor_type.ClearField("shape")
    elif what == 2:
        dims.add().dim_value = chance.choice(NUMBERS)
    elif what == 3:
        chance.choice(dims).dim_param = chance.choice(("n", "height", "", "\x00"))
    else:
        chance.choice(dims).dim_value = chance.choice(NUMBERS)


def _weight(chance: random.Random, model: onnx.ModelProto) -> None:
    tensor = chance.choice(model.graph.initializer)
    what = chance.randrange(7)
    if what == 0:
        tensor.data_type = chance.randrange(30)
    elif what == 1:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
    elif what == 2:
        tensor.dims.append(chance.choice(NUMBERS))
    elif what == 3:
        tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data))]
    elif what == 4:
        tensor.raw_data = bytes(chance.choice((0, 255, 127)) for _ in tensor.raw_data)
    elif what == 5:
        tensor.raw_data = chance.randbytes(len(tensor.raw_data))
    else:
        model.graph.initializer.remove(tensor)


def _external(chance: random.Random, model: onnx.ModelProto) -> None:
    tensor = chance.choice(model.graph.initializer)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    if chance.random() < 0.8:
        tensor.ClearField("raw_data")
    pairs = {"location": chance.choice(PLACES)}
    pairs["offset"] = chance.choice(("0", "-5", "99999999999999999999", "x", ""))
    pairs["length"] = chance.choice(("16", "-1", "99999999999999999999", "1e3"))
    for key, value in pairs.items():
        if chance.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


def _node(chance: random.Random, model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    node = chance.choice(nodes)
    what = chance.randrange(8)
    if what == 0:
        nodes.remove(node)
    elif what == 1:
        node.op_type = chance.choice(
            ("Loop", "If", "Reshape", "Nothing", "Conv", "TopK", "NonMaxSuppression", "Resize")
        )
    elif what == 2:
        node.domain = chance.choice(("com.microsoft", "TRT", "nothing", "ai.onnx.ml"))
    elif what == 3:
        nodes.add().CopyFrom(node)
    elif what == 4:
        del node.input[chance.randrange(len(node.input))]
    elif what == 5:
        node.input.append(chance.choice(chance.choice(nodes).output))
    elif what == 6:
        node.output[chance.randrange(len(node.output))] = chance.choice(chance.choice(nodes).output)
    else:
        shuffled = list(nodes)
        chance.shuffle(shuffled)
        del nodes[:]
        nodes.extend(shuffled)


def _wire(chance: random.Random, model: onnx.ModelProto) -> None:
    """Any node reads any tensor: cycles, wrong shapes, wrong types."""
    node = chance.choice(model.graph.node)
    names = [name for each in model.graph.node for name in each.output] + [
        each.name for each in model.graph.initializer
    ]
    node.input[chance.randrange(len(node.input))] = chance.choice(names)


def _attribute(chance: random.Random, model: onnx.ModelProto) -> None:
    attribute = chance.choice(chance.choice([node for node in model.graph.node if node.attribute]).attribute)
    what = chance.randrange(4)
    if what == 0:
        attribute.i = chance.choice(NUMBERS)
    elif what == 1 and attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(NUMBERS)
    elif what == 2:
        attribute.type = chance.randrange(15)
    else:
        attribute.ints.append(chance.choice(NUMBERS))


def _rename(chance: random.Random, model: onnx.ModelProto) -> None:
    values = [*model.graph.input, *model.graph.output, *model.graph.initializer]
    name = chance.choice(("", "image", "detections", "\x00", "a" * 10000, values[0].name, "inspector/1/Cast"))
    chance.choice(values).name = name


def _ends(chance: random.Random, model: onnx.ModelProto) -> None:
    values = chance.choice((model.graph.input, model.graph.output))
    what = chance.randrange(3)
    if what == 0:
        del values[chance.randrange(len(values))]
    elif what == 1:
        values.add().CopyFrom(chance.choice([*model.graph.input, *model.graph.output]))
    else:
        kind = values[0].type
        values.add(name=chance.choice(chance.choice(model.graph.node).output)).type.CopyFrom(kind)


def _version(chance: random.Random, model: onnx.ModelProto) -> None:
    what = chance.randrange(4)
    if what == 0:
        model.opset_import[0].version = chance.choice((*NUMBERS, 9, 11, 13, 16, 20, 22))
    elif what == 1:
        del model.opset_import[:]
    elif what == 2:
        model.ir_version = chance.choice(NUMBERS)
    else:
        model.opset_import.add(domain=chance.choice(("", "ai.onnx", "x")), version=chance.choice((1, 13, 17)))


def _note(chance: random.Random, model: onnx.ModelProto) -> None:
    key = chance.choice(list(NOTES))
    model.metadata_props.add(key=key, value=chance.choice(NOTES[key]))


STRUCTURE: tuple[Callable[[random.Random, onnx.ModelProto], None], ...] = (
    _declared, _declared, _weight, _weight, _external, _node, _node, _wire, _attribute, _rename, _ends, _version, _note,
)  # fmt: skip


def one(number: int, seed: int, models: list[onnx.ModelProto], folder: Path) -> tuple[str, str]:
    """Import one damaged file; what is wrong with how that went, "" for nothing, and what was said."""
    chance = random.Random(f"{seed}/{number}")
    file, engines = folder / "part.onnx", folder / "engines"
    file.write_bytes(mutate(chance, models))
    words = ["import", str(file), "--name", "part", "--engines", str(engines)]
    if chance.random() < 0.5:
        words += ["--classes", "scratch,dent,hole"]
    if chance.random() < 0.1:
        words += ["--head", chance.choice(("yolov5", "yolov8", "yolox", "yolov10", "rt-detr", "ssd", "classifier"))]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code: object = cli.main(words)
    except BaseException as error:
        code = repr(error)
    wrong = ""
    if code not in (0, 1):
        wrong = f"ended with {code}"
    elif "Traceback" in said.getvalue() or "takes longer" in said.getvalue():
        wrong = "a traceback, or a time-out"
    elif sorted(os.listdir(engines)) != (["part"] if code == 0 else []):
        wrong = f"left {os.listdir(engines)} behind"
    elif code == 0 and (left := COMPLETE - set(os.listdir(engines / "part"))):
        wrong = f"no {left} in the engine"
    shutil.rmtree(engines, ignore_errors=True)
    return wrong, f"{code}: {said.getvalue()}"


def fuzz(count: int, seed: int, *, workers: int = 2) -> tuple[dict[int, str], dict[str, int]]:
    """What went wrong, by number; and how many ended how. Two processes, each with the libraries loaded but unused."""
    import cv2  # noqa: F401  # what the children need is loaded once, here
    import onnx.inliner
    import onnx.shape_inference
    import onnx.version_converter  # noqa: F401
    import openvino  # noqa: F401

    models = originals()
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for first in range(workers):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(range(first, count, workers), seed, models, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
        theirs.close()
    wrong: dict[int, str] = {}
    ends: collections.Counter[str] = collections.Counter()
    for pipe, process in zip(pipes, processes, strict=True):
        results = json.loads(pipe.recv())
        process.join()
        for number, problem, said in results:
            if problem:
                wrong[number] = f"{problem}\n{said}"
            crashed = "crashes" if "crashes" in said else ""
            ends[crashed or ("imported" if said.startswith("0") else "refused")] += 1
    return wrong, dict(ends)


def _work(numbers: range, seed: int, models: list[onnx.ModelProto], answers: Connection) -> None:
    import_.STEP_S = 30.0
    with tempfile.TemporaryDirectory() as folder:
        results: list[Any] = [(number, *one(number, seed, models, Path(folder))) for number in numbers]
    answers.send(json.dumps(results))
    answers.close()


def main() -> None:
    """Print what went wrong and how the rest ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    args = parser.parse_args()
    if args.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(*one(args.only, args.seed, originals(), Path(folder)), sep="\n")  # noqa: T201
        return
    wrong, ends = fuzz(args.count, args.seed)
    for number, problem in sorted(wrong.items()):
        print(f"--only {number}: {problem}")  # noqa: T201
    print(f"{len(wrong)} of {args.count} went wrong; {ends}")  # noqa: T201


if __name__ == "__main__":
    main()

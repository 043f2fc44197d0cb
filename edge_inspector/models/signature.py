"""Fixes what a graph leaves open (batch, height, width) and tells what it then is: its Signature."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..contract import Tensor
from ..errors import ModelRefused
from .graph import bodies, tensor
from .heads.base import Signature

LARGEST_SIDE = 8192
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "ConvInteger", "MatMulInteger"}
SILENT = {"QuantizeLinear", "DequantizeLinear", "Constant", "Identity", "Cast"}  # they tell nothing of a head


def fix(model: Any, path: Path, size: tuple[int, int] | None, fallback: tuple[int, int], notes: list[str]) -> Signature:
    """Fix batch, height and width in place; tell what the graph then is. Raises ModelRefused.

    size: (height, width) the user asked for; `fallback` where neither file nor user tells. notes: gets what was done.
    """
    metadata = {pair.key: pair.value for pair in model.metadata_props}
    wanted = size or metadata_size(metadata)
    initial = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in initial]
    named: dict[str, int] = {}
    opened, changed = False, False
    _refuse_grey(inputs, path)
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and _channels_at(tensor(value).shape) is not None:
            opened |= _fix_picture(value, path, size, wanted or fallback, named)
    for value in inputs:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value, changed = named.get(dim.dim_param, 1), True
    height_width = [n for each in inputs for n in tensor(each).shape[1:] if len(tensor(each).shape) == 4]
    if any(not 0 < n <= LARGEST_SIDE for n in height_width if n is not None):
        raise ModelRefused(f"{path}: has an input of {height_width}; expected at most {LARGEST_SIDE} pixels a side")
    if opened:
        how = "as asked" if size else "as its metadata says" if wanted else "as nothing else was said (--size)"
        notes.append(f"its open input size is now fixed, {how}")
    declared = [tensor(value) for value in model.graph.output]
    if opened or named or changed:  # what was declared was declared for any size
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = infer(model, path, data=True)
    except ModelRefused:
        if not opened:
            raise
        height, width = wanted or fallback
        raise ModelRefused(
            f"{path}: the network does not take pictures of {height}x{width}; give another --size, such as "
            f"{_round(height)}x{_round(width)}: most networks need multiples of 32"
        ) from None
    model.graph.ClearField("value_info")
    model.graph.value_info.extend(inferred.graph.value_info)
    outputs = _resolve(model, [tensor(value) for value in inferred.graph.output], declared)
    for value, known in zip(model.graph.output, outputs, strict=True):
        _write_shape(value, known)
    return Signature(
        tuple(tensor(value) for value in inputs),
        tuple(outputs),
        frozenset(node.op_type for node in nodes(model.graph)),
        metadata,
        f"{model.producer_name} {model.producer_version}".strip(),
        tails={output.name: tail(model.graph, output.name) for output in outputs},
        open_size=opened and wanted is None,
    )


def _refuse_grey(inputs: list[Any], path: Path) -> None:
    """Raise ModelRefused for a network that sees grey pictures only."""
    pictures = [each for each in map(tensor, inputs) if len(each.shape) == 4]
    grey = [each for each in pictures if 1 in (each.shape[1], each.shape[3])]
    if grey and not any(_channels_at(each.shape) for each in pictures):
        raise ModelRefused(
            f"{path}: takes pictures of one channel ({grey[0]}), and the line gives three; put a layer in front that "
            "makes one of three, such as their mean, and export it again"
        )


def _round(side: int) -> int:
    return max(32, round(side / 32) * 32)


def _fix_picture(
    value: Any, path: Path, size: tuple[int, int] | None, wanted: tuple[int, int], named: dict[str, int]
) -> bool:
    """Fix the dimensions of one picture input; whether its height or width was open."""
    shape = tensor(value).shape
    first = _channels_at(shape) == 1
    goal = (1, 3, *wanted) if first else (1, *wanted, 3)
    asked = None if size is None else (1, 3, *size) if first else (1, *size, 3)
    opened = False
    for n, (dim, known) in enumerate(zip(value.type.tensor_type.shape.dim, shape, strict=True)):
        if known is None:
            if dim.dim_param:
                named[dim.dim_param] = goal[n]
            dim.dim_value = goal[n]
            opened |= goal[n] not in (1, 3)
        elif n == 0 and known != 1:
            raise ModelRefused(f"{path}: is made for batches of {known}; export with a batch of 1")
        elif asked is not None and known != asked[n]:
            raise ModelRefused(f"{path}: its input is fixed to {shape}; leave --size away, or export with that size")
    return opened


def _channels_at(shape: tuple[int | None, ...]) -> int | None:
    return next((n for n in (1, 3) if len(shape) == 4 and shape[n] == 3), None)


def metadata_size(metadata: dict[str, str]) -> tuple[int, int] | None:
    """Ultralytics' `imgsz`, (height, width)."""
    found = literal(metadata.get("imgsz", ""))
    if isinstance(found, int):
        found = [found, found]
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(n, int) and n > 0 for n in found):
        return int(found[0]), int(found[1])
    return None


def literal(text: str) -> Any:
    """A Python literal (numbers, texts, lists, dictionaries) out of metadata; None where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _resolve(model: Any, inferred: list[Any], declared: list[Any]) -> list[Any]:
    """Outputs with as many dimensions known as can be: by ONNX, else by OpenVINO, else as they were declared."""
    if all(each.shape and None not in each.shape for each in inferred):
        return inferred
    other = _openvino_shapes(model)
    made = []
    for known, was in zip(inferred, declared, strict=True):
        shape = known.shape
        for further in (other.get(known.name, ()), was.shape):
            if not shape:
                shape = further
            elif len(further) == len(shape):
                shape = tuple(b if a is None else a for a, b in zip(shape, further, strict=True))
        made.append(Tensor(known.name, known.dtype or was.dtype, shape))
    return made


def _openvino_shapes(model: Any) -> dict[str, tuple[int | None, ...]]:
    """OpenVINO follows computed shapes further than ONNX's own inference; nothing where it cannot read the model."""
    import sys

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    try:
        ports = openvino.Core().read_model(model.SerializeToString()).outputs
    except RuntimeError:
        return {}
    found = {}
    for port in ports:
        shape = port.get_partial_shape()
        if shape.rank.is_static:
            dims = tuple(dim.get_length() if dim.is_static else None for dim in shape)
            found.update(dict.fromkeys(port.get_names(), dims))
    return found


def _write_shape(value: Any, known: Tensor) -> None:
    kind = value.type.tensor_type
    kind.shape.Clear()
    for number in known.shape:
        dim = kind.shape.dim.add()
        if number is not None:
            dim.dim_value = number


def tail(graph: Any, output: str) -> frozenset[str]:
    """The operators between an output and the weights nearest to it."""
    makers = {name: node for node in graph.node for name in node.output if name}
    found: set[str] = set()
    seen, waiting = {output}, [output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.op_type in WEIGHTED:
            continue
        found.add(node.op_type)
        fresh = [name for name in node.input if name and name not in seen]
        seen.update(fresh)
        waiting += fresh
    return frozenset(found - SILENT)


def nodes(graph: Any) -> Iterator[Any]:
    """Every node, those within others as well."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from nodes(body)


def infer(model: Any, path: Path, *, data: bool = False) -> Any:
    """The model with the shapes of all its tensors. Raises ModelRefused where they contradict each other."""
    import onnx
    import onnx.shape_inference

    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=data)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelRefused(f"{path}: contradicts itself: {_contradiction(error)}; export it again") from None


def _contradiction(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if "Inferred" in line or "differ" in line or "ShapeInferenceError" in line]
    return (useful or lines or ["shapes do not fit"])[-1][:240]

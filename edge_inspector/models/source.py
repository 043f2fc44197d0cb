"""Reads an exported ONNX file: one model in memory, opset 17 or later, batch 1, fixed sizes, and its Signature.

Weights in files beside it become part of it. What cannot be used is refused with the reason and what to do about it.
The bytes are of unknown origin and native code reads them: call this where a crash or a hang harms nobody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ..codec import Mismatch, from_json
from ..errors import ModelRefused
from .external import LARGEST, merge
from .graph import reads
from .heads.base import Signature
from .signature import fix, infer, nodes

OPSET = 17
DEFAULT_SIZE = (640, 640)
LARGEST_NOTES = 1_000_000
ANOMALIB = (
    "image_threshold", "pixel_threshold", "pred_scores.min", "pred_scores.max", "anomaly_maps.min", "anomaly_maps.max",
    "min", "max", "transform",
)  # fmt: skip
FIRST_BYTES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the model; run: git lfs pull",
    b"PK\x03\x04": "is an archive, as PyTorch, Keras or a SavedModel writes it, not ONNX; {export}",
    b"\x80\x02": "is a pickled PyTorch model, not ONNX; {export}",
    b"ftrt": "is a TensorRT engine, made for one GPU; give the ONNX file that it was built from",
    b"ptrt": "is a TensorRT engine, made for one GPU; give the ONNX file that it was built from",
    b"<?xml": "is an OpenVINO IR; give the ONNX file that it was converted from",
    b"\x89HDF": "is a Keras model, not ONNX; run: python -m tf2onnx.convert --keras FILE --output FILE.onnx --opset 17",
}
SUFFIXES = {
    (".pt", ".pth", ".ckpt", ".safetensors"): "are PyTorch weights, not ONNX; {export}",
    (".engine", ".plan", ".trt"): "is a TensorRT engine, made for one GPU; give the ONNX file that it was built from",
    (".tflite", ".lite"): "is a TensorFlow Lite model; run: python -m tf2onnx.convert --tflite FILE --output FILE.onnx",
    (".pb", ".h5", ".keras"): "is a TensorFlow model; convert it with: python -m tf2onnx.convert --opset 17 ...",
    (".xml", ".bin"): "is an OpenVINO IR; give the ONNX file that it was converted from",
}
EXPORT = (
    "export it: torch.onnx.export(model, ..., opset_version=17), or for Ultralytics: yolo export format=onnx model=FILE"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A model that was read. model: an onnx ModelProto. notes: what was done to it, and warnings, for the user."""

    path: Path
    sha256: str
    model: Any
    signature: Signature
    notes: tuple[str, ...] = ()


def read(path: Path, *, size: tuple[int, int] | None = None, fallback: tuple[int, int] = DEFAULT_SIZE) -> Source:
    """Read the file at `path`. size: (height, width) the user asked for; `fallback` where neither file nor user tells.

    Raises ModelRefused.
    """
    import onnx

    raw = _bytes(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception:  # protobuf's DecodeError
        raise ModelRefused(f"{path}: is truncated or no ONNX file; export or copy it again") from None
    if not model.graph.node:
        raise ModelRefused(f"{path}: holds no graph; expected an ONNX model, export or copy it again")
    notes: list[str] = []
    files = merge(model, path)
    if files:
        notes.append(f"weights of {', '.join(files)} are now part of model.onnx")
    if _metadata_beside(model, path):
        notes.append("metadata.json, which lies beside it, was read as well")
    try:
        model = _modern(model, path, notes)
        signature = fix(model, path, size, fallback, notes)
    except ModelRefused:
        raise
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ModelRefused(f"{path}: is damaged: {first_line(error)}; export it again") from None
    if "DynamicQuantizeLinear" in signature.operators:
        notes.append(
            "it is quantised dynamically: slower than FP32 on a CPU, and TensorRT refuses it; export it in FP32"
        )
    return Source(path, hashlib.sha256(raw).hexdigest(), model, signature, tuple(notes))


def _metadata_beside(model: Any, path: Path) -> bool:
    """Take over what anomalib 1 notes in a metadata.json: thresholds, ranges. What the file itself says comes first."""
    try:
        raw = (path.parent / "metadata.json").read_bytes()
        found = from_json(raw, dict) if len(raw) <= LARGEST_NOTES else {}
    except (OSError, Mismatch):
        return False
    known = {pair.key for pair in model.metadata_props}
    taken = {key: str(value) for key, value in found.items() if key in ANOMALIB and key not in known}
    for key, value in taken.items():
        pair = model.metadata_props.add()
        pair.key, pair.value = key, value
    return bool(taken)


def _sort(graph: Any) -> None:
    """Put nodes behind those that they read: ONNX asks for it, converters to half precision do not keep to it."""
    makers = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    waits = {n: {makers[name] for name in reads(node) if name in makers} for n, node in enumerate(graph.node)}
    if all(other < n for n, others in waits.items() for other in others):
        return
    try:
        order = list(TopologicalSorter(waits).static_order())
    except CycleError:
        raise ValueError("its nodes wait for each other in a circle") from None
    ordered = [graph.node[n] for n in order]
    del graph.node[:]
    graph.node.extend(ordered)


def refuse_invalid(model: Any, path: Path) -> None:
    """Raise ModelRefused for a completed graph that is no valid ONNX, or has operators that are not ONNX's own."""
    import onnx

    _refuse_unknown({f"{node.domain}::{node.op_type}" for node in nodes(model.graph) if node.domain}, path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelRefused(f"{path}: is no valid ONNX: {first_line(error)}; export it again") from None


def _refuse_unknown(operators: set[str], path: Path) -> None:
    if operators:
        raise ModelRefused(
            f"{path}: uses operators that are not ONNX's own: {', '.join(sorted(operators))}; "
            "export without plugins, custom operators or runtime-specific optimisation"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, within 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        inside = sorted(each.name for each in path.glob("*.onnx"))
        raise ModelRefused(
            f"{path}: is a folder; give the .onnx file{' in it: ' + ', '.join(inside) if inside else ''}"
        )
    if not path.exists():
        raise ModelRefused(f"{path}: found nothing there; expected an ONNX file")
    if not path.is_file():
        raise ModelRefused(f"{path}: is no regular file; expected an ONNX file")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ModelRefused(f"{path}: is empty; export or copy it again")
    for first, what in FIRST_BYTES.items():
        if head.startswith(first) or (first == b"\x89HDF" and path.suffix in (".h5", ".keras")):
            raise ModelRefused(f"{path}: {what.format(export=EXPORT)}")
    for suffixes, what in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            raise ModelRefused(f"{path}: {what.format(export=EXPORT)}")
    if head[4:8] == b"TFL3":
        raise ModelRefused(f"{path}: {SUFFIXES['.tflite', '.lite']}")
    if path.stat().st_size > LARGEST:
        raise ModelRefused(f"{path}: is larger than 2 GB; export it in half precision")
    return path.read_bytes()


def _modern(model: Any, path: Path, notes: list[str]) -> Any:
    """One graph of ONNX's own functions inlined, opset 17 or later, shapes that do not contradict each other."""
    import onnx
    import onnx.defs
    import onnx.inliner
    import onnx.version_converter

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _sort(model.graph)
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelRefused(f"{path}: has opset {opset}, newer than {newest} known here; export with opset_version=17")
    if opset < 1:
        raise ModelRefused(f"{path}: has opset {opset}; export with opset_version=17")
    if not 0 < model.ir_version <= onnx.IR_VERSION:
        raise ModelRefused(
            f"{path}: has IR version {model.ir_version}, expected 1 to {onnx.IR_VERSION}; export it again"
        )
    _refuse_unknown(
        {each.op_type for each in nodes(model.graph) if not each.domain and not onnx.defs.has(each.op_type, opset, "")},
        path,
    )
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:  # some exporters write -1 or 0 for an open dimension
                dim.Clear()
    infer(model, path)
    if opset < OPSET:
        metadata = list(model.metadata_props)
        producer = model.producer_name, model.producer_version
        try:
            if model.ir_version < 4:
                model.ir_version = 4
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # it raises whatever its adapters raise
            raise ModelRefused(
                f"{path}: has opset {opset}, and bringing it to {OPSET} fails: {first_line(error)}; "
                f"export with opset_version={OPSET}"
            ) from None
        del model.metadata_props[:]
        model.metadata_props.extend(metadata)
        model.producer_name, model.producer_version = producer
        notes.append(f"brought from opset {opset} to {OPSET}")
    model.ir_version = max(model.ir_version, 8)
    return model

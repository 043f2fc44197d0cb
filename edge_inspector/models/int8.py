"""What `calibrate int8` leaves in an engine's folder. Owns int8.onnx and int8.json: written together, read together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..codec import Mismatch, from_json, to_json
from ..errors import EngineMissing
from .manifest import Machine, sha256, where

MODEL, REPORT = "int8.onnx", "int8.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One precision, measured. ap50, ap50_95: None where nothing is labelled. agreement: with FP32, 0 to 1."""

    precision: str
    bytes: int
    latency_ms: float
    agreement: float
    ap50: float | None = None
    ap50_95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The keys of int8.json. layers: those with weights. kept: those left in higher precision -> decibels.

    The decibels are the signal over the noise, at the network's ends, that quantising this layer alone would make
    (`quantize.Quantizer.distortion`). pictures_sha256: of the hashes of all pictures, sorted.
    """

    engine: str
    made: str
    model_sha256: str
    int8_sha256: str
    pictures_sha256: str
    calibrated_on: int
    measured_on: int
    duplicates: int
    machine: Machine
    layers: int
    kept: dict[str, float]
    table: tuple[Row, ...]
    agreement: float
    min_agreement: float
    recommended: str
    warnings: tuple[str, ...] = ()


def install(folder: Path, model: Path, report: Report) -> None:
    """Put int8.onnx and int8.json into an engine's folder, each at once or not at all; the report last."""
    fresh = [(folder / f"{MODEL}.new", model.read_bytes()), (folder / f"{REPORT}.new", to_json(report) + b"\n")]
    try:
        for path, content in fresh:
            path.write_bytes(content)
        for path, _ in fresh:
            os.replace(path, path.with_suffix(""))
    finally:
        for path, _ in fresh:
            path.unlink(missing_ok=True)


def installed(folder: Path) -> Report:
    """What is known of the engine's int8.onnx. Raises EngineMissing, with the command, where it is not of use."""
    command = f"run: edge-inspector calibrate int8 {where(folder)} --images FOLDER"
    try:
        report = from_json((folder / REPORT).read_bytes(), Report)
        graph = (folder / MODEL).read_bytes()
    except FileNotFoundError:
        raise EngineMissing(f'engine "{folder.name}" is not calibrated for INT8; {command}') from None
    except (OSError, Mismatch) as error:
        raise EngineMissing(f"{folder / REPORT}: cannot be used: {error}; {command}") from None
    if sha256(graph) != report.int8_sha256:
        raise EngineMissing(f"{folder / MODEL}: is not the file that {REPORT} describes; {command}")
    if sha256((folder / "model.onnx").read_bytes()) != report.model_sha256:
        raise EngineMissing(f"{folder / MODEL}: was made from another model.onnx; {command}")
    return report

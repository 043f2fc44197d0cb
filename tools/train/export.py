"""Writes a trained network as an engine, proves that the file says what the network says, and keeps golden answers.

python -m tools.train.export engines/boards          writes engines/boards/golden anew, from its model.onnx
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_inspector.cameras.boards import LABELS, Boards
from edge_inspector.models.manifest import sha256

from .model import Inspector

OPSET = 17
GOLDEN = (7, 35, 76, 274)  # parts of the default line, seed 1: a good one, and three that show every class for sure


def export(inspector: Inspector, path: Path, image: NDArray[np.uint8]) -> None:
    """Write `path`: input `image` uint8 [1, H, W, 3] BGR, output `detections` float32 [1, 100, 6] or `scores` [1, C].

    Raises ValueError where OpenVINO reads the file and finds something else in `image` than PyTorch.
    """
    inspector.eval()
    example = torch.from_numpy(image[None])
    with torch.no_grad():
        expected = inspector(example).numpy()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size of the picture is a constant of the graph, and meant to be
        torch.onnx.export(
            inspector,
            (example,),
            str(path),
            input_names=["image"],
            output_names=["scores" if expected.ndim == 1 else "detections"],
            opset_version=OPSET,
            dynamo=False,
        )
    found = run(path, image)
    if expected.ndim > 1:
        compare(expected, found)
    elif np.abs(expected - found).max() > 5e-4:
        raise ValueError(f"file and network differ: {found} instead of {expected}")


def run(path: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run an engine once with OpenVINO, in float32; rows [100, 6]."""
    import openvino

    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(model(image[None])[0][0])


def compare(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Raise ValueError unless each row (score over 0.02) of one is in the other: within 0.01 px and 0.0005."""
    for some, others in ((a, b), (b, a)):
        for row in some[some[:, 4] > 0.02]:
            off = np.abs(others - row)
            if not ((off[:, :4].max(axis=1) < 0.01) & (off[:, 4] < 5e-4) & (off[:, 5] == 0)).any():
                raise ValueError(f"file and network differ: only one of them has the row {row}")


def golden(engine: Path) -> None:
    """Write boards and what `engine`/model.onnx finds on them in float32, as a check for other runners and precisions.

    board-*.png: 1-bit, 640x640. board-*.json: `rows` with a score of 0.05 or more, as the engine gives them (before
    suppression), and `planted`, what there is to be found. And in model.toml the hash of the graph.
    """
    import cv2

    tables, graph = engine / "model.toml", (engine / "model.onnx").read_bytes()
    if tables.is_file():
        lines = [line for line in tables.read_text().splitlines() if not line.startswith("sha256")]
        tables.write_text("\n".join([*lines, f'sha256 = "{sha256(graph)}"  # of model.onnx']) + "\n")
    boards, image = Boards(1, 0.2), np.empty((640, 640, 3), np.uint8)
    (engine / "golden").mkdir(exist_ok=True)
    for number in GOLDEN:
        planted = boards.draw(number, image)
        rows = run(engine / "model.onnx", image)
        found = [[float(f"{value:.7g}") for value in row] for row in rows if row[4] >= 0.05]
        lines = [
            f'{{"image": "board-{number:06d}.png",\n "floor": 0.05,\n "labels": {json.dumps(LABELS)},',
            ' "rows": [' + ",\n          ".join(json.dumps(row) for row in found) + "],",
            ' "planted": ' + json.dumps([{"label": p.label, "box_px": p.box_px} for p in planted]) + "}",
        ]
        path = engine / "golden" / f"board-{number:06d}"
        path.with_suffix(".json").write_text("\n".join(lines) + "\n")
        cv2.imwrite(str(path.with_suffix(".png")), image[:, :, 0], [cv2.IMWRITE_PNG_BILEVEL, 1])


def main() -> None:
    """Write the golden answers of an engine anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path, help="the engine's folder")
    golden(parser.parse_args().engine)


if __name__ == "__main__":
    main()

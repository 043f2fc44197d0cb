"""Measures an engine of boards: AP50 on unseen synthetic boards and on real ones, and what a recipe would let through.

python -m tools.train.measure engines/boards/model.onnx --real ../shared/data/deeppcb
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_inspector.cameras.boards import LABELS, Boards
from edge_inspector.commands.agreement import Rows, Truth, average_precision
from edge_inspector.nms import suppress
from edge_inspector.runners.openvino import OpenVinoRunner

NMS_IOU = 0.5
LEAST_SCORE = 0.005


def synthetic(seed: int, count: int, defect_rate: float) -> Iterator[tuple[NDArray[np.uint8], Truth]]:
    """Boards as a line shows them, one to four defects on a defective one, with 64 layouts for variety."""
    boards, image = Boards(seed, defect_rate, layouts=64), np.empty((640, 640, 3), np.uint8)
    for number in range(1, count + 1):
        planted = boards.draw(number, image)
        yield image, np.array([(*p.box_px, LABELS.index(p.label)) for p in planted], np.float32).reshape(-1, 5)


def real(folder: Path) -> Iterator[tuple[NDArray[np.uint8], Truth]]:
    """DeepPCB as COCO annotations describe it."""
    import cv2

    notes = json.loads((folder / "annotations.json").read_text())
    names = {c["id"]: LABELS.index(c["name"]) for c in notes["categories"]}
    boxes: dict[int, list[tuple[float, ...]]] = {}
    for a in notes["annotations"]:
        x, y, w, h = a["bbox"]
        boxes.setdefault(a["image_id"], []).append((x, y, x + w, y + h, names[a["category_id"]]))
    for entry in notes["images"]:
        image = cv2.imread(str(folder / entry["file_name"]), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(folder / entry["file_name"])
        yield np.asarray(image, np.uint8), np.array(boxes.get(entry["id"], []), np.float32).reshape(-1, 5)


def templates(folder: Path) -> Iterator[tuple[NDArray[np.uint8], Truth]]:
    """The defect-free twins of DeepPCB's boards."""
    import cv2

    for path in sorted((folder / "templates").glob("*.png")):
        yield np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8), np.zeros((0, 5), np.float32)


def parts(found: Iterable[tuple[Rows, Truth]], threshold: float) -> tuple[int, int, int, int]:
    """Defective boards, escapes among them, good boards, false rejects among them, at one threshold for all classes."""
    bad = escapes = good = false = 0
    for rows, truth in found:
        rejected = bool((rows[:, 4] >= threshold).any())
        if len(truth):
            bad, escapes = bad + 1, escapes + (not rejected)
        else:
            good, false = good + 1, false + rejected
    return bad, escapes, good, false


def look(path: Path, pictures: Iterable[tuple[NDArray[np.uint8], Truth]]) -> list[tuple[Rows, Truth]]:
    """Run the engine on every picture, as the line does, and suppress repetitions."""
    see = runner(path)
    found = []
    for image, truth in pictures:
        rows = see(image)
        rows = rows[rows[:, 4] > LEAST_SCORE]
        found.append((rows[suppress(rows[:, :4], rows[:, 5], NMS_IOU)], truth))
    return found


def runner(path: Path) -> Callable[[NDArray[np.uint8]], Rows]:
    """The engine as a function of one picture."""
    engine = OpenVinoRunner(path, "detect")

    def see(image: NDArray[np.uint8]) -> Rows:
        np.copyto(engine.inputs[0], image)
        engine.submit(0)
        return engine.collect(0)[0].copy()

    return see


def report(name: str, found: list[tuple[Rows, Truth]]) -> None:
    """Print AP50 of each class and their mean."""
    each = [average_precision(found, k) for k in range(len(LABELS))]
    print(f"{name}: AP50 {np.mean(each):.3f}  " + "  ".join(f"{n} {v:.3f}" for n, v in zip(LABELS, each, strict=True)))


def main() -> None:
    """Print all figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--real", type=Path, help="folder of DeepPCB with annotations.json")
    args = parser.parse_args()
    report("300 unseen synthetic boards", look(args.engine, synthetic(900_001, 300, 1.0)))
    sets = {f"synthetic, seed {seed}": look(args.engine, synthetic(seed, 1000, 0.2)) for seed in (900_002, 900_003)}
    if args.real:
        found = look(args.engine, real(args.real))
        report(f"{len(found)} real boards", found)
        sets["real, and their flawless templates"] = found + look(args.engine, templates(args.real))
    for name, found in sets.items():
        for threshold in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6):
            bad, escapes, good, false = parts(found, threshold)
            print(f"{name}: threshold {threshold:.2f}  escapes {escapes}/{bad}  false rejects {false}/{good}")
    see, image = runner(args.engine), next(synthetic(900_001, 1, 1.0))[0]
    times = []
    for _ in range(300):
        begin = time.perf_counter()
        see(image)
        times.append(1e3 * (time.perf_counter() - begin))
    print(
        f"inference on two threads: median {np.median(times):.1f} ms, 99th percentile {np.percentile(times, 99):.1f} ms"
    )


if __name__ == "__main__":
    main()

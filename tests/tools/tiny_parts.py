"""A factory's folder in small: grey pictures with dark squares and bright discs, labelled in several forms."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("hole", "spot")
SIDE = 96


def coco(folder: Path, count: int = 20, *, seed: int = 0) -> Path:
    """A COCO data set of `count` pictures, two defects on each but every fifth, which is good."""
    random, images, annotations = np.random.default_rng(seed), [], []
    (folder / "images").mkdir(parents=True)
    for n in range(count):
        pixels = random.normal(128, 6, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        name = f"images/board{n // 4}-{n:03d}.png"
        for label in range(2 if n % 5 else 0):
            x, y = (int(value) for value in random.integers(4, SIDE - 28, 2))
            side = int(random.integers(12, 22))
            if label:
                cv2.circle(pixels, (x + side // 2, y + side // 2), side // 2, 235, -1)
            else:
                cv2.rectangle(pixels, (x, y), (x + side, y + side), 20, -1)
            annotations.append({"id": len(annotations) + 1, "image_id": n, "category_id": label + 1, "iscrowd": 0,
                                "bbox": [x, y, side, side], "area": side * side})  # fmt: skip
        cv2.imwrite(str(folder / name), pixels)
        images.append({"id": n, "file_name": name, "width": SIDE, "height": SIDE})
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
    found = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(found))
    return folder


def probabilities(folder: Path, count: int = 16) -> Path:
    """A CSV with how surely each part is defective: the defective ones have a dark crack."""
    random, lines = np.random.default_rng(1), ["image,defect_probability"]
    folder.mkdir(parents=True)
    for n in range(count):
        pixels = random.normal(150, 8, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        if n % 2:
            top, bottom = (int(x) for x in random.integers(10, SIDE - 10, 2))
            cv2.line(pixels, (top, 6), (bottom, SIDE - 6), 10, 9)
        cv2.imwrite(str(folder / f"cell{n:02d}.png"), pixels)
        lines.append(f"cell{n:02d}.png,{(0.0, 1.0, 0.3333, 0.6667)[n % 4]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"

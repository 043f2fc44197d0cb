"""golden/: pictures of the size of an engine's input, and what its original, in exact float32, finds in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ..codec import Mismatch, from_json, to_json
from ..contract import Answer
from ..errors import EngineMissing, ModelRefused
from ..runners.base import Runner
from ..types import Pixels
from .folder import Engine

MOST_ROWS = 200
LEAST_SHARE = 0.05  # rows below this share of a picture's highest score are left out
HARDLY = 0.2  # where scores differ by less than this share of the highest, they prove little


class Golden(TypedDict, total=False):
    """The JSON beside a picture. rows: x1, y1, x2, y2, score, class, from `floor` on; values: of other tasks."""

    image: str
    floor: float
    rows: list[list[float]]
    values: list[float]


def make_golden(engine: Engine, runner: Runner, pictures: Sequence[Pixels] = ()) -> str:
    """Write golden/ with what `runner`, which must compute in exact float32, gives for pictures of the input's size.

    Without pictures, synthetic ones are drawn. Returns a warning, "" for none. Raises ModelRefused where the model
    finds nothing in any: an engine that finds nothing could not be told from it.
    """
    folder = engine.folder / "golden"
    folder.mkdir(exist_ok=True)
    rows_in_all = []
    for n, pixels in enumerate(pictures or drawn(runner.inputs[0].shape[:2])):
        wanted: Golden = {"image": f"{n}.png", **_keep(engine, infer(runner, pixels))}
        rows_in_all.append(wanted)
        _write_picture(folder / f"{n}.png", pixels)
        (folder / f"{n}.json").write_bytes(to_json(wanted) + b"\n")
    highest = max(map(highest_of, rows_in_all))
    if highest <= 0.0:
        raise ModelRefused(
            "the model finds nothing in the golden pictures, so it could not be told from one that is broken; "
            "give some in which it finds something: --golden FOLDER"
        )
    telling = any(highest_of(each) - each.get("floor", 0.0) > HARDLY * highest for each in rows_in_all)
    if telling:
        return ""
    return "its scores hardly differ in the golden pictures (is it trained?), so they prove little: use --golden FOLDER"


def drawn(size: tuple[int, int], *, count: int = 4) -> Iterator[Pixels]:
    """Synthetic pictures, uint8 [height, width, 3]: soft colours, shapes with edges, fine noise; always the same."""
    import cv2

    height, width = size
    for seed in range(count):
        random = np.random.default_rng(seed)
        soft = random.integers(0, 256, (4 + 4 * seed, 5 + 4 * seed, 3), np.uint8)
        pixels = cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(6 + 6 * seed):
            x, y = int(random.integers(0, width)), int(random.integers(0, height))
            across, high = (int(n) for n in random.integers(4, max(5, min(size) // 3), 2))
            colour = tuple(int(n) for n in random.integers(0, 256, 3))
            if random.random() < 0.5:
                cv2.rectangle(pixels, (x, y), (x + across, y + high), colour, -1 if random.random() < 0.5 else 2)
            else:
                cv2.ellipse(pixels, ((x, y), (across, high), float(random.integers(180))), colour, -1)
        noise = random.normal(0, 2 + 6 * seed, pixels.shape)
        yield (pixels + noise).clip(0, 255).astype(np.uint8)


def _keep(engine: Engine, answer: Answer) -> Golden:
    if not all(np.isfinite(output).all() for output in answer):
        raise ModelRefused("gives values that are not finite numbers; export it again, or as FP32")
    if engine.tables.task != "detect":
        return {"values": [round(float(value), 6) for value in values_of(answer)]}
    rows = answer[0][np.argsort(-answer[0][:, 4], kind="stable")]
    rows = rows[rows[:, 4] > LEAST_SHARE * max(rows[0, 4], 0.0)][: MOST_ROWS + 1]
    floor = float(rows[-1, 4]) if len(rows) else 0.0
    return {"floor": floor, "rows": [[round(float(value), 5) for value in row[:6]] for row in rows]}


def read(engine: Engine, runner: Runner) -> Iterator[tuple[Pixels, Golden]]:
    """The pictures with what is wanted. Raises EngineMissing for a damaged folder."""
    for path in sorted((engine.folder / "golden").glob("*.json")):
        try:
            wanted = from_json(path.read_bytes(), Golden)
            pixels = _read_picture(path.parent / wanted["image"])
            if pixels.shape != runner.inputs[0].shape:
                raise ValueError(f"{wanted['image']} is {list(pixels.shape)}, the input {list(runner.inputs[0].shape)}")
        except (OSError, Mismatch, KeyError, ValueError) as error:
            raise EngineMissing(f"{path}: is no golden answer: {error}; import the engine again") from None
        yield pixels, wanted


def infer(runner: Runner, pixels: Pixels) -> Answer:
    """What an engine says of a picture of its input's size. Raises EngineFault, EngineLost."""
    runner.inputs[0][:] = pixels
    runner.submit(0)
    return runner.collect(0)


def values_of(answer: Answer) -> NDArray[np.float32]:
    """A short description of what is no list of rows: scores as they are, maps as means over 8 x 8 fields."""
    parts = []
    for output in answer:
        if output.ndim >= 2:
            fields = [np.array_split(band, 8, axis=-1) for band in np.array_split(output, 8, axis=-2)]
            parts += [np.ravel(field.mean(axis=(-1, -2))) for band in fields for field in band if field.size]
        else:
            parts.append(np.ravel(output))
    return np.concatenate(parts).astype(np.float32)


def highest_of(wanted: Golden) -> float:
    """The highest score or value."""
    return max([row[4] for row in wanted.get("rows", [])] + wanted.get("values", []), default=0.0)


def _read_picture(path: Path) -> Pixels:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path.name} cannot be read as a picture")
    return np.asarray(pixels, np.uint8)


def _write_picture(path: Path, pixels: Pixels) -> None:
    import cv2

    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path}: cannot be written")

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
HIGHEST = 1.001  # a softmax in half precision may end so far beyond 1


class Golden(TypedDict, total=False):
    """The JSON beside a picture. rows: x1, y1, x2, y2, score, class, from `floor` on; values: of other tasks.

    labels: what the classes' numbers mean.
    """

    image: str
    labels: list[str]
    floor: float
    rows: list[list[float]]
    values: list[float]


def make_golden(engine: Engine, runner: Runner, pictures: Sequence[Pixels] = ()) -> None:
    """Write golden/ with what `runner`, which must compute in exact float32, gives for pictures of the input's size.

    Without pictures, synthetic ones are drawn. Raises ModelRefused where the model finds nothing in any: an engine that
    finds nothing could not be told from it.
    """
    folder, highest = engine.folder / "golden", 0.0
    folder.mkdir(exist_ok=True)
    for n, pixels in enumerate(pictures or drawn(runner.inputs[0].shape[:2])):
        wanted: Golden = {"image": f"{n}.png", "labels": list(engine.tables.labels)}
        wanted.update(_keep(engine, infer(runner, pixels)))
        highest = max(highest, highest_of(wanted))
        _write_picture(folder / f"{n}.png", pixels)
        (folder / f"{n}.json").write_bytes(to_json(wanted) + b"\n")
    if highest <= 0.0:
        raise ModelRefused(
            "the model finds nothing in the golden pictures, so it could not be told from one that is broken; "
            "give some in which it finds something: --golden FOLDER"
        )


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
    detects = engine.tables.task == "detect"
    most = max(float((output[:, 4] if detects else output).max(initial=0.0)) for output in answer)
    if most > HIGHEST:
        raise ModelRefused(
            f"gives scores up to {most:.4g}, more than 1: it is not what it was taken for; choose another --head"
        )
    if not detects:
        return {"values": _short(values_of(answer))}
    rows = answer[0][np.argsort(-answer[0][:, 4], kind="stable")]
    rows = rows[rows[:, 4] > LEAST_SHARE * max(rows[0, 4], 0.0)][: MOST_ROWS + 1]
    floor = float(rows[-1, 4]) if len(rows) else 0.0
    return {"floor": floor, "rows": [_short(row[:6]) for row in rows]}


def _short(values: NDArray[np.float32]) -> list[float]:
    """In as many digits as a float32 has: a score may be 0.00001."""
    return [float(f"{value:.7g}") for value in values]


def answers(engine: Engine) -> Iterator[Golden]:
    """What is wanted, picture by picture. Raises EngineMissing for a damaged folder, and for other labels."""
    labels = engine.tables.labels
    for path in sorted((engine.folder / "golden").glob("*.json")):
        try:
            wanted = from_json(path.read_bytes(), Golden)
            was, _ = tuple(wanted["labels"]), wanted["image"]
        except (OSError, Mismatch, KeyError) as error:
            raise EngineMissing(f"{path}: is no golden answer: {error}; import the engine again") from None
        if was != labels:
            here, there = next((pair for pair in zip(labels, was, strict=False) if pair[0] != pair[1]), ("", ""))
            what = f'"{here}" where "{there}" was' if here != there else f"{len(labels)} where {len(was)} were"
            raise EngineMissing(
                f"{engine.folder / 'model.toml'}: its labels are not those that the engine was imported with: {what}; "
                "put them back, or import the engine again with --classes and --replace"
            )
        yield wanted


def read(engine: Engine, runner: Runner) -> Iterator[tuple[Pixels, Golden]]:
    """The pictures with what is wanted. Raises EngineMissing for a damaged folder, and for other labels."""
    for wanted in answers(engine):
        path = engine.folder / "golden" / wanted["image"]
        try:
            pixels = _read_picture(path)
            if pixels.shape != runner.inputs[0].shape:
                raise ValueError(f"{path.name} is {list(pixels.shape)}, the input {list(runner.inputs[0].shape)}")
        except (OSError, ValueError) as error:
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

    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

"""The pictures on which engine and label disagree most: which they are, what is wrong in words, and drawn."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.folder import ModelTables
from ..recipe import Recipe
from ..types import Pixels
from .evaluate_boxes import counted, pair
from .evaluate_figures import class_of
from .evaluate_run import Seen
from .part_pictures import draw_part

MOST = 12
WIDEST_PX = 960  # in the page; the file beside it is larger where the picture is


@dataclass(frozen=True, slots=True)
class Worst:
    """One picture of the page. title: escape, false reject or other; text: what is wrong; pictures: data: URLs."""

    name: str
    title: str
    text: str
    pictures: tuple[str, ...]


def worst_of(
    seen: Sequence[Seen], tables: ModelTables, recipe: Recipe, out: Path, *, heat: Callable[[Path], Pixels] | None
) -> list[Worst]:
    """Escapes first, then false rejects, then what has most wrong in it; drawn into `out`. Those of a former run go.

    heat: draws what drove the verdict on a picture.
    """
    for former in out.glob("*.png"):
        former.unlink()
    wrong = [(each, _faults(each, tables, recipe)) for each in seen]
    wrong = [(each, faults) for each, faults in wrong if each.wrong or faults]
    wrong.sort(
        key=lambda pair: (not _escapes(pair[0]), not pair[0].wrong, -sum(pair[1].values()), str(pair[0].part.image))
    )
    return [
        Worst(
            f"{each.part.image.parent.name}/{each.part.image.name}",
            _title(each),
            _text(each, faults, recipe),
            draw_worst(each, out, n, heat),
        )
        for n, (each, faults) in enumerate(wrong[:MOST], start=1)
    ]


def draw_worst(seen: Seen, out: Path, number: int, heat: Callable[[Path], Pixels] | None) -> tuple[str, ...]:
    """The pictures of one part, for the page: labels in blue, what was found in red. Also written into `out`."""
    import cv2

    path = out / f"{number:02}-{seen.part.image.stem}.png"
    draw_part(seen.part, seen.verdict, path)
    if heat is None:
        return (_embedded(path),)
    beside = path.with_name(f"{path.stem}-heat.png")
    beside.write_bytes(cv2.imencode(".png", heat(seen.part.image))[1].tobytes())
    return _embedded(path), _embedded(beside)


def _embedded(path: Path) -> str:
    """A data: URL, as PNG or, where that is much smaller, as JPEG."""
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None
    scale = WIDEST_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    made = {kind: cv2.imencode(f".{kind}", pixels)[1].tobytes() for kind in ("png", "jpeg")}
    kind = "jpeg" if 2 * len(made["jpeg"]) < len(made["png"]) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(made[kind]).decode()}"


def _faults(seen: Seen, tables: ModelTables, recipe: Recipe) -> Counter[tuple[str, str]]:
    """What is wrong with a detector's boxes or a classifier's class: (kind, class), and how often."""
    if tables.task == "classify":
        label, said = class_of(seen, tables)
        return Counter([("mistaken", f"{label} for {said}")] if label != said else [])
    if tables.task != "detect":
        return Counter()
    rows, truth = seen.rows(recipe.labels)
    rows = counted(rows, [rule.threshold for rule in recipe.rules])
    right = pair(rows, truth)
    rows, truth = rows[right < 0], np.delete(truth, right[right >= 0], axis=0)
    taken = pair(rows, truth, classes=False)
    names = recipe.labels
    return Counter(
        [("missed", names[int(label)]) for label in np.delete(truth, taken[taken >= 0], axis=0)[:, 4]]
        + [("mistaken", f"{names[int(truth[there, 4])]} for {names[int(row[5])]}")
           for row, there in zip(rows, taken, strict=True) if there >= 0]
        + [("false alarm", names[int(row[5])]) for row in rows[taken < 0]]
    )  # fmt: skip


def _escapes(seen: Seen) -> bool:
    return seen.wrong and bool(seen.part.boxes)


def _title(seen: Seen) -> str:
    if not seen.wrong:
        return f"Rightly {'rejected' if seen.rejected else 'passed'}, yet not all right"
    return "Escape: defective, but passed" if seen.part.boxes else "False reject: good, but rejected"


def _text(seen: Seen, faults: Counter[tuple[str, str]], recipe: Recipe) -> str:
    """`Missed: 2 open, spur. False alarm: copper.` And of a part judged wrong, how near it was."""
    told = []
    for kind in ("missed", "mistaken", "false alarm"):
        names = [f"{count} {name}" if count > 1 else name for (which, name), count in faults.items() if which == kind]
        told += [f"{kind.capitalize()}: {', '.join(names)}."] if names else []
    if seen.wrong and not told:
        told = [f"Labelled: {', '.join(sorted({box.label for box in seen.part.boxes})) or 'good'}."]
    if seen.wrong:
        best = max((*seen.verdict.defects, *seen.verdict.near_misses), key=lambda defect: defect.score, default=None)
        threshold = {name: rule.threshold for name, rule in zip(recipe.labels, recipe.rules, strict=True)}
        told.append(
            "Nothing came near a threshold."
            if best is None
            else f"The surest find: {best.label} with {best.score:.2f}, where {threshold[best.label]:g} rejects."
        )
    return " ".join(told)

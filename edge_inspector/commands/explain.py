"""Show what drove an engine's verdict on a picture, as a heat map over it: explain NAME IMAGE.

`occlusion` measures: it covers place after place with a patch, and shows how much of the score is lost. `eigen-cam` is
quicker, and shows what stands out to the network, whatever it decides. Segmentations and anomaly models have a `map` of
their own. What is explained is model.onnx in FP32, whatever was built of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ConfigError
from ..models.folder import find
from ..preprocess import use_one_thread
from ..recipe import load_recipe, refuse_for_frame
from .heat import METHODS, HeatMap, heat_of
from .heat_picture import draw_heat, said
from .looking import read_picture
from .occlusion import Claim
from .terminal import Block, bar

TOLD = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, which picture, and how."""
    parser.add_argument("name", metavar="NAME", help="the engine's name")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture of a part")
    parser.add_argument("--out", type=Path, metavar="PNG", help="where to write it (IMAGE's name with -heat.png, here)")
    parser.add_argument("--method", choices=METHODS, default="", help="occlusion, or map where the engine makes one")
    parser.add_argument("--recipe", type=Path, help="a recipe file; the engine's own where not given")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines lie (engines/)")


def main(args: argparse.Namespace) -> int:
    """Explain, write the picture, and say in a few lines what it shows."""
    import cv2

    use_one_thread()
    engine, pixels = find(args.name, args.engines), read_picture(args.image)
    path = args.recipe or engine.recipe
    recipe = load_recipe(path, engine.tables.labels)
    refuse_for_frame(recipe, path, pixels.shape[:2])
    into = args.out or Path(f"{args.image.stem}-heat.png")
    if into.suffix.lower() != ".png":
        raise ConfigError(f"--out: found {into}, expected the name of a PNG file")
    block = Block(sys.stderr)

    def progress(done: int, total: int, patch_px: float) -> None:
        show = block.final if done == total else block.show
        show([f"{bar(done, total)} {total} places, covered by patches of {patch_px:.0f} px"])

    heat = heat_of(engine, pixels, recipe=recipe, method=args.method, progress=progress)
    try:
        into.write_bytes(cv2.imencode(".png", draw_heat(pixels, heat, name=args.name))[1].tobytes())
    except OSError as error:
        raise ConfigError(f"--out: {into} cannot be written: {error.strerror}") from None
    print(f"{args.name}, model.onnx in FP32: {said(heat.verdict)}; method: {heat.method}")
    print("\n".join(lines_of(heat)))
    print(f"written: {into}")
    return 0


def lines_of(heat: HeatMap) -> list[str]:
    """What was explained, in a few lines; of occlusion which place costs each claim most."""
    if heat.method == "eigen-cam":
        return ["it shows what stands out to the network, not what decided: for that, --method occlusion"]
    if heat.method == "map":
        return [f"the engine's own map: {heat.values.max():.2f} at its highest"]
    worst = sorted(heat.claims, key=lambda each: -each.score)
    more = [f"and {len(worst) - TOLD} more, in the picture"] if len(worst) > TOLD else []
    return [_line(each) for each in worst[:TOLD]] + more or ["finds nothing at all, so nothing can be lost"]


def _line(claim: Claim) -> str:
    (x, y), (x1, y1, x2, y2) = claim.at_px, claim.box_px
    what = f"{claim.label} {claim.score:.2f}"
    if claim.lost < 0.1 * claim.score:
        return f"{what}: no place alone costs it more than {claim.lost:.2f}: it rests on much of the picture"
    inside = x1 <= x <= x2 and y1 <= y <= y2
    where = "in its box" if inside else f"outside of its box, {x1:.0f}, {y1:.0f} to {x2:.0f}, {y2:.0f}"
    return f"{what}: loses {claim.lost:.2f} where {claim.patch_px:.0f} px around {x:.0f}, {y:.0f} are covered, {where}"

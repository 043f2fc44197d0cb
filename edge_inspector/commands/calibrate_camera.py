"""Calibrate a camera: views of a printed pattern give the lens; one view of it where the parts lie gives the mm.

Writes a camera file for the recipe, and beside it coverage.png, a picture of what it rests on.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, ModelRefused
from ..lens import Lens
from ..types import Pixels
from .camera_coverage import Coverage
from .camera_pattern import Finder, Pattern
from .camera_picture import draw
from .camera_solve import Solved, find_plane, solve
from .camera_views import Live, from_folder
from .looking import read_picture

MARKER = 0.75  # of a square's side, where --marker-mm is not given
ONE_SCALE = 0.01  # a scale that varies by less than this over the frame may be one number


def arguments(parser: argparse.ArgumentParser) -> None:
    """The pattern, the views, and what is written."""
    parser.add_argument("--pattern", choices=("chessboard", "charuco"), required=True, help="what was printed")
    parser.add_argument(
        "--squares", type=_squares, required=True, metavar="8x6", help="columns x rows of squares, not of inner corners"
    )
    parser.add_argument("--square-mm", type=_length, required=True, metavar="MM", help="a square's side, as measured")
    parser.add_argument("--marker-mm", type=_length, metavar="MM", help="charuco: a marker's side (3/4 of a square's)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="FOLDER", help="pictures of the pattern in many poses")
    source.add_argument("--line", type=Path, metavar="LINE.toml", help="look through its camera; the daemon must rest")
    parser.add_argument("--station", metavar="NAME", help="whose camera, where the line has several stations")
    parser.add_argument(
        "--plane",
        type=Path,
        metavar="IMAGE",
        help="the pattern lying where the parts lie, at the height of the inspected surface; --line asks for it",
    )
    parser.add_argument("--out", type=Path, default=Path("camera.toml"), metavar="FILE", help="(camera.toml)")


def main(args: argparse.Namespace) -> int:
    """Look, solve, write, and say what to put into the recipe. Raises ModelRefused where the views do not suffice."""
    pattern = Pattern(args.pattern, args.squares, args.square_mm, args.marker_mm or MARKER * args.square_mm)
    if pattern.marker_mm >= pattern.square_mm:
        raise ConfigError(f"--marker-mm: found {pattern.marker_mm:g}, expected less than --square-mm")
    if args.images and not args.plane:
        raise ModelRefused(
            "no view of the plane: lay the pattern where the parts lie, at the height of the inspected surface, take "
            "one picture and name it with --plane; without it nothing says how large a mm is"
        )
    finder, live = Finder(pattern), None if args.images else Live(args.line, args.station)
    plane = read_picture(args.plane) if args.plane else None  # missing: better known now than in the end
    coverage = live.views(finder) if live else from_folder(args.images, finder)
    missing = "" if coverage.enough else f"; it would be better with: {coverage.hint()}"
    print(f"{len(coverage.views)} views{missing}", flush=True)
    solved = solve(coverage)
    if plane is None:
        assert live is not None
        plane = live.plane(coverage.size)
    lens = _measure(solved, finder, coverage, plane)
    picture = args.out.with_name("coverage.png")
    _write(args.out, lens, picture, draw(coverage, solved, lens, plane))
    print("\n".join([*_report(solved, lens), f"{args.out}, {picture}: written", *_advice(lens, args.out)]))
    return 0


def _measure(solved: Solved, finder: Finder, coverage: Coverage, pixels: Pixels) -> Lens:
    """The plane by its picture, and all that is told of both."""
    height, width = coverage.size
    if pixels.shape[:2] != coverage.size:
        raise ModelRefused(
            f"the plane's picture has {pixels.shape[1]} x {pixels.shape[0]} pixels, the views have {width} x {height}: "
            "both must be whole frames of one camera"
        )
    view = finder.find("the plane's picture", pixels)
    if isinstance(view, str):
        raise ModelRefused(f"the plane's picture cannot be used: {view}")
    plane, plane_rms_px = find_plane(solved, view)
    facts: dict[str, Any] = {
        "width": width,
        "height": height,
        "matrix": tuple(map(tuple, solved.matrix.tolist())),
        "distortion": tuple(solved.distortion.tolist()),
        "plane": tuple(map(tuple, plane.tolist())),
    }
    try:
        lens = Lens(**facts)
    except ValueError as error:
        raise ModelRefused(f"{error}; the views: {coverage.hint()}") from None
    scales = lens.scale_at(lens.grid())
    return Lens(
        **facts,
        px_per_mm=round(float(lens.scale_at(np.array([[width / 2, height / 2]]))[0]), 5),
        px_per_mm_lowest=round(float(scales.min()), 5),
        px_per_mm_highest=round(float(scales.max()), 5),
        rms_px=round(solved.rms_px, 4),
        plane_rms_px=round(plane_rms_px, 4),
        pattern=str(finder.pattern),
        made=date.today().isoformat(),
        views={name: round(error, 4) for name, error in solved.errors_px.items()},
    )


def _write(path: Path, lens: Lens, picture: Path, drawn: Pixels) -> None:
    """The camera file, every key of Lens in its order, and the picture."""
    import cv2

    values = {name: getattr(lens, name) for name in lens.__slots__ if name != "views"}
    lines = [
        "# Made by `edge-inspector calibrate camera`. mm = plane * undistorted pixel; see edge_inspector/lens.py.",
        *(f"{name} = {json.dumps(value)}" for name, value in values.items()),
        "\n[views]  # the reprojection error of each, in px",
        *(f"{json.dumps(name)} = {error}" for name, error in lens.views.items()),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        picture.write_bytes(cv2.imencode(".png", drawn)[1].tobytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; choose another place with --out") from None


def _report(solved: Solved, lens: Lens) -> list[str]:
    """What was found, and how well it is known."""
    (fx, _, cx), (_, fy, cy), _ = lens.matrix
    bent = np.linalg.norm(lens.undistort(lens.grid()) - lens.grid(), axis=1).max()
    worst = max(lens.views, key=lambda name: lens.views[name])
    return [
        *(f"dropped: {name}, error {error:.2f} px, far above the rest" for name, error in solved.dropped.items()),
        f"reprojection error {lens.rms_px:.3f} px RMS over {len(lens.views)} views, worst {worst}: "
        f"{lens.views[worst]:.3f} px; the plane's picture {lens.plane_rms_px:.3f} px",
        f"focal length {fx:.1f}, {fy:.1f} px (+-{solved.focal_sd_px:.1f}), centre {cx:.1f}, {cy:.1f}; "
        f"distortion moves a point by up to {bent:.1f} px",
        f"scale {lens.px_per_mm:.3f} px/mm in the middle, {lens.px_per_mm_lowest:.3f} to "
        f"{lens.px_per_mm_highest:.3f} over the frame",
    ]


def _advice(lens: Lens, out: Path) -> list[str]:
    """What to put into the recipe."""
    off = max(lens.px_per_mm_highest / lens.px_per_mm, lens.px_per_mm / lens.px_per_mm_lowest) - 1
    one = f"px_per_mm = {lens.px_per_mm:.4g}"
    if off < ONE_SCALE:
        return ["for the recipe, one of:", f'camera = "{out.name}"', f"{one}  # off by up to {off:.1%}"]
    return [
        f'for the recipe:\ncamera = "{out.name}"',
        f"or, off by up to {off:.1%} towards the edge of the frame:\n{one}",
    ]


def _squares(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or min(int(found[1]), int(found[2])) < 3:
        raise argparse.ArgumentTypeError(f"{text} is not columns x rows, such as 8x6, each 3 or more")
    return int(found[1]), int(found[2])


def _length(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 10_000.0:
        raise argparse.ArgumentTypeError(f"{text} is no length in mm")
    return value

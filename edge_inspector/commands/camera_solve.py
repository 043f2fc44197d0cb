"""From views to a lens, and from the view of the plane to millimetres. Owns which views are believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelRefused
from .camera_coverage import FEWEST_VIEWS, PARALLEL_DEG, Coverage
from .camera_pattern import View

OUTLIER = 3.0  # a view with so many times the middle view's error is dropped,
LEAST_PX = 0.3  # if its error is more than this
K3_WORTH = 0.95  # the third radial coefficient stays if the error falls below this share: unneeded, it runs wild
LOOSE = 0.02  # the most that the focal length may be unsure of (one standard deviation)
PLANE_PX = 1.0  # the plane's view may err by this, or by OUTLIER times what the others do


@dataclass(frozen=True, slots=True)
class Solved:
    """The lens. residuals: found minus modelled, pixels [n, 2], for each view used; dropped: its error in px."""

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    focal_sd_px: float
    used: list[View]
    residuals: list[NDArray[np.float64]]
    dropped: dict[str, float]

    @property
    def rms_px(self) -> float:
        """The reprojection error over all points."""
        return _rms(np.concatenate(self.residuals))

    @property
    def errors_px(self) -> dict[str, float]:
        """The reprojection error of each view used."""
        return {view.name: _rms(each) for view, each in zip(self.used, self.residuals, strict=True)}


def solve(coverage: Coverage) -> Solved:
    """The lens from all views but the outliers. Raises ModelRefused where they do not determine it."""
    if len(coverage.views) < FEWEST_VIEWS:
        raise ModelRefused(
            f"{len(coverage.views)} usable views, at least {FEWEST_VIEWS} are needed; missing: {coverage.hint()}"
        )
    if coverage.largest_turn_deg < PARALLEL_DEG:
        raise ModelRefused(f"all views are parallel, within {coverage.largest_turn_deg:.0f} degrees: nothing tells a "
                           f"long lens far away from a short one near by; missing: {coverage.hint()}")  # fmt: skip
    used, dropped = list(coverage.views), dict[str, float]()
    while True:
        solved = _fit(used, coverage.size, dropped)
        errors = solved.errors_px
        limit = max(OUTLIER * float(np.median(list(errors.values()))), LEAST_PX)
        worst = max(errors, key=lambda name: errors[name])
        if errors[worst] <= limit:
            break
        if len(used) <= FEWEST_VIEWS:
            raise ModelRefused(f"{worst} does not fit the others (error {errors[worst]:.1f} px), and without it fewer "
                               f"than {FEWEST_VIEWS} views are left; missing: {coverage.hint()}")  # fmt: skip
        dropped[worst] = errors[worst]
        used = [view for view in used if view.name != worst]
    focal = float(solved.matrix[0, 0])
    if not solved.focal_sd_px < LOOSE * focal:
        raise ModelRefused(f"the focal length is known to {solved.focal_sd_px / focal:.0%} only: add views tilted "
                           f"by 30 to 45 degrees; missing: {coverage.hint()}")  # fmt: skip
    return solved


def _fit(views: list[View], size: tuple[int, int], dropped: dict[str, float]) -> Solved:
    import cv2

    mm = [np.pad(view.mm, ((0, 0), (0, 1))) for view in views]
    px = [view.px.reshape(-1, 1, 2) for view in views]
    best, least = None, np.inf
    for flags in (cv2.CALIB_FIX_K3, 0):
        try:
            found = cv2.calibrateCameraExtended(mm, px, (size[1], size[0]), np.eye(3), np.zeros(5), flags=flags)
        except cv2.error as error:
            raise ModelRefused(f"the views do not determine a lens: {error.err}") from None
        if found[0] < K3_WORTH * least:
            best, least = found, found[0]
    if best is None:
        raise ModelRefused("the views do not determine a lens: the error is no number")
    matrix, distortion = np.asarray(best[1], np.float64), np.asarray(best[2], np.float64).ravel()[:5]
    poses = zip(views, best[3], best[4], strict=True)
    residuals = [_residuals(view, turn, shift, matrix, distortion) for view, turn, shift in poses]
    return Solved(matrix, distortion, float(best[5].ravel()[0]), views, residuals, dict(dropped))


def find_plane(solved: Solved, view: View) -> tuple[NDArray[np.float64], float]:
    """The homography from undistorted pixels to mm on the pattern [3, 3], and the error of that view in px."""
    import cv2

    mm = np.pad(view.mm, ((0, 0), (0, 1)))
    _, turn, shift = cv2.solvePnP(mm, view.px, solved.matrix, solved.distortion)
    error_px = _rms(_residuals(view, turn, shift, solved.matrix, solved.distortion))
    if error_px > max(PLANE_PX, OUTLIER * solved.rms_px):
        raise ModelRefused(f"{view.name}: the plane's view errs by {error_px:.1f} px, the other views by "
                           f"{solved.rms_px:.2f} px: were zoom, focus or picture size changed in between, or is the "
                           "pattern bent there?")  # fmt: skip
    axes = cv2.Rodrigues(turn)[0]
    axes[:, 2] = shift.ravel()
    plane = np.linalg.inv(solved.matrix @ axes)
    return plane / plane[2, 2], error_px


def _residuals(
    view: View, turn: Any, shift: Any, matrix: NDArray[np.float64], distortion: NDArray[np.float64]
) -> NDArray[np.float64]:
    import cv2

    seen, _ = cv2.projectPoints(np.pad(view.mm, ((0, 0), (0, 1))), turn, shift, matrix, distortion)
    return np.asarray(view.px - seen.reshape(-1, 2), np.float64)


def _rms(residuals: NDArray[np.float64]) -> float:
    return float(np.sqrt((residuals**2).sum(axis=1).mean()))

"""What drove an engine's verdict, as a heat map over the picture: HeatMap, and the three ways to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelRefused
from ..judge import judge
from ..models.answers import detections_of
from ..models.folder import Engine, ModelTables
from ..preprocess import Letterbox
from ..recipe import Recipe
from ..runners.openvino import OpenVinoRunner, activations
from ..types import Pixels, Verdict
from .looking import Looker
from .occlusion import Claim, Claims, Occlusion, Progress

Array = NDArray[np.float32]
METHODS = ("occlusion", "eigen-cam", "map")
FAINTEST = 0.1  # what the brightest colour stands for at least, so that next to nothing does not look like much


@dataclass(frozen=True, slots=True)
class HeatMap:
    """values: float32 [h, w], a grid over the whole picture, 0 to `top`, for which the brightest colour stands.

    method: one of METHODS. verdict: what model.onnx, in exact float32, and the recipe say. claims: what was explained;
    only `occlusion` knows what each of them loses.
    """

    values: Array
    method: str
    top: float
    verdict: Verdict
    claims: tuple[Claim, ...]


def heat_of(
    engine: Engine,
    pixels: Pixels,
    *,
    recipe: Recipe,
    method: str = "",
    progress: Progress = lambda done, total, patch_px: None,
) -> HeatMap:
    """Explain what an engine's model.onnx, whatever was built of it, says of a picture, uint8 [h, w, 3] BGR.

    method: "" for the one that fits the task. Raises ModelRefused for a script, and for a method that does not fit.
    """
    refuse_script(engine)
    name, tables = engine.folder.name, engine.tables
    fits = "occlusion" if tables.task in ("detect", "classify") else "map"
    method = method or fits
    if method not in (fits, "eigen-cam"):
        raise ModelRefused(
            f'engine "{name}" is made for the task {tables.task}: --method {method} is not for it; leave it away for '
            f"{fits}, or take eigen-cam"
        )
    runner = OpenVinoRunner(engine.model, tables.task, precision="fp32", backlog=True)
    answer, fit = Looker(tables, runner).answer(pixels)
    size, frame, seen = runner.inputs[0].shape[:2], pixels.shape[:2], np.array(runner.inputs[0])
    verdict = judge(detections_of(tables, answer, fit, size, floor=recipe.floor, frame=frame), recipe)
    claims = Claims(tables, answer, fit, size, frame, floor=recipe.floor)
    if method == "occlusion":
        told, lost = Occlusion(runner, seen, fit, claims).measure(progress)
        return HeatMap(lost, method, max(FAINTEST, float(lost.max())), verdict, told)
    values = own_map(tables, answer[0]) if method == "map" else eigen_cam(activations(engine.model, seen))
    values = _within(values, fit, size)
    if method == "eigen-cam":
        values = values / max(1e-9, float(values.max()))
    return HeatMap(values, method, 1.0, verdict, claims.first)


def refuse_script(engine: Engine) -> None:
    """Raise ModelRefused for an engine that computes nothing."""
    if engine.tables.script:
        raise ModelRefused(
            f'engine "{engine.folder.name}" is a script: it looks at no picture, so there is nothing to explain'
        )


def eigen_cam(maps: Sequence[Array]) -> Array:
    """float32 [h, w], 0 to 1: the mean over maps, float32 [C, h, w], brought to the finest grid. Of each map the part
    along its first principal component (Muhammad and Yeasin 2020, arXiv 2008.00299, section III), but centred, with the
    sign that makes the rarer bright: not centred, it is little but the mean, and shows a part's bare surface.
    """
    import cv2

    size = max(each.shape[:0:-1] for each in maps)
    total = np.zeros(size[::-1], np.float32)
    for each in maps:
        flat = each.reshape(len(each), -1).astype(np.float64)
        flat -= flat.mean(axis=1, keepdims=True)
        along = np.linalg.eigh(flat @ flat.T)[1][:, -1] @ flat
        heat = (along * np.sign((along**3).sum())).clip(0).reshape(each.shape[1:])
        total += cv2.resize((heat / max(1e-9, heat.max())).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(total / len(maps), np.float32)


def own_map(tables: ModelTables, heatmap: Array) -> Array:
    """float32 [h, w], 0 to 1, of what a segmentation or anomaly engine gives: of what is not good the likeliest."""
    if heatmap.ndim == 3:
        bad = [n for n, name in enumerate(tables.labels) if name not in tables.good]
        heatmap = heatmap[bad].max(axis=0, initial=0.0)
    return np.asarray(heatmap.clip(0.0, 1.0), np.float32)


def _within(values: Array, fit: Letterbox, size: tuple[int, int]) -> Array:
    """Of what lies over the engine's input that which lies over the picture, in the input's pixels."""
    import cv2

    (left, top), (high, wide) = fit.offset, fit.inner
    whole = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole[top : top + high, left : left + wide], np.float32)

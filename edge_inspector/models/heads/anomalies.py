"""Anomaly models as anomalib exports them: a map of how strange each place is, and a score of the whole picture.

Sources: openvinotoolkit/anomalib models/components/base/export_mixin.py, post_processing/post_processor.py (2.x),
deploy/inferencers/{base,openvino}_inferencer.py and deploy/export.py (1.x, 0.x: metadata.json).
"""

from __future__ import annotations

from collections.abc import Mapping

from ...contract import Tensor
from .base import Builder, Found, Hints, Pixelwise, Signature
from .pooling import pool
from .tensors import IMAGENET_MEAN, IMAGENET_STD, called, is_float, tail_of

IMAGENET = Pixelwise(resize="stretch", mean=IMAGENET_MEAN, std=IMAGENET_STD, size=(256, 256))
UNIT = Pixelwise(resize="stretch", size=(256, 256))


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """A map, a score, or both. Without anomalib's names or its metadata.json only a lone map could be one."""
    outputs = [t for t in signature.outputs if is_float(t)]
    scores = [t for t in outputs if len(t.shape) < 3 and all(n in (1, None) for n in t.shape)]
    maps = [t for t in outputs if _plane(t)]
    named = any(called(t, "anomaly_map", "pred_score") for t in outputs)
    scales = _scales(signature.metadata)
    lone = len(signature.outputs) == 1 and len(maps) == 1 and len(maps[0].shape) == 4
    if not outputs or len(maps) > 1 or len(scores) > 1 or len(maps) + len(scores) != len(outputs):
        return []
    if not (named or scales or lone):
        return []
    inside = any("Clip" in tail or {"Min", "Max"} <= tail for tail in (tail_of(signature, t) for t in outputs))
    own = "transform" not in signature.metadata  # anomalib 0.x noted its transform, later ones export it
    how = "scaled in the graph to 0.5 at the threshold" if inside else "scaled by metadata.json" if scales else "raw"
    found = Found(
        head="anomaly",
        why=f"{', '.join(map(str, (*maps, *scores)))}: {'anomalib names' if named else 'one map'}, {how}; RGB, "
        + ("0 to 1, resized and normalised in the graph as anomalib 1 and 2 do" if own else "ImageNet's mean")
        + ", stretched",
        sure=0.95 if named else 0.9 if scales else 0.45,
        task="anomaly",
        classes=1,
        complete=_complete,
        image=signature.images[0],
        pixelwise=UNIT if own else IMAGENET,
        outputs={**({"map": maps[0]} if maps else {}), **({"score": scores[0]} if scores else {})},
        labels=("anomaly",),
        good=(),
        nms_iou=1.0,
        more={} if inside else scales,
        need="" if inside or scales else NORMALISED,
    )
    return [found]


NORMALISED = (
    "an export that is normalised to 0..1, or anomalib's metadata.json beside the file (image_threshold, "
    "pixel_threshold, pred_scores.min, pred_scores.max, anomaly_maps.min, anomaly_maps.max)"
)


def _complete(builder: Builder, found: Found) -> None:
    """The score is the map's highest place where the graph has none; the map the score where it has no map."""
    scales: Mapping[str, tuple[float, float]] = found.more
    heatmap = score = ""
    if "map" in found.outputs:
        name = found.outputs["map"].name
        height, width = builder.shape(name)[-2:]
        raw = builder.add("Reshape", name, builder.constant([1, 1, height, width]))
        highest = builder.add("Reshape", builder.add("GlobalMaxPool", raw), builder.constant([1]))
        score = _scale(builder, highest, scales.get("score"))
        heatmap = pool(builder, _scale(builder, raw, scales.get("map")), (1, 1, height, width))
    if "score" in found.outputs:
        given = builder.add("Reshape", found.outputs["score"].name, builder.constant([1]))
        score = _scale(builder, given, scales.get("score"))
    heatmap = heatmap or builder.add("Reshape", score, builder.constant([1, 1, 1, 1]))
    _, _, rows, columns = builder.shape(heatmap)
    builder.output("heatmap", builder.add("Reshape", heatmap, builder.constant([1, rows, columns])))
    builder.output("score", score)


def _scale(builder: Builder, value: str, scale: tuple[float, float] | None) -> str:
    """(value - threshold) / range + 0.5, within 0..1: normalize_min_max of anomalib."""
    if scale is None:
        return value
    threshold, extent = scale
    value = builder.add("Div", builder.add("Sub", value, builder.constant(threshold)), builder.constant(extent))
    value = builder.add("Add", value, builder.constant(0.5))
    return builder.add("Clip", value, builder.constant(0.0), builder.constant(1.0))


def _scales(metadata: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """The threshold and max - min of `map` and `score`, as anomalib 1 writes them; 0.x has one min and max for both."""
    found = {}
    for role, threshold, extent in (("map", "pixel", "anomaly_maps"), ("score", "image", "pred_scores")):
        try:
            middle = float(metadata[f"{threshold}_threshold"])
            most = float(metadata.get(f"{extent}.max") or metadata["max"])
            least = float(metadata.get(f"{extent}.min") or metadata["min"])
        except (KeyError, ValueError):
            continue
        if most > least:
            found[role] = (middle, most - least)
    return found if len(found) == 2 else {}


def _plane(tensor: Tensor) -> bool:
    """One channel of places: [1, 1, h, w] or [1, h, w]."""
    return len(tensor.shape) in (3, 4) and tensor.shape[:-2] in ((1, 1), (1,)) and tensor.shape[-2:] != (1, 1)

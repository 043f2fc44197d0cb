"""NVIDIA's own parser and builder take every layout, at every precision, on a machine without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.compile import compile_plan
from edge_inspector.models.halve import to_fp16
from edge_inspector.models.manifest import PRECISIONS
from edge_inspector.models.quantize import Quantizer

from .zoo import ZOO, Layout, pictures
from .zoo_more import MORE, completed

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu13")

ALL = {**ZOO, **MORE}
# layouts that cannot be built by their nature, with what TensorRT says of it
NOT_BUILT = {"torchvision": "NonMaxSuppression.* has no runners"}  # TensorRT-RTX has no NMS; TensorRT 10 has
OPERATORS = {"NonMaxSuppression", "NonZero", "Loop", "If"}  # what a head may not add: results as large as the picture


def plan(layout: Layout, precision: str, folder: Path) -> tuple[str, ...]:
    """Import, convert, compile: the tensors of the plan."""
    whole = folder / "fp32.onnx"
    onnx.save(completed(layout, folder)[2], whole)
    model = folder / f"{precision}.onnx"
    if precision == "fp16":
        to_fp16(whole, model)
    elif precision == "int8":
        quantizer = Quantizer(whole, folder)
        assert len(list(quantizer.calibrate(pictures(layout.size, 2)))) == 2
        quantizer.write(model)
    return compile_plan(
        model,
        folder / "model.plan",
        target="tensorrt-rtx",
        capabilities=("89",),
        timing_cache=None,
        progress=lambda phase, share: None,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [name for name in ALL if name not in NOT_BUILT])
def test_every_layout_is_built(name: str, precision: str, tmp_path: Path) -> None:
    """From the exporter's file to a plan, with bytes in and the contract's outputs."""
    tensors = plan(ALL[name], precision, tmp_path)
    assert (tmp_path / "model.plan").stat().st_size > 10_000
    assert any("image" in each and "uint8" in each.lower() for each in tensors)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_cannot_be_built_is_refused_in_words(name: str, tmp_path: Path) -> None:
    """Fails when TensorRT begins to take one: then it moves to the others. The head's description says so too."""
    with pytest.raises(ModelRefused, match=NOT_BUILT[name]):
        plan(ALL[name], "fp32", tmp_path)
    assert "TensorRT-RTX has no" in completed(ALL[name], tmp_path)[1].why


@pytest.mark.parametrize("name", ALL)
def test_heads_add_nothing_of_a_size_that_depends_on_the_picture(name: str, tmp_path: Path) -> None:
    """What the network itself holds is its own; what is added behind it has fixed shapes."""
    made = completed(ALL[name], tmp_path)[2]
    assert not {node.op_type for node in made.graph.node if node.name.startswith("inspector/")} & OPERATORS

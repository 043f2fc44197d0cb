"""NanoDet and NanoDet-Plus."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.heads import choose, dense
from edge_inspector.models.heads.base import Hints

from .zoo_more import MORE, NAMES, check, nanodet, signature_of

LAYOUTS = [name for name, layout in MORE.items() if layout.head == "nanodet"]
PLUS = (8, 16, 32, 64)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_completed_graph_decodes_as_the_exporter_means_it(name: str, tmp_path: Path) -> None:
    """Boxes within 0.01 px and scores within 1e-4 of a plain decoder, in ONNX Runtime and in OpenVINO."""
    check(MORE[name], tmp_path)


def test_the_first_nanodet_has_its_places_in_the_middle(tmp_path: Path) -> None:
    """Three strides: half a stride further than NanoDet-Plus, which has four."""
    for strides, offset in ((PLUS, 0.0), (PLUS[:3], 0.5)):
        found = choose(signature_of(nanodet(strides)(), tmp_path), Hints(labels=NAMES))
        assert (found.more["strides"], found.more["offset"]) == (strides, offset)


def test_without_names_it_is_not_taken_for_a_yolox(tmp_path: Path) -> None:
    """As many rows and any number of columns: YOLOX could have them too. With the names given, only one fits."""
    signature = signature_of(nanodet(PLUS)(), tmp_path)
    with pytest.raises(ModelRefused, match=r"ambiguous(.|\n)*--head nanodet: "):
        choose(signature, Hints())
    assert choose(signature, Hints(head="nanodet")).classes == len(NAMES)
    assert choose(signature, Hints(labels=NAMES)).head == "nanodet"


def test_names_say_how_wide_a_distribution_is(tmp_path: Path) -> None:
    """NanoDet-g has eleven steps a side where the others have eight."""
    signature = signature_of(nanodet(PLUS, bins=11)(), tmp_path)
    assert choose(signature, Hints(labels=NAMES)).more["bins"] == 11
    assert dense.recognise(signature, Hints(labels=NAMES[:4])) == []


def test_another_number_of_rows_is_no_nanodet(tmp_path: Path) -> None:
    """Rows must be the places of its strides."""
    assert dense.recognise(signature_of(nanodet((8, 16))(), tmp_path), Hints(labels=NAMES)) == []

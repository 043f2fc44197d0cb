"""No layout is taken for another: the right head, or a question; with the classes named, only the right head."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_inspector.errors import ModelRefused
from edge_inspector.models.heads import choose
from edge_inspector.models.heads.base import Hints

from .zoo import ZOO
from .zoo_more import MORE, signature_of

ALL = {**ZOO, **MORE}
# what the file alone does not tell, even with the classes named: --head is needed
ASKED = {"detr", "boxes", "ssd-labels"}
# what names settle: as many rows as YOLOX has, and any number of columns
NAMED = {"nanodet", "nanodet-plus", "nanodet-g"}


@pytest.mark.parametrize("name", ALL)
def test_it_is_recognised_or_asked(name: str, tmp_path: Path) -> None:
    """Without a word from the user, and with the classes named: never another head."""
    layout = ALL[name]
    signature = signature_of(layout.make(size=layout.size), tmp_path)
    for hints, asked in ((Hints(), ASKED | NAMED), (Hints(labels=layout.hints.labels), ASKED)):
        if name in asked and not (name in NAMED and hints.labels):
            with pytest.raises(ModelRefused, match=f"--head {layout.head}: "):
                choose(signature, hints)
        else:
            assert choose(signature, hints).head == layout.head


@pytest.mark.parametrize("name", ALL)
def test_a_head_that_is_named_is_taken(name: str, tmp_path: Path) -> None:
    """--head settles it, for every layout."""
    layout = ALL[name]
    signature = signature_of(layout.make(size=layout.size), tmp_path)
    assert choose(signature, Hints(head=layout.head, labels=layout.hints.labels)).head == layout.head

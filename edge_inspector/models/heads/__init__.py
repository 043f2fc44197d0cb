"""Heads: what each family of networks gives, how it is recognised, and how it is brought to the contract."""

from __future__ import annotations

from ...errors import ModelRefused
from . import boxes, dense, detr, maps, ready, yolo
from .base import Found, Hints, Signature
from .tensors import names_of

SURE, LEAD = 0.6, 0.15  # below the first, or less ahead of another reading than the second, the user has to choose


def candidates(signature: Signature, hints: Hints) -> list[Found]:
    """All that the graph may be, the likeliest first."""
    as_it_is = ready.recognise(signature, hints)
    if as_it_is:
        return as_it_is
    found = [each for family in (yolo, detr, boxes, dense, maps) for each in family.recognise(signature, hints)]
    return sorted(found, key=lambda each: -each.sure)


def choose(signature: Signature, hints: Hints) -> Found:
    """The one head that the graph has. Raises ModelRefused: for none, and with the list where there are several."""
    if not signature.images:
        inputs = ", ".join(map(str, signature.inputs)) or "none"
        raise ModelRefused(
            f"the graph has no picture as an input: expected float [1, 3, H, W], found {inputs}; "
            "export the whole network from the picture on"
        )
    if signature.metadata.get("task") == "obb":
        raise ModelRefused(
            "the file says that it finds rotated boxes (task obb), which no engine here can give; train and export a "
            "detector of upright boxes (task detect)"
        )
    found = candidates(signature, hints)
    if hints.head is not None:
        named = [each for each in found if each.head == hints.head]
        if not named:
            raise ModelRefused(f'it has no head "{hints.head}"; {_possible(signature, hints, found)}')
        return named[0]
    if not found or found[0].sure < SURE:
        raise ModelRefused(f"no head is surely recognised; {_possible(signature, hints, found)}")
    rivals = [each for each in found[1:] if found[0].sure - each.sure < LEAD]
    if rivals:
        raise ModelRefused(f"its head is ambiguous; {_possible(signature, hints, [found[0], *rivals])}")
    return found[0]


def _possible(signature: Signature, hints: Hints, found: list[Found]) -> str:
    if not found:
        outputs = ", ".join(map(str, signature.outputs))
        return f"its outputs {outputs} fit none; export with the family's own exporter, boxes decoded, without NMS"
    lines = "".join(f"\n  --head {each.head}: {each.why}{_but(signature, hints, each)}" for each in found)
    return f"choose what it is:{lines}"


def _but(signature: Signature, hints: Hints, found: Found) -> str:
    """Why a reading that fits is not sure, where it does not say so itself."""
    names = len(hints.labels or names_of(signature))
    if found.sure >= SURE or "but" in found.why:
        return ""
    if names and names != found.classes:
        return f"; but {names} names for {found.classes} classes"
    return "; but nothing else in the file says so"

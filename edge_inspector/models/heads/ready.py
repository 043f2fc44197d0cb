"""A graph that keeps the contract already: an engine's own model.onnx, or one that was trained to."""

from __future__ import annotations

from ...contract import OUTPUTS, breach
from .base import Builder, Found, Hints, Pixelwise, Signature
from .tensors import counted


def recognise(signature: Signature, hints: Hints) -> list[Found]:
    """The task whose contract it keeps, if any."""
    task = next((task for task in OUTPUTS if not breach(task, signature.inputs, signature.outputs)), None)
    if task is None:
        return []
    classes, need = counted(signature, hints)
    found = Found(
        head="ready",
        why=f"it keeps the contract of {task} as it is",
        sure=1.0,
        task=task,
        classes=classes,
        complete=_complete,
        image=signature.inputs[0],
        pixelwise=Pixelwise(colour="bgr", scale=1.0),
        outputs={each.name: each for each in signature.outputs},
        need=need,
    )
    return [found]


def _complete(builder: Builder, found: Found) -> None:
    for name in OUTPUTS[found.task]:
        builder.output(name, name)

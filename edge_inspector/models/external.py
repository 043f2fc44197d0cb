"""Weights that lie in files beside a model: read into it, from its own folder and from nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelRefused
from .graph import bodies

LARGEST = 2**31 - 1  # protobuf's limit for one message


def merge(model: Any, path: Path) -> tuple[str, ...]:
    """Read what lies in other files into the model itself; returns their names. Raises ModelRefused."""
    import onnx

    files: set[str] = set()
    total = model.ByteSize()
    for each in _stored(model.graph):
        if each.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {pair.key: pair.value for pair in each.external_data}
        file = _beside(path, entry.get("location", ""), each.name)
        offset, length = _number(entry.get("offset", "0"), path), _number(entry.get("length", "-1"), path)
        available = file.stat().st_size - offset
        length = available if length < 0 else length
        if offset < 0 or length > available or length < 0:
            raise ModelRefused(
                f"{path}: {each.name} should be {length} bytes at {offset} of {file.name}, which has "
                f"{file.stat().st_size}; copy or export both files again"
            )
        total += length
        if total > LARGEST:
            raise ModelRefused(f"{path}: is larger than 2 GB with its weights; export it in half precision")
        with file.open("rb") as stream:
            if stream.read(24).startswith(b"version https://git-lfs"):
                raise ModelRefused(f"{file}: is a Git LFS pointer, not the weights; run: git lfs pull")
            stream.seek(offset)
            each.raw_data = stream.read(length)
        each.data_location = onnx.TensorProto.DEFAULT
        del each.external_data[:]
        files.add(file.name)
    return tuple(sorted(files))


def _beside(path: Path, location: str, name: str) -> Path:
    """The file that external weights lie in; never one outside the model's folder."""
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        outside = not location or Path(location).is_absolute() or folder not in file.parents
        there = not outside and file.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, links in a circle
        outside, there = True, False
    if outside:
        raise ModelRefused(
            f"{path}: the weights of {name[:80]} point out of its folder: {location[:80]!r}; export it again with the "
            "weights beside it"
        )
    if not there:
        raise ModelRefused(
            f'{path}: its weights are not here: found no "{location[:80]}" beside it; copy that file as well'
        )
    return file


def _stored(graph: Any) -> Iterator[Any]:
    """Every tensor that the model holds."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for body in bodies(node):
            yield from _stored(body)


def _number(text: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError:
        raise ModelRefused(f'{path}: external weights at "{text[:20]}": no number; export it again') from None

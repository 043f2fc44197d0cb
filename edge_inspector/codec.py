"""Plain values <-> TOML and JSON, checked against typed definitions. Owns msgspec: nothing else imports it."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Mismatch(ValueError):
    """A value does not fit its definition. `path` is where (`station[0].deadline_ms`, "" for the whole)."""

    def __init__(self, problem: str, path: str) -> None:
        super().__init__(problem)
        self.path = path


def to_json(value: object) -> bytes:
    """Encode plain values and dataclasses as compact UTF-8 JSON."""
    return cast(bytes, _json_encoder().encode(value))


def from_json(raw: bytes | memoryview, kind: type[T]) -> T:
    """Decode and check against `kind` (a TypedDict or dataclass). Raises Mismatch for anything that does not fit."""
    import msgspec

    try:
        return cast(T, _json_decoder(cast(Any, kind)).decode(raw))
    except msgspec.MsgspecError as error:
        raise _mismatch(error) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Mismatch(str(error), "") from None


def convert(value: object, kind: type[T]) -> T:
    """Turn plain values (as TOML gives them) into `kind`, strictly: no number is made of a string. Raises Mismatch."""
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.MsgspecError as error:
        raise _mismatch(error) from None


def from_toml(raw: bytes) -> dict[str, Any]:
    """Parse TOML. Raises Mismatch, whose text names line and column."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return cast(dict[str, Any], tomllib.loads(raw.decode()))
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError or a UnicodeDecodeError; nested too deep
        raise Mismatch(str(error), "") from None


def json_schema(kind: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a definition. Its texts are without the indentation that they have in the code,
    which msgspec leaves in up to 0.22.
    """
    import msgspec

    made: dict[str, Any] = _flush_left(msgspec.json.schema(kind))
    return made


def _flush_left(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(each) if key == "description" and isinstance(each, str) else _flush_left(each)
            for key, each in value.items()
        }
    return [_flush_left(each) for each in value] if isinstance(value, list) else value


@functools.cache
def _json_encoder() -> Any:
    import msgspec

    return msgspec.json.Encoder()


@functools.cache
def _json_decoder(kind: Any) -> Any:
    import msgspec

    return msgspec.json.Decoder(kind)


def _mismatch(error: Exception) -> Mismatch:
    """Take msgspec's "Expected `int`, got `str` - at `$.station[0].deadline_ms`" apart."""
    problem, _, path = str(error).partition(" - at `$")
    return Mismatch(problem.replace("`", ""), path.rstrip("`").lstrip("."))

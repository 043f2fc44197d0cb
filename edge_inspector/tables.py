"""TOML tables as dataclasses, and the checks that their values share.

A wrong file raises ConfigError, which says file, key, what was found and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from .codec import Mismatch, convert, from_toml
from .errors import ConfigError
from .types import Severity

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_file(path: Path) -> bytes:
    """The bytes of a configuration file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; expected a TOML file") from None


def read_toml(path: Path, raw: bytes) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError where it is no TOML."""
    try:
        return from_toml(raw)
    except Mismatch as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def read_table(path: Path, table: object, kind: type[Any], where: str) -> Any:
    """One table as an instance of the dataclass `kind`; `where` is its place in the file, for the messages."""
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {where}: found {shown(table)}, expected a table")
    known_keys(path, table, where, tuple(field.name for field in dataclasses.fields(kind)))
    for key, hint in get_type_hints(kind).items():  # nested tables: check their keys before msgspec drops unknown ones
        _check_nested(path, table.get(key), hint, f"{where}.{key}" if where else key)
    return converted(path, table, kind, where)


def converted(path: Path, table: dict[str, Any], kind: type[T], where: str) -> T:
    """`table` as a `kind`, where it has only keys that `kind` knows. Raises ConfigError for values that do not fit."""
    try:
        return convert(table, kind)
    except Mismatch as error:
        raise ConfigError(f"{path}: {_explain(error, table, where)}") from None


def _check_nested(path: Path, value: object, hint: Any, where: str) -> None:
    """Find unknown keys in tables inside tables: a dataclass, or a dict or list of them."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        known_keys(path, value, where, tuple(field.name for field in dataclasses.fields(hint)))
        for key, inner in get_type_hints(hint).items():
            _check_nested(path, value.get(key), inner, f"{where}.{key}")
    elif isinstance(value, dict) and len(get_args(hint)) == 2:
        for key, item in value.items():
            _check_nested(path, item, get_args(hint)[1], f"{where}.{key}")
    elif isinstance(value, list) and get_args(hint):
        for n, item in enumerate(value):
            _check_nested(path, item, get_args(hint)[0], f"{where}[{n}]")


def known_keys(path: Path, table: dict[str, Any], where: str, known: tuple[str, ...]) -> None:
    """Refuse a key that nobody knows, naming the one that was probably meant."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            place = f"{where}.{key}" if where else key
            raise ConfigError(f'{path}: {place}: unknown key "{key}"; the nearest known one is "{near}"')


def _explain(error: Mismatch, table: object, where: str) -> str:
    """Say place, what was found there and what was expected instead."""

    def at(*steps: str) -> str:
        return ".".join(step for step in (where, error.path, *steps) if step)

    problem = str(error)
    missing = re.fullmatch(r"Object missing required field (\w+)", problem)
    if missing:
        return f"{at(missing[1])}: found nothing, expected this key"
    word = re.fullmatch(r"Invalid enum value '(.*)'", problem)
    if word:
        return f'{at()}: found "{word[1]}", expected {either(severity.value for severity in Severity)}'
    if not problem.startswith("Expected "):  # a range check of ours
        key, colon, rest = problem.partition(": ")
        return f"{at(key)}: {rest}" if colon and key.isidentifier() else f"{at()}: {problem}"
    expected, _, got = problem.removeprefix("Expected ").partition(", got ")
    found: Any = table
    for step in re.findall(r"[^.\[\]]+", error.path):
        try:
            found = found[int(step) if isinstance(found, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            found = got
            break
    return f"{at()}: found {shown(found)} ({got or 'not allowed'}), expected {expected}"


def shown(value: object) -> str:
    """As a message quotes it, not too long."""
    if value is None:
        return "nothing"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def either(names: Iterable[str]) -> str:
    """What was expected: one of these."""
    return " or ".join(f'"{name}"' for name in names)


def checked_name(key: str, value: str) -> None:
    """Raise ValueError for what cannot be part of a topic."""
    if not NAME.fullmatch(value):
        raise ValueError(f'{key}: found "{value}", expected letters, digits, "_", "-" and "." (it is part of a topic)')


def at_least(key: str, value: float, lowest: float) -> None:
    """Raise ValueError for less, for infinity and for what is no number."""
    if not lowest <= value < math.inf:
        raise ValueError(f"{key}: found {value}, expected {lowest} or more")


def within(key: str, value: float, lowest: float, highest: float) -> None:
    """Raise ValueError outside; both ends count."""
    if not lowest <= value <= highest:
        raise ValueError(f"{key}: found {value}, expected {lowest} to {highest}")

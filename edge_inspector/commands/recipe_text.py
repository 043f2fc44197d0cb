"""A recipe as text: the tables of a recipe file, with other thresholds, as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..recipe import Rule


def with_thresholds(tables: Mapping[str, Any], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """A recipe's tables where each class has its threshold, and its floor is not above it. All else stays."""
    default, classes = tables.get("default", {}), tables.get("classes", {})
    made = {}
    for label, threshold in thresholds.items():
        rule = {**classes.get(label, {}), "threshold": threshold}
        if {"floor": Rule().floor, **default, **rule}["floor"] > threshold:
            rule["floor"] = threshold
        made[label] = rule
    return {**tables, "classes": {**classes, **made}}


def to_toml(tables: Mapping[str, Any], comments: list[str]) -> str:
    """TOML with the comments at its top."""
    head = [f"# {line}".rstrip() for line in comments]
    return "\n".join([*head, *_table(tables, "")]) + "\n"


def _table(table: Mapping[str, Any], name: str) -> list[str]:
    """Plain values first, then the tables in it: in TOML a table ends where the next begins."""
    plain = [f"{_name(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    lines = ["", f"[{name}]", *plain] if name and plain else plain
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table(value, f"{name}.{_name(key)}" if name else _name(key))
    return lines


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_name(key)} = {_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)

"""Runs docs/plc-example.st: as much of Structured Text (IEC 61131-3) as stands there, and nothing that does not.

Each statement becomes one of Python. Values are cut to their type when they are stored, as on a PLC; INT, which must
not overflow, and indices beyond an array raise. AND and OR look at both sides, as they may there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

TOKEN = re.compile(r"\s*(T#\d+ms|16#[0-9A-F]+|\d+|\w+|:=|<>|<=|>=|\.\.|[-+*/=<>()\[\].,;:])", re.IGNORECASE)
LEVELS = (("OR",), ("AND",), ("=", "<>"), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "MOD"))
PYTHON = {"OR": "|", "AND": "&", "=": "==", "<>": "!=", "/": "//", "MOD": "%"}
BITS = {"UDINT": 32, "UINT": 16, "WORD": 16}
SECTIONS = ("VAR_INPUT", "VAR_OUTPUT", "VAR")


def cut(kind: str, value: Any) -> Any:
    """As a variable of that type holds it."""
    if kind in BITS:
        return value % (1 << BITS[kind])
    if kind == "INT":
        assert -(1 << 15) <= value < 1 << 15, f"INT cannot hold {value}"
        return value
    assert kind == "BOOL", f"{value} stored as {kind}"
    assert isinstance(value, bool)
    return value


class Array(list[Any]):
    """Its indices are checked: -1 is none."""

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, slice) or index >= 0
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        assert index >= 0
        super().__setitem__(index, value)


class Timer:
    """TON. The time is set from outside."""

    now_ms = 0

    def __init__(self) -> None:
        self.Q = False
        self._since: int | None = None

    def __call__(self, *, IN: bool, PT: int) -> None:  # noqa: N803
        """Once a scan."""
        if not IN:
            self._since = None
        elif self._since is None:
            self._since = self.now_ms
        self.Q = self._since is not None and self.now_ms - self._since >= PT


class Rising:
    """R_TRIG."""

    def __init__(self) -> None:
        self.Q = self._before = False

    def __call__(self, *, CLK: bool) -> None:  # noqa: N803
        """Once a scan."""
        self.Q, self._before = CLK and not self._before, CLK


class Struct:
    """One value of a TYPE."""


class Program:
    """One function block of a file, made. `v`: its variables by name; what is RETAINed outlives `power_cycle`."""

    def __init__(self, text: str, name: str) -> None:
        self._tokens = TOKEN.findall(re.sub(r"\(\*.*?\*\)", " ", text, flags=re.DOTALL))
        self._at = 0
        self._structs: dict[str, dict[str, Any]] = {}
        numbers = (*BITS, "INT")
        self._functions: dict[str, Callable[..., Any]] = {
            f"{one}_TO_{other}": lambda value: value for one in numbers for other in numbers if one != other
        }
        self._kinds: dict[str, Any] = {}
        self._first: dict[str, Any] = {}
        self._retained: set[str] = set()
        while self._at < len(self._tokens):
            self._unit(name)
        self.v = {name: self._make(kind) for name, kind in self._kinds.items()}
        self.v.update(self._first)
        self.used = set(re.findall(r"\w+", text))

    def power_cycle(self) -> None:
        """Off and on."""
        new = {name: self._make(kind) for name, kind in self._kinds.items()} | self._first
        self.v = {name: self.v[name] if name in self._retained else value for name, value in new.items()}

    def scan(self, now_ms: int, **inputs: Any) -> None:
        """Call it once."""
        self.v.update(inputs)
        for value in self.v.values():
            if isinstance(value, Timer):
                value.now_ms = now_ms
        self._body(self.v)

    # the file

    def _next(self, *expected: str) -> str:
        token = self._tokens[self._at]
        assert not expected or token in expected, f"{token}, expected {expected}: {self._tokens[self._at - 9 :][:9]}"
        self._at += 1
        return token

    def _unit(self, wanted: str) -> None:
        what, name = self._next("TYPE", "FUNCTION", "FUNCTION_BLOCK"), self._next()
        if what == "TYPE":
            self._next(":"), self._next("STRUCT")
            self._structs[name] = {}
            self._declarations(self._structs[name], "END_STRUCT")
            self._next(";"), self._next("END_TYPE")
            return
        kinds: dict[str, Any] = self._kinds
        if what == "FUNCTION":
            self._next(":")
            kinds = {name: self._next()}
        else:
            assert name == wanted
        while self._tokens[self._at] in SECTIONS:
            self._next()
            mark = self._next() if self._tokens[self._at] in ("RETAIN", "CONSTANT") else ""
            known = set(kinds)
            self._declarations(kinds, "END_VAR")
            self._retained |= set(kinds) - known if mark == "RETAIN" else set()
        self._known = kinds
        body = self._compiled(self._block(1, f"END_{what}"))
        self._next(f"END_{what}")
        if what == "FUNCTION":
            self._functions[name] = lambda *values: self._call(name, kinds, body, values)
        else:
            self._body = body

    def _call(self, name: str, kinds: dict[str, str], body: Callable[..., None], values: tuple[Any, ...]) -> Any:
        v = dict(zip([each for each in kinds if each != name], values, strict=True))
        body(v)
        return v[name]

    def _declarations(self, into: dict[str, Any], end: str) -> None:
        while self._tokens[self._at] != end:
            name = self._next()
            self._next(":")
            assert name not in into, name
            kind: Any = self._next()
            if kind == "ARRAY":
                self._next("["), self._next("0"), self._next("..")
                kind = (int(self._next()) + 1, (self._next("]"), self._next("OF"), self._next())[2])
            into[name] = kind
            if self._next(":=", ";") == ":=":
                self._first[name] = cut(kind, int(self._number(self._next())))
                self._next(";")
        self._next(end)

    def _make(self, kind: Any) -> Any:
        if isinstance(kind, tuple):
            return Array(self._make(kind[1]) for _ in range(kind[0]))
        if kind in self._structs:
            made = Struct()
            vars(made).update({name: self._make(each) for name, each in self._structs[kind].items()})
            return made
        return {"TON": Timer, "R_TRIG": Rising, "BOOL": bool}.get(kind, int)()

    def _compiled(self, lines: list[str]) -> Callable[..., None]:
        names: dict[str, Any] = {"cut": cut, **self._functions}
        exec("\n".join(["def body(v):", *lines]), names)
        return names["body"]  # type: ignore[no-any-return]

    # statements

    def _block(self, depth: int, *ends: str) -> list[str]:
        lines = []
        while self._tokens[self._at] not in ends:
            lines += self._statement(depth)
        return lines or [" " * depth + "pass"]

    def _statement(self, depth: int) -> list[str]:
        word, pad = self._next(), " " * depth
        if word == "EXIT":
            self._next(";")
            return [pad + "break"]
        if word == "FOR":
            name = self._next()
            self._next(":=")
            first = self._expression()
            self._next("TO")
            last = self._expression()
            self._next("DO")
            lines = [f"{pad}for v[{name!r}] in range({first}, {last} + 1):", *self._block(depth + 1, "END_FOR")]
            self._next("END_FOR"), self._next(";")
            return lines
        if word == "IF":
            lines = [f"{pad}if {self._condition()}:"]
            while True:
                lines += self._block(depth + 1, "ELSIF", "ELSE", "END_IF")
                what = self._next()
                if what == "END_IF":
                    self._next(";")
                    return lines
                lines.append(f"{pad}elif {self._condition()}:" if what == "ELSIF" else f"{pad}else:")
        place, kind = self._place(word)
        if kind in ("TON", "R_TRIG"):
            self._next("(")
            given = []
            while self._tokens[self._at - 1] != ")":
                given.append(self._next() + (self._next(":="), "=")[1] + self._expression())
                self._next(",", ")")
            self._next(";")
            return [f"{pad}{place}({', '.join(given)})"]
        assert word not in self._first, f"{word} is a constant"
        self._next(":=")
        value = self._expression()
        self._next(";")
        return [f"{pad}{place} = cut({kind!r}, {value})"]

    def _condition(self) -> str:
        said = self._expression()
        self._next("THEN")
        return said

    # expressions

    def _expression(self, level: int = 0) -> str:
        if level == len(LEVELS):
            return self._term()
        said = self._expression(level + 1)
        while self._tokens[self._at] in LEVELS[level]:
            sign = self._next()
            said = f"({said} {PYTHON.get(sign, sign)} {self._expression(level + 1)})"
        return said

    def _term(self) -> str:
        token = self._next()
        if token == "NOT":
            return f"(not {self._term()})"
        if token == "(":
            said = self._expression()
            self._next(")")
            return f"({said})"
        if token in ("TRUE", "FALSE"):
            return token.title()
        if token[0].isdigit() or token.startswith("T#"):
            return self._number(token)
        if token in self._functions:
            self._next("(")
            given = [self._expression()]
            while self._next(",", ")") == ",":
                given.append(self._expression())
            return f"{token}({', '.join(given)})"
        return self._place(token)[0]

    def _number(self, token: str) -> str:
        if token.startswith("16#"):
            return str(int(token[3:], 16))
        return token.removeprefix("T#").removesuffix("ms")

    def _place(self, name: str) -> tuple[str, Any]:
        """A variable, its element or its field; and what type that has."""
        assert name in self._known, f"{name} is not declared"
        said, kind = f"v[{name!r}]", self._known[name]
        while self._tokens[self._at] in ("[", "."):
            if self._next() == "[":
                said, kind = f"{said}[{self._expression()}]", kind[1]
                self._next("]")
            else:
                field = self._next()
                kind = {"Q": "BOOL"}[field] if kind in ("TON", "R_TRIG") else self._structs[kind][field]
                said += f".{field}"
        return said, kind

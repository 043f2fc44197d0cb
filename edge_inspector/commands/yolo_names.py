"""The names of a YOLO data set's classes: `names` of its data.yaml, else the lines of classes.txt or obj.names."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError

YAML = ("data.yaml", "data.yml", "../data.yaml", "../data.yml")  # some have one for the folders train, valid and test
PLAIN = ("classes.txt", "labels/classes.txt", "obj.names")
KEY = re.compile(r"^names:[ \t]*(?:\[([^\]]*)\]|\{([^}]*)\}|((?:\n[ \t]*(?:-|\d+[ \t]*:)[^\n]*)+))", re.MULTILINE)
LINE = re.compile(r"""^\s*(?:-\s+|(\d+)\s*:\s*)("[^"]*"|'[^']*'|.+)$""")
ITEM = re.compile(r"""\s*(?:-\s+|(\d+)\s*:\s*)?("[^"]*"|'[^']*'|[^,\n]+)""")


def yolo_names(folder: Path) -> tuple[str, ...] | None:
    """In the order of their numbers; None where no file says them. Raises ConfigError for one that cannot be read."""
    for name in YAML:
        if (folder / name).is_file():
            return _names(folder / name)
    for name in PLAIN:
        if (folder / name).is_file():
            lines = (line.strip() for line in (folder / name).read_text(encoding="utf-8-sig").splitlines())
            return tuple(line for line in lines if line)
    return None


def _names(path: Path) -> tuple[str, ...]:
    """The one key `names`: a list, or a map from numbers; in one line, or a line for each."""
    text = re.sub(r"(?m)(^|[ \t]+)#.*$|[ \t\r]+$", "", path.read_text(encoding="utf-8-sig", errors="replace"))
    found = KEY.search(re.sub(r"\n{2,}", "\n", text))
    listed = next((group for group in found.groups() if group is not None), "") if found else ""
    items = [item for line in listed.splitlines() for item in (LINE if found and found[3] else ITEM).findall(line)]
    pairs = [(number, name.strip().strip("\"'")) for number, name in items if name.strip()]
    if any(number for number, _ in pairs):
        pairs.sort(key=lambda pair: int(pair[0] or -1))
        if [number for number, _ in pairs] != [str(n) for n in range(len(pairs))]:
            pairs = []
    if not pairs:
        raise ConfigError(f"{path}: names: found no list that can be read, expected names: [first, second, ...]")
    return tuple(name for _, name in pairs)

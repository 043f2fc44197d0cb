"""The page of the register map is made of the map, and says all of it."""

from __future__ import annotations

from pathlib import Path

from edge_inspector.gateway.map_page import MEANINGS, page
from edge_inspector.gateway.registers import PLC, PLC_AT, PLC_END, REASONS, RESULT, TRIGGER, VISION, Codec, Field, width

PAGE = Path(__file__).parents[2] / "docs" / "modbus-map.md"


def test_the_page_is_up_to_date() -> None:
    """What stands in docs is what the definition says."""
    assert PAGE.read_text() == page(), "run `make map`"


def offsets(fields: tuple[Field, ...], at: int) -> dict[str, int]:
    """Where each field stands, found by putting a number there."""
    found = {}
    for field in fields:
        values = {each.name: 0 for each in fields} | {field.name: 1}
        first = Codec(high_first=False).pack(fields, values).index(1)  # so that the 1 is in the field's first register
        found[field.name] = at + first
    return found


def test_each_field_stands_where_the_codec_puts_it() -> None:
    """Offset and register of every value, as packed."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page().splitlines() if line.startswith("|")]
    told = [(row[3].strip("`"), row[0].split(",")[0], row[1].split(",")[0]) for row in rows if len(row) == 5]
    expected = [
        (name, str(offset), str(40_001 + offset))
        for fields, at in (
            (VISION, 0),
            (RESULT, width(VISION)),
            (PLC, PLC_AT),
            (TRIGGER, PLC_AT + width(PLC)),
            (PLC_END, PLC_AT + width(PLC) + 8 * width(TRIGGER)),
        )
        for name, offset in offsets(fields, at).items()
    ]
    assert [each for each in told if each[0] not in ("name", "---")] == expected


def test_every_reason_has_a_meaning() -> None:
    """No code without a word on it, and no word without a code."""
    assert list(MEANINGS) == list(REASONS)

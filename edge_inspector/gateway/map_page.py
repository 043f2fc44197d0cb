"""docs/modbus-map.md, made of the map's definition in registers.py. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence

from .registers import (
    BITS,
    HEADER_WORDS,
    MAP_VERSION,
    PLC,
    PLC_AT,
    PLC_END,
    PLC_SIZE,
    PLC_WORDS,
    REASONS,
    RESULT,
    RESULT_WORDS,
    SLOTS,
    TRIGGER,
    TRIGGER_WORDS,
    VISION,
    VISION_AT,
    VISION_SIZE,
    Field,
)

MEANINGS = {
    "": "has no result: there is none in this slot",
    "ok": "inspected, nothing wrong: the only one that comes with Pass",
    "defect": "inspected, defective",
    "timeout": "the inspection was not done by its deadline",
    "no_frame": "no picture came",
    "stale_frame": "the picture was too old",
    "frozen_frame": "the camera repeats one picture",
    "overload": "more parts than can be inspected, or followed on the belt",
    "engine_fault": "the detector failed",
    "camera_fault": "the camera failed",
    "shutdown": "the daemon was being stopped",
    "no_verdict": "no verdict came in time",
    "late_verdict": "a verdict came, but too late",
    "too_close": "another part was within the same window of the ejector; both are rejected",
    "not_healthy": "VisionOK was 0 between the part's trigger and its verdict",
    "late_picture": "the picture may have been taken when the part was no longer before the camera",
    "not_accepted": "the daemon refused the trigger",
    "stale_trigger": "nobody knows when the part was at the photo-eye: the gateway had not heard the PLC before",
    "line_stop": "the line was stopped",
    "unpaired": "picture and trigger could not be matched beyond doubt",
    "disabled": "`control` had Enable at 0",
    "repeated": "the same trigger, or the same place on the belt, for the second time",
}

HEAD = """\
# The Modbus register map

Everything that the gateway and the PLC tell each other stands in two blocks of holding registers: **vision**, written
by the gateway, and **plc**, written by the PLC. Who of them is the Modbus client is up to you, `plc.kind` in
gateway.toml:

- `modbus-server`: the PLC is the client. It reads with function 3 (or 4) and writes the plc block with function 16
  (or 6).
- `modbus-client`: the PLC is the server. The gateway writes the vision block with function 16, reads it back, and
  reads the plc block with function 3. Nobody else may write to the vision block.

## How addresses are counted

- **Offset** is the address as it travels on the wire, from 0. **Register** is the same as holding registers are often
  written, from 40001. A PLC that counts addresses from 1 wants the offset + 1.
- The blocks begin at `vision_at` and `plc_at` of gateway.toml. The tables show the default, {vision_at} and {plc_at};
  elsewhere, add the difference. Read and write each block as a whole, in one request.
- 32-bit values are unsigned and take two registers, the high word first; with `word_order = "low"`, the low word.
  Bit 0 is the least significant one. Counters wrap.
- The gateway as a server answers the unit that `device` names, 0 and 255; another unit gets exception 11. Reading
  outside the blocks, or across the end of one, and writing outside the plc block gets exception 2.

## The rules

1. **Eject every part, unless you are told to let it pass.** When a part comes to the photo-eye, mark it for ejection.
   A result with its `id`, `tag` and `encoder` and with Pass removes the mark; one with Fail sets it again, for good.
   At the ejector the mark decides.
2. **Eject every part while VisionOK is 0, while Modbus fails, or when `vision.heartbeat` has stood still for 500 ms,**
   whatever the marks say.
3. **A trigger:** count one further, write the part into slot `id` mod {slots} of the plc block, then `trigger`, and
   `trigger_again` last. In one request for the whole block the order is of no matter. The gateway ignores a block
   whose `trigger_again` is not the low word of its `trigger`: it was read half written.
4. **Use a vision block only if** `version` is {version} and `heartbeat_again` equals `heartbeat`. Use a result only if
   its `number_again` is the low word of its `number`, and its slot is `number` mod {slots}.
5. **Results are counted** by `number`. Take those whose number is above your `acknowledged`, and then set
   `acknowledged` to the highest number up to which you have them all. A result stays where it is until then, so a slow
   PLC loses none. More than {slots} have to wait (Overrun), and a Pass that has waited too long becomes a Fail.
6. **First read the vision block, then fill in the plc block,** with `vision.clock` in `echo` and `vision.session` in
   `session`. So the gateway knows how old your words can be at the most, whatever lies between you and it.
7. **A new `session` is a new gateway.** Its results count from 1 again: set `acknowledged` to 0, and take back every
   Pass of the one before. **After a start of the PLC** change `boot`, set `acknowledged` to the first `result` that you
   read, for what stands there belongs to parts of before, and eject what is on the belt.
8. **Change `plc.heartbeat` at least every 100 ms,** and `clear` after LineStop or Overrun, when the cause is gone.

There are no pulses and no edges to catch: everything is a level, a counter, or a number with its copy.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [
        HEAD.format(
            vision_at=VISION_AT,
            plc_at=PLC_AT,
            slots=SLOTS,
            version=MAP_VERSION,
        ),
        f"## The vision block: offset {VISION_AT} to {VISION_AT + VISION_SIZE - 1}, written by the gateway\n",
        _table(VISION, VISION_AT),
        f"Then {SLOTS} results of {RESULT_WORDS} registers. Slot *s* begins at offset "
        f"{VISION_AT + HEADER_WORDS} + {RESULT_WORDS} x *s*:\n",
        _slots(VISION_AT + HEADER_WORDS, RESULT_WORDS),
        "Slot 0, and all the others alike:\n",
        _table(RESULT, VISION_AT + HEADER_WORDS),
        f"## The plc block: offset {PLC_AT} to {PLC_AT + PLC_SIZE - 1}, written by the PLC\n",
        _table(PLC, PLC_AT),
        f"Then {SLOTS} triggers of {TRIGGER_WORDS} registers. Slot *s* begins at offset "
        f"{PLC_AT + PLC_WORDS} + {TRIGGER_WORDS} x *s*:\n",
        _slots(PLC_AT + PLC_WORDS, TRIGGER_WORDS),
        "Slot 0, and all the others alike:\n",
        _table(TRIGGER, PLC_AT + PLC_WORDS),
        "And the end:\n",
        _table(PLC_END, PLC_AT + PLC_SIZE - 1),
        "## Bits\n",
        *(_bits(name, bits) for name, bits in BITS.items()),
        "## Reason codes\n",
        _rows(
            ("code", "name", "the part"),
            ((str(code), name or "none", MEANINGS[name]) for name, code in REASONS.items()),
        ),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _table(fields: Sequence[Field], at: int) -> str:
    """The fields of a block, the first of which stands at this offset."""

    def rows() -> Iterator[Sequence[str]]:
        offset = at
        for field in fields:
            where = [f"{n}" if field.words == 1 else f"{n}, {n + 1}" for n in (offset, 40_001 + offset)]
            yield *where, f"uint{16 * field.words}", f"`{field.name}`", field.meaning
            offset += field.words

    return _rows(("offset", "register", "type", "name", "meaning"), rows())


def _slots(at: int, words: int) -> str:
    first = [at + slot * words for slot in range(SLOTS)]
    return _rows(
        ("slot", *map(str, range(SLOTS))),
        (("offset", *map(str, first)), ("register", *(str(40_001 + offset) for offset in first))),
    )


def _bits(name: str, bits: dict[enum.IntFlag, str]) -> str:
    where = {"status": "`vision.status`", "verdict": "`verdict` of a result", "control": "`plc.control`"}[name]
    rows = ((str(bit.value.bit_length() - 1), _words(bit.name or ""), meaning) for bit, meaning in bits.items())
    return f"{where}:\n\n" + _rows(("bit", "name", "when it is 1"), rows)


def _words(name: str) -> str:
    """VISION_OK -> VisionOK."""
    return "".join(word if word == "OK" else word.capitalize() for word in name.split("_"))

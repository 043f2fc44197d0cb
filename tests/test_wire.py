"""The words of the protocol `ei1`: what is written can be read, the files that ship agree with the code, and nothing
that a gateway sends can do more than be refused.

`python -m tests.test_wire` writes the files in edge_inspector/schemas/ anew.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector import wire
from edge_inspector.codec import Mismatch
from edge_inspector.ledger import Counts, Part, Settled
from edge_inspector.types import Defect, Outcome, Reason, Severity, Shot, Verdict

FOLDER = Path(wire.__file__).parent / "schemas"

EPOCH = "9f2c1a7be0d45831"
START_US = 1_790_000_000_000_000  # what the daemon's UTC clock showed at the golden trigger
TRIGGER_NS = 5_000_000_000  # and its monotonic clock
ENGINE: wire.Identity = {"name": "pcb", "sha256": "3b0c" * 16}
RECIPE: wire.Identity = {"name": "pcb", "sha256": "a94f" * 16}
ORIGIN = wire.Origin("line1", "top", EPOCH, ENGINE, simulated=False)


class FixedClock(wire.Clock):
    """The daemon's clock at the golden trigger."""

    def __init__(self) -> None:
        self._offset_ns = START_US * 1000 - TRIGGER_NS


def golden_settled() -> Settled:
    """The part of the protocol's example: a short circuit, rejected after 13.9 ms."""
    defect = Defect("short", 0.97401, (454.0, 300.5, 493.0, 396.21), Severity.CRITICAL, "edge", 1.62)
    near = Defect("spur", 0.41, (120.0, 88.0, 131.5, 97.0), Severity.MINOR)
    part = Part(
        "top",
        4711,
        TRIGGER_NS,
        TRIGGER_NS + 80_000_000,
        part_id="A-000123",
        encoder=9_918_273,
        shot=Shot(TRIGGER_NS + 1_200_000),
        t_taken_ns=TRIGGER_NS + 1_410_000,
        t_submit_ns=TRIGGER_NS + 1_720_000,
        t_collect_ns=TRIGGER_NS + 13_520_000,
        t_decided_ns=TRIGGER_NS + 13_680_999,
    )
    verdict = Verdict(Outcome.REJECT, Reason.DEFECT, (defect,), (near,), 3, "D")
    return Settled(part, verdict, 4711, TRIGGER_NS + 13_900_000)


GOLDEN: dict[str, dict[str, Any]] = {
    "verdict": {
        "v": 1,
        "type": "verdict",
        "line": "line1",
        "station": "top",
        "epoch": EPOCH,
        "seq": 4711,
        "trigger_id": 4711,
        "part_id": "A-000123",
        "encoder": 9918273,
        "outcome": "reject",
        "reason": "defect",
        "grade": "D",
        "defects": [
            {
                "class": "short",
                "score": 0.974,
                "box_px": [454.0, 300.5, 493.0, 396.2],
                "area_mm2": 1.62,
                "zone": "edge",
                "severity": "critical",
            }
        ],
        "near_misses": [
            {
                "class": "spur",
                "score": 0.41,
                "box_px": [120.0, 88.0, 131.5, 97.0],
                "area_mm2": None,
                "zone": None,
                "severity": "minor",
            }
        ],
        "suppressed": 3,
        "t_trigger_us": START_US,
        "t_grab_us": START_US + 1200,
        "t_publish_us": START_US + 13900,
        "deadline_us": START_US + 80000,
        "latency_us": {"wait": 1410, "preprocess": 310, "infer": 11800, "decide": 160, "total": 13900},
        "engine": ENGINE,
        "recipe": RECIPE,
        "simulated": False,
    },
    "heartbeat": {
        "v": 1,
        "type": "heartbeat",
        "line": "line1",
        "station": "top",
        "epoch": EPOCH,
        "last_seq": 4711,
        "ready": True,
        "state": "ready",
        "reason": "",
        "counts": {"triggers": 4712, "pass": 4500, "reject": 209, "fault": 2, "open": 1},
        "counters": {"late": 1, "malformed": 0, "missed_acks": 0, "reconnects": 1, "skipped": 0, "unsent": 0},
        "t_us": START_US + 100_000,
    },
    "hello": {"type": "hello", "gateway": "g1", "epoch": None, "last_seq": 0},
    "welcome": {
        "v": 1,
        "type": "welcome",
        "line": "line1",
        "epoch": EPOCH,
        "stations": [
            {
                "station": "top",
                "last_seq": 4711,
                "oldest_seq": 616,
                "deadline_us": 80000,
                "ready": True,
                "last_trigger_id": 4711,
            }
        ],
        "t_us": 1790000000000000,
        "echo_us": None,
    },
    "trigger": {
        "type": "trigger",
        "station": "top",
        "trigger_id": 4712,
        "part_id": "A-000124",
        "encoder": 9919001,
        "t_us": START_US + 100_000,
    },
    "trigger_ack": {
        "v": 1,
        "type": "trigger_ack",
        "station": "top",
        "epoch": EPOCH,
        "trigger_id": 4712,
        "accepted": False,
        "reason": "duplicate",
    },
    "ack": {"type": "ack", "station": "top", "epoch": EPOCH, "seq": 4711, "t_written_us": START_US + 15_100},
    "replay": {"type": "replay", "station": "top", "epoch": EPOCH, "from_seq": 4700},
    "gap": {"v": 1, "type": "gap", "station": "top", "epoch": EPOCH, "oldest_seq": 4705},
    "error": {"v": 1, "type": "error", "reason": "unknown type at type"},
}


def files() -> dict[str, bytes]:
    """What must lie in edge_inspector/schemas/."""
    golden = {
        f"{name}.golden.json": (json.dumps(message, indent=1) + "\n").encode() for name, message in GOLDEN.items()
    }
    return {**wire.schemas(), **golden}


def schema(name: str) -> dict[str, Any]:
    """One that ships."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text())
    return read


def golden(name: str) -> bytes:
    """One that ships."""
    return (FOLDER / f"{name}.golden.json").read_bytes()


def test_every_message_has_a_golden_one() -> None:
    """No type of message without an example, and none without a schema."""
    assert set(GOLDEN) == set(wire.MESSAGES)
    assert {path.name for path in FOLDER.iterdir()} == set(files())


@pytest.mark.parametrize("name", sorted(files()))
def test_files_on_disk_are_what_the_code_says(name: str) -> None:
    """A key that changes here changes for everybody who reads us: the files are part of the change."""
    assert (FOLDER / name).read_bytes() == files()[name], "`python -m tests.test_wire` writes them anew"


@pytest.mark.parametrize("name", sorted(wire.MESSAGES))
def test_golden_message_fits_its_schema_and_decodes(name: str) -> None:
    """By the schema, with somebody else's validator, and by our own reader."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema(name))
    jsonschema.Draft202012Validator(schema(name)).validate(json.loads(golden(name)))
    assert wire.decode(golden(name)) == GOLDEN[name]


@pytest.mark.parametrize("name", sorted(wire.MESSAGES))
def test_schema_and_reader_agree_on_what_is_wrong(name: str) -> None:
    """A missing key or a value of another type is refused by both; a key that nobody knows by neither."""
    jsonschema = pytest.importorskip("jsonschema")
    valid = jsonschema.Draft202012Validator(schema(name)).is_valid
    optional = wire.MESSAGES[name].__optional_keys__
    for key in GOLDEN[name]:
        without = {k: v for k, v in GOLDEN[name].items() if k != key}
        other = {**GOLDEN[name], key: {"x": []}}
        assert valid(without) is (key in optional)
        assert not valid(other)
        if key != "type":
            assert refused(without) is (key not in optional)
            assert refused(other)
    more = {**GOLDEN[name], "of_a_later_version": [1]}
    assert valid(more)
    assert wire.decode(json.dumps(more).encode()).items() >= GOLDEN[name].items()


def refused(message: object) -> bool:
    """Whether our reader does not take it."""
    try:
        wire.decode(json.dumps(message).encode())
    except Mismatch:
        return True
    return False


DEFECT_KEYS = {"class", "score", "box_px", "area_mm2", "zone", "severity"}
KEYS = {
    "verdict": {
        "": {
            *("v", "type", "line", "station", "epoch", "seq", "trigger_id", "part_id", "encoder", "outcome", "reason"),
            *("defects", "suppressed", "t_trigger_us", "t_grab_us", "t_publish_us", "deadline_us", "latency_us"),
            *("engine", "recipe", "simulated"),
        },
        "defects": DEFECT_KEYS,
        "near_misses": DEFECT_KEYS,
        "latency_us": {"wait", "preprocess", "infer", "decide", "total"},
        "engine": {"name", "sha256"},
        "recipe": {"name", "sha256"},
    },
    "heartbeat": {
        "": {"v", "type", "line", "station", "epoch", "last_seq", "ready", "state", "reason", "counts", "t_us"},
        "counts": {"triggers", "pass", "reject", "fault", "open"},
    },
}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_promised_keys_are_there(name: str) -> None:
    """Every key that the protocol has ever promised: keys are only added within ei1."""
    message = json.loads(golden(name))
    for key, promised in KEYS[name].items():
        inner = message[key] if key else message
        assert promised <= set(inner[0] if isinstance(inner, list) else inner)


def test_verdict_message_is_the_golden_one() -> None:
    """What the daemon makes of a settled part is, byte by byte in meaning, the message that ships."""
    message = wire.verdict_message(golden_settled(), ORIGIN, RECIPE, FixedClock())
    assert message == json.loads(golden("verdict"))
    assert list(message) == list(GOLDEN["verdict"])
    assert json.loads(wire.encode(message)) == message


def test_fault_without_a_frame() -> None:
    """What never happened is null or 0, and nothing is made up."""
    part = Part("top", 1, TRIGGER_NS, TRIGGER_NS + 80_000_000)
    settled = Settled(part, Verdict.fault(Reason.NO_FRAME), 1, TRIGGER_NS + 79_000_000)
    message = wire.verdict_message(settled, ORIGIN, RECIPE, FixedClock())
    assert (message["outcome"], message["reason"], message["grade"]) == ("fault", "no_frame", None)
    assert message["part_id"] is message["encoder"] is message["t_grab_us"] is None
    assert message["latency_us"] == {"wait": 0, "preprocess": 0, "infer": 0, "decide": 0, "total": 79_000}
    assert wire.decode(wire.encode(message)) == message


def test_counts_message() -> None:
    """The ledger's numbers under the protocol's names."""
    counts = Counts(triggers=10, passed=4, rejected=3, faulted=2, open=1, late=7)
    assert wire.counts_message(counts) == {"triggers": 10, "pass": 4, "reject": 3, "fault": 2, "open": 1}


@pytest.mark.parametrize("kind", ["verdict/pass", "heartbeat"])
def test_topics(kind: str) -> None:
    """A topic is a path, so that a subscription can be a prefix of it."""
    assert ORIGIN.topic(kind) == f"ei1/line1/top/{kind}".encode()


@given(st.integers(0, 10**19), st.integers(0, 10**15))
def test_clock_never_steps(start_ns: int, later_ns: int) -> None:
    """The difference of two times is that of the monotonic clock, to the microsecond."""
    clock = wire.Clock()
    assert abs(clock.utc_us(start_ns + later_ns) - clock.utc_us(start_ns) - later_ns // 1000) <= 1


INT64 = st.integers(-(2**63), 2**63 - 1)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: INT64,
    str: st.text(max_size=20),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that fits a definition."""
    inner = typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if typing.get_origin(hint) is list:
        return st.lists(values(inner[0]), max_size=3)
    if typing.get_origin(hint) is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=3)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(inner)
    if inner:
        return st.one_of(*map(values, inner))
    fields = {key: values(each) for key, each in typing.get_type_hints(hint).items()}
    optional = {key: fields.pop(key) for key in sorted(hint.__optional_keys__)}
    return st.fixed_dictionaries(fields, optional=optional)


@pytest.mark.parametrize("name", sorted(wire.MESSAGES))
def test_every_message_round_trips(name: str) -> None:
    """Whatever is in a message arrives as it was, down to the bits of a float."""

    @settings(deadline=None, max_examples=40)
    @given(values(wire.MESSAGES[name]))
    def round_trip(message: dict[str, Any]) -> None:
        message["type"] = name
        assert wire.decode(wire.encode(message)) == message

    round_trip()


FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "hello": {"gateway": (str,), "epoch": (str, type(None)), "last_seq": (int,)},
    "trigger": {"station": (str,), "trigger_id": (int,)},
    "ack": {"station": (str,), "epoch": (str,), "seq": (int,), "t_written_us": (int, type(None))},
    "replay": {"station": (str,), "epoch": (str,), "from_seq": (int,)},
}


def survives(raw: bytes) -> bool:
    """Give the bytes to the daemon's reader: it takes them, fully checked, or raises Mismatch, and nothing else."""
    try:
        message = wire.decode_from_gateway(raw)
    except Mismatch as error:
        wire.encode({"v": 1, "type": "error", "reason": f"{error} at {error.path}"})  # it can be answered
        return False
    for key, kinds in FIELDS[message["type"]].items():
        assert type(message[key]) in kinds
    assert type(message.get("part_id")) in (str, type(None))
    assert type(message.get("encoder")) in (int, type(None))
    wire.encode(message)  # what was taken can be said again, in an acknowledgement or a verdict
    return True


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def dumped(value: object) -> bytes:
    """As JSON, NaN and lone surrogates included."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | anything.map(dumped) | anything.map(lambda value: json.dumps(value).encode()))
def test_noise_is_refused(raw: bytes) -> None:
    """Any bytes and any JSON: refused, or taken because it is a message."""
    survives(raw)


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from([*wire.FROM_GATEWAY, *wire.FROM_GATEWAY, "verdict", "heartbeat"]),
    st.dictionaries(st.sampled_from(["type", "station", "trigger_id", "seq", "part_id", "encoder", "epoch"]), anything),
    st.booleans(),
)
def test_messages_with_wrong_values_are_refused(name: str, change: dict[str, Any], ascii_only: bool) -> None:
    """A right message in which some values are anything at all."""
    changed = {**GOLDEN[name], **change}
    survives(json.dumps(changed).encode() if ascii_only else dumped(changed))


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(wire.FROM_GATEWAY), st.data())
def test_damaged_messages_are_refused(name: str, data: st.DataObject) -> None:
    """A right message with bytes changed, cut out, put in, and cut off."""
    raw = bytearray(wire.encode(GOLDEN[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        raw[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    survives(bytes(raw))
    survives(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


TRIGGER = b'{"type":"trigger","station":"top","trigger_id":%s}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"trigger"',
        b"{}",
        b'{"type":null}',
        b'{"type":["trigger"]}',
        b'{"type":"bomb"}',
        b"[" * 30_000,
        b'{"type":' * 8_000,
        b'{"type":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'\xef\xbb\xbf{"type":"hello"}',
        b'{"type":"\xff\xfe"}',
        b'{"type":"trigger","station":"\xed\xa0\x80","trigger_id":1}',
        b'{"type":"trigger","station":"\\ud800","trigger_id":1}',
        TRIGGER % b"NaN",
        TRIGGER % b"Infinity",
        TRIGGER % b"1e400",
        TRIGGER % b"1.5",
        TRIGGER % b"true",
        TRIGGER % b"null",
        TRIGGER % b'"1"',
        TRIGGER % b"01",
        TRIGGER % (b"9" * 60_000),
        TRIGGER % b"1" + b"x",
        TRIGGER % b"1" + TRIGGER % b"2",
        json.dumps(GOLDEN["trigger"]).encode("utf-16"),
    ],
    ids=lambda raw: ascii(raw[:24]),
)
def test_what_is_no_message(raw: bytes) -> None:
    """Known ways to upset a reader of JSON."""
    assert not survives(raw)


@pytest.mark.parametrize(
    ("number", "taken"),
    [
        (-1, True),
        (0, True),
        (2**53, True),
        (2**53 + 1, False),
        (-(2**53) - 1, False),
        (2**64, False),
        (-(2**70), False),
    ],
)
@pytest.mark.parametrize("key", ["trigger_id", "encoder", "t_us"])
def test_great_numbers(key: str, number: int, taken: bool) -> None:
    """An integer is taken as it is where every reader can hold it; it never becomes another."""
    raw = json.dumps({**GOLDEN["trigger"], key: number}).encode()
    assert survives(raw) is taken
    if taken:
        message = wire.decode_from_gateway(raw)
        assert message[key] == number
        assert json.loads(wire.encode(message))[key] == number


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in wire.FROM_GATEWAY for key, value in GOLDEN[name].items() if isinstance(value, str)],
)
def test_texts_are_short_and_printable(name: str, key: str) -> None:
    """What is kept with thousands of verdicts, and written to logs and terminals, cannot be anything at all."""
    longest = "\u00e9" * wire.LONGEST
    for text, fits in ((longest, True), (f"{longest}e", False), ("a\nb", False), ("a\0", False), ("\x1b[2J", False)):
        assert survives(wire.encode({**GOLDEN[name], key: text})) is (fits and key != "type")


def test_largest_message() -> None:
    """One byte more than the limit is refused before it is looked at."""
    message = wire.encode({**GOLDEN["hello"], "more": ""})
    full = {**GOLDEN["hello"], "more": "g" * (wire.LARGEST - len(message))}
    assert len(wire.encode(full)) == wire.LARGEST
    assert survives(wire.encode(full))
    with pytest.raises(Mismatch, match="too large: 65537 bytes, at most 65536"):
        wire.decode_from_gateway(wire.encode({**full, "more": full["more"] + "g"}))


@pytest.mark.parametrize("name", sorted(set(wire.MESSAGES) - set(wire.FROM_GATEWAY)))
def test_the_daemons_own_words_are_not_for_a_gateway(name: str) -> None:
    """Nobody can send the daemon a verdict."""
    with pytest.raises(Mismatch, match=f"{name} is not for a gateway to send"):
        wire.decode_from_gateway(golden(name))


def test_reasons_say_what_and_where() -> None:
    """The text of an error answer is good enough to mend the gateway with."""
    with pytest.raises(Mismatch, match="Expected int, got str") as error:
        wire.decode_from_gateway(TRIGGER % b'"7"')
    assert error.value.path == "trigger_id"
    with pytest.raises(Mismatch, match="missing required field from_seq"):
        wire.decode_from_gateway(b'{"type":"replay","station":"top","epoch":""}')


@pytest.mark.parametrize(
    ("name", "key", "wrong"),
    [
        ("verdict", "outcome", "Pass"),
        ("verdict", "v", 2),
        ("verdict", "type", "heartbeat"),
        ("heartbeat", "state", "fine"),
    ],
)
def test_schema_knows_the_words(name: str, key: str, wrong: object) -> None:
    """A word that the protocol does not have is not valid, so that a reader made from the schema can rely on it."""
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft202012Validator(schema(name)).is_valid({**GOLDEN[name], key: wrong})


def write() -> None:
    """Write the files anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    write()

"""A line's file: what it means, and that a wrong one says file, key, what was found and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_inspector.config import BoardsConfig, LineConfig, OpenCVConfig, RealtimeTable, ReplayConfig, load
from edge_inspector.errors import ConfigError

LINE = '[line]\nname = "line1"\n'
STATION = '[[station]]\nname = "top"\nengine = "pcb"\n'
BOARDS = '[station.camera]\nkind = "boards"\n'
OPENCV = '[station.camera]\nkind = "opencv"\nsource = 0\n'
RIGHT = LINE + STATION + BOARDS


def read(folder: Path, text: str) -> LineConfig:
    """Write a line's file and load it."""
    path = folder / "line.toml"
    path.write_text(text)
    return load(path)


def problem(folder: Path, text: str) -> str:
    """What is said of a wrong file, without the file's name, which must stand before it."""
    with pytest.raises(ConfigError) as error:
        read(folder, text)
    before = f"{folder / 'line.toml'}: "
    assert str(error.value).startswith(before)
    return str(error.value).removeprefix(before)


def test_smallest_line(tmp_path: Path) -> None:
    """Three tables are enough; the defaults are the safe ones."""
    config = read(tmp_path, RIGHT)
    station = config.station[0]
    assert config.endpoints == (
        "ipc:///run/edge-inspector/line1/verdicts",
        "ipc:///run/edge-inspector/line1/gateway",
    )
    assert config.publish.insecure is False
    assert (station.trigger, station.deadline_ns, station.max_age_ns) == ("camera", 100_000_000, 100_000_000)
    assert station.camera == BoardsConfig()
    assert config.resolve("engines") == tmp_path / "engines"
    assert config.resolve("/srv/engines") == Path("/srv/engines")
    assert station.keep == ()
    assert config.realtime == RealtimeTable(priority=0, cores=(), lock_memory=False)
    assert (config.keep_folder, config.line.keep_mb) == (Path("/var/lib/edge-inspector/line1/kept"), 1000)


def test_every_key_arrives(tmp_path: Path) -> None:
    """What is written is what the daemon sees, with whole numbers where it says float."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    config = read(
        tmp_path,
        '[line]\nname = "l-1.x_2"\nengines = "mine"\nkeep_folder = "hard"\nkeep_mb = 5\n'
        '[publish]\nverdicts = "tcp://127.0.0.1:5571"\ngateway = "ipc:///tmp/g"\nhistory = 10\n'
        "[realtime]\npriority = 99\ncores = [2, 0]\nlock_memory = true\n"
        '[[station]]\nname = "a"\nengine = "e"\nrecipe = "r.toml"\ntrigger = "gateway"\ndeadline_ms = 20\n'
        "max_age_ms = 7.5\ntransfer_ms = 3\nfrozen_after = 9\nkeep = ['fault', 'reject']\n"
        '[station.camera]\nkind = "opencv"\nsource = "rtsp://camera/1"\nwidth = 640\nheight = 480\nfps = 30\n'
        'fourcc = "MJPG"\nopen_timeout_ms = 100\nread_timeout_ms = 10\n'
        '[[station]]\nname = "b"\nengine = "e"\n'
        '[station.camera]\nkind = "replay"\npath = "pictures"\nrate = 5\nloop = true\n'
        '[[station]]\nname = "c"\nengine = "e"\nfrozen_after = 0\n'
        '[station.camera]\nkind = "boards"\nrate = 0\nseed = 4\ncount = 3\ndefect_rate = 1\n',
    )
    first, second, third = config.station
    assert config.endpoints == ("tcp://127.0.0.1:5571", "ipc:///tmp/g")
    assert (config.line.engines, config.publish.history) == ("mine", 10)
    assert config.realtime == RealtimeTable(priority=99, cores=(2, 0), lock_memory=True)
    assert first.camera == OpenCVConfig(
        source="rtsp://camera/1",
        width=640,
        height=480,
        fps=30.0,
        fourcc="MJPG",
        open_timeout_ms=100,
        read_timeout_ms=10,
    )
    assert (first.deadline_ns, first.max_age_ns, first.transfer_ms) == (20_000_000, 7_500_000, 3.0)
    assert (first.recipe, first.trigger) == ("r.toml", "gateway")
    assert (config.keep_folder, config.line.keep_mb) == (tmp_path / "hard", 5)
    assert (first.keep, second.keep) == (("fault", "reject"), ())
    assert second.camera == ReplayConfig(path="pictures", rate=5.0, loop=True)
    assert third.camera == BoardsConfig(rate=0.0, seed=4, count=3, defect_rate=1.0)
    assert [station.frozen_frames for station in config.station] == [9, 0, 0]


def test_frozen_camera_is_looked_for_where_not_told_otherwise(tmp_path: Path) -> None:
    """Five identical frames are a frozen camera; a folder may hold them on purpose."""
    (tmp_path / "p").mkdir()
    replay = '[station.camera]\nkind = "replay"\npath = "p"\n'
    assert read(tmp_path, LINE + STATION + OPENCV).station[0].frozen_frames == 5
    assert read(tmp_path, LINE + STATION + replay).station[0].frozen_frames == 0
    assert read(tmp_path, LINE + STATION + "frozen_after = 3\n" + replay).station[0].frozen_frames == 3


UNKNOWN = [
    # every table: place, misspelt key, the nearest right one
    ("staton = 1\n" + RIGHT, "staton", "staton", "station"),
    ('[line]\nname = "x"\nengine = "e"\n' + STATION + BOARDS, "line.engine", "engine", "engines"),
    ("[publish]\nhistorie = 1\n" + RIGHT, "publish.historie", "historie", "history"),
    ("[realtime]\ncore = [1]\n" + RIGHT, "realtime.core", "core", "cores"),
    (LINE + STATION + "deadline = 5\n" + BOARDS, "station[0].deadline", "deadline", "deadline_ms"),
    (RIGHT + "defectrate = 1\n", "station[0].camera.defectrate", "defectrate", "defect_rate"),
    (
        LINE + STATION + OPENCV + "open_timeout = 1\n",
        "station[0].camera.open_timeout",
        "open_timeout",
        "open_timeout_ms",
    ),
    (
        LINE + STATION + '[station.camera]\nkind = "replay"\npath = "."\nlop = true\n',
        "station[0].camera.lop",
        "lop",
        "loop",
    ),
    (RIGHT + STATION + "triger = 1\n" + BOARDS, "station[1].triger", "triger", "trigger"),
    (RIGHT + '"" = 1\n', "station[0].camera.", "", None),
]


@pytest.mark.parametrize(("text", "place", "key", "near"), UNKNOWN)
def test_unknown_keys(tmp_path: Path, text: str, place: str, key: str, near: str | None) -> None:
    """A key that nobody reads is refused in every table, and the message names the one that was meant."""
    said = problem(tmp_path, text)
    assert said.startswith(f'{place}: unknown key "{key}"; the nearest known one is "')
    assert near is None or said.endswith(f'"{near}"')


def station(line: str) -> str:
    """A right file, but for one line of its station."""
    return LINE + STATION + line + "\n" + BOARDS


def publish(line: str) -> str:
    """A right file with one line in [publish]."""
    return f"[publish]\n{line}\n{RIGHT}"


WRONG = [
    ("", ["station: found nothing", "expected one or more [[station]]"]),
    ("station = []\n" + LINE, ["station: found []", "expected one or more [[station]]"]),
    ('station = "top"\n' + LINE, ['station: found "top"', "expected one or more [[station]]"]),
    ("station = [1]\n" + LINE, ["station[0]: found 1", "expected a table"]),
    (STATION + BOARDS, ["line.name: found nothing", "expected this key"]),
    ("line = 3\n" + STATION + BOARDS, ["line: found 3", "expected a table"]),
    ("[line]\nname = 3\n" + STATION + BOARDS, ["line.name: found 3", "expected str"]),
    ('[line]\nname = "a/b"\n' + STATION + BOARDS, ['line.name: found "a/b"', "expected letters", "topic"]),
    ('[line]\nname = ""\n' + STATION + BOARDS, ['line.name: found ""', "expected letters"]),
    (LINE + '[[station]]\nname = "a b"\nengine = "e"\n' + BOARDS, ['station[0].name: found "a b"', "expected letters"]),
    (LINE + '[[station]]\nname = "a\\n"\nengine = "e"\n' + BOARDS, ["station[0].name: found", "expected letters"]),
    (LINE + '[[station]]\nname = "top"\n' + BOARDS, ["station[0].engine: found nothing", "expected this key"]),
    (LINE + STATION, ["station[0].camera: found nothing", "expected a table"]),
    (LINE + STATION + "camera = 0\n", ["station[0].camera: found 0", "expected a table"]),
    (LINE + STATION + "[station.camera]\n", ["station[0].camera.kind: found nothing", '"opencv" or "replay"']),
    (
        LINE + STATION + '[station.camera]\nkind = "open-cv"\n',
        ['station[0].camera.kind: found "open-cv"', 'expected "opencv" or "replay" or "boards"'],
    ),
    (LINE + STATION + '[station.camera]\nkind = "opencv"\n', ["station[0].camera.source: found nothing", "expected"]),
    (LINE + STATION + OPENCV + 'fourcc = "MJPEG"\n', ['station[0].camera.fourcc: found "MJPEG"', "four characters"]),
    (LINE + STATION + OPENCV + "read_timeout_ms = 1\n", ["read_timeout_ms: found 1", "expected 10 or more"]),
    (LINE + STATION + OPENCV + "width = 64.5\n", ["station[0].camera.width: found 64.5", "expected int"]),
    (RIGHT + 'seed = "x"\n', ['station[0].camera.seed: found "x" (str)', "expected int"]),
    (RIGHT + "rate = -1\n", ["station[0].camera.rate: found -1", "expected 0.0 or more"]),
    (RIGHT + "rate = nan\n", ["station[0].camera.rate: found nan", "expected 0.0 or more"]),
    (RIGHT + "defect_rate = 1.5\n", ["station[0].camera.defect_rate: found 1.5", "expected 0.0 to 1.0"]),
    (
        LINE + STATION + '[station.camera]\nkind = "replay"\npath = "nowhere"\n',
        ["station[0].camera.path: found nothing at", "nowhere", "expected a folder or a video"],
    ),
    (station('trigger = "plc"'), ['station[0].trigger: found "plc"', '"camera" or "gateway" or "free-run"']),
    (station("deadline_ms = 0"), ["station[0].deadline_ms: found 0", "expected 1.0 to 3600000.0"]),
    (station("deadline_ms = nan"), ["station[0].deadline_ms: found nan", "expected 1.0 to"]),
    (station("deadline_ms = inf"), ["station[0].deadline_ms: found inf", "expected 1.0 to"]),
    (station('deadline_ms = "80"'), ['station[0].deadline_ms: found "80" (str)', "expected float"]),
    (station("deadline_ms = true"), ["station[0].deadline_ms: found True (bool)", "expected float"]),
    (station("deadline_ms = 2026-01-01"), ["station[0].deadline_ms: found 2026-01-01", "expected float"]),
    (station("max_age_ms = 0"), ["station[0].max_age_ms: found 0", "expected 1.0 or more"]),
    (station("transfer_ms = -1"), ["station[0].transfer_ms: found -1", "expected 0.0 or more"]),
    (station("frozen_after = 1"), ["station[0].frozen_after: found 1", "expected 2 or more"]),
    (station('keep = ["near-miss"]'), ['station[0].keep: found "near-miss"', '"reject" or "fault" or "near_miss"']),
    (station('keep = ["pass"]'), ['station[0].keep: found "pass"', 'expected "reject" or']),
    (station('keep = "reject"'), ['station[0].keep: found "reject" (str)', "expected array"]),
    ('[line]\nname = "x"\nkeep_mb = 0\n' + STATION + BOARDS, ["line.keep_mb: found 0", "expected 1 or more"]),
    (station("recipe = ['a']"), ["station[0].recipe: found", "expected str"]),
    (publish("history = 0"), ["publish.history: found 0", "expected 1 to"]),
    (publish("history = true"), ["publish.history: found True", "expected int"]),
    (publish("insecure = 1"), ["publish.insecure: found 1", "expected bool"]),
    ("realtime = 20\n" + RIGHT, ["realtime: found 20", "expected a table"]),
    ("[realtime]\npriority = 4\n" + RIGHT, ["realtime.priority: found 4", "expected 5 to 99, or 0 for none"]),
    ("[realtime]\npriority = 100\n" + RIGHT, ["realtime.priority: found 100", "expected 5 to 99"]),
    ("[realtime]\npriority = -1\n" + RIGHT, ["realtime.priority: found -1", "expected 5 to 99"]),
    ("[realtime]\npriority = true\n" + RIGHT, ["realtime.priority: found True", "expected int"]),
    ("[realtime]\ncores = 2\n" + RIGHT, ["realtime.cores: found 2", "expected array"]),
    ("[realtime]\ncores = [-1]\n" + RIGHT, ["realtime.cores: found -1", "expected 0 to 8191"]),
    ('[realtime]\ncores = [1, "2"]\n' + RIGHT, ['realtime.cores[1]: found "2"', "expected int"]),
    ("[realtime]\nlock_memory = 1\n" + RIGHT, ["realtime.lock_memory: found 1", "expected bool"]),
    (
        publish('verdicts = "5571"'),
        ['publish.verdicts: found "5571"', 'expected "ipc:///path" or "tcp://address:port"'],
    ),
    (publish('gateway = "udp://127.0.0.1:1"'), ['publish.gateway: found "udp', "expected"]),
    (publish('gateway = "tcp://127.0.0.1"'), ['publish.gateway: found "tcp://127.0.0.1"', "expected"]),
    (publish('gateway = "ipc://"'), ['publish.gateway: found "ipc://"', "expected"]),
    (
        publish('verdicts = "ipc:///tmp/x"\ngateway = "ipc:///tmp/x"'),
        ["publish.gateway: found the address of publish.verdicts", "expected another"],
    ),
    (RIGHT + STATION + BOARDS, ['station[1].name: found "top" a second time', "expected a name of its own"]),
    ("[line\n", ["is not TOML", "line 1"]),
    (RIGHT + "rate = 1\nrate = 2\n", ["is not TOML", "line 9"]),
]


@pytest.mark.parametrize(("text", "parts"), WRONG)
def test_wrong_lines(tmp_path: Path, text: str, parts: list[str]) -> None:
    """The message names the key, what was found there, and what was expected."""
    said = problem(tmp_path, text)
    for part in parts:
        assert part in said


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, a folder, and something that is no text: each is a wrong configuration, and none a traceback."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file.*expected a TOML file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "line.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "line.toml")


OPEN = [
    "tcp://0.0.0.0:5571",
    "tcp://*:5571",
    "tcp://192.168.0.5:5571",
    "tcp://eth0:5571",
    "tcp://[::]:5571",
    "tcp://128.0.0.1:5571",
    "tcp://127.0.0.1.example.com:5571",
    "tcp://127.0.0.1@10.0.0.1:5571",
    "tcp://10.0.0.1;127.0.0.1:5571",
    "tcp://localhost.example.com:5571",
]


@pytest.mark.parametrize("key", ["verdicts", "gateway"])
@pytest.mark.parametrize("address", OPEN)
def test_open_address_needs_the_word_insecure(tmp_path: Path, key: str, address: str) -> None:
    """Whoever lets the network in has to say so in as many words; then it is taken."""
    said = problem(tmp_path, publish(f'{key} = "{address}"'))
    assert said.startswith(f'publish.{key}: found "{address}"')
    assert "insecure = true" in said
    config = read(tmp_path, publish(f'{key} = "{address}"\ninsecure = true'))
    assert address in config.endpoints


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5571", "tcp://[::1]:1", "ipc:///tmp/v"])
def test_closed_address_needs_no_word(tmp_path: Path, address: str) -> None:
    """The loopback and a file are taken as they are."""
    assert read(tmp_path, publish(f'verdicts = "{address}"')).endpoints[0] == address


def test_kind_that_is_no_text(tmp_path: Path) -> None:
    """Any value of `kind` that is none of the known words is refused in the same way."""
    said = problem(tmp_path, LINE + STATION + '[station.camera]\nkind = ["opencv"]\n')
    assert said.startswith("station[0].camera.kind: found ['opencv']")


def test_deeply_nested_file(tmp_path: Path) -> None:
    """A file that nests too deep is not TOML, and no traceback."""
    assert "is not TOML" in problem(tmp_path, "a = " + "[" * 5000)


@pytest.mark.parametrize(
    "text",
    [
        station("max_age_ms = inf"),  # OverflowError in the infer thread at the first part
        station("transfer_ms = inf"),
        RIGHT + "rate = inf\n",
        LINE + STATION + OPENCV + "fps = nan\n",
        LINE + STATION + OPENCV + "width = -3\n",
        LINE + STATION + OPENCV + "height = 0\n",
    ],
)
def test_numbers_that_cannot_be_meant(tmp_path: Path, text: str) -> None:
    """What can only fail later is refused at the start."""
    assert "expected" in problem(tmp_path, text)

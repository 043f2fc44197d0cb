"""What is done to a line while it runs. Each scenario is a Chain's options and one deed in the middle of the parts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .chain import Chain
from .proxies import Badness

ROOT = Path(__file__).parents[2]
EVENTS = """[[event]]
kind = "{kind}"
at_part = 40
for_s = {for_s}
value = {value}
"""


@dataclass(frozen=True)
class Scenario:
    """name: what is amiss. options: of the Chain. deed: what is done, once 30 parts have fallen; it says so itself.

    short: the tests do it as well, in a minute or two for all of them.
    """

    name: str
    deed: Callable[[Chain], None]
    options: Mapping[str, Any] = field(default_factory=dict)

    short: bool = False


def nothing(chain: Chain) -> None:
    """It happens by itself, from the plant's schedule or the script of the engine."""


def kill_daemon(chain: Chain) -> None:
    """SIGKILL, and half a second later a new one, as systemd would have it."""
    with chain.disturbed("daemon killed"):
        chain.daemon.kill()
        chain.daemon.wait()
        time.sleep(0.5)
        chain.start_daemon()
        chain.wait_with_parts_left(lambda: chain.log("run").count(" ready verdicts") == 2)


def restart_daemon(chain: Chain) -> None:
    """SIGTERM: it drains, and a new one comes."""
    with chain.disturbed("daemon restarted"):
        chain.daemon.terminate()
        chain.daemon.wait(10)
        chain.start_daemon()
        chain.wait_with_parts_left(lambda: chain.log("run").count(" ready verdicts") == 2)


def freeze(which: str, seconds: float) -> Callable[[Chain], None]:
    """SIGSTOP, and SIGCONT after a while."""

    def deed(chain: Chain) -> None:
        process = getattr(chain, which)
        with chain.disturbed(f"{which} stopped"):
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(process.pid, signal.SIGCONT)

    return deed


def kill_gateway(chain: Chain) -> None:
    """SIGKILL, and half a second later a new one."""
    with chain.disturbed("gateway killed"):
        chain.gateway.kill()
        chain.gateway.wait()
        time.sleep(0.5)
        chain.gateway = chain.start_gateway()
        chain.wait_with_parts_left(lambda: chain.log("gateway").count("gateway starts") == 2)


def second_gateway(name: str) -> Callable[[Chain], None]:
    """Somebody starts another one for two seconds."""

    def deed(chain: Chain) -> None:
        with chain.disturbed(f"second gateway {name}"):
            other = chain.start_gateway(name)
            time.sleep(2.0)
            other.kill()
            other.wait()

    return deed


def bad_messages(name: str, bad: Badness, seconds: float) -> Callable[[Chain], None]:
    """The link between gateway and daemon."""

    def deed(chain: Chain) -> None:
        assert chain.messages is not None
        with chain.disturbed(name):
            chain.messages.bad = bad
            time.sleep(seconds)
            chain.messages.bad = Badness()

    return deed


def bad_frames(name: str, bad: Badness, seconds: float) -> Callable[[Chain], None]:
    """The link between gateway and PLC."""

    def deed(chain: Chain) -> None:
        assert chain.modbus is not None
        with chain.disturbed(name):
            chain.modbus.bad = bad
            time.sleep(seconds)
            chain.modbus.bad = Badness()

    return deed


def cut(link: str) -> Callable[[Chain], None]:
    """Five times, in the middle of a message."""

    def deed(chain: Chain) -> None:
        proxy = getattr(chain, link)
        with chain.disturbed(f"{link} cut"):
            for _ in range(5):
                proxy.cut(mid_message=True)
                time.sleep(0.2)

    return deed


def step_clock(chain: Chain) -> None:
    """The wall clock of daemon and gateway goes an hour ahead, then two back."""
    with chain.disturbed("clock steps"):
        for seconds in (3600, -3600):
            (chain.folder / "offset").write_text(str(seconds))
            time.sleep(0.5)


def clock_options(folder: Path) -> dict[str, Any]:
    """A preloaded clock that can be stepped; needs a C compiler."""
    library, offset = folder / "wallclock.so", folder / "offset"
    source = ROOT / "tests" / "faults" / "wallclock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    offset.write_text("0")
    return {"env": {"LD_PRELOAD": str(library), "WALLCLOCK": str(offset)}}


def event(kind: str, for_s: float, value: float = 0.0) -> dict[str, Any]:
    """Something that the plant does at part 40."""
    return {"events": EVENTS.format(kind=kind, for_s=for_s, value=value)}


DROPS = Badness(delay_s=(0.0, 0.05), drop=0.15, repeat=0.15, swap=0.15)
LATE = Badness(delay_s=(0.001, 1.0))
CLIENT, CAMERA = {"role": "client"}, {"camera": "camera"}

SCENARIOS = (
    Scenario("nothing, PLC polls", nothing),
    Scenario("nothing, gateway writes", nothing, CLIENT),
    Scenario("nothing, camera triggered", nothing, CAMERA),
    Scenario("daemon killed", kill_daemon, short=True),
    Scenario("daemon killed, camera triggered", kill_daemon, CAMERA),
    Scenario("daemon stopped", freeze("daemon", 1.5)),
    Scenario("daemon stopped, camera triggered", freeze("daemon", 1.5), CAMERA),
    Scenario("daemon restarted", restart_daemon),
    Scenario("engine hangs", nothing, {"hangs": True}, short=True),
    Scenario("camera freezes", nothing, event("freeze", 1.0), short=True),
    Scenario("camera freezes, camera triggered", nothing, {**event("freeze", 1.0), **CAMERA}),
    Scenario("camera dark", nothing, event("dark", 1.0)),
    Scenario("gateway killed", kill_gateway, short=True),
    Scenario("gateway killed, gateway writes", kill_gateway, CLIENT),
    Scenario("gateway stopped", freeze("gateway", 1.5)),
    Scenario("gateway stopped, gateway writes", freeze("gateway", 1.5), CLIENT),
    Scenario("daemon link drops", bad_messages("daemon link drops", DROPS, 2.0), {"bad_daemon": True}, short=True),
    Scenario("daemon link drops, camera triggered", bad_messages("daemon link drops", DROPS, 2.0),
             {"bad_daemon": True, **CAMERA}),
    Scenario("verdicts late", bad_messages("verdicts late", LATE, 2.0), {"bad_daemon": True}),
    Scenario("verdicts late, camera triggered", bad_messages("verdicts late", LATE, 2.0),
             {"bad_daemon": True, **CAMERA}, short=True),
    Scenario("daemon link cut", cut("tcp"), {"cut_daemon": True}),
    Scenario("PLC link drops", bad_frames("PLC link drops", DROPS, 2.0), {"bad_plc": True}),
    Scenario("PLC link drops, gateway writes", bad_frames("PLC link drops", DROPS, 2.0),
             {"bad_plc": True, **CLIENT}),
    Scenario("PLC link late", bad_frames("PLC link late", LATE, 2.0), {"bad_plc": True}),
    Scenario("PLC link late, gateway writes", bad_frames("PLC link late", LATE, 2.0), {"bad_plc": True, **CLIENT}),
    Scenario("PLC link cut", cut("modbus"), {"bad_plc": True}, short=True),
    Scenario("PLC link cut, gateway writes", cut("modbus"), {"bad_plc": True, **CLIENT}),
    Scenario("PLC mute", nothing, event("mute", 1.5)),
    Scenario("PLC mute, gateway writes", nothing, {**event("mute", 1.5), **CLIENT}, short=True),
    Scenario("PLC restarts", nothing, event("plc_restart", 0.5), short=True),
    Scenario("PLC restarts, gateway writes", nothing, {**event("plc_restart", 0.5), **CLIENT}),
    Scenario("second gateway", second_gateway("g2")),
    Scenario("second gateway, gateway writes", second_gateway("g2"), CLIENT, short=True),
    Scenario("second gateway of the same name", second_gateway("g1"), CLIENT),
    Scenario("belt faster", nothing, event("speed", 1.0, 1400.0)),
    Scenario("belt slower", nothing, event("speed", 1.0, 300.0)),
    Scenario("belt stops", nothing, event("stop", 1.0)),
    Scenario("belt runs back", nothing, event("back", 0.7, 300.0)),
    Scenario("belt runs back, careless PLC", nothing, {**event("back", 0.7, 300.0), "careless": True}, short=True),
    Scenario("belt runs back, camera triggered", nothing, {**event("back", 0.7, 300.0), "careless": True, **CAMERA}),
    Scenario("clock steps", step_clock, {"clock": True}, short=True),
    Scenario("same trigger twice", nothing, event("repeat_trigger", 0.0, 3.0), short=True),
    Scenario("ids wrap at 2^16", nothing, {"id_bits": 16, "first_id": 2**16 - 40}),
    Scenario("ids wrap at 2^32", nothing, {"first_id": 2**32 - 40, "encoder_start": 2**32 - 20_000}, short=True),
    Scenario("uneven parts", nothing, event("jitter", 2.0, 15.0)),
)  # fmt: skip


def run(scenario: Scenario, folder: Path, *, parts: int) -> dict[str, Any]:
    """Do it, and return the plant's summary with `gateway`: why parts were rejected, by its records."""
    options = dict(scenario.options)
    if options.pop("clock", False):
        options |= clock_options(folder)
    if options.pop("hangs", False):  # milliseconds of each picture; more of them would be a long model.toml to read
        options["delays_ms"] = (4.0,) * 60 + (700.0,) + (4.0,) * parts
    chain: Chain | None = None
    try:
        chain = Chain(folder, parts=parts, **options)
        chain.wait_for_parts(min(30, parts // 4))
        scenario.deed(chain)
        summary = chain.summary(within_s=parts / 10 + 60)
        summary["gateway"] = _records(chain, summary["good_bin"])
        summary["logs"] = chain.logs()
        return summary
    finally:
        if chain is not None:
            chain.close()


def _records(chain: Chain, passed: int) -> list[dict[str, Any]]:
    """What the gateway wrote, once it has written of all that passed: it may hear of the last part after the plant."""
    until = time.monotonic() + 5.0
    while True:
        records = chain.records()
        if sum(part["action"] == "pass" for part in records) >= passed or time.monotonic() > until:
            return records
        time.sleep(0.1)


def possible(scenario: Scenario) -> str:
    """Why it cannot be done here; "" where it can."""
    return "needs a C compiler" if scenario.options.get("clock") and shutil.which("cc") is None else ""

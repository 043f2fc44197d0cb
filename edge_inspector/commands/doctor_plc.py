"""The doctor's look at the link to a PLC: does it answer, or could a gateway listen; and does either side live?"""

from __future__ import annotations

import dataclasses
import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .finding import Finding, version_of

if TYPE_CHECKING:
    from ..gateway.config import PlcTable
    from ..gateway.registers import Codec, PlcBlock, Registers, VisionBlock

UNIT = "edge-inspector-gateway@.service"
CONNECT_S = 2.0
LOOK_S = 0.4  # long enough for four of the gateway's heartbeats
ATTEMPTS = 3  # to find a block that nobody is just writing
NO_SUCH_REGISTERS, NO_SUCH_DEVICE = "exception 2", "exception 11"


def link(plc: PlcTable) -> Iterator[Finding]:
    """As a client: what stands in the PLC. As a server: the same in a gateway that runs, else whether one could."""
    if plc.kind == "modbus-client":
        yield from _read(plc, plc.address, mend=f"ping {plc.host}; power, cable, and address in [plc]")
        return
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plc.host, plc.host)  # noqa: S104
    try:
        socket.create_connection((here, plc.port), CONNECT_S).close()
    except OSError:
        yield _bindable(plc)
        return
    yield from _read(
        dataclasses.replace(plc, address=f"[{here}]:{plc.port}" if ":" in here else f"{here}:{plc.port}"),
        plc.address,
        mend=f"`ss -tlnp 'sport = :{plc.port}'` says who listens there; stop it, or choose another address in [plc]",
    )


def _bindable(plc: PlcTable) -> Finding:
    """Whether a gateway could listen there."""
    mends = {
        errno.EADDRNOTAVAIL: "this machine has no such address: `ip -brief address` lists those it has",
        errno.EACCES: f"run it by {UNIT}, which may, or choose a port from 1024 on",
    }
    with socket.socket(socket.AF_INET6 if ":" in plc.host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((plc.host, plc.port))
        except OSError as error:
            installed = error.errno == errno.EACCES and (Path("/etc/systemd/system") / UNIT).is_file()
            if installed:
                return Finding("ok", "plc port", f"{plc.address}: not for this user, but the unit may listen there")
            mend = mends.get(error.errno or 0, "another address in [plc]")
            return Finding("missing", "plc port", f"{plc.address}: cannot be had: {error.strerror}", mend)
    return Finding("ok", "plc port", f"{plc.address}: free; no gateway runs yet, so the PLC finds nobody there")


def _read(plc: PlcTable, address: str, *, mend: str) -> Iterator[Finding]:
    """Both blocks, twice: what they say, and whether both sides live."""
    if version_of("pymodbus") is None:
        yield Finding("optional", "plc", f"{address}: somebody listens; not asked without pymodbus")
        return
    from ..gateway.modbus_client import Unusable, Wire
    from ..gateway.registers import PLC_SIZE, VISION_SIZE, Codec

    codec = Codec(high_first=plc.word_order == "high")
    try:
        wire = Wire(plc)
        try:
            before = _blocks(wire.read, plc, codec, (VISION_SIZE, PLC_SIZE))
            time.sleep(LOOK_S)
            after = _blocks(wire.read, plc, codec, (VISION_SIZE, PLC_SIZE))
        finally:
            wire.close()
    except Unusable as error:
        where = {"exception 2": "the PLC needs holding registers at vision_at and plc_at of [plc]",
                 "exception 11": "device in [plc]"}  # fmt: skip
        yield Finding(
            "missing", "plc", f"{address}: {error}", next((w for e, w in where.items() if e in str(error)), mend)
        )
        return
    yield Finding("ok", "plc", f"{address}: answers")
    yield _vision(plc, before[0], after[0])
    yield _plc_block(plc, before[1], after[1])


def _mend(said: str) -> str:
    if NO_SUCH_REGISTERS in said:
        return "the PLC needs holding registers where vision_at and plc_at in [plc] say"
    return "device in [plc]" if NO_SUCH_DEVICE in said else ""


def _blocks(
    read: Callable[[int, int], Registers], plc: PlcTable, codec: Codec, sizes: tuple[int, int]
) -> tuple[VisionBlock | None, PlcBlock | None]:
    """As whole as they can be had."""
    vision, block = None, None
    for _ in range(ATTEMPTS):
        vision = vision or codec.read_vision(read(plc.vision_at, sizes[0]))
        block = block or codec.read_plc(read(plc.plc_at, sizes[1]))
    return vision, block


def _vision(plc: PlcTable, before: VisionBlock | None, after: VisionBlock | None) -> Finding:
    """What the gateway says."""
    what = f"vision block, from register {plc.vision_at} on"
    if before is None or after is None:
        server = "what listens there is no gateway of this version"
        client = "no gateway writes there at present: start it, and look again"
        state = "missing" if plc.kind == "modbus-server" else "optional"
        return Finding(state, what, server if plc.kind == "modbus-server" else client)  # type: ignore[arg-type]
    header = after.header
    said = f"version {header['version']}, session {header['session']}, {_bits(after)}"
    if header["heartbeat"] == before.header["heartbeat"]:
        mend = f"is the gateway running? journalctl -u {UNIT.replace('@', '@LINE')}"
        return Finding("missing", what, f"{said}: its heartbeat stands still at {header['heartbeat']}", mend)
    return Finding("ok", what, f"{said}, heartbeat counts")


def _bits(block: VisionBlock) -> str:
    """The names of the bits that are set."""
    set_bits = [str(bit.name) for bit in type(block.status) if bit & block.status]
    names = ["".join(word.title() for word in name.split("_")) for name in set_bits]
    return ", ".join(names).replace("Ok", "OK") or "no bit set"


def _plc_block(plc: PlcTable, before: PlcBlock | None, after: PlcBlock | None) -> Finding:
    """What the PLC says."""
    what = f"plc block, from register {plc.plc_at} on"
    if before is None or after is None:
        mend = "the PLC's program: write trigger_again after trigger, as its low word; word_order in [plc]"
        return Finding("missing", what, "was not whole in several attempts", mend)
    if before.heartbeat == after.heartbeat and not after.boot and not after.trigger:
        mend = "the PLC's program has to write there: docs/plc.md; or plc_at, device or word_order in [plc] is wrong"
        return Finding("missing", what, "empty: no PLC writes there", mend)
    said = f"boot {after.boot}, trigger {after.trigger}, {'enabled' if after.control else 'not enabled'}"
    if before.heartbeat == after.heartbeat:
        mend = "is the PLC in RUN? Its program has to change heartbeat every 100 ms"
        return Finding("missing", what, f"{said}: its heartbeat stands still at {after.heartbeat}", mend)
    return Finding("ok", what, f"{said}, heartbeat counts")

"""The gateway's unit under a real systemd: it comes back from everything but a wrong file, alone, on port 502, in its
sandbox with all that it can do.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from edge_inspector.gateway.registers import PLC_SIZE, VISION_SIZE, Codec, Status, VisionBlock

from . import guest as guests
from .guest import Guest, drop_in, eventually, journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time the guest is made
    pytest.mark.skipif(guests.lacks() is not None, reason=str(guests.lacks())),
]

PYTHON = f"/{guests.PREFIX}/bin/python"
GATEWAY = """
[gateway]
name = "g1"
daemon = "{daemon}"
station = "top-1"
records = "/var/lib/edge-inspector/gateway-{name}/parts.jsonl"
[window]
distance = {distance}
tolerance = 100
[plc]
kind = "modbus-server"
address = "0.0.0.0:{port}"
"""
# one request, as a PLC makes it, without a Modbus library: prints the registers
READ = f"""
import socket, struct, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, {VISION_SIZE}))
answer = b""
while len(answer) < {9 + 2 * VISION_SIZE}:
    more = s.recv(4096)
    assert more, answer
    answer += more
print(*struct.unpack(">{VISION_SIZE}H", answer[9:]))
"""
# the least of a PLC: it copies clock and session, and its heartbeat counts
PLC = f"""
import socket, struct, time
while True:
    try:
        s = socket.create_connection(("127.0.0.1", 502), 2)
        for beat in range(1 << 30):
            s.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 3, 2))
            clock, session = struct.unpack(">HH", s.recv(64)[9:])
            words = [1, beat % 65536, clock, session] + [0] * 5 + [7] + [0] * {PLC_SIZE - 10}
            head = 1, 0, {7 + 2 * PLC_SIZE}, 1, 16, 128, {PLC_SIZE}, {2 * PLC_SIZE}
            s.sendall(struct.pack(">HHHBBHHB{PLC_SIZE}H", *head, *words))
            assert s.recv(64)
            time.sleep(0.05)
    except Exception as error:
        print(repr(error), flush=True)
        time.sleep(0.1)
"""


@pytest.fixture
def gateway(guest: Guest) -> Iterator[Callable[..., str]]:
    """Writes a gateway's file and gives its unit, which is stopped in the end."""
    units = []

    def write(name: str, *, daemon: str = "", port: int = 502, distance: int = 4000, more: str = "") -> str:
        daemon = daemon or f"ipc:///run/edge-inspector/{name}/gateway"
        text = GATEWAY.format(name=name, daemon=daemon, port=port, distance=distance)
        guest.write(f"/etc/edge-inspector/gateway-{name}.toml", text + more)
        units.append(f"edge-inspector-gateway@{name}")
        return units[-1]

    yield write
    for unit in units:
        guest.run("systemctl", "stop", unit)
        guest.run("systemctl", "reset-failed", unit, check=False)


def block(guest: Guest, port: int = 502) -> VisionBlock:
    """What a PLC reads."""
    found = Codec().read_vision([int(word) for word in guest.run(PYTHON, "-c", READ, str(port)).split()])
    assert found is not None
    return found


def is_back(guest: Guest, unit: str, pid: str) -> bool:
    """Whether another process runs and is ready."""
    return guest.show(unit, "ActiveState") == "active" and guest.show(unit, "MainPID") not in ("0", pid)


def test_systemd_finds_nothing_wrong(guest: Guest) -> None:
    """`verify` on the installed tree, where the executable and every dependency are the real ones."""
    guest.run("systemd-analyze", "verify", "edge-inspector-gateway@line1.service")


def test_it_needs_neither_daemon_nor_plc(guest: Guest, gateway: Callable[..., str]) -> None:
    """`start` returns; port 502 answers, rejecting, with a heartbeat, and the status says why nothing passes."""
    unit = gateway("alone")
    guest.run("systemctl", "start", unit)
    first = block(guest)
    assert first.header["session"]
    assert Status.VISION_OK not in first.status
    assert Status.FAULT in first.status
    eventually(lambda: block(guest).header["heartbeat"] != first.header["heartbeat"], 2)
    eventually(lambda: "rejecting everything: PLC: not heard yet" in guest.show(unit, "StatusText"), 2)
    pid = guest.show(unit, "MainPID")
    assert guest.run("ps", "-o", "user:30=", "-p", pid).strip() == "edge-inspector-gateway"
    powers = re.findall(r"Cap(?:Inh|Prm|Eff|Bnd|Amb):\s+(\w+)", guest.run("cat", f"/proc/{pid}/status"))
    assert {int(power, 16) for power in powers} == {1 << 10}  # CAP_NET_BIND_SERVICE


def test_a_killed_gateway_comes_back_as_another(guest: Guest, gateway: Callable[..., str]) -> None:
    """SIGKILL: it answers again within seconds, with another session, so that the PLC ejects what is on the belt."""
    unit = gateway("killed")
    guest.run("systemctl", "start", unit)
    pid, session = guest.show(unit, "MainPID"), block(guest).header["session"]
    guest.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", unit)
    eventually(lambda: is_back(guest, unit, pid), 10)
    assert block(guest).header["session"] != session


def test_a_stray_sigterm_does_not_end_it(guest: Guest, gateway: Callable[..., str]) -> None:
    """It ends with 0, and is started again all the same."""
    unit = gateway("termed")
    guest.run("systemctl", "start", unit)
    pid = guest.show(unit, "MainPID")
    guest.run("kill", "-TERM", pid)
    eventually(lambda: is_back(guest, unit, pid), 10)
    assert "gateway stopped code=0" in journal(guest, unit)


def test_a_gateway_that_stands_still_is_replaced(guest: Guest, gateway: Callable[..., str]) -> None:
    """SIGSTOP, as a hang of everything: the watchdog ends it, and another one takes its place."""
    unit = gateway("stopped")
    guest.run("systemctl", "start", unit)
    pid = guest.show(unit, "MainPID")
    guest.run("kill", "-STOP", pid)
    eventually(lambda: is_back(guest, unit, pid), 15)
    assert "Watchdog timeout (limit 3s)!" in journal(guest, unit)
    assert block(guest).header["version"] == 1


def test_stop_is_clean_and_stays(guest: Guest, gateway: Callable[..., str]) -> None:
    """`systemctl stop`: exit 0, the port is closed, and nothing starts it again."""
    unit = gateway("stops")
    guest.run("systemctl", "start", unit)
    began = time.monotonic()
    guest.run("systemctl", "stop", unit)
    assert time.monotonic() - began < 5
    assert [guest.show(unit, name) for name in ("Result", "ExecMainStatus")] == ["success", "0"]
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        block(guest)
    time.sleep(2)  # RestartSec is 0.5
    assert guest.show(unit, "ActiveState") == "inactive"


def test_a_wrong_configuration_is_not_tried_again(guest: Guest, gateway: Callable[..., str]) -> None:
    """Exit code 78 stays failed, and the journal names the key."""
    unit = gateway("wrong", distance=50)
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", unit)
    assert guest.show(unit, "ExecMainStatus") == "78"
    time.sleep(3)
    assert guest.show(unit, "ActiveState") == "failed"
    assert guest.show(unit, "NRestarts") == "0"
    assert "window.distance: found 50" in journal(guest, unit)


def test_a_port_that_is_taken_is_tried_until_it_is_free(guest: Guest, gateway: Callable[..., str]) -> None:
    """Two gateways by mistake: the second waits, says why, and takes over when the first one is gone."""
    first, second = gateway("one"), gateway("two")
    guest.run("systemctl", "start", first)
    with pytest.raises(AssertionError):
        guest.run("systemctl", "start", second)
    eventually(lambda: int(guest.show(second, "NRestarts")) >= 2, 15)
    assert "Address already in use" in journal(guest, second)
    session = block(guest).header["session"]
    guest.run("systemctl", "stop", first)
    eventually(lambda: guest.show(second, "ActiveState") == "active", 10)
    assert block(guest).header["session"] != session


def test_the_daemons_coming_and_going_is_not_its_own(
    guest: Guest, gateway: Callable[..., str], line: Callable[..., str]
) -> None:
    """With a daemon and a PLC parts may pass; the daemon is stopped, and the same gateway rejects until it is back."""
    guest.run("systemd-run", "--unit=plc", PYTHON, "-c", PLC)
    daemon, unit = line("pair", trigger="gateway"), gateway("pair")

    def becomes(what: str) -> None:
        eventually(lambda: what in guest.show(unit, "StatusText"), 20)

    try:
        guest.run("systemctl", "start", unit)
        pid = guest.show(unit, "MainPID")
        becomes("rejecting everything: the daemon does not answer")
        assert Status.VISION_OK not in block(guest).status
        for _ in range(2):
            guest.run("systemctl", "start", daemon)
            becomes("parts may pass")
            assert Status.VISION_OK in block(guest).status
            guest.run("systemctl", "stop", daemon)
            becomes("rejecting everything: no heartbeat from the daemon")
            assert Status.VISION_OK not in block(guest).status
        assert guest.show(unit, "MainPID") == pid
    finally:
        guest.run("systemctl", "stop", "plc")


def test_no_devices(guest: Guest, gateway: Callable[..., str]) -> None:
    """A device that everybody may open by its mode is not even there."""
    guest.run("sh", "-c", "rm -f /dev/another && mknod /dev/another c 10 235 && chmod 666 /dev/another")
    unit = gateway("devices")
    code = "import os; print('devices', *sorted(os.listdir('/dev')))"
    drop_in(guest, unit, f'[Service]\nExecStartPre=/usr/bin/python3 -c "{code}"\n')
    guest.run("systemctl", "start", unit)
    found = re.search(r"^devices (.*)$", journal(guest, unit), re.MULTILINE)
    assert found
    assert "null" in found[1].split()
    assert "another" not in found[1].split()


def test_everything_it_can_do_works_in_the_sandbox(guest: Guest, gateway: Callable[..., str]) -> None:
    """Records, OPC UA with encryption and a password, MQTT, with secrets that only systemd can read."""
    secrets = "/run/credentials/edge-inspector-gateway@all.service"
    unit = gateway(
        "all",
        more=f"""
[opcua]
endpoint = "opc.tcp://127.0.0.1:4840"
certificate = "{secrets}/ua.pem"
key = "{secrets}/ua-key.pem"
users = {{ mes = "{secrets}/mes.password" }}
[mqtt]
broker = "127.0.0.1:1883"
user = "line1"
password = "{secrets}/mes.password"
""",
    )
    certificate, key = certified()
    for name, text in (("ua.pem", certificate), ("ua-key.pem", key), ("mes.password", "secret\n")):
        guest.write(f"/root/{name}", text)
        guest.run("chmod", "600", f"/root/{name}")
    given = "".join(f"LoadCredential={name}:/root/{name}\n" for name in ("ua.pem", "ua-key.pem", "mes.password"))
    drop_in(guest, unit, f"[Service]\n{given}")
    guest.run("systemctl", "start", unit)
    assert guest.show(unit, "MemoryDenyWriteExecute") == "yes"
    listens = ("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 4840)); print('yes')")
    eventually(lambda: "yes" in guest.run(*listens, check=False), 20)
    said = json.loads(guest.run(PYTHON, "-c", READ_OPC_UA))
    assert said == {"no password": "refused", "password": 0}
    assert block(guest).header["version"] == 1
    owner = guest.run("stat", "-c", "%U %a", "/var/lib/edge-inspector/gateway-all").split()
    assert owner == ["edge-inspector-gateway", "750"]


READ_OPC_UA = """
import asyncio, json, logging
from asyncua import Client, ua
logging.disable(logging.CRITICAL)
async def ask(user, password):
    client = Client("opc.tcp://127.0.0.1:4840", timeout=10)
    await client.set_security_string("Basic256Sha256,SignAndEncrypt,/root/ua.pem,/root/ua-key.pem")
    client.set_user(user)
    client.set_password(password)
    async with client:
        return await client.nodes.server_state.read_value()
async def main():
    told = {}
    try:
        await ask("mes", "wrong")
        told["no password"] = "let in"
    except Exception:
        told["no password"] = "refused"
    told["password"] = int(await ask("mes", "secret"))
    print(json.dumps(told))
asyncio.run(main())
"""


def certified() -> tuple[str, str]:
    """A certificate that signs itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:edge-inspector")]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()

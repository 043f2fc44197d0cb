"""The OPC UA server and a real client of it: what is told, to whom, and that nobody can write or lock others out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from asyncua import Client, Node, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_inspector.errors import ConfigError, MissingError
from edge_inspector.gateway import opcua, opcua_nodes, opcua_server
from edge_inspector.gateway.config import OpcUaTable
from edge_inspector.gateway.opcua import OpcUa

from .samples import EPOCH, T_US, config, free_port, part, status, until, verdict

ROOT = Path(__file__).parents[2]
SYSTEM = "ns=2;s=VisionSystem"
MACHINE = f"{SYSTEM}.VisionStateMachine"
MODE = f"{MACHINE}.AutomaticModeStateMachine"
RESULT = f"{SYSTEM}.ResultManagement.Results.Latest"
PASSWORD = "päss wörd"


async def certificate(folder: Path, name: str, uri: str) -> None:
    """NAME.der, and NAME-key.pem."""
    await setup_self_signed_certificate(
        folder / f"{name}-key.pem", folder / f"{name}.der", uri, "localhost",
        [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], {"commonName": name},
    )  # fmt: skip
    (folder / f"{name}-key.pem").chmod(0o600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of server and client, and the password of the user scada."""
    folder = tmp_path_factory.mktemp("opcua")
    asyncio.run(certificate(folder, "server", "urn:edge-inspector:g1"))
    asyncio.run(certificate(folder, "client", "urn:test:client"))
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "password").chmod(0o600)
    return folder


def table(**keys: Any) -> OpcUaTable:
    """On a free port, with anybody reading unless said otherwise."""
    return OpcUaTable(endpoint=f"opc.tcp://127.0.0.1:{free_port()}", **(keys or {"anonymous": True}))


@contextlib.contextmanager
def serving(folder: Path, keys: OpcUaTable) -> Iterator[OpcUa]:
    """A server."""
    server = OpcUa(config(folder, opcua=keys))
    server.start()
    port = int(keys.endpoint.rpartition(":")[2])

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    until(listens)
    yield server
    server.close()
    assert not server._thread.is_alive()


SECURED = {"certificate": "server.der", "key": "server-key.pem", "users": {"scada": "password"}}


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[str]:
    """The address of a server that scada may read."""
    keys = table(**SECURED)
    with serving(folder, keys):
        yield keys.endpoint


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[tuple[OpcUa, str]]:
    """A server that anybody may read, and its address."""
    keys = table()
    with serving(folder, keys) as server:
        yield server, keys.endpoint


@contextlib.asynccontextmanager
async def scada(endpoint: str, folder: Path, *, user: str = "scada", password: str = PASSWORD) -> AsyncIterator[Client]:
    """With encryption; without a name where `user` is empty."""
    client = Client(endpoint)
    client.application_uri = "urn:test:client"
    await client.set_security(SecurityPolicyBasic256Sha256, str(folder / "client.der"), str(folder / "client-key.pem"))
    if user:
        client.set_user(user)
        client.set_password(password)
    async with client:
        yield client


async def enters(endpoint: str) -> bool:
    """Whether one more client gets in and can read."""
    try:
        async with Client(endpoint) as client:
            return bool(await value(client, f"{MACHINE}.CurrentState.Number"))
    except (OSError, ua.UaError):
        return False


async def value(client: Client, node: str) -> Any:
    """Of a variable."""
    return await client.get_node(node).read_value()


async def becomes(client: Client, node: str, expected: object) -> None:
    """Wait until a variable has a value."""
    for _ in range(2000):
        if await value(client, node) == expected:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{node} is {await value(client, node)}, expected {expected}")


class Events:
    """Those that a client was told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def event_notification(self, event: Any) -> None:
        """Called by asyncua."""
        self.seen.append(event)

    async def listen(self, client: Client, kind: str, source: Node) -> None:
        """From now on, with a queue for all of them."""
        subscription = await client.create_subscription(50, self)
        await subscription.subscribe_events(source, client.get_node(f"ns=2;s={kind}"), queuesize=500)

    async def count(self, count: int) -> None:
        """Wait until there are so many."""
        for _ in range(2000):
            if len(self.seen) >= count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(self.seen)} events, expected {count}")


def test_at_first_nothing_is_healthy(secured: str, folder: Path) -> None:
    """Until the gate has said something."""

    async def read() -> None:
        async with scada(secured, folder) as client:
            assert (await value(client, f"{MACHINE}.CurrentState")).Text == "Preoperational"
            assert await value(client, f"{MACHINE}.CurrentState.Number") == 1
            assert await value(client, f"{SYSTEM}.Gateway.Healthy") is False

    asyncio.run(read())


def test_states(both: tuple[OpcUa, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and numbers of OPC 40100-1."""
    monkeypatch.setattr(opcua, "SILENT_TURNS", 1 << 30)
    server, endpoint = both

    async def read() -> None:
        async with Client(endpoint) as client:
            for number, name, within in (
                (3, "Error", None),
                (6, "Operational", "Ready"),
                (8, "Operational", "ContinuousExecution"),
                (1, "Preoperational", None),
            ):
                server.status(status(state=number, healthy=number > 4, parts=number))
                await becomes(client, f"{SYSTEM}.Gateway.Heartbeat", server._beat)
                assert await value(client, f"{SYSTEM}.Gateway.Counts.parts") == number
                assert await value(client, f"{MACHINE}.CurrentState.Number") == min(number, 4)
                assert (await value(client, f"{MACHINE}.CurrentState")).Text == name
                data = await client.get_node(f"{MODE}.CurrentState").read_data_value(raise_on_bad_status=False)
                if within is None:
                    assert data.StatusCode.value == ua.StatusCodes.BadStateNotActive
                else:
                    assert data.Value.Value.Text == within
                    assert await value(client, f"{MODE}.CurrentState.Number") == number
                assert await value(client, f"{SYSTEM}.Gateway.Healthy") is (number > 4)

    asyncio.run(read())


def test_nodes_are_found_by_name(both: tuple[OpcUa, str]) -> None:
    """A client that browses finds the same nodes."""

    async def read() -> None:
        async with Client(both[1]) as client:
            index = await client.get_namespace_index("urn:edge-inspector:vision")
            path = [f"{index}:VisionSystem", f"{index}:VisionStateMachine", "0:CurrentState", "0:Number"]
            number = await client.nodes.objects.get_child(path)
            assert number.nodeid.to_string() == f"{MACHINE}.CurrentState.Number"
            assert await number.read_value() == await value(client, f"{MACHINE}.CurrentState.Number")

    asyncio.run(read())


def test_a_part_is_an_event_and_the_latest_result(both: tuple[OpcUa, str]) -> None:
    """Told at the server and at the vision system alike, with what the daemon said and what became of the part."""
    server, endpoint = both

    async def read() -> None:
        async with Client(endpoint) as client:
            events, system_events = Events(), Events()
            await events.listen(client, "ResultReadyEventType", client.nodes.server)
            await system_events.listen(client, "ResultReadyEventType", client.get_node(SYSTEM))
            server.verdict(verdict(4711))
            server.part(part(4711))
            await events.count(1)
            await system_events.count(1)
            (event,) = events.seen
            assert event.EventId == system_events.seen[0].EventId
            assert event.SourceName == "VisionSystem"
            assert event.Message.Text == "A-004711: reject, defect"
            told = {name: getattr(event, name) for name in opcua_nodes.RESULT}
            start, end = (datetime.fromtimestamp(us / 1e6, timezone.utc) for us in (T_US, T_US + 13_900))
            defects = json.loads(told.pop("Defects"))
            assert [(each["class"], each["score"], each["severity"]) for each in defects] == [
                ("short", 0.974, "critical")
            ]
            assert told == {
                "ResultId": f"{EPOCH}-4711", "PartId": "A-004711", "IsPartial": False, "IsSimulated": False,
                "ResultState": 1, "InternalRecipeId": "f" * 64, "CreationTime": end, "AcquisitionDuration": 1.2,
                "ProcessingDuration": 12.27, "StartTime": start, "EndTime": end, "Station": "top",
                "Outcome": "reject", "Reason": "defect", "Action": "reject", "Why": "defect", "Tag": 77,
                "Encoder": 2**32 - 5,
            }  # fmt: skip
            await becomes(client, f"{RESULT}.ResultId", f"{EPOCH}-4711")
            for name, expected in told.items():
                assert await value(client, f"{RESULT}.{name}") == expected

    asyncio.run(read())


def test_every_part_is_told_once(both: tuple[OpcUa, str]) -> None:
    """Also the one without a verdict and the one with a fault; another station's verdict is none of ours."""
    server, endpoint = both

    async def read() -> None:
        async with Client(endpoint) as client:
            events = Events()
            await events.listen(client, "ResultReadyEventType", client.nodes.server)
            none, fault, other = part(1), part(2), part(3)
            none.seq = none.outcome = none.reason = None
            none.why = "no_verdict"
            fault.outcome, fault.reason = "fault", "timeout"
            server.verdict(verdict(3, station="bottom"))
            for record in (none, fault, other):
                server.part(record)
            for seq in range(4, 304):
                server.verdict(verdict(seq, "pass"))
                server.part(part(seq, "pass"))
            await events.count(303)
            assert [event.ResultState for event in events.seen[:4]] == [3, 4, 1, 1]
            assert [event.Outcome for event in events.seen[:4]] == ["", "fault", "reject", "pass"]
            assert [event.Action for event in events.seen[:4]] == ["reject", "reject", "reject", "pass"]
            assert [event.Defects for event in events.seen[:4]] == ["", "", "", "[]"]  # not known, or none
            assert [event.PartId for event in events.seen[:3]] == ["1", "2", "3"]
            assert [event.PartId for event in events.seen[3:]] == [f"A-{seq:06}" for seq in range(4, 304)]
        assert server.dropped == 0

    asyncio.run(read())


def test_alarms_and_the_heartbeat(both: tuple[OpcUa, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line stop and lost health are events; where the gate says nothing any more, that is an alarm as well."""
    monkeypatch.setattr(opcua, "SILENT_TURNS", 1 << 30)
    server, endpoint = both

    async def read() -> None:
        async with Client(endpoint) as client:
            heartbeat = f"{SYSTEM}.Gateway.Heartbeat"
            server.status(status())
            await becomes(client, heartbeat, server._beat)
            before = server._beat
            events = Events()
            await events.listen(client, "GatewayAlarmEventType", client.nodes.server)
            server.status(status(line_stop=True))
            await becomes(client, heartbeat, before + 1)
            assert await value(client, f"{SYSTEM}.Gateway.LineStop") is True
            server.status(status(healthy=False, line_stop=True, state=3))
            await events.count(2)
            server.status(status())
            await events.count(4)
            assert await value(client, f"{SYSTEM}.Gateway.Healthy") is True
            monkeypatch.setattr(opcua, "SILENT_TURNS", server._silent + 20)
            await events.count(5)  # nothing more is said, and soon that is known
            assert await value(client, f"{SYSTEM}.Gateway.Healthy") is False
            assert await value(client, f"{SYSTEM}.Gateway.Reason") == "the gateway stands still"
            assert await value(client, f"{MACHINE}.CurrentState.Number") == 3
            assert await value(client, heartbeat) == before + 3
            assert [(event.Alarm, event.Active) for event in events.seen] == [
                ("LineStop", True), ("NotHealthy", True), ("LineStop", False), ("NotHealthy", False),
                ("NotHealthy", True),
            ]  # fmt: skip
            assert [event.Severity for event in events.seen] == [900, 900, 100, 100, 900]
            assert events.seen[1].Reason == "the daemon is not heard"

    asyncio.run(read())


def test_calls_never_wait_and_the_queue_is_bounded(tmp_path: Path) -> None:
    """With nobody who takes anything out."""
    server = OpcUa(config(tmp_path, opcua=table()))
    for seq in range(1, 5001):
        server.part(part(seq))
        server.status(status())
    assert server.dropped == 5000 - opcua.WAITING


async def refused(request: Any, *codes: str) -> None:
    """The server must say no."""
    with pytest.raises(ua.UaStatusCodeError) as caught:
        await request
    names = [ua.StatusCode(caught.value.code).name]
    assert set(names) <= set(codes or ("BadUserAccessDenied",)), names


@pytest.mark.parametrize("encrypted", [True, False])
def test_nobody_can_write(secured: str, both: tuple[OpcUa, str], folder: Path, encrypted: bool) -> None:
    """Neither values nor nodes nor methods, neither ours nor the server's, whoever it is."""

    async def attack() -> None:
        async with scada(secured, folder) if encrypted else Client(both[1]) as client:
            for name in (f"{SYSTEM}.Gateway.Dropped", f"{MODE}.CurrentState.Number", "i=2255", "i=2994"):
                node = client.get_node(name)
                await refused(node.write_value(ua.DataValue(ua.Variant(1, ua.VariantType.UInt32))))
            await refused(client.get_node(SYSTEM).write_attribute(ua.AttributeIds.DisplayName, ua.DataValue("x")))
            await refused(client.nodes.objects.add_object(2, "Mine"))
            await refused(client.delete_nodes([client.get_node(SYSTEM)]))
            await refused(client.nodes.server.call_method("0:GetMonitoredItems", ua.UInt32(1)))
            await refused(client.uaclient.register_server(ua.RegisteredServer()), "BadServiceUnsupported")
            await refused(client.uaclient.transfer_subscriptions(ua.TransferSubscriptionsParameters([1])))
            assert await value(client, f"{SYSTEM}.Gateway.Dropped") == 0

    asyncio.run(attack())


@pytest.mark.parametrize(
    ("user", "password"),
    [("scada", "wrong"), ("scada", ""), ("scada", PASSWORD + "x"), ("nobody", PASSWORD), ("admin", "admin"), ("", "")],
)
def test_others_are_refused(secured: str, folder: Path, user: str, password: str) -> None:
    """A wrong password, a wrong name, no name."""

    async def enter() -> None:
        async with scada(secured, folder, user=user, password=password):
            pass

    asyncio.run(refused(enter(), "BadUserAccessDenied", "BadIdentityTokenRejected"))


def test_a_refusal_is_written_down_once(secured: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, until it went well; nothing of the password is in it."""

    async def enter() -> None:
        for password in (PASSWORD, "mistyped", "mistyped", "mistyped", PASSWORD):
            with contextlib.suppress(ua.UaStatusCodeError):
                async with scada(secured, folder, password=password) as client:
                    assert (await value(client, f"{MACHINE}.CurrentState")).Text == "Preoperational"

    asyncio.run(enter())
    lines = [record for record in caplog.records if record.name.startswith("edge_inspector")]
    assert [(record.message, record.__dict__["who"]) for record in lines] == [("OPC UA client refused", "scada")]
    assert "mistyped" not in caplog.text


def test_without_encryption_there_is_nothing_but_discovery(secured: str, folder: Path) -> None:
    """Only encrypted endpoints are offered, and even the right password is not taken in the open."""

    async def enter() -> None:
        client = Client(secured)
        offered = await client.connect_and_get_server_endpoints()
        assert [each.SecurityMode for each in offered] == [ua.MessageSecurityMode.SignAndEncrypt]
        assert [token.TokenType for token in offered[0].UserIdentityTokens] == [ua.UserTokenType.UserName]
        async with raw(secured) as client:
            with contextlib.suppress(ua.UaError):  # the client misses an endpoint without encryption, and has a session
                await client.create_session()
            parameters = ua.ActivateSessionParameters()
            parameters.UserIdentityToken = ua.UserNameIdentityToken(UserName="scada", Password=PASSWORD.encode())
            await refused(client.uaclient.activate_session(parameters))
            await refused(value(client, f"{SYSTEM}.Gateway.Healthy"), "BadSessionNotActivated")

    asyncio.run(enter())


@contextlib.asynccontextmanager
async def raw(endpoint: str) -> AsyncIterator[Client]:
    """An open channel without encryption, and nothing more."""
    client = Client(endpoint)
    await client.connect_socket()
    try:
        await client.send_hello()
        await client.open_secure_channel()
        yield client
    finally:
        client.disconnect_socket()


def test_a_session_cannot_be_taken_over(secured: str, folder: Path) -> None:
    """A stranger who guesses its token (they count up) gets nothing."""

    async def steal() -> None:
        async with scada(secured, folder) as client, raw(secured) as thief:
            thief.uaclient.protocol.authentication_token = client.uaclient.protocol.authentication_token
            codes = ("BadSessionIdInvalid", "BadUserAccessDenied")
            await refused(thief.uaclient.activate_session(ua.ActivateSessionParameters()), *codes)
            await refused(value(thief, f"{SYSTEM}.Gateway.Healthy"), *codes)

    asyncio.run(steal())


def test_sessions_are_bounded_and_lost_ones_make_room(both: tuple[OpcUa, str]) -> None:
    """So many, then no more; those whose connection breaks without a word give their places back."""
    endpoint = both[1]

    async def crowd() -> None:
        clients = [Client(endpoint) for _ in range(opcua_server.SESSIONS)]
        for client in clients:
            await client.connect()
            await Events().listen(client, "ResultReadyEventType", client.nodes.server)
        await refused(Client(endpoint).connect(), "BadTooManySessions")
        for client in clients:  # no CloseSession: as if each had crashed
            client.uaclient.protocol.transport.abort()
        for _ in range(500):
            if await enters(endpoint):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("the places of lost sessions were never given back")
        for client in clients:
            with contextlib.suppress(Exception):
                await client.disconnect()

    asyncio.run(crowd())


CLIENTS = """
import asyncio, sys
from asyncua import Client
async def main():
    clients = [Client(sys.argv[1]) for _ in range(int(sys.argv[2]))]
    for client in clients:
        client.session_timeout = 5000
        await client.connect()
    print("connected", flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def connections(endpoint: str) -> int:
    """How many the server holds."""
    port = int(endpoint.rpartition(":")[2])
    held = psutil.Process().net_connections("tcp")
    return sum(each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED for each in held)


def test_frozen_clients_do_not_lock_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their connections look alive for ever; their sessions time out, and then the connections are cut."""
    monkeypatch.setattr(opcua_server, "HANDSHAKE_S", 4.0)  # it is not for having no session that they are cut
    keys = table()
    command = [sys.executable, "-c", CLIENTS, keys.endpoint, str(opcua_server.SESSIONS)]
    with serving(tmp_path, keys), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
        try:
            assert clients.stdout is not None
            assert clients.stdout.readline() == "connected\n"
            clients.send_signal(signal.SIGSTOP)
            assert not asyncio.run(enters(keys.endpoint))
            until(lambda: asyncio.run(enters(keys.endpoint)))
            until(lambda: not connections(keys.endpoint))
        finally:
            clients.kill()


def test_what_a_stranger_sends_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that claims to be four gigabytes long is cut off; noise ends no more than its own connection."""
    monkeypatch.setattr(opcua_server, "HANDSHAKE_S", 1000.0)  # it is not for being slow that it is cut off
    keys, sent = table(), 0
    with serving(tmp_path, keys):
        address = ("127.0.0.1", int(keys.endpoint.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"HELF\xff\xff\xff\xff")
            while sent < 64 << 20:
                sent += connection.send(bytes(1 << 16))
        assert sent < 64 << 20
        noise = random.Random(1)
        for _ in range(200):
            with socket.create_connection(address) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(noise.choice([b"HELF", b"OPNF", b"MSGF", b""]) + noise.randbytes(200))
        until(lambda: asyncio.run(enters(keys.endpoint)))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It is said at the start, with what to do."""
    keys = table()
    with (
        socket.create_server(("127.0.0.1", int(keys.endpoint.rpartition(":")[2]))),
        pytest.raises(MissingError, match=r"gateway\.toml: opcua\.endpoint: .*in use; stop the program that has it"),
    ):
        OpcUa(config(tmp_path, opcua=keys)).start()


def test_files_that_are_not_as_they_should_be(folder: Path, tmp_path: Path) -> None:
    """File, key and the command that mends it are named at the start."""
    for name in ("server.der", "server-key.pem", "client-key.pem", "password"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        (tmp_path / name).chmod(0o600)

    def start(**keys: Any) -> None:
        OpcUa(config(tmp_path, opcua=table(**{**SECURED, **keys}))).start()

    with pytest.raises(ConfigError, match=r"opcua\.certificate: .*absent.*openssl req .*URI:urn:edge-inspector:g1"):
        start(certificate="absent")
    with pytest.raises(ConfigError, match=r"opcua\.certificate: .*password: .*openssl req "):
        start(certificate="password")
    with pytest.raises(ConfigError, match=r"opcua\.key: .*server\.der: .*openssl req "):
        start(key="server.der")
    with pytest.raises(ConfigError, match=r"opcua\.key: .*client-key\.pem is not the certificate's"):
        start(key="client-key.pem")
    with pytest.raises(ConfigError, match=r"opcua\.users\.scada: .*absent cannot be read"):
        start(users={"scada": "absent"})
    (tmp_path / "password").chmod(0o604)
    with pytest.raises(ConfigError, match=r"opcua\.users\.scada: others can read .*; run: chmod 600 .*password"):
        start()
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "server-key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"opcua\.key: others can read .*; run: chmod 600 .*server-key\.pem"):
        start()


def test_a_pair_as_the_message_says_with_users_and_anybody(tmp_path: Path, folder: Path) -> None:
    """The command that is given makes what a client accepts; anybody reads where that is configured, but encrypted."""
    (tmp_path / "password").write_bytes((folder / "password").read_bytes())
    (tmp_path / "password").chmod(0o600)
    keys = table(**SECURED, anonymous=True)
    with pytest.raises(ConfigError) as caught:
        OpcUa(config(tmp_path, opcua=keys)).start()
    command = str(caught.value).partition("to make a pair: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)

    async def read() -> None:
        for user in ("scada", ""):
            async with scada(keys.endpoint, folder, user=user) as client:
                assert await value(client, f"{SYSTEM}.Gateway.Healthy") is False
        async with raw(keys.endpoint) as client:
            with contextlib.suppress(ua.UaError):  # it misses an endpoint without encryption, and has a session
                await client.create_session()
            await refused(client.uaclient.activate_session(ua.ActivateSessionParameters()))

    with serving(tmp_path, keys):
        asyncio.run(read())


def test_keys_that_make_no_sense() -> None:
    """Refused when the file is read."""
    for keys, problem in (
        ({}, "users: found none"),
        ({"users": {"scada": "password"}}, "users: expected together with certificate and key"),
        ({"certificate": "c", "anonymous": True}, "certificate: expected together with key"),
    ):
        with pytest.raises(ValueError, match=problem):
            OpcUaTable(endpoint="opc.tcp://127.0.0.1:4840", **keys)
    for endpoint in ("127.0.0.1:4840", "opc.tcp://127.0.0.1", "opc.tcp://127.0.0.1:99999"):
        with pytest.raises(ValueError, match="endpoint: found"):
            OpcUaTable(endpoint=endpoint, anonymous=True)

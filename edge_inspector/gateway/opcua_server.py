"""asyncua's server, read-only, bounded and shut: who may connect, how, how many, and what they may ask for.

What asyncua leaves open is closed here: a channel without encryption, which it takes whatever the policies say, is good
for discovery only; sessions cannot be taken over by their guessable tokens; strangers cannot register servers.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from ..errors import ConfigError, MissingError
from .config import GatewayConfig, OpcUaTable

if TYPE_CHECKING:
    from asyncua import Server, ua
    from asyncua.crypto.permission_rules import SimpleRoleRuleset, User
    from asyncua.server.internal_server import InternalServer
    from asyncua.server.internal_session import InternalSession

log = logging.getLogger(__name__)

SESSIONS = 16
SESSION_S, HANDSHAKE_S = 60.0, 10.0  # who says nothing for so long has lost its place
WAITING = 1000  # values or events that wait for one client
FASTEST_MS = 50.0  # publishing interval: a client's wish for less would cost the gateway its time
MEMORY = 4 << 20  # bytes from or for one client
FAREWELL_TURNS = 20  # from the end of a session to the end of its connection, which is the client's to end

ALLOWED = (
    "CreateSession", "ActivateSession", "CloseSession", "CloseSecureChannel", "GetEndpoints", "FindServers",
    "Read", "Browse", "TranslateBrowsePathsToNodeIds", "RegisterNodes", "UnregisterNodes",
    "CreateSubscription", "ModifySubscription", "SetPublishingMode", "DeleteSubscriptions", "Publish", "Republish",
    "CreateMonitoredItems", "SetMonitoringMode", "DeleteMonitoredItems",
)  # fmt: skip


async def make_server(config: GatewayConfig, table: OpcUaTable) -> Server:
    """A server without nodes, not started; quick. Raises ConfigError, MissingError."""
    from asyncua import Server, ua

    hushed = logging.getLogger("asyncua")  # it writes down what every client does, with tracebacks
    if hushed.level == logging.NOTSET:
        hushed.setLevel(logging.CRITICAL)
    server = Server(_internal_server(Users(config, table)))
    server.set_endpoint(table.endpoint)
    server.set_server_name(f"edge-inspector {config.gateway.name}")
    server.limits.max_message_size, server.limits.max_chunk_count = MEMORY, MEMORY // server.limits.max_recv_buffer
    policy = ua.SecurityPolicyType.NoSecurity
    if table.certificate:
        await _load(server, config, table)
        policy = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
    server.set_security_policy([policy], _read_only())
    tokens: list[type] = [ua.UserNameIdentityToken] if table.users else []
    server.set_identity_tokens([*tokens, ua.AnonymousIdentityToken] if table.anonymous else tokens)
    _check_port(config, table)
    return server


def application_uri(config: GatewayConfig) -> str:
    """What a client expects to find in the certificate."""
    return f"urn:edge-inspector:{config.gateway.name}"


def sweep(server: Server, over: dict[int, int]) -> dict[int, int]:
    """Every turn: cut off who hoards memory, and who stays connected though his session is over.

    A peer that vanished without a word would else keep its place for ever. over: what the last sweep returned.
    """
    from asyncua.server.internal_session import SessionState

    assert server.bserver is not None
    still = {}
    for client in list(server.bserver.clients):
        if client.transport is None or client.processor is None:
            continue
        session = client.processor.session
        if session is not None and session.state is SessionState.Closed:
            still[id(client)] = over.get(id(client), 0) + 1
        held = len(client._buffer) + client.transport.get_write_buffer_size()
        if held > MEMORY or still.get(id(client), 0) > FAREWELL_TURNS:
            client.transport.abort()
    return still


class Users:
    """Who may read: asyncua's UserManager."""

    def __init__(self, config: GatewayConfig, table: OpcUaTable) -> None:
        self._passwords = {
            name: config.password(f"opcua.users.{name}", path).encode(errors="surrogateescape")
            for name, path in (table.users or {}).items()
        }
        self._nobody = secrets.token_bytes()
        self._anonymous, self._encrypted = table.anonymous, bool(table.certificate)
        self._refused: set[str] = set()

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """None: refused. certificate: the client's; empty or None on a channel without encryption."""
        from asyncua.crypto.permission_rules import User, UserRole

        name = "unknown user"
        if self._encrypted and not certificate:
            name = "without encryption"
        elif username is None:
            name = "anonymous"
            if self._anonymous:
                return User(UserRole.User, name)
        else:
            name = username if username in self._passwords else name
            given = password.encode(errors="surrogateescape") if isinstance(password, str) else b""
            if hmac.compare_digest(self._passwords.get(username, self._nobody), given):
                self._refused.discard(name)
                return User(UserRole.User, name)
        if name not in self._refused:  # once each, so that nobody can fill the log
            self._refused.add(name)
            log.warning("OPC UA client refused", extra={"who": name})
        return None


def _check_port(config: GatewayConfig, table: OpcUaTable) -> None:
    """Say now, and not seconds later, that it cannot be had. Raises MissingError."""
    address = urlsplit(table.endpoint)
    try:
        family, *_, place = socket.getaddrinfo(address.hostname, address.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(place, family=family).close()
    except OSError as error:
        found = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        mend = "stop the program that has it (`ss -ltnp` says which), or give another endpoint"
        raise MissingError(f"{config.path}: opcua.endpoint: {table.endpoint}: {found}; {mend}") from None


async def _load(server: Server, config: GatewayConfig, table: OpcUaTable) -> None:
    """The server's certificate and key, which must belong together. Raises ConfigError."""
    file = config.resolve(table.certificate)
    try:
        raw = file.read_bytes()
        await server.load_certificate(raw, "pem" if b"-----BEGIN" in raw else "der")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config.path}: opcua.certificate: {file}: {error}; {_mend(config, table)}") from None
    raw = config.secret("opcua.key", table.key)
    file = config.resolve(table.key)
    try:
        await server.load_private_key(raw, None, "pem" if b"-----BEGIN" in raw else "der")
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ConfigError(f"{config.path}: opcua.key: {file}: {error}; {_mend(config, table)}") from None
    key, certificate = server.iserver.private_key, server.iserver.certificate
    if not hasattr(key, "decrypt") or key.public_key() != certificate.public_key():
        found = "is not the certificate's" if hasattr(key, "decrypt") else "is no RSA key"
        raise ConfigError(f"{config.path}: opcua.key: {file} {found}; {_mend(config, table)}")


def _mend(config: GatewayConfig, table: OpcUaTable) -> str:
    """The command that makes a pair."""
    names = f"subjectAltName=URI:{application_uri(config)},DNS:$(hostname)"
    files = f"-keyout {config.resolve(table.key)} -out {config.resolve(table.certificate)}"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=edge-inspector"
    return f'to make a pair: {request} -addext "{names}" {files}'


def _read_only() -> SimpleRoleRuleset:
    """Reading, and nothing else, for everybody."""
    from asyncua import ua

    requests = {ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary")) for name in ALLOWED}

    class ReadOnly:
        def check_validity(self, user: object, request: ua.NodeId, body: object) -> bool:
            return request in requests

    return cast("SimpleRoleRuleset", ReadOnly())


def _internal_server(users: Users) -> InternalServer:
    """With limits, and without what lets strangers in."""
    from asyncua import ua
    from asyncua.common.utils import ServiceError
    from asyncua.server.internal_server import InternalServer
    from asyncua.server.internal_session import InternalSession, SessionState

    class Session(InternalSession):
        async def create_subscription(self, params: Any, *args: Any, **more: Any) -> ua.CreateSubscriptionResult:
            params.RequestedPublishingInterval = max(FASTEST_MS, params.RequestedPublishingInterval)
            return await super().create_subscription(params, *args, **more)

    class Internal(InternalServer):
        def __init__(self) -> None:
            super().__init__(users)  # type: ignore[arg-type]
            self.sessions: list[Session] = []

        def create_session(self, name: str, *_: object, **__: object) -> InternalSession:
            self.sessions = [each for each in self.sessions if each.state is not SessionState.Closed]
            if len(self.sessions) >= SESSIONS or any(each.name == name for each in self.sessions):
                raise ServiceError(ua.StatusCodes.BadTooManySessions)
            # not `external`: then it ends with its connection, and nobody can take it over from another
            session = Session(self, self.aspace, self.subscription_service, name)
            self.sessions.append(session)
            return session

        def register_server(self, server: object, conf: object = None) -> NoReturn:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    internal = Internal()
    internal.max_session_timeout_ms = SESSION_S * 1000
    internal.max_pending_activation_seconds = HANDSHAKE_S
    internal.max_connections = 2 * SESSIONS  # some are for discovery
    internal.max_subscriptions = 4 * SESSIONS
    internal.max_monitored_item_queue_size = internal.max_unacked_messages_per_subscription = WAITING
    return internal

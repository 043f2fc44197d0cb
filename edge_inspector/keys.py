"""CURVE keys and who may enter with them: owns the files of a key folder.

NAME.secret is its owner's alone, NAME.public is for anyone, clients.toml is the list of who may enter. The daemon's own
name is `server`; whoever can read its secret is the daemon's owner, and may enter as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, FailedError, MissingError
from .tables import NAME, read_table, read_toml

if TYPE_CHECKING:
    import zmq

SERVER = "server"
CLIENTS = "clients.toml"
ROLES = ("read", "gateway")  # the `verdicts` endpoint alone, or both
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"  # ZeroMQ RFC 32

SECRET_TEXT = """# The secret key of "{name}": whoever has it is "{name}". Nobody but its owner may read it.
secret = "{key}"
"""
PUBLIC_TEXT = """# The public key of "{name}".
public = "{key}"
"""
CLIENTS_TEXT = """# Who may enter. `edge-inspector keys allow` and `keys revoke` write it, a running daemon follows.
# role: "read", the verdicts; "gateway", triggers and replays as well.
"""
CLIENT_TEXT = """
[[client]]
name = "{client.name}"
key = "{client.key}"
role = "{client.role}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One who may enter. key: the public one, Z85."""

    name: str
    key: str
    role: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f'name: found "{self.name}", expected letters, digits, "_", "-" and "."')
        if not is_key(self.key):
            raise ValueError(f'key: found "{self.key}", expected a public key, 40 characters of Z85')
        if self.role not in ROLES:
            raise ValueError(f'role: found "{self.role}", expected "read" or "gateway"')


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The files that make a client: its own secret, and the public key of the daemon that it expects."""

    secret: Path
    server: Path


def secure_client(socket: zmq.Socket[bytes], secret_path: Path, server_key_path: Path) -> None:
    """Before it connects: it shows this key, and speaks with no other daemon. Raises MissingError, ConfigError."""
    secret = read_secret(secret_path)
    socket.curve_serverkey = read_public(server_key_path).encode()
    socket.curve_publickey = public_of(secret).encode()
    socket.curve_secretkey = secret.encode()


def server_secret(folder: Path) -> str:
    """The daemon's secret: systemd's credential where there is one, else the folder's.

    Raises MissingError where there is none, ConfigError where it is no key or others can read it.
    """
    if not folder.is_dir():
        raise MissingError(f"there is no key folder {folder}; make it: {_new(folder, SERVER)}")
    given = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), f"{SERVER}.secret")
    if "CREDENTIALS_DIRECTORY" in os.environ and given.is_file():
        return _read(given, "secret")  # systemd sees to it that nobody else reads it; an ACL looks like a group's right
    return read_secret(folder / f"{SERVER}.secret")


def read_secret(path: Path) -> str:
    """A secret key, Z85. Raises MissingError where there is none, ConfigError where others can read it."""
    with contextlib.suppress(OSError):  # _read says so
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others can read this secret; run: chmod 600 {shlex.quote(str(path))}")
    return _read(path, "secret")


def read_public(path: Path) -> str:
    """A public key, Z85. Raises MissingError, ConfigError."""
    return _read(path, "public")


def read_clients(path: Path) -> dict[str, Client]:
    """Who may enter, by key; nobody where there is no such file. Raises ConfigError."""
    tables = _tables(path) or {}
    entries = tables.pop("client", [])
    if tables or not isinstance(entries, list):
        raise ConfigError(f"{path}: found {', '.join(tables) or 'client'}, expected [[client]] tables and nothing else")
    found: dict[str, Client] = {}
    for n, entry in enumerate(entries):
        client: Client = read_table(path, entry, Client, f"client[{n}]")
        if client.key in found or client.name in (other.name for other in found.values()):
            raise ConfigError(f'{path}: client[{n}]: found name or key of "{client.name}" twice, expected each once')
        found[client.key] = client
    return found


def write_clients(path: Path, clients: Iterable[Client]) -> None:
    """Write the list anew; a daemon that reads it sees the old one or the new one, and nothing between."""
    text = CLIENTS_TEXT + "".join(CLIENT_TEXT.format(client=client) for client in clients)
    _write(path, text, mode=0o644, anew=False)


def make_pair(folder: Path, name: str) -> str:
    """Write NAME.secret and NAME.public; returns the public key. Raises FailedError where one of them is there."""
    import zmq

    public = "-"
    while not public[0].isalnum():  # as it is typed after `keys allow`
        pair = zmq.curve_keypair()
        public, secret = (key.decode() for key in pair)
    for path in (folder / f"{name}.secret", folder / f"{name}.public"):
        if path.exists():
            raise FailedError(f"{path} is there already; choose another name, or take it away first")
    _write(folder / f"{name}.secret", SECRET_TEXT.format(name=name, key=secret), mode=0o600, anew=True)
    _write(folder / f"{name}.public", PUBLIC_TEXT.format(name=name, key=public), mode=0o644, anew=True)
    return public


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one."""
    import zmq

    return zmq.curve_public(secret.encode()).decode()


def is_key(text: str) -> bool:
    """Whether it is Z85 of 32 bytes."""
    groups = re.findall(".{5}", text) if len(text) == 40 and set(text) <= set(Z85) else []
    values = [sum(Z85.index(sign) * 85 ** (4 - n) for n, sign in enumerate(group)) for group in groups]
    return bool(values) and max(values) < 2**32


def _read(path: Path, kind: str) -> str:
    """The one key of a file."""
    table = _tables(path)
    if table is None:
        raise MissingError(f"there is no key {path}; make it: {_new(path.parent, path.stem)}")
    key = table.get(kind)
    if not isinstance(key, str) or not is_key(key):
        found = f"{', '.join(table)} but no {kind}" if table and kind not in table else f"a broken {kind}"
        raise ConfigError(f'{path}: found {found}, expected {kind} = "..." as in NAME.{kind}')
    return key


def _tables(path: Path) -> dict[str, Any] | None:
    """A file's tables, None where there is no file. Raises ConfigError."""
    try:
        return read_toml(path, path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; run this as the file's owner") from None


def _write(path: Path, text: str, *, mode: int, anew: bool) -> None:
    """Beside it first, then in its place at once; where it must be new, an old one is never written over."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                os.fchmod(handle, mode)
                file.write(text)
                file.flush()
                os.fsync(handle)
            if anew:
                os.link(beside, path)  # fails where the name is taken
            else:
                os.replace(beside, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
    except FileExistsError:
        raise FailedError(f"{path} is there already; choose another name, or take it away first") from None
    except OSError as error:
        raise FailedError(f"{path}: cannot be written: {error.strerror}; choose a folder with --folder") from None


def _new(folder: Path, name: str) -> str:
    return f"edge-inspector keys new {shlex.quote(name)} --folder {shlex.quote(str(folder))}"

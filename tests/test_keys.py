"""The files of a key folder: their modes, what is refused in them, and that a line's file takes them for `insecure`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from edge_inspector import config
from edge_inspector.errors import ConfigError, FailedError, MissingError
from edge_inspector.keys import (
    Client,
    is_key,
    make_pair,
    public_of,
    read_clients,
    read_public,
    read_secret,
    secure_client,
    server_secret,
    write_clients,
)

LINE = '[line]\nname = "l"\n[[station]]\nname = "s"\nengine = "e"\n[station.camera]\nkind = "boards"\n'


def client(name: str, role: str = "read") -> Client:
    """A client with a key of its own."""
    return Client(name=name, key=zmq.curve_keypair()[0].decode(), role=role)


def mode(path: Path) -> int:
    """A file's rights."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair(tmp_path: Path) -> None:
    """The secret is its owner's alone whatever the umask, the halves belong together, and nothing else is left."""
    former = os.umask(0)
    try:
        public = make_pair(tmp_path / "keys", "laptop")
    finally:
        os.umask(former)
    secret = tmp_path / "keys" / "laptop.secret"
    assert mode(secret) == 0o600
    assert public == read_public(tmp_path / "keys" / "laptop.public") == public_of(read_secret(secret))
    assert public[0].isalnum()  # it can be typed after `keys allow`
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["laptop.public", "laptop.secret"]


@pytest.mark.parametrize("there", ["laptop.secret", "laptop.public"])
def test_a_key_is_never_written_over(tmp_path: Path, there: str) -> None:
    """Whichever half is there: it stays as it is, and the other one is not made."""
    (tmp_path / there).write_text("mine")
    with pytest.raises(FailedError, match=f"{there} is there already"):
        make_pair(tmp_path, "laptop")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o660, 0o620])
def test_a_secret_that_others_can_read(tmp_path: Path, rights: int) -> None:
    """It is refused, with the command that mends it."""
    make_pair(tmp_path, "server")
    path = tmp_path / "server.secret"
    path.chmod(rights)
    for read in (lambda: read_secret(path), lambda: server_secret(tmp_path)):
        with pytest.raises(ConfigError, match=f"run: chmod 600 {path}"):
            read()
    path.chmod(0o400)
    assert is_key(read_secret(path))


def test_what_is_not_there(tmp_path: Path) -> None:
    """Folder or file: the message is the command that makes it."""
    with pytest.raises(MissingError, match=f"edge-inspector keys new server --folder {tmp_path}/none"):
        server_secret(tmp_path / "none")
    with pytest.raises(MissingError, match=f"edge-inspector keys new server --folder {tmp_path}"):
        server_secret(tmp_path)
    with pytest.raises(MissingError, match="edge-inspector keys new laptop --folder"):
        read_public(tmp_path / "laptop.public")


def test_the_halves_are_not_mistaken(tmp_path: Path) -> None:
    """A public key in place of the secret, a broken one, and what is no TOML: said, and never the key itself."""
    make_pair(tmp_path, "laptop")
    (tmp_path / "laptop.public").chmod(0o600)
    with pytest.raises(ConfigError, match="found public but no secret, expected secret ="):
        read_secret(tmp_path / "laptop.public")
    secret = read_secret(tmp_path / "laptop.secret")
    for text in (f'secret = "{secret[:-1]}"', "secret = 3", f'secret = "{secret}x"', "secret"):
        (tmp_path / "laptop.secret").write_text(text)
        with pytest.raises(ConfigError, match=r"laptop\.secret: ") as error:
            read_secret(tmp_path / "laptop.secret")
        assert secret[:-1] not in str(error.value)


def test_a_credential_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where systemd hands the secret over, the folder's is not even looked at; elsewhere the folder's is taken."""
    make_pair(tmp_path / "given", "server")
    (tmp_path / "given" / "server.secret").chmod(0o440)
    make_pair(tmp_path / "keys", "server")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    assert public_of(server_secret(tmp_path / "keys")) == read_public(tmp_path / "given" / "server.public")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # of another service: no such key in it
    assert public_of(server_secret(tmp_path / "keys")) == read_public(tmp_path / "keys" / "server.public")


def test_the_list_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """In its order, by key; no file is nobody; and the file can be read by a daemon that is not its owner."""
    path = tmp_path / "clients.toml"
    assert read_clients(path) == {}
    clients = [client("press-2.left", "gateway"), client("laptop")]
    former = os.umask(0o077)
    try:
        write_clients(path, clients)
    finally:
        os.umask(former)
    assert list(read_clients(path).items()) == [(each.key, each) for each in clients]
    assert mode(path) == 0o644
    write_clients(path, [])
    assert read_clients(path) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["clients.toml"]


KEY = z85.encode(bytes(range(32))).decode()  # the same in every process, as it is part of tests' names
ENTRY = f'[[client]]\nname = "a"\nkey = "{KEY}"\nrole = "read"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENTRY.replace("read", "write"), 'client[0].role: found "write", expected "read" or "gateway"'),
        (ENTRY.replace(KEY, KEY[1:]), "client[0].key: found"),
        (ENTRY.replace(KEY, "#" * 40), "client[0].key: found"),
        (ENTRY.replace('"a"', '"a b"'), 'client[0].name: found "a b"'),
        (ENTRY.replace("role", "rolle"), 'client[0].rolle: unknown key "rolle"; the nearest known one is "role"'),
        ('[[client]]\nname = "a"\n', "client[0].key: found nothing"),
        (ENTRY + ENTRY.replace(KEY, zmq.curve_keypair()[0].decode()), 'found name or key of "a" twice'),
        (ENTRY + ENTRY.replace('"a"', '"b"'), 'found name or key of "b" twice'),
        ('[client]\nname = "a"\n', "expected [[client]] tables"),
        (ENTRY.replace("client", "clients"), "found clients, expected [[client]] tables"),
        ("client = 3", "expected [[client]] tables"),
        ("[[client]\n", "is not TOML"),
    ],
)
def test_a_wrong_list(tmp_path: Path, text: str, expected: str) -> None:
    """Said with place, what was found and what was expected; a list that cannot be understood is never an empty one."""
    path = tmp_path / "clients.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_clients(path)
    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_is_one(raw: bytes) -> None:
    """32 bytes as ZeroMQ writes them; any longer, shorter or larger text is none."""
    text = z85.encode(raw).decode()
    assert is_key(text)
    assert not is_key(text[:-1])
    assert not is_key(text + "0")
    assert not is_key("~" + text[1:])
    assert not is_key("#####" + text[5:])  # five digits, but more than four bytes


def test_a_secure_client(tmp_path: Path) -> None:
    """From then on the socket speaks CURVE; a missing file is said before it connects anywhere."""
    make_pair(tmp_path, "server")
    make_pair(tmp_path, "laptop")
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        secure_client(socket, tmp_path / "laptop.secret", tmp_path / "server.public")
        assert socket.get(zmq.MECHANISM) == zmq.CURVE
        with pytest.raises(MissingError):
            secure_client(socket, tmp_path / "laptop.secret", tmp_path / "none.public")


def test_the_line_names_a_folder(tmp_path: Path) -> None:
    """Relative to the line's file; with it any address may be bound; without it the refusal names it."""
    path = tmp_path / "line.toml"
    path.write_text('[publish]\nkeys = "k"\ngateway = "tcp://0.0.0.0:5572"\n' + LINE)
    assert config.load(path).key_folder == tmp_path / "k"
    path.write_text(LINE)
    assert config.load(path).key_folder is None
    path.write_text('[publish]\ngateway = "tcp://0.0.0.0:5572"\n' + LINE)
    with pytest.raises(ConfigError, match=r'keys = "keys" beside it \(run: edge-inspector keys new server'):
        config.load(path)
    path.write_text('[publish]\nkeys = "k"\ninsecure = true\n' + LINE)
    with pytest.raises(ConfigError, match="insecure: found true beside keys, expected one of the two"):
        config.load(path)

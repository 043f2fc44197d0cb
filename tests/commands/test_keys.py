"""`edge-inspector keys`: from nothing to a client that may enter, and out again; and what it refuses."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_inspector import cli
from edge_inspector.commands import addresses
from edge_inspector.errors import ConfigError
from edge_inspector.keys import ClientKeys, make_pair, read_clients, read_public

Run = Callable[..., str]
LINE = '[line]\nname = "l"\n[[station]]\nname = "s"\nengine = "e"\n[station.camera]\nkind = "boards"\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in a folder of its own; returns what it prints, after checking its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        assert cli.main(["keys", *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def test_from_nothing_to_a_client_and_back(run: Run) -> None:
    """Each step prints the next one, and the list is what it says."""
    said = run("new", "server")
    assert read_public(Path("keys/server.public")) in said
    assert "edge-inspector keys new NAME" in said
    said = run("new", "laptop")
    key = read_public(Path("keys/laptop.public"))
    assert key in said
    assert "edge-inspector keys allow laptop --role" in said
    assert read_clients(Path("keys/clients.toml")) == {}
    assert "not allowed" in run("list")
    assert "server.public" in run("allow", "laptop", "--role", "read")
    assert read_clients(Path("keys/clients.toml"))[key].role == "read"
    run("allow", "laptop", "--role", "gateway")
    assert [client.role for client in read_clients(Path("keys/clients.toml")).values()] == ["gateway"]
    rows = [line.split() for line in run("list").splitlines()]
    assert rows[1] == ["laptop", "gateway", key]
    assert rows[2][:3] == ["server", "the", "daemon"]
    run("revoke", "laptop")
    assert read_clients(Path("keys/clients.toml")) == {}
    assert "not allowed" in run("list")


def test_a_key_from_elsewhere(run: Run, tmp_path: Path) -> None:
    """A public key that somebody sent, or that the log names: it needs a name, and is not taken twice."""
    key = make_pair(tmp_path / "away", "plc")
    assert "--name NAME" in run("allow", key, "--role", "gateway", code=78)
    run("allow", key, "--role", "gateway", "--name", "press")
    assert read_clients(Path("keys/clients.toml"))[key].name == "press"
    assert "in the list already, as press" in run("allow", key, "--role", "read", "--name", "other", code=1)
    assert 'name: found "a b"' in run(
        "allow", make_pair(tmp_path / "away", "x"), "--role", "read", "--name", "a b", code=78
    )
    assert len(read_clients(Path("keys/clients.toml"))) == 1


def test_another_folder(run: Run, tmp_path: Path) -> None:
    """--folder is where everything happens, and the next step's command has it."""
    assert "--folder 'my keys'" in run("new", "laptop", "--folder", "my keys")
    run("allow", "laptop", "--role", "read", "--folder", "my keys")
    assert len(read_clients(tmp_path / "my keys" / "clients.toml")) == 1
    assert not (tmp_path / "keys").exists()


def test_what_is_refused(run: Run) -> None:
    """Each with what mends it; nothing is written."""
    assert "edge-inspector keys new server" in run("list", code=1)
    assert "edge-inspector keys new laptop --folder keys" in run("allow", "laptop", "--role", "read", code=3)
    assert "is no name for a key" in run("new", "../laptop", code=78)
    assert "there is nobody" in run("revoke", "laptop", code=1)
    run("new", "server")
    assert "is there already" in run("new", "server", code=1)
    assert "always allowed" in run("allow", "server", "--role", "read", code=78)
    Path("keys/clients.toml").write_text("[[client]\n")
    run("new", "laptop")
    assert "is not TOML" in run("allow", "laptop", "--role", "read", code=78)
    assert Path("keys/clients.toml").read_text() == "[[client]\n"  # what cannot be read is not written over


def test_with_which_keys_a_command_comes(tmp_path: Path) -> None:
    """The line's file names all of it; a key of one's own, and the daemon's, can be given; an address has none."""
    path = tmp_path / "line.toml"
    path.write_text('[publish]\nkeys = "k"\n' + LINE)

    def keys(target: object, *options: str) -> ClientKeys | None:
        parser = argparse.ArgumentParser()
        addresses.arguments(parser)
        return addresses.keys(parser.parse_args([str(target), *options]))

    folder, address = tmp_path / "k", "tcp://10.0.0.1:5571"
    own, server = Path("x/me.secret"), Path("y/s.public")
    assert keys(path) == ClientKeys(folder / "server.secret", folder / "server.public")
    assert keys(path, "--key", str(own)) == ClientKeys(own, folder / "server.public")
    assert keys(address, "--key", str(own)) == ClientKeys(own, Path("x/server.public"))
    assert keys(address, "--key", str(own), "--server-key", str(server)) == ClientKeys(own, server)
    assert keys(address) is None
    with pytest.raises(ConfigError, match="--server-key without --key"):
        keys(address, "--server-key", str(server))
    path.write_text(LINE)
    assert keys(path) is None

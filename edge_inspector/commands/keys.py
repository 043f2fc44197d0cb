"""Make CURVE keys, and say who may enter a line with them. A running daemon follows the list within a second."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..errors import ConfigError, FailedError
from ..keys import CLIENTS, ROLES, SERVER, Client, is_key, make_pair, read_clients, read_public, write_clients
from ..tables import NAME


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, with whose key, in which folder."""
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--folder", type=Path, default=Path("keys"), help="the key folder (keys)")
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    new = what.add_parser("new", parents=[folder], help="make a pair of keys: NAME.secret and NAME.public")
    new.add_argument("name", metavar="NAME", help=f"whose; `{SERVER}` is the daemon's")
    what.add_parser("list", parents=[folder], help="who may enter, and who has a key here and may not")
    allow = what.add_parser("allow", parents=[folder], help="let a key in, or give it another role")
    allow.add_argument("who", metavar="NAME|KEY", help="NAME.public in the folder, or a public key in single quotes")
    allow.add_argument("--role", choices=ROLES, required=True, help="read: verdicts; gateway: triggers as well")
    allow.add_argument("--name", help="what to call a KEY")
    revoke = what.add_parser("revoke", parents=[folder], help="let a key in no more, also where it is connected")
    revoke.add_argument("name", metavar="NAME")


def main(args: argparse.Namespace) -> int:
    """Do it, and say what comes next."""
    if args.what == "new":
        _new(args.folder, args.name)
    elif args.what == "list":
        _list(args.folder)
    elif args.what == "allow":
        _allow(args.folder, args)
    else:
        _revoke(args.folder, args.name)
    return 0


def _new(folder: Path, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f'"{name}" is no name for a key: letters, digits, "_", "-" and "."')
    public = make_pair(folder, name)
    print(f"{folder / name}.secret  the secret: only its owner may read it, and it belongs on one machine")
    print(f"{folder / name}.public  {public}")
    if name == SERVER:
        print(f'next: keys = "{folder}" in [publish] of the line\'s file, and a key for each client: ', end="")
        print(_command(folder, "new", "NAME"))
    else:
        print(f"next: {_command(folder, 'allow', name)} --role {'|'.join(ROLES)}")


def _list(folder: Path) -> None:
    clients = read_clients(folder / CLIENTS)
    rows = [(client.name, client.role, key) for key, client in clients.items()]
    for path in sorted(folder.glob("*.public")):
        key = read_public(path)
        if key not in clients:
            rows.append((path.stem, "the daemon" if path.stem == SERVER else "not allowed", key))
    if not rows:
        raise FailedError(f"there are no keys in {folder}; make the daemon's: {_command(folder, 'new', SERVER)}")
    for name, role, key in (("NAME", "ROLE", "PUBLIC KEY"), *rows):
        print(f"{name:16} {role:12} {key}")


def _allow(folder: Path, args: argparse.Namespace) -> None:
    path = folder / f"{args.who}.public"
    if is_key(args.who) and not path.is_file():
        if args.name is None:
            raise ConfigError("a key needs a name for the list and the log: --name NAME")
        name, key = args.name, args.who
    else:
        name, key = args.name or args.who, read_public(path)
    if SERVER in (name, args.who):
        raise ConfigError(f"`{SERVER}` is the daemon's own key, which is always allowed where its secret can be read")
    clients = read_clients(folder / CLIENTS)
    taken = clients.get(key)
    if taken is not None and taken.name != name:
        raise FailedError(f"that key is in the list already, as {taken.name}; use that name, or revoke it first")
    try:
        client = Client(name=name, key=key, role=args.role)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    others = [other for other in clients.values() if other.name != name]
    write_clients(folder / CLIENTS, (*others, client))
    print(f"{name} may enter: {'the verdicts' if args.role == 'read' else 'both endpoints'}")
    print(f"next: give it {SERVER}.public, and where it runs: edge-inspector subscribe ADDRESS --key {name}.secret")


def _revoke(folder: Path, name: str) -> None:
    clients = read_clients(folder / CLIENTS)
    others = [client for client in clients.values() if client.name != name]
    if len(others) == len(clients):
        known = ", ".join(client.name for client in others) or "nobody"
        raise FailedError(f'"{name}" is not in the list {folder / CLIENTS}; there is {known}')
    write_clients(folder / CLIENTS, others)
    print(f"{name} may not enter any more; a running daemon turns it out within a second")


def _command(folder: Path, what: str, name: str) -> str:
    where = "" if folder == Path("keys") else f" --folder {shlex.quote(str(folder))}"
    return f"edge-inspector keys {what} {name}{where}"

"""scaledreamer keys: create, list, revoke; also while a server runs on the same data."""

import json
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scaledreamer.server.database import FILE, connect
from scaledreamer.server.keys import Scope, create_key, list_keys, revoke_key

keys = typer.Typer(no_args_is_help=True, help="API keys of a server: create, list, revoke.")
DataOption = Annotated[Path, typer.Option(help="the server's data folder", envvar="SCALEDREAMER_DATA")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="who it is for; keys of one name share their jobs")],
    scope: Annotated[
        Scope, typer.Option(help="read: look at jobs, take files; generate: also start them")
    ] = "generate",
    data: DataOption = Path("data"),
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, once."""
    with closing(connect(data / FILE)) as connection:
        others = [key.id for key in list_keys(connection) if key.name == name and key.revoked is None]
        key, secret = create_key(connection, name, scope, time.time())
    if as_json:
        print(json.dumps({"id": key.id, "name": key.name, "scope": key.scope, "key": secret}))
        return
    print(secret)
    print(f"key {key.id} ({scope}); it is shown this once", file=sys.stderr)
    if others:
        print(f"it shares the jobs of {', '.join(others)}, for they have the same name", file=sys.stderr)


@keys.command(name="list")
def list_(data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """Show all keys, without their secrets."""
    with closing(connect(data / FILE)) as connection:
        found = list_keys(connection)
    if as_json:
        print(json.dumps([{k: v for k, v in asdict(key).items() if k != "digest"} for key in found]))
        return
    for key in found:
        made = time.strftime("%Y-%m-%d", time.gmtime(key.created))
        print(f"{key.id}  {key.scope:8}  {made}  {'revoked' if key.revoked else 'valid  '}  {key.name}")


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="as `keys list` shows it")],
    data: DataOption = Path("data"),
) -> None:
    """Make a key worthless; a running server notices within a second."""
    with closing(connect(data / FILE)) as connection:
        revoke_key(connection, key, time.time())
        left = [each for each in list_keys(connection) if each.revoked is None]
    print(f"revoked {key}")
    if not left:
        print("no key is left: on the loopback the server is open, elsewhere it answers nobody", file=sys.stderr)

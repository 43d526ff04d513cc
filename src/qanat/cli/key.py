"""`qanat key`: API keys of a project, running or not. A running project hears of changes at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Project

if TYPE_CHECKING:
    from qanat.secure.keyring import Keyring
    from qanat.secure.keys import Key

app = typer.Typer(no_args_is_help=True, help="API keys: what programs may read, write and ask.")

_FILE = "keys.json"


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called in lists and logs.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="May be repeated: read:STREAM, write:STREAM, query, devices, dead-letters, admin.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="It counts for so long: 90 d.  [default: for ever]")
    ] = None,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown once."""
    from qanat.cli.output import say_json
    from qanat.clock import now_ms
    from qanat.model.devices import parse_time
    from qanat.secure.keys import Key, check_name, draw_key, key_digest, parse_scopes

    now = now_ms()
    until = None if expires is None else now + parse_time(expires, "--expires")
    text, scopes = draw_key(), parse_scopes(scope or ())
    key = Key(check_name(name), key_digest(text), scopes, now, until)
    _keyring(directory, data, make=True).add(key)
    if as_json:
        say_json(_described(key, now) | {"key": text})
        return
    typer.echo(text)
    typer.echo(f"added {name}; the key is shown this once", err=True)


@app.command("list")
def list_keys(directory: Project = Path(), data: Data = None, as_json: Json = False) -> None:
    """List keys, without their text."""
    from qanat.cli.output import say_json
    from qanat.clock import now_ms

    keys = [_described(key, now_ms()) for key in _keyring(directory, data).listed()]
    if as_json:
        for key in keys:
            say_json(key)
        return
    _print(keys)


@app.command()
def revoke(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The keys.")],
    directory: Project = Path(),
    data: Data = None,
) -> None:
    """Let keys count no longer; their open connections are closed."""
    _keyring(directory, data).revoke(names)
    typer.echo(f"revoked {', '.join(names)}", err=True)


def keys_file(data: Path) -> Path:
    """Where keys lie in the folder of the log."""
    return data / _FILE


def has_keys(data: Path) -> bool:
    """Whether there ever was a key."""
    from qanat.clock import now_ms
    from qanat.secure.keyring import Keyring

    return Keyring(keys_file(data), now_ms).known > 0


def _keyring(directory: Path, data: Path | None, make: bool = False) -> Keyring:
    from qanat.cli.project import data_folder
    from qanat.clock import now_ms
    from qanat.errors import ConfigError
    from qanat.secure.keyring import Keyring

    if not directory.is_dir():
        raise ConfigError(f"{directory} is no folder", hint="say where the project is: --dir DIR")
    path = keys_file(data_folder(directory, data))
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.is_file():
        raise ConfigError(f"there are no keys in {path.parent}", hint="qanat key add NAME --scope read:STREAM")
    return Keyring(path, now_ms)


def _described(key: Key, now: int) -> dict[str, object]:
    from qanat.clock import instant_text

    state = "valid" if key.counts(now) else "revoked" if key.revoked_at is not None else "expired"
    return {
        "name": key.name,
        "state": state,
        "scopes": " ".join(key.scopes),
        "created": instant_text(key.created_at),
        "expires": None if key.expires_at is None else instant_text(key.expires_at),
    }


def _print(keys: list[dict[str, object]]) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid

    if keys:
        Grid().write(pa.Table.from_pylist(keys))

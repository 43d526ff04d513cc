"""`qanat bench gateway`: load on a running project, with the log as the judge. What sends is `qanat.sim.load`."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Directory, Json, Params
from qanat.cli.target import Yes, confirm
from qanat.errors import AuthError, ConfigError, ProtocolError

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.log.base import Log
    from qanat.model.streams import Stream
    from qanat.sim.load import Load, LoadResult
    from qanat.sim.load.stored import Stored
    from qanat.sql.plan import Program

app = typer.Typer(no_args_is_help=True, help="Measure a running project.")

_PROTOCOLS = ("mqtt", "http")
_VERSIONS = ("3.1.1", "5")
_WORD_OF = r'"([^"]+)"\s*:\s*"?\$({words})'


@dataclass(frozen=True, slots=True)
class _Marks:
    """Columns by which rows of a load are known in the log: of the client, and of the number that is added up."""

    client: str | None
    checked: str | None


@app.callback()
def _group() -> None:
    """A group, so that `gateway` is said."""


@app.command()
def gateway(  # one parameter per option of the command
    directory: Directory = Path(),
    stream: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to.  [default: the only stream that takes input]")
    ] = None,
    protocol: Annotated[str, typer.Option(help="mqtt or http.")] = "mqtt",
    qos: Annotated[int, typer.Option(min=0, max=1, help="0: sent and forgotten, 1: acknowledged one by one.")] = 1,
    rate: Annotated[float, typer.Option(min=0, help="Rows per second; 0: as fast as they are taken.")] = 0.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, help="How many at once.")] = 8,
    clients: Annotated[int, typer.Option(min=1, help="Different client ids in the payloads.")] = 1000,
    in_flight: Annotated[int, typer.Option(min=1, max=50_000, help="Unacknowledged at most, per connection.")] = 2000,
    rows: Annotated[int, typer.Option(min=1, max=50_000, help="In one HTTP body.")] = 1000,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="With $client, $time, $seconds, $value, $whole in it.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Where it listens.  [default: as in qanat.yaml]")] = None,
    port: Annotated[int | None, typer.Option(help="Which port.  [default: as in qanat.yaml]")] = None,
    mqtt_version: Annotated[str, typer.Option(help="3.1.1 or 5.")] = "3.1.1",
    username: Annotated[str | None, typer.Option(help="User of every connection.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="QANAT_BENCH_PASSWORD", help="Its password.", show_envvar=True)
    ] = None,
    data: Data = None,
    param: Params = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send rows to a running project, as fast as it takes them or at a rate, and count what is in the log then."""
    from qanat.cli.project import compile_folder, open_folder, parse_params

    if protocol not in _PROTOCOLS or mqtt_version not in _VERSIONS:
        wrong = ("--protocol", _PROTOCOLS) if protocol not in _PROTOCOLS else ("--mqtt-version", _VERSIONS)
        raise ConfigError(f"{wrong[0]} is one of {', '.join(wrong[1])}")
    folder = open_folder(directory, data)
    target = _stream(folder, compile_folder(folder, parse_params(param or [])), stream)
    given = {
        "protocol": protocol, "qos": qos, "rate": rate, "seconds": seconds, "connections": connections,
        "clients": clients, "in_flight": in_flight, "rows": rows, "mqtt_version": mqtt_version, "username": username,
        "password": password, "payload": payload, **_place(folder, protocol, host, port),
    }  # fmt: skip
    load = _load(target, given)
    if not confirm(yes, f"The rows stay in {target.name}, and pipelines read them. Go on?"):
        raise typer.Exit(1)
    result, stored = _run(folder, load, target)
    _tell(load, result, stored, as_json)
    if stored is not None and not stored.matches(result, checked=_marks(load.payload, target).checked is not None):
        raise typer.Exit(1)


def _stream(folder: Folder, program: Program, name: str | None) -> Stream:
    from qanat.cli.streams import all_streams, written_by
    from qanat.model.streams import DEAD_LETTERS, LATE

    streams = all_streams(program)
    inputs = sorted(set(streams) - {DEAD_LETTERS, LATE} - set(written_by(program)))
    if name is None and len(inputs) == 1:
        name = inputs[0]
    if name not in inputs:
        problem = "which stream?" if name is None else f"{name} is no stream of {folder.path} that takes input"
        raise ConfigError(problem, hint=f"--stream with one of: {', '.join(inputs) or 'none'}")
    return streams[name]


def _place(folder: Folder, protocol: str, host: str | None, port: int | None) -> dict[str, object]:
    declared = folder.project.listeners.mqtt if protocol == "mqtt" else folder.project.listeners.http
    found = declared.port if port is None else port
    if not found:
        raise ConfigError(f"qanat.yaml names no port for {protocol}", hint="say it: --port N")
    return {"host": host or declared.host, "port": found}


def _load(target: Stream, given: Mapping[str, object]) -> Load:
    import msgspec

    from qanat.sim.load import Load, template_for
    from qanat.sim.load.payloads import Mold

    payload = given["payload"] or template_for(target)[0]
    load = {**given, "payload": payload, "stream": target.name, "name": secrets.token_hex(2)}
    found = msgspec.convert(load, Load)
    Mold.of(found.payload)
    return found


def _marks(payload: str, target: Stream) -> _Marks:
    columns = {column.name for column in target.columns}
    found: dict[str, str | None] = {}
    for words in ("client", "value|whole"):
        names = [match[1] for match in re.finditer(_WORD_OF.format(words=words), payload)]
        found[words] = next((name for name in names if name in columns), None)
    return _Marks(found["client"], found["value|whole"])


def _run(folder: Folder, load: Load, target: Stream) -> tuple[LoadResult, Stored | None]:
    """What was sent, and what of it is stored; None where the log is not here."""
    from qanat.log import open_log
    from qanat.sim.load.stored import read_stored

    log: Log | None = open_log(folder.log_url, read_only=True) if (folder.data / "log.db").is_file() else None
    try:
        since = {} if log is None else dict(log.status()[target.name].ends)
        result = _send(load)
        if log is None:
            return result, None
        marks = _marks(load.payload, target)
        marked = None if marks.client is None else (marks.client, f"{load.name}-")
        return result, read_stored(log, target.name, marks.checked, since, marked)
    finally:
        if log is not None:
            log.close()


def _send(load: Load) -> LoadResult:
    """In a process of its own, so that sending takes nothing of what is measured but its processor time."""
    import msgspec

    from qanat.sim.load import LoadResult

    command = [sys.executable, "-m", "qanat.sim.load"]
    done = subprocess.run(command, input=msgspec.json.encode(load), capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        message, _, hint = done.stderr.decode(errors="replace").strip().partition("\n  hint: ")
        errors = {AuthError.exit_code: AuthError, ConfigError.exit_code: ConfigError}
        raise errors.get(done.returncode, ProtocolError)(message, hint=hint or None)
    return msgspec.json.decode(done.stdout, type=LoadResult)


def _tell(load: Load, result: LoadResult, stored: Stored | None, as_json: bool) -> None:
    from qanat.cli.output import say_json

    if as_json:
        import msgspec

        found = {"rows": stored.rows, "checksum": stored.checksum} if stored is not None else None
        say_json({"stream": load.stream, **msgspec.to_builtins(result), "stored": found})
        return
    typer.echo(f"{result.acknowledged:,} rows to {load.stream} in {result.seconds:.2f} s: {result.rate:,.0f} rows/s")
    if result.ack_ms is not None:
        ack = result.ack_ms
        typer.echo(f"acknowledged after {ack.p50:.1f} ms (median), {ack.p99:.1f} ms (99 %), {ack.largest:.1f} ms (all)")
    if result.refused:
        typer.echo(f"{result.refused:,} rows were told to come later")
    typer.echo(f"the sender used {result.cpu_seconds:.2f} s of processor time, and was {result.late_ms:.1f} ms late")
    if stored is None:
        typer.echo("the log is not in this folder: what is stored was not looked at")
        return
    right = "as acknowledged" if stored.rows == result.acknowledged else f"NOT the {result.acknowledged:,} acknowledged"
    typer.echo(f"in the log: {stored.rows:,} rows, {right}; sum {stored.checksum:,.1f}, sent {result.checksum:,.1f}")

"""`qanat sink`: where the rows of streams are carried, and whether a target can be reached. Carries nothing itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Params, Project
from qanat.errors import ConfigError, QanatError

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.log.base import Log
    from qanat.model.sinks import Sink
    from qanat.model.streams import Stream
    from qanat.notify.messages import Message

app = typer.Typer(no_args_is_help=True, help="Where the rows of streams are carried: webhooks, mail, brokers.")


@app.command("list")
def list_sinks(project: Project = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show all sinks: their stream, target, rows that wait and alerts that are raised."""
    from qanat.cli.output import say_json
    from qanat.cli.project import open_folder

    folder = open_folder(project, data)
    log = _log_of(folder)
    try:
        found = [_described(name, sink, log) for name, sink in folder.project.sinks.items()]
    finally:
        if log is not None:
            log.close()
    for one in found:
        if as_json:
            say_json(one)
            continue
        state = f"{one['waiting']:,} waiting, {one['raised']:,} raised" if one["has_run"] else "has not run yet"
        typer.echo(f"{one['name']}: {one['stream']} -> {one['way']} {one['where']} ({state})")
    if not found and not as_json:
        typer.echo("no sinks in qanat.yaml; docs/alerts.md shows how to write one")


@app.command("test")
def send_test(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The sink.")],
    project: Project = Path(),
    data: Data = None,
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Send a test message with an example row, at once and past everything that waits."""
    from qanat.cli.output import say_json
    from qanat.cli.project import compile_folder, open_folder, parse_params
    from qanat.cli.streams import all_streams
    from qanat.notify.target import DownError, RefusedError, open_target
    from qanat.notify.thread import stream_of

    folder = open_folder(project, data)
    sink = _sink_of(folder, name)
    stream = stream_of(name, sink, all_streams(compile_folder(folder, parse_params(param or []))))
    target = open_target(name, sink, [column.name for column in stream.columns], folder.path)
    fault: str | None = None
    try:
        target.send([_example(name, sink, stream)])
    except (DownError, RefusedError) as error:
        fault = error.message
    if as_json:
        say_json({"name": name, "where": target.where, "delivered": fault is None, "error": fault})
        if fault is not None:
            raise typer.Exit(QanatError.exit_code)
    elif fault is not None:
        raise QanatError(f"sink {name}: the test message was not delivered: {fault}")
    else:
        typer.echo(f"sink {name}: {target.where} has taken the test message")


def _sink_of(folder: Folder, name: str) -> Sink:
    sink = folder.project.sinks.get(name)
    if sink is None:
        raise ConfigError(
            f"no sink {name!r}", hint=f"there are: {', '.join(folder.project.sinks) or 'none'}; qanat sink list"
        )
    return sink


def _example(name: str, sink: Sink, stream: Stream) -> Message:
    """A message as the sink would send, with a row that says of itself that it is made up."""
    from qanat.clock import now_ms
    from qanat.codec.json import encode_lines
    from qanat.notify.messages import RAISED, Message
    from qanat.notify.reader import example_row

    row = encode_lines(example_row(stream)).rstrip()
    return Message(name, stream.name, 0, now_ms(), RAISED, "/".join(sink.key) or "test", now_ms(), row, test=True)


def _log_of(folder: Folder) -> Log | None:
    """The log, where the project has run."""
    from qanat.cli.project import existing_log_url
    from qanat.log import open_log

    try:
        return open_log(existing_log_url(folder.path, folder.data), read_only=True)
    except ConfigError:
        return None


def _described(name: str, sink: Sink, log: Log | None) -> dict[str, object]:
    from qanat.notify.raised import Raised
    from qanat.notify.sender import consumer_of, waiting

    has_run = log is not None and bool(log.positions(consumer_of(name)))
    raised = Raised(name, sink)
    if log is not None:
        raised.load([log.state(key) for key in raised.state_keys])
    return {
        "name": name,
        "stream": sink.stream,
        "way": sink.ways[0],
        "where": _where(sink),
        "has_run": has_run,
        "waiting": waiting(log, name, sink) if log is not None else 0,
        "raised": len(raised),
    }


def _where(sink: Sink) -> str:
    """Where to, without what may be secret in a URL."""
    from urllib.parse import urlsplit

    if sink.email is not None:
        return ", ".join(sink.email.to)
    parts = urlsplit(sink.webhook.url if sink.webhook is not None else sink.mqtt.url if sink.mqtt is not None else "")
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return where if sink.mqtt is None else f"{where} {sink.mqtt.topic}"

"""`qanat sources`: what feeds the streams of a project from outside, and what becomes of a payload. Stores nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Directory, Json, Params
from qanat.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat.cli.project import Folder
    from qanat.gateway.admit import Batch
    from qanat.gateway.routes import Route, Routes
    from qanat.model.sources import Source
    from qanat.model.streams import Stream


def sources(
    directory: Directory = Path(),
    data: Data = None,
    attempt: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--try",
            metavar="TOPIC PAYLOAD",
            help="Show the rows that this message would become; @FILE takes the payload from a file, @- from stdin.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="With --try: a source that is a broker or a folder.")
    ] = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", metavar="TYPE", help="With --try: what the message says it is.")
    ] = None,
    prop: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME=VALUE", help="With --try: a user property; may be repeated."),
    ] = None,
    client: Annotated[str, typer.Option(metavar="ID", help="With --try: who sends it.")] = "someone",
    param: Params = None,
    as_json: Json = False,
) -> None:
    """Show what feeds the streams, and what becomes of a payload."""
    from qanat.cli.project import compile_folder, open_folder, parse_params
    from qanat.cli.streams import all_streams, written_by
    from qanat.model.streams import DEAD_LETTERS, LATE

    folder = open_folder(directory, data)
    program = compile_folder(folder, parse_params(param or []))
    streams = all_streams(program)
    inputs = frozenset(streams) - {DEAD_LETTERS, LATE} - written_by(program)
    routes = _routes(folder, streams, inputs)
    if attempt is None:
        _list(folder, routes, as_json)
        return
    said = {f"property.{name}": value for name, value in parse_params(prop or []).items()}
    if content_type is not None:
        said["content_type"] = content_type
    topic, payload = attempt[0], _payload(attempt[1])
    route = _route(routes, topic, source)
    _show(route, _attempt(folder, routes, streams, route, payload, topic, client, said), as_json)


def _routes(folder: Folder, streams: Mapping[str, Stream], inputs: frozenset[str]) -> Routes:
    """As `qanat up` would have them. Schemas are those of the registry; where there is none yet, of the SQL."""
    from qanat.cli.contracts import registry_path, terms_of
    from qanat.contracts.decoders import Contracts
    from qanat.contracts.registry import Registry
    from qanat.contracts.streams import bind
    from qanat.gateway.routes import Routes

    path = registry_path(folder.data)
    registry = Registry(path if path.exists() else None)
    declared = [streams[name] for name in sorted(inputs)]
    bound = bind(registry, declared, terms_of(folder, streams), dry_run=path.exists())
    return Routes(streams, inputs, folder.project.sources, Contracts(registry, bound))


def _list(folder: Folder, routes: Routes, as_json: bool) -> None:
    from qanat.cli.output import say_json

    for name, declared in folder.project.sources.items():
        way, where = _where(declared)
        filled = dict(routes.feeds[name].filled)
        said = declared.format or "by content type, else json"
        if as_json:
            say_json(
                {
                    "name": name,
                    "way": way,
                    "where": where,
                    "stream": declared.stream,
                    "format": declared.format,
                    "columns": filled,
                }
            )
            continue
        typer.echo(f"{name}: {way} {', '.join(where)} -> {declared.stream} ({said})")
        for column, text in filled.items():
            typer.echo(f"    {column} = {text}")
    if as_json:
        for name in routes.inputs:
            where = [name, f"{name}/#"]
            say_json({"name": None, "way": "topic", "where": where, "stream": name, "format": None, "columns": {}})
    else:
        typer.echo(f"every stream that takes input: topic NAME, NAME/# -> NAME: {', '.join(routes.inputs) or 'none'}")


def _where(declared: Source) -> tuple[str, list[str]]:
    if declared.topic is not None:
        return "topic", [declared.topic]
    if declared.mqtt is not None:
        return "mqtt", list(declared.mqtt.topics)
    return "folder", [declared.folder.path if declared.folder is not None else ""]


def _payload(text: str) -> bytes:
    if text == "@-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()


def _route(routes: Routes, topic: str, source: str | None) -> Route:
    if source is None:
        return routes.resolve(topic)
    try:
        return routes.intake(source).resolve(topic)
    except KeyError:
        raise ConfigError(
            f"no source {source!r} that is a broker or a folder",
            hint="without --source the topic is one of our own listeners; list them all: qanat sources",
        ) from None


def _attempt(
    folder: Folder,
    routes: Routes,
    streams: Mapping[str, Stream],
    route: Route,
    payload: bytes,
    topic: str,
    client: str,
    said: Mapping[str, str],
) -> Batch:
    """What a flush of this one message would store."""
    from qanat.clock import now_ms
    from qanat.codec.json import decode_payloads
    from qanat.gateway.admit import admit, open_inlet
    from qanat.gateway.routes import Sender

    if route.refusal is not None:
        raise ConfigError(route.refusal, hint=f"streams that take input: {', '.join(routes.inputs) or 'none'}")
    offer = route.offer([payload], Sender("mqtt", topic, client, said), now_ms(), lambda _: None)
    inlets = {name: open_inlet(streams[name], decode_payloads) for name in routes.inputs}
    return admit([offer], inlets, int(folder.project.max_future_skew))


def _show(route: Route, batch: Batch, as_json: bool) -> None:
    import orjson

    from qanat.cli.output import say_json
    from qanat.codec.json import encode_lines
    from qanat.model.streams import DEAD_LETTERS

    rows = b"".join(encode_lines(one.rows) for one in batch.appends if one.stream != DEAD_LETTERS)
    name = route.feed.source if route.feed is not None else None
    dead = batch.verdicts[0].dead
    if as_json:
        found = [orjson.loads(line) for line in rows.splitlines()]
        reason = dead[0].reason if dead else None
        say_json({"source": name, "stream": route.name, "rows": found, "error": reason})
        if dead:
            raise typer.Exit(DataError.exit_code)
        return
    if dead:
        raise DataError(f"this would be a dead letter of {route.name}: {dead[0].reason}")
    typer.echo(f"{'the topic of the stream' if name is None else f'source {name}'} -> {route.name}")
    typer.echo(rows.decode(), nl=False)

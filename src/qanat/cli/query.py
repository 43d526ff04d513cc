"""`qanat query`: one SELECT over the streams of a project, running or stopped. DuckDB answers; this prints."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qanat.cli.options import Data, Json, Project
from qanat.errors import ConfigError

if TYPE_CHECKING:
    from qanat.query import Handle


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT in DuckDB's SQL; each stream is a table.")],
    directory: Project = Path(),
    data: Data = None,
    as_of: Annotated[
        list[str] | None,
        typer.Option(
            "--as-of",
            metavar="WHEN",
            help="Streams as they were: a time of arrival, or STREAM/PARTITION=OFFSET; may be repeated.",
        ),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="End after so long (30 s).  [default: query.timeout]")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
) -> None:
    """Ask the streams of a project, running or stopped."""
    from qanat.cli.asking import asked_folder, open_query
    from qanat.cli.output import Grid, for_people
    from qanat.cli.project import existing_log_url
    from qanat.log import open_log
    from qanat.query import Handle, parse_as_of

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other", hint="leave one out")
    folder, then = asked_folder(directory, data), parse_as_of(as_of or ())
    if timeout is not None:
        folder = _with_timeout(folder, timeout)
    log = open_log(existing_log_url(directory, data), read_only=True)
    handle = Handle()
    try:
        with open_query(folder, log) as asked, _cancelling(handle):
            if for_people() and not as_json and not as_csv:
                Grid().write(asked.table(sql, as_of=then, handle=handle))
            else:
                _write(asked.batches(sql, as_of=then, handle=handle), as_csv=as_csv)
    finally:
        log.close()


def _write(batches: Iterator[Any], *, as_csv: bool) -> None:
    from qanat.cli.output import write_csv, write_json

    header = True
    for rows in batches:
        if as_csv:
            write_csv(rows, header=header)
        else:
            write_json(rows)
        header = False


def _with_timeout(folder: Any, timeout: str) -> Any:
    from dataclasses import replace

    import msgspec

    from qanat.model.project import parse_duration

    try:
        length = parse_duration(timeout)
    except ValueError as error:
        raise ConfigError(f"--timeout: {error}") from error
    settings = msgspec.structs.replace(folder.project.query, timeout=length)
    return replace(folder, project=msgspec.structs.replace(folder.project, query=settings))


@contextmanager
def _cancelling(handle: Handle) -> Iterator[None]:
    """Ctrl-C ends the query in DuckDB, which would otherwise hear of it only when it has an answer."""

    def interrupt(_number: int, _frame: object) -> None:
        handle.cancel()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

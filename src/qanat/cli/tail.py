"""`qanat tail`: the rows of a stream as they arrive, read beside the process that writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qanat.cli.options import Data, Json, Project


def tail(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="beginning, end, -N (the last N rows), an offset, or a time of arrival such as 2026-11-21T10:00:00.",
        ),
    ] = "-10",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more rows, or end.")] = True,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print the rows of a stream, and those that arrive."""
    from qanat.cli.output import Grid, for_people, write_json
    from qanat.cli.project import existing_log_url
    from qanat.log import open_log
    from qanat.query import parse_start
    from qanat.query import tail as rows_of

    begin = parse_start(start)
    write = write_json if as_json or not for_people() else Grid().write
    log = open_log(existing_log_url(directory, data), read_only=True)
    try:
        for chunk in rows_of(log, stream, begin, follow=follow):
            write(chunk.rows)
    finally:
        log.close()

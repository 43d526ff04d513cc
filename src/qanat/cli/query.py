"""`qanat query`: one SELECT over the streams of a project, running or stopped. DuckDB answers; this prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qanat.cli.options import Data, Json, Project
from qanat.errors import ConfigError


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT in DuckDB's SQL; each stream is a table.")],
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
) -> None:
    """Ask the streams of a project, running or stopped."""
    from qanat.cli.output import Grid, for_people, write_csv, write_json
    from qanat.cli.project import existing_log_url
    from qanat.query import Query

    if as_json and as_csv:
        raise ConfigError("--json and --csv exclude each other", hint="leave one out")
    with Query(existing_log_url(directory, data)) as asked:
        if for_people() and not as_json and not as_csv:
            Grid().write(asked.table(sql))
            return
        header = True
        for rows in asked.batches(sql):
            if as_csv:
                write_csv(rows, header=header)
            else:
                write_json(rows)
            header = False

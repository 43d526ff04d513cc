"""`qanat status`: what the log of a project holds and how far its pipelines have read. Looks at no process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qanat.cli.options import Data, Directory, Json, Params

if TYPE_CHECKING:
    from qanat.log.base import Log, StreamStatus


def status(directory: Directory = Path(), data: Data = None, param: Params = None, as_json: Json = False) -> None:
    """Show streams and the lag of pipelines."""
    from qanat.cli.output import say_json
    from qanat.cli.project import compile_folder, existing_log_url, open_folder, parse_params
    from qanat.cli.streams import lags
    from qanat.log import open_log

    log = open_log(existing_log_url(directory, data), read_only=True)
    try:
        streams = [_stream(found) for found in log.status().values()]
        behind = lags(log, compile_folder(open_folder(directory, data), parse_params(param or [])))
        pipelines = [{"name": name, "lag": rows, "error": _failure(log, name)} for name, rows in behind.items()]
    finally:
        log.close()
    if as_json:
        say_json({"streams": streams, "pipelines": pipelines})
        return
    _print(streams)
    for found in pipelines:
        name, rows, error = found.values()
        typer.echo(f"pipeline {name}: {rows:,} rows behind" if rows else f"pipeline {name}: has read everything")
        if error:
            typer.echo(f"pipeline {name} FAILED: {error}")


def _failure(log: Log, pipeline: str) -> str | None:
    """Why a pipeline stopped, if it has not been started since."""
    import orjson

    from qanat.sql.embedded.engine import failure_key

    stored = log.state(failure_key(pipeline))
    return None if stored is None else str(orjson.loads(stored)["error"])


def _stream(found: StreamStatus) -> dict[str, object]:
    from qanat.clock import instant_text

    return {
        "name": found.stream.name,
        "partitions": found.stream.partitions,
        "rows": found.rows,
        "bytes": found.bytes,
        "newest": None if found.max_time is None else instant_text(found.max_time),
    }


def _print(streams: list[dict[str, object]]) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid

    if streams:
        Grid().write(pa.Table.from_pylist(streams))

"""`qanat run --batch`: pipelines of a project over all history, lake and log. Writes nothing into the log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from qanat.cli.target import Declared
    from qanat.control.batch import Batch
    from qanat.log.archive import Archive
    from qanat.log.base import Log
    from qanat.model.streams import Stream
    from qanat.sql.plan import Pipeline


def batch(
    path: Path,
    param: list[str] | None,
    state: Path | None,
    wanted: str | None,
    batch_rows: int | None,
    as_json: bool,
    allow_loss: bool,
) -> None:
    """Print the rows of every pipeline, or of the `wanted` one."""
    from qanat.cli.asking import archive_of, asked_folder
    from qanat.cli.target import open_target
    from qanat.errors import ConfigError
    from qanat.log import open_log

    declared = open_target(path, state, param)
    if declared.url is None:
        raise ConfigError("there is no log: there is no history", hint="qanat up")
    chosen = _chosen(declared, wanted)
    log = open_log(declared.url, read_only=True)
    try:
        archive = archive_of(asked_folder(path if path.is_dir() else path.parent, state or path / ".qanat"), log)
        shown = _Shown(several=len(chosen) > 1, as_json=as_json)
        for pipeline in chosen:
            rows = batch_rows or declared.rows
            run = _batch(declared, pipeline.name, log, archive, rows)
            shown.take(pipeline, run.run(allow_loss=allow_loss))
            typer.echo(f"{pipeline.name}: {run.rows_read:,} rows in, {shown.rows:,} out", err=True)
    finally:
        log.close()


def _batch(declared: Declared, name: str, log: Log, archive: Archive | None, rows: int) -> Batch:
    from qanat.control.batch import Batch

    return Batch(declared.program, name, log, archive, live=declared.live, rows=rows)


def _chosen(declared: Declared, wanted: str | None) -> tuple[Pipeline, ...]:
    from qanat.control.pipelines import pipeline_of

    return declared.program.pipelines if wanted is None else (pipeline_of(declared.program, wanted),)


class _Shown:
    """Prints rows as they come; of a stream that holds the latest row per key, those that are left in the end."""

    def __init__(self, *, several: bool, as_json: bool) -> None:
        self._several, self._as_json = several, as_json
        self.rows = 0

    def take(self, pipeline: Pipeline, batches: Iterator[pa.RecordBatch]) -> None:
        """All rows of one pipeline."""
        from qanat.model.streams import CHANGE

        self.rows = 0
        stream = pipeline.sink.stream if pipeline.sink is not None else None
        changes: list[pa.RecordBatch] = []
        for rows in batches:
            if stream is not None and CHANGE in rows.schema.names:
                changes.append(rows)
            else:
                self._print(pipeline.name, rows)
        if stream is not None and changes:
            self._print(pipeline.name, _latest(changes, stream))

    def _print(self, pipeline: str, rows: pa.RecordBatch | pa.Table) -> None:
        import orjson

        from qanat.cli.output import write_json
        from qanat.codec.json import encode_lines

        self.rows += rows.num_rows
        if not (self._several or self._as_json):
            write_json(rows)
        elif rows.num_rows:
            name = orjson.dumps(pipeline).decode()
            for line in encode_lines(rows).decode().split("\n")[:-1]:
                sys.stdout.write(f'{{"pipeline":{name},"row":{line}}}\n')


def _latest(changes: list[pa.RecordBatch], stream: Stream) -> pa.Table:
    from dataclasses import replace

    import pyarrow as pa

    from qanat.log.upserts import latest_rows

    return latest_rows(pa.Table.from_batches(changes), replace(stream, upsert=True))

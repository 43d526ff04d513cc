"""Streaming SQL for devices and events.

    import qanat
    tables = qanat.run("SELECT sensor, temperature FROM readings WHERE temperature > 30", inputs={"readings": rows})
    tables["result"]

`run` computes over tables in memory what `qanat up` computes over a log. Importing this is cheap: what does the work is
loaded by the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from qanat.log.base import Log
    from qanat.model.functions import UserFunction
    from qanat.model.types import Type
    from qanat.serve.client import Client
    from qanat.sql.plan import Program, Table
    from qanat.sql.user_functions import udf
    from qanat.trial.verdict import Result

__all__ = ["connect", "run", "run_cases", "udf"]


def __getattr__(name: str) -> object:
    """`qanat.udf` is loaded when it is first used."""
    if name != "udf":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qanat.sql.user_functions import udf

    return udf


def run(
    sql: str,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, str] | None = None,
    batch_rows: int | None = None,
    functions: Mapping[str, UserFunction] | None = None,
) -> dict[str, pa.Table]:
    """Run a script over tables in memory until its inputs end.

    `inputs`: rows by table name: Arrow tables and batches, Polars or Pandas frames, whatever speaks Arrow. They take
    the place of the table's stream or connector; where the script declares no such table, its columns are those of
    the rows. `params` replace `${NAME}`. `batch_rows` cuts the work and never changes the result. `functions`: what
    `@qanat.udf` made, by the name that the script calls it.

    Returns the rows of every stream that the script writes, by name, a bare SELECT's under `result` (then `result_2`,
    ...), and always `late` and `dead_letters`.

    Raises `SqlError` for what is wrong in the script, `ConfigError` for inputs that it does not use, `DataError` for
    rows that do not fit.
    """
    from qanat.log import open_log
    from qanat.sql.embedded import Engine, EngineOptions

    tables = {name: _as_arrow(name, rows) for name, rows in (inputs or {}).items()}
    program = _compile(sql, tables, params or {}, functions or {})
    fitted = {name: _fit(program.tables[name], rows) for name, rows in tables.items()}
    collected: dict[str, list[pa.Table]] = {}
    options = EngineOptions() if batch_rows is None else EngineOptions(batch_rows=batch_rows)
    log = open_log("memory://")
    try:
        engine = Engine(
            program,
            log,
            options,
            inputs=fitted,
            collect=lambda name, rows: collected.setdefault(name, []).append(rows),
        )
        engine.run()
        return _results(program, log, collected)
    finally:
        log.close()


def run_cases(
    folder: str | Path, pattern: str | None = None, params: Mapping[str, str] | None = None
) -> tuple[Result, ...]:
    """Run the cases of a project, as `qanat test` does: one `Result` per case in `folder/tests/*.yaml`, in their order.

    `pattern` chooses cases whose `FILE: NAME` holds it; `params` replace `${NAME}` in the SQL. A result has `name`,
    `file`, `line`, `passed`, `failures`, and `text()`: why it failed, for people.

    Raises `ConfigError` for a mistake in a case file, `SqlError` for one in the SQL.
    """
    from pathlib import Path

    from qanat.cli.test import load
    from qanat.trial.suite import Wanted, run_suite

    return run_suite(load(Path(folder), params or {}), Wanted(pattern)).results


def connect(
    url: str,
    key: str | None = None,
    *,
    user: tuple[str, str] | None = None,
    timeout: float = 60.0,
    ca: str | None = None,
) -> Client:
    """A client of a running project: rows, SQL, live rows, aggregates, and rows sent to it.

    `url`: http://HOST:PORT; `key`: an API key, `user`: name and password instead; `timeout` (s) of waiting for the next
    bytes; `ca`: a PEM file to trust, for https. Nothing is connected before the first call. Raises `ConfigError` for
    what is no address.
    """
    from qanat.serve.client import Client

    return Client(url, key, user=user, timeout=timeout, ca=ca)


def _as_arrow(name: str, rows: Any) -> pa.Table:
    import pyarrow as pa

    from qanat.errors import DataError

    library = type(rows).__module__.partition(".")[0]
    if library == "pandas":
        return pa.Table.from_pandas(rows, preserve_index=False)
    if library == "polars":
        import polars as pl

        frame = rows.to_frame() if isinstance(rows, pl.Series) else rows.lazy().collect()
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not hasattr(rows, "__arrow_c_stream__"):
        raise DataError(
            f"input {name!r} is a {type(rows).__name__}, not a table",
            hint="pass an Arrow table, a Polars or a Pandas frame; a list of dicts: pyarrow.Table.from_pylist(rows)",
        )
    return pa.table(rows)


def _compile(
    sql: str, inputs: Mapping[str, pa.Table], params: Mapping[str, str], functions: Mapping[str, UserFunction]
) -> Program:
    from qanat.cli.streams import scanned, unfilled
    from qanat.errors import ConfigError, SqlError
    from qanat.sql import compile_script
    from qanat.sql.source import read_source
    from qanat.sql.statements import CreateTable, parse_script

    statements = parse_script(read_source(sql, params, "SQL"))
    declared = {statement.name.text for statement, _ in statements if isinstance(statement, CreateTable)}
    inferred = {name: _table_like(name, rows) for name, rows in inputs.items() if name not in declared}
    program = compile_script(sql, params, "SQL", inferred, functions)
    if not program.pipelines:
        raise SqlError("the script has nothing to run", hint="add an INSERT INTO ... SELECT, or a SELECT")
    unused = sorted(set(inputs) - scanned(program))
    if unused:
        raise ConfigError(f"the script does not read the input {unused[0]!r}", hint="leave it out, or SELECT from it")
    if missing := sorted(unfilled(program) - set(inputs)):
        raise ConfigError(f"nothing fills the table {missing[0]!r}", hint=f'inputs={{"{missing[0]}": rows}}')
    return program


def _table_like(name: str, rows: pa.Table) -> Table:
    """A declaration with the columns of the rows: no watermark, no key."""
    from qanat.model.arrow import from_arrow
    from qanat.model.streams import Column, Stream
    from qanat.sql.plan import Field, Table

    types = [(field.name, from_arrow(field.type)) for field in rows.schema]
    fields = tuple(Field(column, kind) for column, kind in types)
    return Table(name, fields, fields, stream=Stream(name, tuple(Column(column, kind) for column, kind in types)))


def _fit(table: Table, rows: pa.Table) -> pa.Table:
    """The rows with exactly the table's physical columns. Raises `DataError`."""
    import pyarrow as pa

    from qanat.model.arrow import to_arrow

    columns = [_column(table.name, field.name, field.type, rows) for field in table.physical]
    return pa.table(columns, schema=pa.schema([(field.name, to_arrow(field.type)) for field in table.physical]))


def _column(table: str, name: str, kind: Type, rows: pa.Table) -> pa.ChunkedArray:
    import pyarrow as pa

    from qanat.errors import DataError
    from qanat.model.arrow import to_arrow

    arrow = to_arrow(kind)
    column = rows.column(name) if name in rows.column_names else pa.chunked_array([pa.nulls(rows.num_rows, arrow)])
    if column.null_count and not kind.nullable:
        raise DataError(f"input {table!r}: column {name} is {kind}, and {column.null_count} rows have no value for it")
    try:
        # Times lose digits that the declared type does not have, as in Flink; numbers must fit.
        return column.cast(arrow, safe=not pa.types.is_timestamp(arrow))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"input {table!r}: column {name} ({column.type}) does not fit {kind}: {error}") from error


def _results(program: Program, log: Log, collected: Mapping[str, list[pa.Table]]) -> dict[str, pa.Table]:
    import pyarrow as pa

    from qanat.cli.streams import written_by
    from qanat.model.streams import DEAD_LETTERS, LATE
    from qanat.sql.embedded import collected_schema

    results = {}
    for pipeline in program.pipelines:
        if pipeline.sink is None:
            schema = collected_schema(pipeline)
            results[pipeline.name] = pa.concat_tables([schema.empty_table(), *collected.get(pipeline.name, ())])
    for name in (*sorted(written_by(program)), LATE, DEAD_LETTERS):
        results[name] = _stored(log, name)
    return results


def _stored(log: Log, name: str) -> pa.Table:
    """All rows of a stream, in the order in which they came; of one with a PRIMARY KEY the latest of each key."""
    import pyarrow as pa

    from qanat.log.upserts import latest_rows, shown_schema

    status = log.status()[name]
    chunks = [chunk for place, end in status.ends.items() for chunk in log.read((name, place), 0, max(end, 1))]
    batches = [chunk.rows for chunk in sorted(chunks, key=lambda chunk: (chunk.seq, chunk.row))]
    if not batches:
        return shown_schema(status.stream).empty_table()
    return latest_rows(pa.Table.from_batches(batches), status.stream)

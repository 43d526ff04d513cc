"""`qanat run --preview`: what pipelines would write of the live streams of a project. Opens the log to read only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from qanat.log.base import Log, Place
    from qanat.query.tail import Start
    from qanat.sql.embedded.preview import Preview
    from qanat.sql.plan import Program


def preview(
    script: Path, param: list[str] | None, state: Path | None, start: str, limit: int | None, as_json: bool
) -> None:
    """Run until Ctrl-C, SIGTERM or `limit` rows."""
    from qanat.cli.project import existing_log_url
    from qanat.errors import ConfigError, SqlError
    from qanat.log import open_log
    from qanat.query.tail import parse_start
    from qanat.sql.embedded import EngineOptions
    from qanat.sql.embedded.preview import Preview

    program = _compiled(script, param)
    if not program.pipelines:
        raise SqlError(f"{script} has nothing to run", hint="add an INSERT INTO ... SELECT, or a SELECT")
    if state is None and not script.is_dir():
        raise ConfigError("a preview of a script needs a log to read", hint="--state DIR: the .qanat of a project")
    begin = parse_start(start)
    log = open_log(existing_log_url(script, state), read_only=True)
    try:
        shown = _Shown(len(program.pipelines) > 1, as_json, limit)
        run = Preview(program, log, _starts(program, log, begin), shown.take, EngineOptions().batch_rows)
        shown.end = run.stop
        _until_interrupted(run)
    finally:
        log.close()


def _compiled(script: Path, param: list[str] | None) -> Program:
    from qanat.cli.project import compile_folder, open_folder, parse_params, read_text
    from qanat.sql import compile_script

    params = parse_params(param or [])
    if script.is_dir():
        return compile_folder(open_folder(script), params)
    return compile_script(read_text(script), params, str(script))


def _starts(program: Program, log: Log, begin: Start) -> dict[Place, int]:
    """Offsets of all streams that are read; says which are not there."""
    from qanat.cli.streams import read_by
    from qanat.query.tail import offsets_at

    found: dict[Place, int] = {}
    statuses = log.status()
    for name in sorted(set().union(*map(read_by, program.pipelines))):
        if name in statuses:
            found |= offsets_at(log, statuses[name], begin)
        else:
            typer.echo(f"qanat: the log has no stream {name}: nothing comes from it", err=True)
    return found


def _until_interrupted(run: Preview) -> None:
    before = {number: signal.signal(number, lambda *_: run.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown:
    """Prints rows, up to a limit. Several pipelines: each line says whose it is."""

    def __init__(self, several: bool, as_json: bool, limit: int | None) -> None:
        from qanat.cli.output import Grid, for_people

        self._several, self._as_json, self._left = several, as_json, limit
        self._grid = Grid() if for_people() and not as_json and not several else None
        self._lock = threading.Lock()
        self.end: Callable[[], None] = lambda: None

    def take(self, pipeline: str, rows: pa.Table) -> None:
        """Rows that a pipeline would write."""
        with self._lock:
            if self._left is not None:
                rows = rows.slice(0, self._left)
                self._left -= rows.num_rows
            if rows.num_rows:
                self._print(pipeline, rows)
            if self._left == 0:
                self.end()

    def _print(self, pipeline: str, rows: pa.Table) -> None:
        import orjson

        from qanat.cli.output import write_json
        from qanat.codec.json import encode_lines

        if self._grid is not None:
            self._grid.write(rows)
        elif self._several or self._as_json:
            name = orjson.dumps(pipeline).decode() if self._as_json else f"{pipeline}> "
            for line in encode_lines(rows).decode().split("\n")[:-1]:
                typer.echo(f'{{"pipeline":{name},"row":{line}}}' if self._as_json else f"{name}{line}")
        else:
            write_json(rows)

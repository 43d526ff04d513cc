"""`qanat run`: a script until its inputs end, with a log of its own. Shows progress; computes nothing itself."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Json, Params, Script
from qanat.cli.target import AllowLoss

if TYPE_CHECKING:
    import pyarrow as pa

    from qanat.sql.embedded import Engine, PipelineStatus
    from qanat.sql.plan import Program

_Batch = Annotated[
    bool,
    typer.Option("--batch", help="Compute pipelines of a project over all history, lake and log; write nothing."),
]
_Pipeline = Annotated[str | None, typer.Option(metavar="NAME", help="With --batch: only this one.")]

#: A person is shown so many rows of a SELECT; all of them go into a pipe or file.
_SHOWN = 1000


def run(
    script: Script,
    param: Params = None,
    batch_rows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many rows in a micro-batch.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the log here; a second run goes on where this one ended.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Streams do not end: run until Ctrl-C or SIGTERM.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what pipelines would write of live streams; write nothing.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="WHERE", help="With --preview: where to begin, as in qanat tail.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--rows", min=1, metavar="N", help="With --preview: end after so many rows.")
    ] = None,
    batch: _Batch = False,
    pipeline: _Pipeline = None,
    allow_loss: AllowLoss = False,
    as_json: Json = False,
) -> None:
    """Run a script until its inputs end."""
    from qanat.cli.project import log_url, parse_params, read_text
    from qanat.log import open_log
    from qanat.sql import compile_script
    from qanat.sql.embedded import Engine, EngineOptions

    if preview:
        from qanat.cli.preview import preview as show

        show(script, param, state, start or "end", limit, as_json)
        return
    _refuse_options(start, limit, None if batch else pipeline, allow_loss and not batch)
    if batch:
        from qanat.cli.batch import batch as compute

        compute(script, param, state, pipeline, batch_rows, as_json, allow_loss)
        return
    program = compile_script(read_text(script), parse_params(param or []), str(script))
    _check(program, script, starts_empty=state is None and not live)
    rows = _Rows(program, as_json, live)
    options = EngineOptions(live=live) if batch_rows is None else EngineOptions(live=live, batch_rows=batch_rows)
    with _state_folder(state) as folder:
        log = open_log(log_url(folder))
        try:
            engine = Engine(program, log, options, collect=rows.take)
            _finish(engine, live, shown=sys.stderr.isatty() and not rows.streamed)
        finally:
            log.close()
        rows.end()
        _summary(engine.status(), as_json)


def _refuse_options(start: str | None, limit: int | None, pipeline: str | None, allow_loss: bool) -> None:
    from qanat.errors import ConfigError

    if pipeline is not None or allow_loss:
        raise ConfigError("--pipeline and --allow-loss belong to --batch", hint="qanat run --batch DIR")

    for option, value in (("--from", start), ("--rows", limit)):
        if value is not None:
            raise ConfigError(f"{option} belongs to --preview", hint="a run begins at the first row of its inputs")


def _check(program: Program, script: Path, *, starts_empty: bool) -> None:
    """Refuse what cannot give a row: no pipeline, or a stream that nothing fills."""
    from qanat.cli.streams import unfilled
    from qanat.errors import ConfigError, SqlError

    if not program.pipelines:
        raise SqlError(f"{script} has nothing to run", hint="add an INSERT INTO ... SELECT, or a SELECT")
    empty = sorted(unfilled(program))
    if starts_empty and empty:
        raise ConfigError(
            f"{script}: nothing fills the stream {empty[0]}",
            hint="give its table a connector: WITH ('connector' = 'filesystem', 'path' = '...', 'format' = 'json'); "
            "or say which log to read: --state DIR",
        )


@contextmanager
def _state_folder(state: Path | None) -> Iterator[Path]:
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
        yield state
        return
    with tempfile.TemporaryDirectory(prefix="qanat-run-") as folder:
        yield Path(folder)


def _finish(engine: Engine, live: bool, *, shown: bool) -> None:
    """Run to the end with a progress line. Ctrl-C and SIGTERM commit what is at hand; they are how a live run ends."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            engine.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failure.append(error)

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=work, name="qanat-engine")
    before = signal.signal(signal.SIGTERM, interrupt)
    thread.start()
    try:
        with _Progress(engine, shown) as progress:
            while thread.is_alive():
                thread.join(0.1)
                progress.show()
    except KeyboardInterrupt:
        engine.stop()
        thread.join()
        if not live:
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if failure:
        raise failure[0]
    for status in engine.status():
        if status.error is not None:
            typer.echo(f"qanat: pipeline {status.name} failed: {status.error}", err=True)


class _Progress:
    """One line on a terminal: how far through the files (where that is known), rows, rows per second, time."""

    def __init__(self, engine: Engine, on: bool) -> None:
        self._engine, self._on = engine, on
        self._started = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self) -> None:
        """Draw the line anew."""
        if not self._on:
            return
        statuses = self._engine.status()
        rows_in, rows_out = (sum(getattr(s, field) for s in statuses) for field in ("rows_in", "rows_out"))
        seconds = time.monotonic() - self._started
        done = sum(status.state == "finished" for status in statuses)
        line = f"{rows_in:,} rows in, {rows_out:,} out, {rows_in / seconds:,.0f} rows/s, {seconds:.0f} s"
        line = f"{_bar([s.fraction for s in statuses])}{line}, {done} of {len(statuses)} pipelines done"
        sys.stderr.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()


def _bar(fractions: list[float | None]) -> str:
    """A bar for the pipelines together; nothing where one does not know how far it is."""
    known = [fraction for fraction in fractions if fraction is not None]
    if not known or len(known) < len(fractions):
        return ""
    share = sum(known) / len(known)
    full = round(share * 24)
    return f"{'━' * full}{'╌' * (24 - full)} {share:4.0%}  "


class _Rows:
    """Rows of bare SELECTs. `take` is called from the pipelines' threads."""

    def __init__(self, program: Program, as_json: bool, live: bool) -> None:
        from qanat.cli.output import for_people

        prints = any(pipeline.sink is not None and pipeline.sink.connector == "print" for pipeline in program.pipelines)
        selects = any(pipeline.sink is None for pipeline in program.pipelines)
        self._gather = for_people() and not as_json and not live
        #: Whether rows appear on the terminal while the script runs: a progress line would be in their way.
        self.streamed = for_people() and (prints or (selects and not self._gather))
        self._lock = threading.Lock()
        self._gathered: dict[str, list[pa.Table]] = {}

    def take(self, pipeline: str, rows: pa.Table) -> None:
        """Rows of one pipeline, as they are committed."""
        from qanat.cli.output import write_json

        with self._lock:
            if self._gather:
                self._gathered.setdefault(pipeline, []).append(rows)
            else:
                write_json(rows)

    def end(self) -> None:
        """Print what was kept for a table."""
        import pyarrow as pa

        from qanat.cli.output import Grid

        for tables in self._gathered.values():
            whole = pa.concat_tables(tables)
            Grid().write(whole.slice(0, _SHOWN))
            if whole.num_rows > _SHOWN:
                typer.echo(f"... and {whole.num_rows - _SHOWN:,} more; a pipe or file gets all of them", err=True)


def _summary(statuses: tuple[PipelineStatus, ...], as_json: bool) -> None:
    """The last line of --json, or a few lines for people on stderr (stdout is for rows)."""
    from qanat.cli.output import say_json

    starts = [status.first_row_at for status in statuses if status.first_row_at is not None]
    ends = [status.last_commit_at for status in statuses if status.last_commit_at is not None]
    seconds = max(0.0, max(ends) - min(starts)) if starts and ends else 0.0
    rows_in = sum(status.rows_in for status in statuses)
    rate = rows_in / seconds if seconds else 0.0
    if as_json:
        pipelines = [_as_dict(status) for status in statuses]
        say_json({"pipelines": pipelines, "seconds": seconds, "rows_per_second": rate})
        return
    for status in statuses:
        late = f", {status.late:,} late" if status.late else ""
        dead = f", {status.dead_letters:,} dead letters" if status.dead_letters else ""
        typer.echo(f"{status.name}: {status.rows_in:,} rows in, {status.rows_out:,} out{late}{dead}", err=True)
    typer.echo(f"{seconds:.2f} s, {rate:,.0f} rows/s", err=True)


def _as_dict(status: PipelineStatus) -> dict[str, object]:
    from qanat.cli.output import watermark_text

    fields = ("name", "state", "rows_in", "rows_out", "late", "partly_late", "dead_letters")
    times = {"first_row_at": status.first_row_at, "last_commit_at": status.last_commit_at}
    values = {field: getattr(status, field) for field in fields}
    return values | {"watermark": watermark_text(status.watermark), **times, "error": status.error}

"""`qanat lake`: what is archived, and its upkeep by hand. Works beside a running project; archives nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Project

if TYPE_CHECKING:
    from qanat.lake import Tables
    from qanat.lake.table import LakeTable
    from qanat.log.base import Log, StreamStatus
    from qanat.model.lake import Lake

#: Files that are younger (ms) may belong to a commit that is still to come.
_SAFE = 3_600_000

app = typer.Typer(no_args_is_help=True, help="The lake: archived streams, their files, and old versions.")

Stream = Annotated[list[str] | None, typer.Argument(metavar="[STREAM]...", help="Which; without any: all.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@dataclass(frozen=True, slots=True)
class _Lake:
    """A project's lake, and its log to read."""

    log: Log
    tables: Tables
    settings: Lake

    def chosen(self, names: list[str] | None) -> list[tuple[StreamStatus, LakeTable | None]]:
        """The streams that are archived, or those of them that are named, and their tables."""
        from qanat.errors import ConfigError
        from qanat.model.lake import is_archived

        status = {name: one for name, one in self.log.status().items() if is_archived(one.stream)}
        for name in names or ():
            if name not in status:
                known = ", ".join(sorted(status)) or "none"
                hint = f"archived are: {known}; CREATE TABLE ... WITH ('archive' = 'true')"
                raise ConfigError(f"no stream {name} is archived", hint=hint)
        return [(status[name], self.tables.open(name)) for name in names or sorted(status)]


@app.command()
def status(stream: Stream = None, directory: Project = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show archived streams: rows, files, and how far they are behind."""
    from qanat.cli.output import say_json

    with _opened(directory, data) as lake:
        found = [_values(lake, one, table) for one, table in lake.chosen(stream)]
    if as_json:
        say_json({"streams": found})
    elif found:
        _print(found)
    else:
        typer.echo("no stream is archived", err=True)


@app.command()
def compact(
    stream: Stream = None,
    all_dates: Annotated[bool, typer.Option("--all", help="Also dates that still grow.")] = False,
    directory: Project = Path(),
    data: Data = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Rewrite many small files as few sorted ones."""
    from qanat.cli.output import say_json
    from qanat.clock import now_ms
    from qanat.lake.dates import date_text
    from qanat.lake.upkeep import rewrite, rewrites

    with _opened(directory, data) as lake:
        size = int(lake.settings.file_size)
        for one, table in lake.chosen(stream):
            for chosen in [] if table is None else rewrites(table.files(), size, now_ms(), all_dates=all_dates):
                after = None if dry_run or table is None else len(rewrite(table, one.stream, chosen, size))
                name, date, before = one.stream.name, date_text(chosen.day), len(chosen.files)
                if as_json:
                    say_json({"stream": name, "date": date, "files": before, "rows": chosen.rows, "written": after})
                else:
                    what = "would be rewritten" if after is None else f"are {after} now"
                    typer.echo(f"{name} {date}: {before} files with {chosen.rows:,} rows {what}")


@app.command()
def vacuum(
    stream: Stream = None,
    keep: Annotated[str | None, typer.Option(metavar="TIME", help="Instead of lake.keep: 2 h.")] = None,
    directory: Project = Path(),
    data: Data = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete files that only old versions have, and what a crash has left."""
    from qanat.cli.output import say_json

    span = None if keep is None else _span(keep)
    # what was written a moment ago may be about to be committed: nobody else may write then
    with _opened(directory, data, alone=span is not None and span < _SAFE and not dry_run) as lake:
        span = max(int(lake.settings.keep), _SAFE) if span is None else span
        for one, table in lake.chosen(stream):
            gone = [] if table is None else table.vacuum(span, dry_run=dry_run)
            if as_json:
                say_json({"stream": one.stream.name, "deleted": len(gone), "dry_run": dry_run})
            else:
                typer.echo(f"{one.stream.name}: {len(gone)} files {'would be deleted' if dry_run else 'deleted'}")


@contextmanager
def _opened(directory: Path, data: Path | None, *, alone: bool = False) -> Iterator[_Lake]:
    from qanat.cli.archiving import tables_of
    from qanat.cli.project import existing_log_url, open_folder
    from qanat.log import open_log

    folder = open_folder(directory, data)
    log = open_log(existing_log_url(directory, data), read_only=not alone)
    try:
        yield _Lake(log, tables_of(folder), folder.project.lake)
    finally:
        log.close()


def _values(lake: _Lake, one: StreamStatus, table: LakeTable | None) -> dict[str, object]:
    from qanat.clock import instant_text
    from qanat.lake.archiver import behind
    from qanat.lake.dates import date_text

    name = one.stream.name
    files = [] if table is None else table.files()
    positions = {} if table is None else table.positions(one.ends)
    rows, oldest = behind(lake.log, positions, name)
    days = [file.day for file in files]
    return {
        "stream": name,
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "first": date_text(min(days)) if days else None,
        "last": date_text(max(days)) if days else None,
        "behind": rows,
        "since": None if oldest is None else instant_text(oldest),
        "version": None if table is None else table.version,
        "url": lake.tables.place.table(name),
    }


def _print(found: list[dict[str, object]]) -> None:
    import pyarrow as pa

    from qanat.cli.output import Grid

    shown = ("stream", "rows", "files", "bytes", "first", "last", "behind", "version")
    Grid().write(pa.Table.from_pylist([{name: one[name] for name in shown} for one in found]))


def _span(text: str) -> int:
    from qanat.errors import ConfigError
    from qanat.model.project import parse_duration

    try:
        return int(parse_duration(text))
    except ValueError as error:
        raise ConfigError(f"--keep: {error}") from error

"""What plan, apply and replay work on: a project folder, or a script that was run with --state. Opens no log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qanat.control import Stage
    from qanat.log.base import Log
    from qanat.sql.plan import Program

Target = Annotated[Path, typer.Argument(metavar="DIR", help="The project; or a script, with --data.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AllowLoss = Annotated[bool, typer.Option("--allow-loss", help="Also where the log no longer has all that is needed.")]


@dataclass(frozen=True, slots=True)
class Declared:
    """`live`: streams do not end, as under `qanat up`; `rows`: of a micro-batch; `url`: of the log, None where there is
    none yet."""

    program: Program
    url: str | None
    live: bool
    rows: int


def open_target(path: Path, data: Path | None, params: list[str] | None) -> Declared:
    """Read and compile. Raises `ConfigError`, `SqlError`."""
    from qanat.cli.project import compile_folder, data_folder, existing_log_url, open_folder, parse_params, read_text
    from qanat.cli.streams import with_retention
    from qanat.errors import ConfigError
    from qanat.sql import compile_script
    from qanat.sql.embedded import EngineOptions

    given, rows = parse_params(params or []), EngineOptions().batch_rows
    if path.suffix == ".sql" and path.is_file():
        if data is None:
            raise ConfigError("a script has no log of its own", hint="--data DIR, as it was in qanat run --state DIR")
        program, live = compile_script(read_text(path), given, str(path)), False
    else:
        folder = open_folder(path, data)
        program, live = with_retention(compile_folder(folder, given), folder.project), True
        rows = folder.project.engine.batch_rows or rows
    begun = (data_folder(path, data) / "log.db").is_file()
    return Declared(program, existing_log_url(path, data) if begun else None, live, rows)


def stages_of(declared: Declared, log: Log | None) -> tuple[Stage, ...]:
    """The plan."""
    from qanat.control import Actual, diff, read_actual

    if log is None:
        return diff(declared.program, Actual())
    return diff(declared.program, read_actual(log, (one.name for one in declared.program.pipelines)))


def confirm(yes: bool, question: str) -> bool:
    """Ask a person; without one `yes` is needed."""
    from qanat.errors import ConfigError

    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to be asked", hint="--yes does it, --dry-run only says what")
    return typer.confirm(question, err=True)


def counter(what: str) -> Callable[[int], None]:
    """Shows rows read on the terminal's last line; elsewhere nothing."""
    if not sys.stderr.isatty():
        return lambda _rows: None
    return lambda rows: (sys.stderr.write(f"\r\x1b[K{what}: {rows:,} rows"), sys.stderr.flush())[1]

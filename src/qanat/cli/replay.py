"""`qanat replay`: a pipeline's results computed anew from history, and swapped for the old ones at once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Params, Project
from qanat.cli.target import AllowLoss, Yes

if TYPE_CHECKING:
    from qanat.cli.target import Declared
    from qanat.control import Replay, ReplayPlan, Window
    from qanat.log.base import Log


def replay(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline whose results are computed anew.")],
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="Event time of the first result (2026-11-21T10:00:00); or beginning."
        ),
    ],
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Event time before which the last one lies.")
    ] = None,
    directory: Project = Path(),
    data: Data = None,
    param: Params = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    allow_loss: AllowLoss = False,
    as_json: Json = False,
) -> None:
    """Compute results anew from history and swap them for the old ones."""
    from qanat.cli.output import say_json
    from qanat.cli.target import confirm, counter, open_target
    from qanat.errors import ConfigError
    from qanat.log import open_log

    window = _window(start, end)
    declared = open_target(directory, data, param)
    if declared.url is None:
        raise ConfigError("nothing has run yet: there is nothing to replay", hint="qanat up")
    log = open_log(declared.url, read_only=dry_run)
    try:
        run = _replay(declared, log, pipeline, window)
        plan = run.plan()
        if not as_json:
            typer.echo(_text(plan))
        if dry_run or not confirm(yes, "Replay?"):
            if as_json:
                say_json({**_values(plan), "rows": None, "applied": False})
            raise typer.Exit(0 if dry_run else 1)
        try:
            rows = run.run(allow_loss=allow_loss, tell=counter(f"replaying {pipeline}"))
        except KeyboardInterrupt:
            run.stopped.set()
            raise
    finally:
        log.close()
    if as_json:
        say_json({**_values(plan), "rows": rows, "applied": True})
    else:
        typer.echo(f"{plan.stream} has {rows:,} rows now", err=True)


def _replay(declared: Declared, log: Log, pipeline: str, window: Window) -> Replay:
    from qanat.control import Replay

    return Replay(declared.program, log, pipeline, window, live=declared.live, rows=declared.rows)


def _window(start: str, end: str | None) -> Window:
    from qanat.control import Window

    begin = None if start == "beginning" else _time("--from", start)
    return Window(begin, None if end is None else _time("--to", end))


def _time(option: str, text: str) -> int:
    from qanat.errors import ConfigError

    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        hint = f"{option} 2026-11-21T10:00:00 (UTC unless it says otherwise)"
        raise ConfigError(f"{option} {text!r} is no time", hint=hint) from None
    zoned = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return round(zoned.timestamp() * 1000)


def _text(plan: ReplayPlan) -> str:
    from qanat.control.render import history_text

    lines = [f"~ stream {plan.stream} gets version {plan.version}, computed anew by pipeline {plan.pipeline}"]
    lines.append(f"    reads {history_text(plan.history)}; {plan.stream} has {plan.stored:,} rows now")
    if plan.readers:
        names = ", ".join(plan.readers)
        lines.append(f"    {names}: goes on behind the new version; what it made of the old one stays (qanat replay)")
    if plan.missing:
        lines.append(f"!   {plan.missing}")
    return "\n".join(lines)


def _values(plan: ReplayPlan) -> dict[str, object]:
    from dataclasses import asdict

    found = asdict(plan)
    found["history"]["seconds"] = round(plan.history.seconds, 3)
    return found

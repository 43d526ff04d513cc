"""`qanat apply`: makes a project's log fit its changed SQL, after saying what that does and asking."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Params
from qanat.cli.target import AllowLoss, Target, Yes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat.cli.target import Declared
    from qanat.control import Stage
    from qanat.log.base import Log


def apply(
    target: Target = Path(),
    data: Data = None,
    param: Params = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    allow_loss: AllowLoss = False,
    as_json: Json = False,
) -> None:
    """Do what qanat plan says."""
    from qanat.cli.target import confirm, open_target, stages_of
    from qanat.control import is_change
    from qanat.control.apply import refuse
    from qanat.log import open_log

    declared = open_target(target, data, param)
    if declared.url is None:
        _say(stages_of(declared, None), as_json, False)
        typer.echo("nothing has run yet: qanat up begins with what is declared", err=True)
        return
    log = open_log(declared.url, read_only=dry_run)
    try:
        stages = stages_of(declared, log)
        changes = any(map(is_change, stages))
        if not as_json or dry_run or not changes:
            _say(stages, as_json, False)
        if dry_run:
            return
        refuse(stages, allow_loss=allow_loss)
        if changes and not confirm(yes, "Apply?"):
            raise typer.Exit(1)
        _apply(declared, log, stages, allow_loss)
        if as_json and changes:
            _say(stages, as_json, True)
    finally:
        log.close()
    if changes and not as_json:
        typer.echo("applied", err=True)


def _apply(declared: Declared, log: Log, stages: Sequence[Stage], allow_loss: bool) -> None:
    from qanat.cli.target import counter
    from qanat.control import Changes
    from qanat.control import apply as do

    def tell(pipeline: str, rows: int) -> None:
        counter(f"rebuilding {pipeline}")(rows)

    do(declared.program, log, stages, Changes(declared.live, declared.rows, allow_loss, tell))


def _say(stages: Sequence[Stage], as_json: bool, applied: bool) -> None:
    from qanat.cli.output import say_json
    from qanat.control.render import as_values, render

    if as_json:
        say_json({**as_values(stages), "applied": applied})
    else:
        typer.echo(render(stages))

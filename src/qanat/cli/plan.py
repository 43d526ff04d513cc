"""`qanat plan`: what a change of the SQL would do to streams, pipelines and their state. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qanat.cli.options import Data, Json, Params
from qanat.cli.target import Target

#: Exit code of --detailed-exitcode where something would change.
CHANGES = 2


def plan(
    target: Target = Path(),
    data: Data = None,
    param: Params = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 0 for no changes, 1 for an error, 2 for changes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what qanat apply would do."""
    from qanat.errors import QanatError

    try:
        changes = _plan(target, data, param, as_json)
    except QanatError as error:
        if not detailed_exitcode:
            raise
        typer.echo(f"qanat: {error}", err=True)
        raise typer.Exit(1) from None
    if detailed_exitcode and changes:
        raise typer.Exit(CHANGES)


def _plan(target: Path, data: Path | None, param: list[str] | None, as_json: bool) -> bool:
    from qanat.cli.output import say_json
    from qanat.cli.target import open_target, stages_of
    from qanat.control import is_change
    from qanat.control.render import as_values, render
    from qanat.log import open_log

    declared = open_target(target, data, param)
    if declared.url is None:
        stages = stages_of(declared, None)
    else:
        log = open_log(declared.url, read_only=True)
        try:
            stages = stages_of(declared, log)
        finally:
            log.close()
    if as_json:
        say_json(as_values(stages))
    else:
        typer.echo(render(stages))
    return any(map(is_change, stages))

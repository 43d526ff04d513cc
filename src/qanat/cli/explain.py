"""`qanat explain`: what a script would do: tables, the plan of each pipeline, what it keeps in memory. Runs nothing."""

from __future__ import annotations

import typer

from qanat.cli.options import Json, Params, Script


def explain(script: Script, param: Params = None, as_json: Json = False) -> None:
    """Show what a script would do."""
    from qanat.cli.output import say_json
    from qanat.cli.project import parse_params, read_text
    from qanat.sql import compile_script
    from qanat.sql.explain import explain as as_text
    from qanat.sql.explain import explain_json

    program = compile_script(read_text(script), parse_params(param or []), str(script))
    if as_json:
        say_json(explain_json(program))
    else:
        typer.echo(as_text(program))

"""Options that several commands have, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The project.")]
Project = Annotated[Path, typer.Option("--dir", metavar="DIR", help="The project.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where the log lies.  [default: .qanat in the project]")
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="Replace ${NAME} in the SQL; may be repeated."),
]
Script = Annotated[Path, typer.Argument(metavar="FILE.sql", help="The script.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs, one object a line.")]

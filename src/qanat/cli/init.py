"""`qanat init`: a small project that works at once, from the files in `skeleton/`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from qanat.errors import ConfigError

_SKELETON = Path(__file__).parent / "skeleton"
_IGNORED = ".qanat/\n"


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    force: Annotated[bool, typer.Option("--force", help="Also where DIR has files; none of them is changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
) -> None:
    """Make a small working project."""
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory} is a file, not a folder", hint="qanat init another-name")
    if not force and directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty",
            hint=f"choose another folder, or qanat init {directory} --force to add to this one",
        )
    for path, text in _files(directory):
        existed = path.exists()
        typer.echo(f"{'kept' if existed else 'would write' if dry_run else 'wrote'} {path}")
        if not existed and not dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if not dry_run:
        typer.echo(_next_steps(directory))


def _files(directory: Path) -> Iterator[tuple[Path, str]]:
    for source in sorted(_SKELETON.rglob("*")):
        if source.is_file():
            yield directory / source.relative_to(_SKELETON), source.read_text(encoding="utf-8")
    yield directory / ".gitignore", _IGNORED


def _next_steps(directory: Path) -> str:
    row = '{"sensor": "greenhouse", "temperature": 21.5}'
    return "\n".join(
        (
            "",
            "next, test it, then start it:",
            f"  cd {shlex.quote(str(directory))}",
            "  qanat test",
            "  qanat up",
            "",
            "and in a second terminal, in the same folder, send a reading and ask:",
            f"  curl --json '{row}' http://127.0.0.1:8080/streams/readings",
            f"  mosquitto_pub -t readings/greenhouse -m '{row}'",
            '  qanat query "SELECT * FROM readings"',
            "  qanat tail climate",
        )
    )

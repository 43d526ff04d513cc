"""The command line: every command mounted on one app, and errors turned into a message and an exit code.

Commands import the rooms they need when they run, so that `qanat --help` is immediate. Exit codes are in docs/cli.md.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from qanat.cli.apply import apply
from qanat.cli.bench import app as bench
from qanat.cli.dead import app as dead
from qanat.cli.demo import demo
from qanat.cli.device import app as device
from qanat.cli.explain import explain
from qanat.cli.init import init
from qanat.cli.key import app as key
from qanat.cli.lake import app as lake
from qanat.cli.plan import plan
from qanat.cli.query import query
from qanat.cli.replay import replay
from qanat.cli.run import run
from qanat.cli.schema import app as schema
from qanat.cli.sim import app as sim
from qanat.cli.sink import app as sink
from qanat.cli.sources import sources
from qanat.cli.status import status
from qanat.cli.tail import tail
from qanat.cli.test import run_tests
from qanat.cli.up import up
from qanat.errors import QanatError

#: Exit codes of the command line's own; the others are `exit_code` of the errors.
INTERNAL_ERROR = 70
INTERRUPTED = 130
BROKEN_PIPE = 141


class _Commands(TyperGroup):
    """The one place where an error becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except QanatError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader has gone: say nothing, now or when the interpreter flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        except (OSError, UnicodeError) as error:
            _fail(str(error), QanatError.exit_code)
        except (typer.Exit, typer.TyperException):
            raise
        except Exception as error:
            if os.environ.get("QANAT_DEBUG"):
                raise
            _fail(f"internal error: {type(error).__name__}: {error}\n  hint: QANAT_DEBUG=1 shows where", INTERNAL_ERROR)


def _fail(message: str, exit_code: int) -> NoReturn:
    typer.echo(f"qanat: {message}", err=True)
    raise typer.Exit(exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"qanat {version('qanat')}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Streaming SQL for devices and events."""


app.command("init")(init)
app.command("up")(up)
app.command("run")(run)
app.command("query")(query)
app.command("tail")(tail)
app.command("status")(status)
app.command("explain")(explain)
app.command("sources")(sources)
app.command("plan")(plan)
app.command("apply")(apply)
app.command("replay")(replay)
app.command("test")(run_tests)
app.add_typer(dead, name="dead")
app.add_typer(device, name="device")
app.add_typer(key, name="key")
app.add_typer(lake, name="lake")
app.add_typer(schema, name="schema")
app.add_typer(sim, name="sim")
app.add_typer(sink, name="sink")
app.command("demo")(demo)
app.add_typer(bench, name="bench")


def main() -> None:
    """The entry point of the command `qanat`."""
    app(prog_name="qanat")

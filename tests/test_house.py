"""The rules of the house that no linter knows: what is documented, how the tree looks, what files are called."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import qanat
from qanat.cli.main import app

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "qanat"
MODULES = sorted(SOURCES.rglob("*.py"))
PYTHON = [
    path
    for top in ("src", "tests", "examples", "bench")
    for path in sorted((ROOT / top).rglob("*.py"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])

#: The rooms of docs/design/architecture; there may be fewer, never others.
ROOMS = {"model", "observe", "log", "codec", "gateway", "sql", "lake", "stores", "query", "serve", "secure"} | {
    "control",
    "sim",
    "trial",
    "contracts",
    "cli",
    "notify",
}
GROUND = {"__init__.py", "__main__.py", "errors.py", "clock.py", "py.typed"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(name: str) -> str:
    """What docs/cli.md says about one command."""
    text = (ROOT / "docs" / "cli.md").read_text()
    match = re.search(rf"^## qanat {re.escape(name)}$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return "" if match is None else match[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    said = section(name)
    assert said, f"docs/cli.md has no section '## qanat {name}'"
    options = [opt for one in COMMANDS[name].params for opt in (*one.opts, *one.secondary_opts) if opt.startswith("--")]
    missing = [option for option in options if option != "--help" and not re.search(rf"`{option}[` ]", said)]
    assert missing == []


def test_no_option_is_documented_that_does_not_exist() -> None:
    for name, command in COMMANDS.items():
        known = {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)} | {"--help"}
        listed = [line.split("|")[1] for line in section(name).splitlines() if line.startswith("| `--")]
        written = {option for cell in listed for option in re.findall(r"--[a-z-]+", cell)}
        assert written <= known, name


def test_every_command_says_what_it_does() -> None:
    assert [name for name, command in COMMANDS.items() if not command.help] == []


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    assert [name for name in qanat.__all__ if f"## qanat.{name}" not in text] == []


def test_every_exit_code_is_documented() -> None:
    from qanat import errors
    from qanat.cli import main

    text = (ROOT / "docs" / "cli.md").read_text()
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    for code in codes | {main.INTERNAL_ERROR, main.INTERRUPTED, main.BROKEN_PIPE}:
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code


def test_the_folder_tree_is_that_of_the_architecture() -> None:
    found = {path.name for path in SOURCES.iterdir() if path.name != "__pycache__"}
    assert found - GROUND <= ROOMS
    assert found >= GROUND
    assert {"embedded"} == {path.parent.name for path in (SOURCES / "sql").glob("*/engine.py")}


def test_rooms_have_their_tests() -> None:
    rooms = {path.name for path in SOURCES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    tested = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("test_*.py"))}
    assert rooms - tested - {"model"} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "what it is and what it does not do"


def test_no_drawer_for_odds_and_ends() -> None:
    odd = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    assert [path for path in PYTHON if path.name in odd] == []


def test_modules_and_functions_can_be_read_in_one_go() -> None:
    long = [str(path) for path in PYTHON if len(path.read_text().splitlines()) > 800]
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"] if lines > 60 else []
    assert long == []


def test_no_ability_is_a_lie() -> None:
    written = [path for path in MODULES if not path.name.endswith("_pb2_grpc.py")]  # those are generated
    assert [str(path) for path in written if "raise NotImplementedError" in path.read_text()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_make_says_what_there_is() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    assert targets == {"help", "demo", "test", "lint", "bench", "services", "clean"}
    assert all(re.search(rf"^{target}:.*## \w", text, re.MULTILINE) for target in targets)


def test_the_check_before_a_change_goes_in_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert [line for line in script.read_text().splitlines() if line.startswith("make ")][-1] == "make test"

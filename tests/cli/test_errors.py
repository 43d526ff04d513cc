"""Mistakes on the command line: one clear message, the documented exit code, never a traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, Run

FILES = "WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json')"
SCRIPTS = {
    "wrong.sql": f"CREATE TABLE t (a INT) {FILES};\nSELECT b FROM t",
    "empty.sql": "",
    "comment.sql": "-- nothing here\n",
    "tables.sql": "CREATE TABLE t (a INT)",
    "unfed.sql": "CREATE TABLE t (a INT);\nSELECT a FROM t",
    "parameter.sql": "SELECT ${N}",
    "missing.sql": f"CREATE TABLE t (a INT) {FILES};\nSELECT a FROM t",
    "grün.sql": "SELECT größe FROM maße",
}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin.sql").write_bytes("SELECT 'ü'".encode("latin-1"))
    return tmp_path


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["ini"], 2, "Did you mean"),
        (["init"], 2, "Missing argument"),
        (["up", "--mqtt-port", "port"], 2, "mqtt-port"),
        (["up", "--mqtt-port", "70000"], 2, "mqtt-port"),
        (["up", "nowhere"], 2, "nowhere does not exist"),
        (["up", "empty.sql"], 2, "is a file"),
        (["run", "nowhere.sql"], 2, "nowhere.sql: no such file"),
        (["run", "."], 2, "directory"),
        (["run", "latin.sql"], 2, "is not UTF-8: byte 8 is 0xfc"),
        (["run", "wrong.sql"], 3, "wrong.sql:2:8"),
        (["run", "empty.sql"], 3, "nothing to run"),
        (["run", "comment.sql"], 3, "nothing to run"),
        (["run", "tables.sql"], 3, "nothing to run"),
        (["run", "unfed.sql"], 2, "nothing fills the stream t"),
        (["run", "parameter.sql"], 3, "--param N=VALUE"),
        (["run", "parameter.sql", "--param", "N"], 2, "not NAME=VALUE"),
        (["run", "wrong.sql", "--batch-rows", "0"], 2, "batch-rows"),
        (["run", "missing.sql"], 2, "no file or folder in.json"),
        (["run", "grün.sql"], 3, "grün.sql:1:"),
        (["explain", "wrong.sql"], 3, "wrong.sql:2:8"),
        (["tail", "power"], 2, "there is no log"),
        (["status"], 2, "there is no log"),
        (["query", "SELECT 1"], 2, "there is no log"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes(qanat: Run, scripts: Path, args: list[str], code: int, said: str) -> None:
    done = qanat(*args)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_in_sql_shows_the_place(qanat: Run, scripts: Path) -> None:
    lines = qanat("run", "wrong.sql").stderr.splitlines()
    assert lines[0].startswith("qanat: wrong.sql:2:8: ")
    assert lines[1:3] == ["  SELECT b FROM t", "         ^"]


def test_a_project_without_sql_says_how_to_get_one(qanat: Run) -> None:
    done = qanat("up")
    assert done.returncode == 2
    assert "qanat init" in done.stderr


def test_a_fault_of_qanat_is_named_as_such(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from qanat.cli import main

    def broken(_: Path) -> str:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("qanat.cli.project.read_text", broken)
    monkeypatch.delenv("QANAT_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        main.app(["explain", "x.sql"], prog_name="qanat")
    assert ended.value.code == main.INTERNAL_ERROR
    assert "internal error: ZeroDivisionError: boom" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error_message(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"a": 1}\n' * 200_000)
    (tmp_path / "many.sql").write_text(f"CREATE TABLE t (a INT) {FILES};\nSELECT a FROM t")
    command = [*COMMAND, "run", "many.sql"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'{"a":1}\n'
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_help_is_immediate_and_loads_no_room(qanat: Run) -> None:
    heavy = ("pyarrow", "polars", "duckdb", "fastapi", "sqlglot", "numpy", "rich")
    code = f"import sys; from qanat.cli import main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert qanat("--help").stdout.startswith("Usage: qanat")
    assert qanat("--version").stdout.startswith("qanat 0")


def test_without_arguments_it_helps(qanat: Run) -> None:
    done = qanat()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr

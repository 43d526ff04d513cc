"""`qanat run --preview`: rows that a pipeline would write, and a log that is as it was."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import COMMAND, Run, Server

Up = Callable[..., Server]
WARM = """
CREATE TABLE readings (sensor STRING, ts TIMESTAMP_LTZ(3), temperature DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE warm (sensor STRING, temperature DOUBLE) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
INSERT INTO warm SELECT UPPER(sensor), temperature FROM readings WHERE temperature > 21;
"""  # noqa: E501


def row(second: int, temperature: float) -> dict[str, Any]:
    return {"sensor": "a", "ts": f"2026-01-01T10:00:{second:02d}Z", "temperature": temperature}


def contents(folder: Path) -> dict[str, list[Any]]:
    """Everything that the log says: rows, positions, state."""
    with sqlite3.connect(f"file:{folder}/.qanat/log.db?mode=ro", uri=True) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    connection.close()
    return found


@pytest.fixture
def farm(qanat: Run, up: Up, tmp_path: Path) -> Path:
    assert qanat("init", "farm").returncode == 0
    folder = tmp_path / "farm"
    (tmp_path / "warm.sql").write_text(WARM)
    server = up(folder)
    httpx.post(f"{server.url}/streams/readings", json=[row(1, 20.0), row(2, 22.5), row(3, 24.0), row(30, 19.0)])
    assert server.stop()[0] == 0
    return folder


def test_rows_are_shown_and_the_log_is_as_it_was(qanat: Run, farm: Path, tmp_path: Path) -> None:
    log = farm / ".qanat" / "log.db"
    before = hashlib.sha256(log.read_bytes()).hexdigest(), contents(farm)
    done = qanat("run", "--preview", "warm.sql", "--state", "farm/.qanat", "--from", "beginning", "--rows", "2")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"sensor": "A", "temperature": 22.5},
        {"sensor": "A", "temperature": 24.0},
    ]
    assert (hashlib.sha256(log.read_bytes()).hexdigest(), contents(farm)) == before
    assert not (tmp_path / "out").exists()


def test_a_project_and_several_pipelines(qanat: Run, farm: Path) -> None:
    text = "SELECT sensor FROM readings;\nSELECT temperature FROM readings WHERE temperature > 23;\n"
    (farm / "more.sql").write_text(text)
    done = qanat("run", "--preview", "farm", "--from", "beginning", "--rows", "6", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["row"] for line in lines if line["pipeline"] == "result"] == [{"sensor": "a"}] * 4
    assert {line["pipeline"] for line in lines} == {"climate", "result", "result_2"}


def test_it_runs_beside_the_project_and_starts_at_the_newest_rows(
    qanat: Run, up: Up, farm: Path, tmp_path: Path
) -> None:
    server = up(farm)
    command = [*COMMAND, "run", "--preview", "warm.sql", "--state", "farm/.qanat", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            sent = 0
            line = ""
            while not line:  # the preview begins where the log ends when it is ready
                httpx.post(f"{server.url}/streams/readings", json=[row(31 + sent % 20, 30.0 + sent)])
                sent += 1
                line = _line(process)
            first = json.loads(line)
            assert first["pipeline"] == "warm"
            assert first["row"]["temperature"] >= 30.0
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert server.stop()[0] == 0
    consumers = {position[0] for position in contents(farm)["positions"]}
    assert consumers == {"climate", "climate@snapshot"}


def _line(process: subprocess.Popen[str]) -> str:
    """A line, if one comes soon."""
    import select

    ready, _, _ = select.select([process.stdout], [], [], 0.1)
    assert process.poll() is None
    return process.stdout.readline() if ready and process.stdout is not None else ""


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["warm.sql", "--preview"], 2, "needs a log to read"),
        (["warm.sql", "--preview", "--state", "nowhere"], 2, "there is no log"),
        (["warm.sql", "--rows", "1"], 2, "--rows belongs to --preview"),
        (["warm.sql", "--preview", "--state", "farm/.qanat", "--from", "x"], 2, "no place to start from"),
    ],
)
def test_mistakes(qanat: Run, farm: Path, args: list[str], code: int, said: str) -> None:
    done = qanat("run", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr

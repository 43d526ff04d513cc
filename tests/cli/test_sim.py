"""`qanat sim` against a real `qanat up`: with every fault, and nothing lost, invented or misjudged in the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run, Server

EXAMPLES = Path(__file__).parents[2] / "examples"
FAULTS = ("--late", "2%", "--swapped", "1%", "--duplicates", "0.5%", "--clock-faults", "1%", "--malformed", "1%")

Up = Callable[..., Server]


def project(name: str, folder: Path) -> Path:
    copy = folder / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("tests", "batch", "refit", ".qanat"))
    return copy


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_farm_with_faults_and_lost_connections_is_all_there(up: Up, qanat: Run, tmp_path: Path, version: str) -> None:
    folder = project("farm", tmp_path)
    server = up(folder)
    told = ("--mqtt-port", server.port("mqtt"), "--mqtt-version", version, "--json", "--check")
    play = ("--sensors", 150, "--seconds", 240, "--speed", 80, "--lost-connections", "600/min")
    done = qanat("sim", "farm", *play, *FAULTS, *told, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["acknowledged"] == found["sent"] > 500
    assert set(found["faults"]) == {"again", "ahead", "behind", "cut", "late", "swapped"}
    assert found["dead"] > found["future"] > 0
    assert server.stop() == (0, "")


def test_web_events_with_faults_and_lost_connections_are_all_there(up: Up, qanat: Run, tmp_path: Path) -> None:
    folder = project("web", tmp_path)
    server = up(folder)
    play = ("--visitors", 200, "--seconds", 120, "--speed", 40, "--lost-connections", "300/min")
    told = ("--http-port", server.port("http"), "--json", "--check")
    done = qanat("sim", "web", *play, *FAULTS, *told, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], found["repeated"]) == (True, 0)
    assert found["dead"] > 0
    assert server.stop() == (0, "")


def test_households_with_faults_are_all_there_and_so_are_their_windows(up: Up, qanat: Run, tmp_path: Path) -> None:
    folder = project("nilm", tmp_path)
    server = up(folder)
    play = ("--households", 20, "--seconds", 60, "--speed", 20, "--lost-connections", "120/min")
    told = ("--mqtt-port", server.port("mqtt"), "--json", "--check")
    done = qanat("sim", "households", *play, *FAULTS, *told, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["delivery"]["lost"] == found["delivery"]["foreign"] == 0
    assert found["dead"] > 0
    again = qanat("sim", "households", *play, *told, cwd=folder)
    assert (again.returncode, "already" in again.stderr) == (2, True)


def test_a_row_that_disappears_is_found(up: Up, qanat: Run, tmp_path: Path) -> None:
    """The stream does not take what the fleet sends as `seq`, so that sound messages are buried."""
    folder = project("web", tmp_path)
    text = (folder / "web.sql").read_text()
    (folder / "web.sql").write_text(text.replace("session_id STRING>", "session_id BIGINT>"))
    server = up(folder)
    play = ("--visitors", 20, "--seconds", 20, "--speed", 0, "--http-port", server.port("http"))
    done = qanat("sim", "web", *play, "--check", cwd=folder)
    assert (done.returncode, "parity: FAILED" in done.stdout) == (1, True)
    assert "FAIL  dead letters that were sound" in done.stdout


def test_check_wants_a_log_with_the_stream(qanat: Run, tmp_path: Path) -> None:
    done = qanat("sim", "farm", "--check", "--seconds", 1)
    assert (done.returncode, "there is no log" in done.stderr) == (2, True)


@pytest.mark.parametrize(("command", "file"), [("farm", "farm.jsonl"), ("web", "web_events.jsonl")])
def test_messages_go_into_a_file_in_no_time(qanat: Run, tmp_path: Path, command: str, file: str) -> None:
    options = ("--seconds", 300, "--malformed", "5%", "--out", "out", "--seed", 4)
    assert qanat("sim", command, *options).returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / file).read_text().splitlines()]
    cut = [line for line in lines if "cut" in line["faults"]]
    assert len(cut) == pytest.approx(len(lines) * 0.05, rel=0.3)
    wrong = qanat("sim", command, "--late", "200%")
    assert (wrong.returncode, "is no share" in wrong.stderr) == (2, True)

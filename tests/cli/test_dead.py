"""`qanat dead` in processes of its own: beside a running project and without one, cut off in the middle, and again."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import COMMAND, Run, Server

from qanat.cli.project import log_url
from qanat.log import open_log

Up = Callable[..., Server]
SQL = "CREATE TABLE readings (sensor STRING NOT NULL, ts BIGINT, temperature DOUBLE);"
GOOD = '{"sensor":"a","ts":1,"temperature":20.5}'
BAD = ('{"sensor":"b","ts":2,"temperature":"warm"}', '{"sensor":"c","ts":3', '{"ts":4,"temperature":1}')


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "farm.sql").write_text(SQL)
    return folder


def feed(server: Server, *lines: str, **more: Any) -> None:
    kind = {"content-type": "application/x-ndjson"}
    sent = httpx.post(f"{server.url}/streams/readings", content="\n".join(lines), headers=kind, **more)
    assert sent.status_code in (200, 422), sent.text


@pytest.fixture
def stopped(up: Up, farm: Path) -> Path:
    """A project with one row and three dead letters, that does not run."""
    server = up(farm)
    feed(server, GOOD, *BAD)
    assert server.stop() == (0, "")
    return farm


def rows(farm: Path, stream: str = "readings") -> list[dict[str, Any]]:
    log = open_log(log_url(farm / ".qanat"), read_only=True)
    try:
        return [row for chunk in log.read((stream, 0), 0, 100_000) for row in chunk.rows.to_pylist()]
    finally:
        log.close()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def listed(qanat: Run, farm: Path, *args: str) -> list[dict[str, Any]]:
    done = qanat("dead", "list", "--json", *args, cwd=farm)
    assert done.returncode == 0, done.stderr
    return lines(done.stdout)


def test_letters_are_listed_filtered_counted_and_paged(qanat: Run, stopped: Path) -> None:
    assert [one["id"] for one in listed(qanat, stopped)] == ["0:2", "0:1", "0:0"]
    assert [one["data"] for one in listed(qanat, stopped, "--reason", "not json")] == [BAD[1]]
    assert listed(qanat, stopped, "--stream", "elsewhere") == listed(qanat, stopped, "--since", "2030-01-01") == []
    assert [one["id"] for one in listed(qanat, stopped, "--limit", "1", "--before", "0:2")] == ["0:1"]
    assert listed(qanat, stopped, "--by", "stream") == [{"stream": "readings", "letters": 3}]
    assert [one["letters"] for one in listed(qanat, stopped, "--by", "reason")] == [1, 1, 1]
    assert listed(qanat, stopped, "--late") == []
    wrong = qanat("dead", "list", "--by", "colour", cwd=stopped)
    assert (wrong.returncode, "--by reason" in wrong.stderr) == (2, True)


def test_a_letter_is_shown_with_what_would_have_to_change(qanat: Run, stopped: Path) -> None:
    said = qanat("dead", "show", "0:0", cwd=stopped).stdout
    assert BAD[0] in said
    assert 'temperature  DOUBLE          ✗ expected DOUBLE, found string "warm"' in said
    shown = lines(qanat("dead", "show", "0:2", "--json", cwd=stopped).stdout)[0]
    assert {one["name"]: one["fault"] is None for one in shown["columns"]} == {
        "sensor": False, "ts": True, "temperature": True
    }  # fmt: skip
    missing = qanat("dead", "show", "0:9", cwd=stopped)
    assert (missing.returncode, "no dead letter 0:9" in missing.stderr) == (4, True)


def test_without_a_running_project_letters_are_repaired_directly_and_once(qanat: Run, stopped: Path) -> None:
    for attempt, said in enumerate(("1 repaired, 1 rows for readings", "no dead letter is left")):
        done = qanat("dead", "retry", "0:0", "--set", "temperature=21.5", cwd=stopped)
        assert (done.returncode, said in done.stderr) == (0, True), done.stderr
        assert ("directly: no qanat up writes this log" in done.stderr) == (attempt == 0)
    assert [(row["sensor"], row["temperature"]) for row in rows(stopped)] == [("a", 20.5), ("b", 21.5)]
    assert [one["id"] for one in listed(qanat, stopped)] == ["0:2", "0:1"]
    assert [one["repaired"] for one in listed(qanat, stopped, "--all")] == [False, False, True]


def test_beside_a_running_project_letters_are_repaired_through_it(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    feed(server, GOOD, *BAD)
    done = qanat("dead", "retry", "--yes", "--set", "temperature=7", "--json", cwd=farm)
    assert f"through the running qanat up (process {server.process.pid}) at {server.url}" in done.stderr
    assert [one["fate"] for one in lines(done.stdout)] == ["repaired", "does not fit", "does not fit"]
    assert done.returncode == 4
    assert "1 does not fit: not JSON" in done.stderr
    assert [row["sensor"] for row in rows(farm)] == ["a", "b"]
    assert server.stop() == (0, "")


def test_a_dry_run_changes_nothing(qanat: Run, stopped: Path) -> None:
    done = qanat("dead", "retry", "--dry-run", "--set", "temperature=1", cwd=stopped)
    assert (done.returncode, "1 would fit" in done.stderr) == (4, True)
    assert len(rows(stopped)) == 1
    assert len(listed(qanat, stopped)) == 3


def test_nobody_there_to_be_asked_needs_yes(qanat: Run, stopped: Path) -> None:
    done = qanat("dead", "retry", cwd=stopped)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)


def test_payloads_are_changed_by_sql(qanat: Run, stopped: Path) -> None:
    change = "CASE WHEN reason LIKE 'not JSON%' THEN data || ',\"temperature\":3}' END"
    done = qanat("dead", "retry", "--yes", "--transform", change, cwd=stopped)
    assert done.returncode == 0, done.stderr
    assert rows(stopped)[1:] == [{"sensor": "c", "ts": 3, "temperature": 3.0}]
    wrong = qanat("dead", "retry", "--yes", "--transform", "datta", cwd=stopped)
    assert (wrong.returncode, "datta" in wrong.stderr) == (3, True)


def test_payloads_are_changed_in_an_editor(qanat: Run, stopped: Path, tmp_path: Path) -> None:
    editor = tmp_path / "an editor"
    editor.write_text("#!/bin/sh\nsed -i -e 's/\\\\\"warm\\\\\"/22/' -e '/not JSON/d' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IEXEC)
    done = qanat("dead", "retry", "--edit", "--yes", "--json", cwd=stopped, EDITOR=f"'{editor}'", VISUAL="")
    assert {one["id"]: one["fate"] for one in lines(done.stdout)} == {"0:0": "repaired", "0:2": "does not fit"}
    assert rows(stopped)[1]["temperature"] == 22.0
    failed = qanat("dead", "retry", "--edit", "--yes", cwd=stopped, EDITOR="false", VISUAL="")
    assert (failed.returncode, "nothing was tried" in failed.stderr) == (2, True)


def test_exported_letters_come_back_corrected(qanat: Run, stopped: Path) -> None:
    assert qanat("dead", "export", "letters.ndjson", cwd=stopped).returncode == 0
    file = stopped / "letters.ndjson"
    file.write_text(file.read_text().replace('\\"warm\\"', "19"))
    done = qanat("dead", "retry", "--from", "letters.ndjson", "--yes", cwd=stopped)
    assert (done.returncode, "1 repaired" in done.stderr) == (4, True)
    assert rows(stopped)[1]["temperature"] == 19.0


def test_exports_have_the_bytes_as_they_came(up: Up, qanat: Run, farm: Path) -> None:
    server = up(farm)
    payloads = [b"\xff\x00\x01", b'{"text":"a,\\"b\\""', "ü\n".encode()]
    for payload in payloads:
        httpx.post(f"{server.url}/streams/readings", content=payload, headers={"content-type": "application/json"})
    for name in ("out.parquet", "out.csv", "out.ndjson"):
        assert qanat("dead", "export", name, cwd=farm).returncode == 0
    assert pq.read_table(farm / "out.parquet").column("data").to_pylist() == payloads
    with (farm / "out.csv").open(newline="") as file:
        texts = list(csv.DictReader(file))
    assert [one["data"] for one in texts] == ["", payloads[1].decode(), payloads[2].decode()]
    assert texts[0]["data_base64"] == "/wAB"
    assert len(lines((farm / "out.ndjson").read_text())) == 3
    wrong = qanat("dead", "export", "out.xml", cwd=farm)
    assert (wrong.returncode, ".parquet" in wrong.stderr) == (2, True)


def test_the_running_server_asks_who_it_is(up: Up, qanat: Run, farm: Path) -> None:
    (farm / "qanat.yaml").write_text(
        "users:\n  - {name: meter, password: secret}\n  - {name: keeper, password: secret, subscribe: [dead_letters]}\n"
    )
    server = up(farm)
    feed(server, BAD[0], auth=("meter", "secret"))
    retry = ("dead", "retry", "0:0", "--set", "temperature=1")
    nobody = qanat(*retry, cwd=farm)
    assert (nobody.returncode, "QANAT_PASSWORD" in nobody.stderr) == (7, True)
    meter = qanat(*retry, "--user", "meter", cwd=farm, QANAT_PASSWORD="secret")
    assert (meter.returncode, "may not read dead_letters" in meter.stderr) == (7, True)
    assert qanat(*retry, "--user", "keeper", cwd=farm, QANAT_PASSWORD="secret").returncode == 0
    assert len(rows(farm)) == 1


@pytest.fixture
def many(up: Up, farm: Path) -> Path:
    """A project with 6,000 dead letters."""
    server = up(farm)
    feed(server, *(json.dumps({"sensor": str(n), "ts": n, "temperature": "warm"}) for n in range(6_000)))
    assert server.stop() == (0, "")
    return farm


@pytest.mark.parametrize("served", [False, True])
def test_a_retry_that_is_killed_in_the_middle_stores_nothing_twice(
    up: Up, qanat: Run, many: Path, served: bool
) -> None:
    """kill -9 of the process that writes the log, at some transaction of six; then again, to the end."""
    server = up(many) if served else None
    command = [*COMMAND, "dead", "retry", "--yes", "--set", "temperature=1"]
    with subprocess.Popen(command, cwd=many, stderr=subprocess.PIPE, env=os.environ) as process:
        while process.poll() is None and not rows(many):
            pass
        writer = server.process.pid if server is not None else process.pid
        os.kill(writer, signal.SIGKILL)
        process.communicate()
    stored = len(rows(many))
    assert stored > 0
    again = qanat("dead", "retry", "--yes", "--set", "temperature=1", cwd=many)
    assert (again.returncode, "directly" in again.stderr or stored == 6_000) == (0, True), again.stderr
    found = rows(many)
    assert sorted(int(row["sensor"]) for row in found) == list(range(6_000))
    assert listed(qanat, many) == []

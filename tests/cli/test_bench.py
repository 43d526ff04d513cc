"""`qanat bench gateway` against a running project, with the log as the judge; and how `qanat up` sets the collector."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run, Server

from qanat.cli import interpreter

SQL = """
CREATE TABLE readings (client_id STRING, ts BIGINT, consumption DOUBLE, at AS TO_TIMESTAMP_LTZ(ts, 3),
  WATERMARK FOR at AS at - INTERVAL '1' SECOND);
CREATE TABLE counts (client_id STRING, n BIGINT);
INSERT INTO counts SELECT client_id, COUNT(*) FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(at), INTERVAL '1' HOUR))
  GROUP BY client_id, window_start, window_end;
"""


@pytest.fixture
def project(tmp_path: Path, up: Callable[..., Server]) -> Server:
    (tmp_path / "a.sql").write_text(SQL)
    return up(tmp_path)


@pytest.mark.parametrize("options", [("--qos", "1"), ("--qos", "0"), ("--protocol", "http", "--rate", "4000")], ids=str)
def test_what_is_acknowledged_is_counted_in_the_log(qanat: Run, project: Server, options: tuple[str, ...]) -> None:
    port = project.port("http" if "http" in options else "mqtt")
    for _ in range(2):  # the second run does not count the first one's rows
        done = qanat("bench", "gateway", "--port", port, "--seconds", 0.3, "--yes", "--json", *options)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["acknowledged"] > 0
        assert found["stored"] == {"rows": found["acknowledged"], "checksum": found["checksum"]}


def test_rows_that_become_dead_letters_are_missed(qanat: Run, project: Server) -> None:
    wrong = '{"client_id": "$client", "ts": $time, "consumption": "$value"}'
    done = qanat(
        "bench", "gateway", "--port", project.port("mqtt"), "--seconds", 0.2, "--yes", "--payload", wrong
    )  # fmt: skip
    assert done.returncode == 1
    assert "in the log: 0 rows, NOT the" in done.stdout


def test_nobody_is_asked_in_a_script_and_nothing_is_sent(qanat: Run, project: Server) -> None:
    done = qanat("bench", "gateway", "--port", project.port("mqtt"))
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert json.loads(qanat("query", "SELECT count(*) AS n FROM readings", "--json").stdout) == {"n": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--stream", "counts"), "counts is no stream of . that takes input"),
        (("--port", "1", "--yes"), "nobody takes mqtt on 127.0.0.1:1"),
        (("--protocol", "amqp"), "--protocol is one of mqtt, http"),
        (("--payload", "{}"), "says the same in every message"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said(qanat: Run, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    (tmp_path / "a.sql").write_text(SQL)
    done = qanat("bench", "gateway", *options)
    assert done.returncode == 2
    assert said in done.stderr


def test_cycles_are_still_freed_after_the_collector_was_settled() -> None:
    class Knot:
        def __init__(self) -> None:
            self.me = self

    before = gc.get_threshold()
    try:
        interpreter.settle()
        assert gc.get_threshold()[0] > before[0]
        gone = weakref.ref(Knot())
        kept = [[] for _ in range(60_000)]  # the youngest generation is full
        assert kept
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)

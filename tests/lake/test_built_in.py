"""`dead_letters` and `late` in the lake: streams that no CREATE TABLE declares, archived because qanat.yaml says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable

from qanat.cli.project import open_folder
from qanat.clock import now_ms
from qanat.errors import ConfigError
from qanat.log import open_log
from qanat.log.base import Log
from qanat.log.declarations import declare_kept
from qanat.model.streams import Stream, dead_letter_stream
from tests.cli.conftest import Run, Server
from tests.cli.conftest import qanat as qanat
from tests.cli.conftest import up as up

SQL = """CREATE TABLE readings (
  sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
);
CREATE TABLE minutes (sensor STRING, begun TIMESTAMP(3), n BIGINT);
INSERT INTO minutes SELECT sensor, window_start, count(*)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY sensor, window_start, window_end;
"""
BOTH = "archive: [dead_letters, late]\nretention: {age: 1 s}\nlake: {interval: 100 ms}\n"
BROKEN = b'{"sensor": "s1", "v": "much", "ts": "2026-01-01T10:00:00"}'
FUTURE = 1000 * 86_400_000


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "all.sql").write_text(SQL)
    (folder / "qanat.yaml").write_text(BOTH)
    return folder


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    made = open_log("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db")
    yield made
    made.close()


def send(server: Server, *rows: bytes) -> dict[str, Any]:
    headers = {"content-type": "application/x-ndjson"}
    answer = httpx.post(f"{server.url}/streams/readings", content=b"\n".join(rows), headers=headers)
    found: dict[str, Any] = answer.json()
    return found


def good(time_of_day: str) -> bytes:
    return json.dumps({"sensor": "s1", "v": 1.0, "ts": f"2026-01-01T{time_of_day}"}).encode()


def wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def archived(farm: Path, stream: str) -> int:
    path = farm / ".qanat/lake" / stream
    return int(DeltaTable(path).count()) if (path / "_delta_log").is_dir() else 0


def logged(farm: Path, stream: str) -> Stream:
    log = open_log(f"sqlite:///{farm}/.qanat/log.db", read_only=True)
    try:
        return log.status()[stream].stream
    finally:
        log.close()


def expire(farm: Path) -> dict[str, int]:
    """Retention long after; how many rows each stream has left."""
    log: Any = open_log(f"sqlite:///{farm}/.qanat/log.db")
    try:
        log.maintain(now_ms() + FUTURE)
        return {name: one.rows for name, one in log.status().items()}
    finally:
        log.close()


def asked(qanat: Run, farm: Path, sql: str) -> list[dict[str, Any]]:
    ended = qanat("query", "--json", sql, cwd=farm)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_a_broken_message_is_found_once_after_the_log_has_deleted_it(
    up: Callable[..., Server], qanat: Run, farm: Path
) -> None:
    server = up(farm)
    assert send(server, BROKEN)["dead_letters"] == 1
    wait_for(lambda: archived(farm, "dead_letters") == 1, "the dead letter is not archived")
    assert httpx.get(f"{server.url}/healthz").json()["checks"]["lake dead_letters"] == "ok"
    assert server.stop()[0] == 0
    sql = "SELECT stream, reason, decode(data) AS data FROM dead_letters"
    (before,) = asked(qanat, farm, sql)
    assert (before["stream"], before["data"]) == ("readings", BROKEN.decode())
    assert expire(farm)["dead_letters"] == 0
    assert asked(qanat, farm, sql) == [before]
    again = up(farm)  # a second start changes nothing, and archives what comes then
    assert send(again, BROKEN.replace(b"s1", b"s2"))["dead_letters"] == 1
    body = {"sql": "SELECT count(*) AS n FROM dead_letters"}
    assert httpx.post(f"{again.url}/v1/query", json=body).json()["rows"] == [{"n": 2}]
    assert again.stop()[0] == 0
    assert expire(farm)["dead_letters"] == 0
    assert [one["data"] for one in asked(qanat, farm, sql + " ORDER BY data")] == [
        BROKEN.decode(),
        BROKEN.decode().replace("s1", "s2"),
    ]


def test_a_late_row_is_found_once_after_the_log_has_deleted_it(
    up: Callable[..., Server], qanat: Run, farm: Path
) -> None:
    server = up(farm)
    send(server, good("10:00:00"), good("10:30:00"))

    def minutes() -> bool:
        body = {"sql": "SELECT count(*) AS n FROM minutes"}
        return bool(httpx.post(f"{server.url}/v1/query", json=body).json()["rows"] == [{"n": 1}])

    wait_for(minutes, "no window is closed")
    send(server, good("10:00:01"))
    wait_for(lambda: archived(farm, "late") == 1, "the late row is not archived")
    assert server.stop()[0] == 0
    assert expire(farm)["late"] == 0
    (found,) = asked(qanat, farm, "SELECT pipeline, row FROM late")
    assert json.loads(found["row"])["ts"].startswith("2026-01-01")
    (row,) = asked(qanat, farm, "SELECT count(*) AS n FROM late WHERE event_time < TIMESTAMPTZ '2026-01-01 11:00:00Z'")
    assert row == {"n": 1}


def test_the_log_deletes_no_dead_letter_that_is_not_archived(up: Callable[..., Server], farm: Path) -> None:
    (farm / ".qanat").mkdir()
    (farm / ".qanat/lake").write_text("a file where the folder should be")
    server = up(farm)
    send(server, BROKEN)
    assert server.stop()[0] == 0
    assert logged(farm, "dead_letters").options == {"archive": "true"}
    assert expire(farm)["dead_letters"] == 1


def test_a_sink_declares_dead_letters_and_the_project_has_the_last_word(up: Callable[..., Server], farm: Path) -> None:
    sinks = "sinks: {ops: {stream: minutes, webhook: {url: 'http://127.0.0.1:9/'}}}\n"
    (farm / "qanat.yaml").write_text(BOTH + sinks)
    for _ in range(2):
        server = up(farm)
        assert "lake dead_letters" in httpx.get(f"{server.url}/healthz").json()["checks"]
        assert server.stop()[0] == 0
        stream = logged(farm, "dead_letters")
        assert (stream.options, stream.retention_ms) == ({"archive": "true"}, 1000)


def test_switched_off_again_retention_waits_no_longer(up: Callable[..., Server], farm: Path) -> None:
    server = up(farm)
    send(server, BROKEN)
    assert server.stop()[0] == 0
    (farm / "qanat.yaml").write_text("retention: {age: 1 s}\n")
    again = up(farm)
    assert "lake dead_letters" not in httpx.get(f"{again.url}/healthz").json()["checks"]
    send(again, BROKEN)
    assert again.stop()[0] == 0
    assert logged(farm, "dead_letters").options == {}
    assert expire(farm)["dead_letters"] == 0
    assert archived(farm, "dead_letters") == 1


def test_who_knows_nothing_of_the_project_changes_nothing(log: Log) -> None:
    declare_kept(log, dead_letter_stream())
    assert log.status()["dead_letters"].stream == dead_letter_stream()
    wanted = replace(dead_letter_stream(), retention_ms=7, retention_bytes=9, options={"archive": "true"})
    log.create(wanted)
    declare_kept(log, dead_letter_stream())
    assert log.status()["dead_letters"].stream == wanted


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("archive: [late, readings]", "qanat.yaml:2: archive is for dead_letters and late", "CREATE TABLE readings"),
        ("archive: [late, late]", "qanat.yaml:2: archive names late twice", "once"),
        ("archive: true", "archive: expected `array`, got `bool`", ""),
        ("archive: [1]", "archive.0: expected `str`, got `int`", ""),
    ],
)
def test_nonsense_is_refused(farm: Path, text: str, said: str, hint: str) -> None:
    (farm / "qanat.yaml").write_text(f"retention: {{age: 1 d}}\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        open_folder(farm)
    assert said in raised.value.message
    assert hint in (raised.value.hint or "")

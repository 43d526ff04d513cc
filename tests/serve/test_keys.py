"""API keys: what each scope opens and what it does not, over every endpoint; the command and the file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qanat.errors import ConfigError, RegistryError
from qanat.secure.keyring import Keyring
from qanat.secure.keys import Key, draw_key, key_digest, may_query, parse_scopes, user_of
from qanat.secure.users import may_manage, may_manage_devices, may_publish, may_subscribe

from .conftest import reading

Start = Callable[..., Any]
ROWS = "/v1/streams/readings/rows"


def test_without_keys_everything_is_open_and_with_the_first_nothing_is(start: Start, tmp_path: Path) -> None:
    server = start(devices=tmp_path / "devices.db")
    paths = ["/v1/streams", "/v1/streams/readings", ROWS, "/v1/query?sql=select+1", "/v1/pipelines", "/metrics"]
    assert [server.get(path).status_code for path in paths] == [200] * len(paths)
    text = server.key("first", "admin")
    server.wait_until_demanded()
    for path in [*paths, "/v1/sites", "/v1/dead-letters", "/v1/devices", f"{ROWS}/live"]:
        answer = server.get(path)
        assert (path, answer.status_code) == (path, 401)
        assert "Bearer" in answer.headers["www-authenticate"]
    assert server.post(ROWS, json=reading(0)).status_code == 401
    assert server.get("/healthz").status_code == server.get("/readyz").status_code == 200
    for headers in ({"authorization": f"Bearer {text}"}, {"x-api-key": text}):
        assert [server.get(path, headers=headers).status_code for path in paths] == [200] * len(paths)


@pytest.mark.parametrize("wrong", ["qk_", "qk_nothing", "qnt_nothing", "x", "ü", "x" * 5000])
def test_what_is_no_key_opens_nothing(start: Start, wrong: str) -> None:
    server = start(log="memory")
    server.key("first", "admin")
    server.wait_until_demanded()
    for headers in ({"authorization": f"Bearer {wrong}".encode()}, {"x-api-key": wrong.encode()}):
        assert server.get("/v1/streams", headers=headers).status_code == 401


def calls(server: Any, text: str) -> dict[str, int]:
    """What becomes of one request of each kind."""
    headers = {"x-api-key": text}
    gets = {
        "read": ROWS,
        "read other": "/v1/streams/größen/rows",
        "stream": "/v1/streams/readings",
        "query": "/v1/query?sql=select+count(*)+n+from+readings",
        "query other": "/v1/query?sql=select+count(*)+n+from+spread",
        "letters": "/v1/dead-letters",
        "devices": "/v1/devices",
        "pipelines": "/v1/pipelines",
    }
    found = {name: server.get(path, headers=headers).status_code for name, path in gets.items()}
    found["write"] = server.post(ROWS, json=reading(0), headers=headers).status_code
    found["write other"] = server.post("/v1/streams/größen/rows", json={"höhe": 1}, headers=headers).status_code
    return found


@pytest.mark.parametrize(
    ("scopes", "opened"),
    [
        (["read:readings"], {"read", "stream"}),
        (["read:gr*"], {"read other"}),
        (["write:readings"], {"write"}),
        (["write:*"], {"write", "write other"}),
        (["query"], {"pipelines"}),
        (["query", "read:readings"], {"read", "stream", "query", "pipelines"}),
        (["dead-letters"], {"letters"}),
        (["devices"], {"devices"}),
    ],
)
def test_a_scope_opens_what_it_says(start: Start, tmp_path: Path, scopes: list[str], opened: set[str]) -> None:
    server = start(devices=tmp_path / "devices.db")
    text = server.key("one", *scopes)
    server.wait_until_demanded()
    found = calls(server, text)
    assert {name for name, status in found.items() if status == 200} == opened
    closed = {name: status for name, status in found.items() if name not in opened}
    assert {status for name, status in closed.items() if not name.startswith("query")} <= {403}
    assert {status for name, status in closed.items() if name.startswith("query")} <= {403, 400}


def test_admin_opens_everything(start: Start, tmp_path: Path) -> None:
    server = start(devices=tmp_path / "devices.db")
    text = server.key("one", "admin")
    server.wait_until_demanded()
    assert set(calls(server, text).values()) == {200}


def test_streams_that_may_not_be_read_are_not_listed(start: Start) -> None:
    server = start()
    headers = {"x-api-key": server.key("one", "read:s*")}
    server.wait_until_demanded()
    assert [one["name"] for one in server.get("/v1/streams", headers=headers).json()["streams"]] == ["spread"]


def test_no_sql_whatever_shows_other_streams(start: Start) -> None:
    server = start()
    server.feed("readings", [reading(0, sensor="secret")])
    headers = {"x-api-key": server.key("one", "query", "read:spread")}
    server.wait_until_demanded()
    for sql in (
        "SELECT * FROM readings",
        'SELECT * FROM "readings"',
        "SELECT (SELECT max(sensor) FROM readings)",
        "WITH a AS (SELECT * FROM readings) SELECT * FROM a",
        "SELECT * FROM query_table('readings')",
        "SELECT * FROM query('SELECT * FROM readings')",
        "EXPLAIN SELECT * FROM readings",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM duckdb_tables()",
        "SELECT * FROM duckdb_views()",
        "SHOW TABLES",
        "DESCRIBE readings",
        "SUMMARIZE readings",
        "PIVOT readings ON sensor USING count(*)",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH '/tmp/x.db'",
    ):
        answer = server.post("/v1/query", json={"sql": sql}, headers=headers)
        assert answer.status_code in (200, 400), answer.text
        assert "secret" not in answer.text
        assert answer.status_code == 400 or "readings" not in answer.text, sql


def test_a_user_of_the_project_has_his_rights(start: Start) -> None:
    from qanat.secure.passwords import Cost, hash_password
    from qanat.secure.users import User

    user = User("reader", hash_password("pw", Cost.DEVICE), publish=(), subscribe=("readings",))
    server = start(users=(user,))
    auth = ("reader", "pw")
    assert server.get(ROWS, auth=auth).status_code == 200
    assert server.get("/v1/streams/spread/rows", auth=auth).status_code == 403
    assert server.get("/v1/query?sql=select+count(*)+n+from+readings", auth=auth).json()["rows"] == [{"n": 0}]
    assert server.post(ROWS, json=reading(0), auth=auth).status_code == 403
    assert server.get(ROWS, auth=("reader", "wrong")).status_code == 401


def test_scopes_are_checked() -> None:
    assert parse_scopes(["read:a", "query", "read:a"]) == ("read:a", "query")
    for wrong in ("read", "read:", "reed:x", "query:x", "", "Admin"):
        with pytest.raises(ConfigError, match="no scope"):
            parse_scopes([wrong])
    with pytest.raises(ConfigError, match="may do nothing"):
        parse_scopes([])


def test_rights_of_a_key() -> None:
    user = user_of(Key("k", "d", ("read:green*", "write:power", "devices")))
    assert may_subscribe(user, "greenhouse")
    assert may_subscribe(user, "greenhouse/h1")
    assert not may_subscribe(user, "power")
    assert may_publish(user, "power")
    assert not may_publish(user, "greenhouse")
    assert may_manage_devices(user)
    assert not may_manage(user)
    assert not may_query(user)
    assert user.name == "key:k"


def keyring(tmp_path: Path, now: list[int]) -> Keyring:
    return Keyring(tmp_path / "keys.json", lambda: now[0])


def test_the_file_keeps_hashes_for_the_owner_only(tmp_path: Path) -> None:
    ring = keyring(tmp_path, [5])
    text = draw_key()
    ring.add(Key("a", key_digest(text), ("query",), 5))
    assert text not in ring.path.read_text()
    assert text[3:] not in ring.path.read_text()
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600


def test_names_are_taken_once_and_free_again_when_revoked(tmp_path: Path) -> None:
    now = [5]
    ring = keyring(tmp_path, now)
    ring.add(Key("a", "1", ("query",), 5))
    with pytest.raises(ConfigError, match="already"):
        ring.add(Key("a", "2", ("query",), 5))
    with pytest.raises(ConfigError, match="no key 'b'"):
        ring.revoke(["a", "b"])
    assert ring.listed()[0].revoked_at is None
    ring.revoke(["a"])
    assert [(one.name, one.revoked_at) for one in ring.listed()] == [("a", 5)]
    ring.add(Key("a", "2", ("query",), 5))
    assert [one.digest for one in ring.listed()] == ["2"]


def test_another_process_hears_of_changes_and_of_time(tmp_path: Path) -> None:
    now = [5]
    desk, gateway = keyring(tmp_path, now), keyring(tmp_path, now)
    text = draw_key()
    assert gateway.find(text) is None
    desk.add(Key("a", key_digest(text), ("query",), 5, expires_at=10))
    user = gateway.find(text)
    assert user is not None
    assert gateway.news() == ()
    assert gateway.still(user)
    now[0] = 10
    assert gateway.news() == ("key:a",)
    assert gateway.news() == ()
    assert gateway.find(text) is None
    assert not gateway.still(user)


def test_a_damaged_file_lets_nobody_in_and_says_so(start: Start) -> None:
    server = start()
    text = server.key("one", "admin")
    server.wait_until_demanded()
    (server.folder / "keys.json").write_text("{")
    server.wait(lambda: server.get("/healthz").status_code == 503)
    assert "keys.json" in server.get("/healthz").json()["checks"]["keys"]
    assert server.get("/v1/streams", headers={"x-api-key": "qk_other"}).status_code == 401
    with pytest.raises(RegistryError):
        server.keyring.listed()
    assert text


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"COLUMNS": "120"}
    command = [sys.executable, "-m", "qanat", "key", *args, "--dir", str(folder)]
    return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=60)


def test_the_command_makes_lists_and_revokes(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    made = run(folder, "add", "grafana", "--scope", "read:readings", "--scope", "query", "--expires", "90 d")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("qk_")
    listed = [json.loads(line) for line in run(folder, "list", "--json").stdout.splitlines()]
    assert [(one["name"], one["state"], one["scopes"]) for one in listed] == [
        ("grafana", "valid", "read:readings query")
    ]
    assert made.stdout.strip() not in run(folder, "list").stdout
    assert run(folder, "revoke", "nobody").returncode == 2
    assert run(folder, "revoke", "grafana").returncode == 0
    assert "revoked" in run(folder, "list").stdout
    assert run(folder, "add", "x", "--scope", "all").returncode == 2
    assert run(folder, "add", "a b", "--scope", "query").returncode == 2

"""`qanat device`: real commands on real folders, and beside a running project."""

from __future__ import annotations

import csv
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest

from qanat.model.devices import Device
from qanat.secure.registry import Registry

Run = Callable[..., Any]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_device_is_added_shown_changed_and_removed(qanat: Run) -> None:
    made = qanat(
        *("device", "add", "h1", "--owner", "ada", "--label", "site=north", "--label", "row=3", "--interval", "30 s"),
        *("--publish", "power/{id}", "--publish", "state/{id}"),
    )
    assert made.returncode == 0, made.stderr
    assert rows(made.stdout)[0]["credential"] == "password"
    secret = rows(made.stdout)[0]["secret"]
    assert len(secret) == 32
    shown = json.loads(qanat("device", "show", "h1", "--json").stdout)
    assert (shown["labels"], shown["publish"]) == ({"site": "north", "row": "3"}, ["power/{id}", "state/{id}"])
    assert (shown["interval"], shown["subscribe"]) == ("30 s", ["+/{id}/#"])
    assert secret not in qanat("device", "show", "h1").stdout
    assert qanat("device", "change", "h1", "--kind", "meter").returncode == 0
    assert qanat("device", "disable", "h1").returncode == 0
    listed = lines(qanat("device", "list", "--json").stdout)
    assert [(one["id"], one["kind"], one["disabled"]) for one in listed] == [("h1", "meter", True)]
    assert qanat("device", "enable", "h1").returncode == 0
    assert qanat("device", "remove", "h1").returncode == 0
    assert qanat("device", "list", "--json").stdout == ""


def test_many_are_added_from_a_csv_with_what_the_options_say_as_default(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(
        "id,labels,publish,credential,password\n"
        "zähler-1,site=nörd;row=1,power/{id};state/{id},,\n"
        "m2,,,token,\n"
        "m3,,,,chosen\n",
        encoding="utf-8-sig",
    )
    made = qanat("device", "add", "--from", "d.csv", "--owner", "ada", "--kind", "meter", "--json")
    assert [(one["id"], one["credential"]) for one in lines(made.stdout)] == [
        ("zähler-1", "password"),
        ("m2", "token"),
        ("m3", "password"),
    ]
    assert [one["secret"] is None for one in lines(made.stdout)] == [False, False, True]
    found = {one["id"]: one for one in lines(qanat("device", "list", "--owner", "ada", "--json").stdout)}
    assert found["zähler-1"]["labels"] == {"site": "nörd", "row": "1"}
    assert found["zähler-1"]["publish"] == ["power/{id}", "state/{id}"]
    assert {one["kind"] for one in found.values()} == {"meter"}


def test_many_are_added_from_json_lines(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "labels": {"s": "1"}}\n\n{"id": "b", "interval": "5 min"}\n')
    assert [row["id"] for row in rows(qanat("device", "add", "--from", "d.jsonl").stdout)] == ["a", "b"]


def test_secrets_go_into_a_file_that_only_its_owner_reads(qanat: Run, tmp_path: Path) -> None:
    made = qanat("device", "add", "--count", 300, "--prefix", "m-", "--first", 5, "--secrets", "s.csv")
    assert (made.returncode, made.stdout) == (0, "")
    path = tmp_path / "s.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = rows(path.read_text())
    assert (len(written), written[0]["id"], written[-1]["id"]) == (300, "m-00005", "m-00304")
    again = qanat("device", "add", "other", "--secrets", "s.csv")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    assert len(rows(path.read_text())) == 300


def test_no_file_of_secrets_is_left_where_nothing_was_added(qanat: Run, tmp_path: Path) -> None:
    qanat("device", "add", "m-00002")
    failed = qanat("device", "add", "--count", 3, "--prefix", "m-", "--secrets", "s.jsonl")
    assert (failed.returncode, "'m-00002' is already registered" in failed.stderr) == (2, True)
    assert not (tmp_path / "s.jsonl").exists()
    assert len(lines(qanat("device", "list", "--json").stdout)) == 1


def test_pages_and_filters(qanat: Run) -> None:
    qanat("device", "add", "--count", 25, "--prefix", "m")
    page = qanat("device", "list", "--limit", 10, "--after", "m00010", "--json")
    assert [one["id"] for one in lines(page.stdout)] == [f"m{number:05d}" for number in range(11, 21)]
    people = qanat("device", "list", "--limit", 10)
    assert "--after m00010" in people.stderr
    assert lines(qanat("device", "list", "--disabled", "--json").stdout) == []
    assert len(lines(qanat("device", "list", "--enabled", "--prefix", "m0000", "--json").stdout)) == 9


def test_a_dry_run_changes_nothing(qanat: Run, tmp_path: Path) -> None:
    first = qanat("device", "add", "h1", "--dry-run", "--secrets", "s.csv")
    assert (first.returncode, first.stdout, "would have added h1" in first.stderr) == (0, "", True)
    assert list(tmp_path.iterdir()) == []
    qanat("device", "add", "h1")
    before = qanat("device", "show", "h1").stdout
    for command in (["disable"], ["remove"], ["rotate"], ["change", "--kind", "x"], ["enable"]):
        done = qanat("device", command[0], "h1", *command[1:], "--dry-run")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert qanat("device", "show", "h1").stdout == before
    assert qanat("device", "add", "h1", "--dry-run").returncode == 2
    assert qanat("device", "remove", "h2", "--dry-run").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add"], "which devices?"),
        (["add", "a", "--count", "3"], "which devices?"),
        (["add", "a/b"], "has one of"),
        (["add", "a b"], "white space"),
        (["add", "a\u0301"], "NFC"),
        (["add", "x", "--password", "--token"], "one way to come in"),
        (["add", "x", "--label", "north"], "NAME=VALUE"),
        (["add", "x", "--interval", "often"], "expected a duration"),
        (["add", "x", "--publish", "a/#/b"], "last level"),
        (["add", "x", "--certificate", "none.pem"], "none.pem"),
        (["add", "x", "--certificate", "odd.pem"], "no certificate"),
        (["add", "--from", "none.csv"], "none.csv"),
        (["add", "--from", "odd.pem"], "ends with .pem"),
        (["add", "--from", "header.csv"], "'colour'"),
        (["add", "--from", "short.csv"], "short.csv:3"),
        (["add", "--from", "odd.jsonl"], "odd.jsonl:2"),
        (["add", "--from", "empty.jsonl"], "no device"),
        (["add", "there"], "already registered"),
        (["add", "x", "--dir", "nowhere"], "nowhere is no folder"),
        (["add", "x", "--secrets", "s.txt"], "s.txt"),
        (["show", "ghost"], "no device 'ghost'"),
        (["rotate", "there", "ghost"], "no device 'ghost'"),
        (["rotate", "there", "--grace", "soon"], "--grace"),
        (["disable", "ghost"], "no device 'ghost'"),
        (["list", "--data", "elsewhere"], "no devices are registered"),
        (["list", "--limit", "0"], "limit"),
    ],
)
def test_mistakes_are_told_in_one_line(qanat: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / ".qanat").mkdir()
    registry = Registry(tmp_path / ".qanat" / "devices.db")
    registry.add([Device("there")], [])
    (tmp_path / "odd.pem").write_text("this is no certificate")
    (tmp_path / "header.csv").write_text("id,colour\na,red\n")
    (tmp_path / "short.csv").write_text("id,kind\na,b\nc\n")
    (tmp_path / "odd.jsonl").write_text('{"id": "a"}\n{"id": 5}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    done = qanat("device", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert registry.count() == 1
    registry.close()


def test_rotation_shows_a_new_secret_and_when_the_old_one_ends(qanat: Run) -> None:
    first = rows(qanat("device", "add", "h1", "--token").stdout)[0]["secret"]
    second = rows(qanat("device", "rotate", "h1", "--grace", "1 h").stdout)[0]
    assert second["credential"] == "token"
    assert second["secret"] != first
    told = json.loads(qanat("device", "show", "h1", "--json").stdout)["credentials"]
    assert ["expires" in one for one in told] == [True, False]
    qanat("device", "rotate", "h1", "--password")
    told = json.loads(qanat("device", "show", "h1", "--json").stdout)["credentials"]
    assert [one["kind"] for one in told] == ["password"]


def test_disabling_beside_a_running_project_closes_the_connection(
    qanat: Run, up: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "s.sql").write_text("CREATE TABLE power (client_id STRING, consumption DOUBLE);")
    secret = rows(qanat("device", "add", "h1", "--dir", folder, "--publish", "power", "--publish", "power/{id}").stdout)
    server = up(folder)
    closed: list[float] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "h1")
    client.username_pw_set("h1", secret[0]["secret"])
    client.on_disconnect = lambda *_: closed.append(time.monotonic())
    client.connect("127.0.0.1", server.port("mqtt"))
    client.loop_start()
    client.publish("power/h1", b'{"client_id": "h1", "consumption": 1}', qos=1).wait_for_publish(10)
    row = {"client_id": "h1", "consumption": 2}
    url = f"{server.url}/streams/power"
    assert httpx.post(url, json=row, auth=("h1", secret[0]["secret"])).status_code == 200
    done = qanat("device", "disable", "h1", "--dir", folder)
    ended = time.monotonic()
    assert done.returncode == 0, done.stderr
    while not closed and time.monotonic() < ended + 10:
        time.sleep(0.005)
    assert closed
    assert closed[0] - ended < 1
    client.loop_stop()
    assert httpx.post(url, json=row, auth=("h1", secret[0]["secret"])).status_code == 401
    assert httpx.post(url, json=row).status_code == 401
    server.stop()
    stored = lines(qanat("query", "SELECT count(*) AS n FROM power", "--dir", folder, "--json").stdout)
    assert stored == [{"n": 2}]
    assert json.loads(qanat("device", "show", "h1", "--dir", folder, "--json").stdout)["seen"] is not None

"""`qanat schema` on a project's files, and beside a running project."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest

Run = Callable[..., Any]

SQL = """\
CREATE TABLE power (client_id STRING NOT NULL, ts TIMESTAMP_LTZ(3), watts DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "farm.sql").write_text(SQL)
    return tmp_path


def test_a_stream_is_shown_in_every_format(qanat: Run, project: Path) -> None:
    assert json.loads(qanat("schema", "show", "power").stdout)["fields"][0] == {"name": "client_id", "type": "string"}
    assert "optional double watts = 3;" in qanat("schema", "show", "power", "--as", "protobuf").stdout
    assert json.loads(qanat("schema", "show", "power", "--as", "json-schema").stdout)["required"] == ["client_id"]
    assert "`ts` TIMESTAMP_LTZ(3)" in qanat("schema", "show", "power", "--as", "sql").stdout
    unknown = qanat("schema", "show", "power", "--as", "thrift")
    assert (unknown.returncode, "no format 'thrift'" in unknown.stderr) == (2, True)


def test_a_file_is_shown_as_a_create_table(qanat: Run, project: Path) -> None:
    (project / "reading.proto").write_text('syntax = "proto3"; message R { string id = 1; optional double v = 2; }')
    assert qanat("schema", "show", "reading.proto", "--as", "sql").stdout == (
        "CREATE TABLE `reading` (\n  `id` STRING NOT NULL,\n  `v` DOUBLE\n);\n"
    )


def test_files_are_checked_registered_listed_and_deleted(qanat: Run, project: Path) -> None:
    good = project / "power.avsc"
    good.write_text(qanat("schema", "show", "power").stdout)
    assert qanat("schema", "register", good, "--subject", "power-value", "--dry-run").returncode == 0
    assert not (project / ".qanat" / "contracts.db").exists()
    assert "power-value version 1, id 1" in qanat("schema", "register", good, "--subject", "power-value").stdout
    assert "is version 1 of power-value already" in qanat("schema", "register", good, "--subject", "power-value").stdout
    wrong = project / "wrong.avsc"
    wrong.write_text(good.read_text().replace("double", "string"))
    refused = qanat("schema", "check", wrong, "--subject", "power-value")
    assert refused.returncode == 10
    assert "/watts: no branch of [null, string] reads double (MISSING_UNION_BRANCH)" in refused.stdout
    refused = qanat("schema", "register", wrong, "--subject", "power-value")
    assert (refused.returncode, "MISSING_UNION_BRANCH" in refused.stderr) == (10, True)
    assert qanat("schema", "compatibility", "power-value", "none").stdout == "power-value: NONE\n"
    assert qanat("schema", "check", wrong, "--subject", "power-value").returncode == 0
    assert "version 2" in qanat("schema", "register", wrong, "--subject", "power-value").stdout
    rows = [json.loads(line) for line in qanat("schema", "versions", "power", "--json").stdout.splitlines()]
    assert [row["version"] for row in rows] == [1, 2]
    assert json.loads(qanat("schema", "list", "--json").stdout)["compatibility"] == "NONE"
    assert "deleted" in qanat("schema", "delete", "power-value").stdout
    assert qanat("schema", "versions", "power-value").returncode == 10
    assert "forgotten" in qanat("schema", "delete", "power-value", "--permanent").stdout


def test_mistakes_are_named(qanat: Run, project: Path) -> None:
    (project / "bad.avsc").write_text('{"type": "recor"}')
    found = qanat("schema", "register", "bad.avsc", "--subject", "s")
    assert (found.returncode, found.stderr.startswith("qanat: $: no type 'recor'")) == (10, True)
    assert qanat("schema", "register", "nowhere.avsc", "--subject", "s").returncode == 2
    assert qanat("schema", "compatibility", "s", "SOMEWHAT").returncode == 10
    assert qanat("schema", "versions", "nobody").returncode == 10
    assert qanat("schema", "register", "bad.avsc", "--subject", "s", "--reference", "x").returncode == 2


def test_up_makes_contracts_and_refuses_changes_against_them(qanat: Run, up: Callable[..., Any], project: Path) -> None:
    server = up(project)
    assert httpx.get(f"{server.url}/registry/subjects").json() == ["power-value"]
    (project / "meter.avsc").write_text('{"type": "record", "name": "Meter", "fields": []}')
    assert qanat("schema", "register", "meter.avsc", "--subject", "meter").returncode == 0
    assert httpx.get(f"{server.url}/registry/subjects").json() == ["meter", "power-value"]
    httpx.post(f"{server.url}/streams/power", content=b'{"client_id": 5}')
    server.stop()
    letters = qanat("query", "SELECT schema_version FROM dead_letters", "--json").stdout
    assert json.loads(letters) == {"schema_version": 1}

    (project / "farm.sql").write_text(SQL.replace("client_id STRING", "client_id BIGINT"))
    refused = qanat("up")
    assert refused.returncode == 10
    assert "the stream power was changed against its contract power-value" in refused.stderr
    assert "/client_id: long does not read string (TYPE_MISMATCH)" in refused.stderr

    (project / "farm.sql").write_text(SQL.replace("watts DOUBLE", "watts DOUBLE, phase INT"))
    (project / "qanat.yaml").write_text("contracts: {power: {compatibility: FULL}}\n")
    server = up(project)
    assert httpx.get(f"{server.url}/registry/subjects/power-value/versions").json() == [1, 2]
    assert httpx.get(f"{server.url}/registry/config/power-value").json() == {"compatibilityLevel": "FULL"}
    server.stop()


def test_a_schema_file_of_qanat_yaml_is_the_contract(qanat: Run, up: Callable[..., Any], project: Path) -> None:
    (project / "power.proto").write_text(
        'syntax = "proto3"; message M {} message P { string client_id = 1; double watts = 2; }'
    )
    (project / "qanat.yaml").write_text(
        "contracts: {power: {schema: power.proto, message: P}}\n"
        "sources: {meters: {stream: power, topic: 'm/{client_id}', format: protobuf}}\n"
    )
    server = up(project)
    assert "double watts" in httpx.get(f"{server.url}/registry/subjects/power-value/versions/1").json()["schema"]
    headers = {"content-type": "application/x-protobuf"}
    body = b"\x0a\x02h1\x11" + bytes(6) + b"\xf0\x3f"
    answer = httpx.post(f"{server.url}/streams/power", content=body, headers=headers)
    assert answer.json()["accepted"] == 1, answer.text
    server.stop()
    rows = qanat("query", "SELECT client_id, watts FROM power", "--json").stdout
    assert json.loads(rows) == {"client_id": "h1", "watts": 1.0}


def test_letters_whose_schema_was_not_known_are_stored_once_it_is(
    qanat: Run, up: Callable[..., Any], project: Path
) -> None:
    (project / "qanat.yaml").write_text("sources: {meters: {stream: power, topic: 'm/{client_id}', format: avro}}\n")
    server = up(project)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", server.port("mqtt"))
    client.loop_start()
    client.publish("m/h1", b"\x00\x00\x00\x00\x02" + bytes(6) + b"\xf0\x3f", qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()
    server.stop()
    assert "Schema 2 not found" in qanat("dead", "list").stdout
    schema = {"type": "record", "name": "M", "fields": [{"name": "watts", "type": "double"}]}
    (project / "m.avsc").write_text(json.dumps(schema))
    assert "id 2" in qanat("schema", "register", "m.avsc", "--subject", "m").stdout
    retried = qanat("dead", "retry", "--stream", "power", "--yes")
    assert retried.returncode == 0, retried.stderr
    rows = qanat("query", "SELECT client_id, watts FROM power", "--json").stdout
    assert json.loads(rows) == {"client_id": "h1", "watts": 1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("contracts: {powr: {}}", "contracts.powr: no stream 'powr'"),
        ("contracts: {power: {compatibility: MOSTLY}}", "qanat.yaml:1"),
        ("contracts: {power: {shape: avro}}", "has no key 'shape'"),
        ("contracts: {power: {schema: gone.avsc}}", "cannot read"),
        ("contracts: {power: {schema: gone.avsc, format: protobuf}}", "gone.avsc is AVRO, and format says protobuf"),
    ],
)
def test_mistakes_in_qanat_yaml(qanat: Run, project: Path, text: str, said: str) -> None:
    (project / "qanat.yaml").write_text(text)
    found = qanat("up")
    assert found.returncode == 2
    assert said in found.stderr

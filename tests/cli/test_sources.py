"""`qanat sources`: the list, and what becomes of a payload without a broker."""

from __future__ import annotations

import json
from pathlib import Path

import cbor2
import pytest
from typer.testing import CliRunner

from qanat.cli.main import app

SQL = """
CREATE TABLE readings (site_id STRING, sensor_id STRING, kind STRING, `value` DOUBLE, ts TIMESTAMP_LTZ(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE hot (sensor_id STRING);
INSERT INTO hot SELECT sensor_id FROM readings WHERE `value` > 30;
"""
CONFIG = """
sources:
  farm: {topic: "farm/{site_id}/{sensor_id}/{kind}", stream: readings}
  bare:
    topic: bare/{sensor_id}
    stream: readings
    format: number
    value: value
    columns: {kind: temp, site_id: $property.site}
  plant: {mqtt: {url: "mqtt://broker", topics: ["p/{sensor_id}"]}, stream: readings}
"""


@pytest.fixture
def project(tmp_path: Path) -> str:
    (tmp_path / "farm.sql").write_text(SQL)
    (tmp_path / "qanat.yaml").write_text(CONFIG)
    return str(tmp_path)


def qanat(*arguments: str, data: bytes | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), input=data)
    return result.exit_code, result.stdout, result.stderr


def test_the_list_says_what_feeds_what_and_fills_which_columns(project: str) -> None:
    code, out, _ = qanat("sources", project, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(one["name"], one["way"], one["where"], one["stream"], one["format"]) for one in found] == [
        ("farm", "topic", ["farm/{site_id}/{sensor_id}/{kind}"], "readings", None),
        ("bare", "topic", ["bare/{sensor_id}"], "readings", "number"),
        ("plant", "mqtt", ["p/{sensor_id}"], "readings", None),
        (None, "topic", ["readings", "readings/#"], "readings", None),
    ]
    assert found[1]["columns"] == {"kind": "temp", "site_id": "$property.site", "sensor_id": "{sensor_id}"}
    code, out, _ = qanat("sources", project)
    assert (code, out.splitlines()[0]) == (
        0,
        "farm: topic farm/{site_id}/{sensor_id}/{kind} -> readings (by content type, else json)",
    )
    assert "    sensor_id = {sensor_id}" in out


def test_a_message_can_be_tried(project: str) -> None:
    code, out, _ = qanat("sources", project, "--try", "bare/t1", "21.5", "--property", "site=7", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["rows"][0].pop("ts")
    assert found == {
        "source": "bare",
        "stream": "readings",
        "rows": [{"site_id": "7", "sensor_id": "t1", "kind": "temp", "value": 21.5}],
        "error": None,
    }
    code, out, _ = qanat("sources", project, "--try", "readings", '{"value": 1}')
    assert out.startswith("the topic of the stream -> readings\n")
    code, out, _ = qanat("sources", project, "--try", "p/9", "{}", "--source", "plant")
    assert '"sensor_id":"9"' in out
    assert not (Path(project) / ".qanat").exists()


def test_bytes_come_from_a_file_or_stdin(project: str, tmp_path: Path) -> None:
    payload = cbor2.dumps({"value": 6.5})
    (tmp_path / "payload").write_bytes(payload)
    options = ("sources", project, "--content-type", "application/cbor", "--json", "--try", "farm/7/t1/ph")
    for code, out, _ in (qanat(*options, f"@{tmp_path / 'payload'}"), qanat(*options, "@-", data=payload)):
        assert code == 0
        assert json.loads(out)["rows"][0]["value"] == 6.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--try", "bare/t1", "warm"), 4, 'a dead letter of readings: column value: expected a number, found "warm"'),
        (("--try", "nowhere/x", "{}"), 4, "no stream 'nowhere'"),
        (("--try", "hot", "{}"), 2, "written by a pipeline"),
        (("--try", "x", "{}", "--source", "plan"), 2, "no source 'plan'"),
        (("--try", "x", "@/no/such/file"), 1, "No such file"),
    ],
)
def test_what_cannot_be_says_why(project: str, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, _, err = qanat("sources", project, *arguments)
    assert found == code
    assert message in err


def test_a_dead_letter_in_json_has_its_reason_and_exit_code(project: str) -> None:
    code, out, _ = qanat("sources", project, "--json", "--try", "bare/t1", "warm")
    assert code == 4
    assert json.loads(out)["error"] == 'column value: expected a number, found "warm"'


def test_a_source_that_cannot_be_is_refused_by_name(project: str) -> None:
    (Path(project) / "qanat.yaml").write_text("sources: {north: {topic: 'n/{site}', stream: readings}}")
    code, _, err = qanat("sources", project)
    assert code == 2
    assert "source 'north': the stream has no column 'site'" in err
    assert "did you mean site_id?" in err

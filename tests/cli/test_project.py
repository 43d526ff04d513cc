"""qanat.yaml: what it may say, and how mistakes in it are named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from qanat.cli.project import compile_folder, open_folder, parse_params, read_config
from qanat.errors import ConfigError
from qanat.model.project import Project, parse_duration, parse_size
from qanat.model.streams import Stream

DOCUMENT = Path(__file__).parents[2] / "docs" / "project.md"
GOOD = """\
listeners:
  mqtt: {host: 0.0.0.0, port: 0}
users:
  - name: north
    password_hash: $argon2id$x
    publish: [power, "green_*"]
max_future_skew: 90 s
retention: {age: 7 d, bytes: 2 GiB}
parameters: {GAP: 5, LABEL: x, HALF: 0.5, ON: true}
engine: {batch_rows: 1000, snapshot_interval: 500 ms}
"""


def config(tmp_path: Path, text: str) -> Project:
    path = tmp_path / "qanat.yaml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_no_file_an_empty_one_and_comments_mean_the_same(tmp_path: Path) -> None:
    assert open_folder(tmp_path).project == Project()
    assert config(tmp_path, "") == Project()
    assert config(tmp_path, "# later\n") == Project()


def test_everything_said(tmp_path: Path) -> None:
    project = config(tmp_path, GOOD)
    assert (project.listeners.mqtt.host, project.listeners.mqtt.port) == ("0.0.0.0", 0)
    assert (project.listeners.http.host, project.listeners.http.port) == ("127.0.0.1", 8080)
    assert project.users[0].publish == ("power", "green_*")
    assert project.max_future_skew == 90_000
    assert (project.retention.age, project.retention.bytes) == (7 * 86_400_000, 2 << 30)
    assert (project.engine.batch_rows, project.engine.snapshot_interval) == (1000, 500)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port: 0", "prot: 0", r"qanat.yaml:2: listeners.mqtt has no key 'prot'; did you mean port\?"),
        ("port: 0", "port: abc", r"qanat.yaml:2: listeners.mqtt.port: expected `int"),
        ("port: 0", "port: 70000", r"qanat.yaml:2: listeners.mqtt.port: expected `int` <= 65535"),
        ("engine:", "gearbox:", r"qanat.yaml:10: there is no key 'gearbox'; known are listeners, users"),
        ("90 s", "90", r"qanat.yaml:7: max_future_skew: expected a duration with its unit"),
        ("90 s", "90 lightyears", r"qanat.yaml:7: max_future_skew: expected a duration such as"),
        ("2 GiB", "true", r"qanat.yaml:8: retention.bytes: expected a size"),
        ("name: north", "nam: north", r"qanat.yaml:4: users.0 has no key 'nam'; did you mean name\?"),
        ("password_hash: $argon2id$x", "", r"qanat.yaml:4: user 'north' needs one of"),
        ("password_hash", "password: x\n    password_hash", r"qanat.yaml:4: .*found password and password_hash"),
        ("users:", "listeners:", r"qanat.yaml:3: 'listeners' stands here for the second time"),
        ("{GAP: 5", "{GAP: [5]", r"qanat.yaml:9: parameters"),
        ("retention: {", "retention: [{", r"qanat.yaml: this is not YAML"),
        (GOOD, "- a list", r"the file must be a mapping"),
        ("batch_rows: 1000", "batch_rows: 0", r"qanat.yaml:10: engine.batch_rows: expected `int` >= 1"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=said):
        config(tmp_path, GOOD.replace(old, new))


def test_words_that_yaml_1_1_would_turn_into_something_else_stay_words(tmp_path: Path) -> None:
    project = config(tmp_path, "parameters: {ON: no, DAY: 2026-11-21, CODE: 012, N: -3, X: 1.5, TRUE_: true}")
    expected = {"ON": "no", "DAY": "2026-11-21", "CODE": "012", "N": -3, "X": 1.5, "TRUE_": True}
    assert project.parameters == expected


def test_passwords_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "users: [{name: north, password_env: NORTH}]"
    monkeypatch.delenv("NORTH", raising=False)
    with pytest.raises(ConfigError, match="environment variable NORTH") as caught:
        config(tmp_path, text)
    assert caught.value.hint == "export NORTH=..."
    monkeypatch.setenv("NORTH", "geheim")
    assert config(tmp_path, text).users[0].password == "geheim"


def test_parameters_of_the_command_go_before_those_of_the_file(tmp_path: Path) -> None:
    config(tmp_path, "parameters: {N: 1, ON: true}")
    sql = "CREATE TABLE t (a BIGINT); CREATE TABLE o (n BIGINT, b BOOLEAN); INSERT INTO o SELECT a + ${N}, ${ON} FROM t"
    (tmp_path / "p.sql").write_text(sql)
    assert "Literal(value=1," in repr(compile_folder(open_folder(tmp_path), {}).pipelines[0].root)
    root = repr(compile_folder(open_folder(tmp_path), {"N": "7"}).pipelines[0].root)
    assert "Literal(value=7," in root
    assert "Literal(value=True," in root


def test_tables_of_one_file_are_known_in_all(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("INSERT INTO o SELECT a FROM t")
    (tmp_path / "b.sql").write_text("CREATE TABLE o (a INT)")
    (tmp_path / "c.sql").write_text("\ufeffCREATE TABLE t (a INT)", encoding="utf-8")
    assert [pipeline.name for pipeline in compile_folder(open_folder(tmp_path), {}).pipelines] == ["o"]


def test_retention_of_a_stream_goes_before_that_of_the_project() -> None:
    project = msgspec.convert({"retention": {"age": 5, "bytes": 7}}, Project, dec_hook=lambda kind, value: kind(value))
    assert project.retained(Stream("s", ())).retention_ms == 5
    assert project.retained(Stream("s", (), retention_ms=1)) == Stream("s", (), retention_ms=1, retention_bytes=7)


@pytest.mark.parametrize(("text", "ms"), [("1 s", 1000), ("500ms", 500), ("1.5 min", 90_000), ("2 h", 7_200_000)])
def test_durations(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(("text", "size"), [("1 kB", 1000), ("1KiB", 1024), ("0.5 MiB", 1 << 19), ("3 b", 3)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "s", "5", "-1 s", "1 s 2", "1 fortnight"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_params() -> None:
    assert parse_params(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_params(["=1"])


def test_the_documented_example_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METER_17", "x")
    example = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    assert [user.name for user in config(tmp_path, example).users] == ["meter-17", "farm", "operator"]


def test_every_key_is_documented() -> None:
    text = DOCUMENT.read_text()
    missing = [key for key in _keys(Project, "") if f"`{key}`" not in text]
    assert missing == []


def _keys(kind: type[msgspec.Struct], prefix: str) -> list[str]:
    found = []
    for field in msgspec.structs.fields(kind):
        inner = getattr(field.type, "__args__", (field.type,))[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found += _keys(inner, f"{prefix}{field.name}.")
        else:
            found.append(prefix + field.name)
    return found

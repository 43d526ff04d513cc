"""SQL columns as schemas of every language and back; what of a stream's columns becomes a version of its contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qanat.contracts.formats import LANGUAGES, format_of
from qanat.contracts.registry import Registry
from qanat.contracts.schema import Format, Level, Schema
from qanat.contracts.streams import Terms, bind
from qanat.errors import ConfigError, IncompatibleError, SchemaError
from qanat.model import types as t
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import Kind, Type

NEEDED = t.STRING.with_nullable(False)
POWER = Stream(
    "power",
    (Column("client_id", NEEDED), Column("ts", t.TIMESTAMP_LTZ.with_nullable(False)), Column("watts", t.DOUBLE)),
    event_time=ArrivalColumn("ts", None),
)
ALL = (
    Column("flag", t.BOOLEAN),
    Column("n", t.INT.with_nullable(False)),
    Column("big", t.BIGINT),
    Column("f", t.FLOAT),
    Column("d", t.DOUBLE),
    Column("s", NEEDED),
    Column("raw", t.BYTES),
    Column("day", t.DATE),
    Column("time", Type(Kind.TIME, precision=3)),
    Column("at", t.TIMESTAMP_LTZ),
    Column("local", t.TIMESTAMP),
    Column("cost", t.decimal(10, 2)),
    Column("list", t.array(t.STRING)),
    Column("map", Type(Kind.MAP, key=NEEDED, element=t.INT)),
    Column("row", Type(Kind.ROW, fields=(("a", t.INT), ("b", t.array(t.DOUBLE))))),
)


@pytest.fixture
def registry() -> Iterator[Registry]:
    one = Registry()
    yield one
    one.close()


def read_back(format_: Format, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    language = LANGUAGES[format_]
    return language.columns(language.parse(language.declare("power", columns, None), {}))


def test_avro_keeps_every_type() -> None:
    assert read_back(Format.AVRO, ALL) == ALL


def test_what_json_and_protobuf_cannot_say_is_widened() -> None:
    changed = {
        Format.JSON: {"f": t.DOUBLE, "cost": t.decimal(38, 9)},
        Format.PROTOBUF: {
            "at": Type(Kind.TIMESTAMP_LTZ, precision=9),
            "local": Type(Kind.TIMESTAMP_LTZ, precision=9),
            "cost": t.decimal(38, 9),
            "list": t.array(NEEDED).with_nullable(False),
            "map": Type(Kind.MAP, False, key=NEEDED, element=t.INT.with_nullable(False)),
            "row": Type(
                Kind.ROW, fields=(("a", t.INT), ("b", t.array(t.DOUBLE.with_nullable(False)).with_nullable(False)))
            ),
        },
    }
    for format_, wider in changed.items():
        found = {one.name: one.type for one in read_back(format_, ALL)}
        assert found == {one.name: wider.get(one.name, one.type) for one in ALL}, format_


def test_protobuf_fields_keep_their_numbers_from_version_to_version() -> None:
    language = LANGUAGES[Format.PROTOBUF]
    first = language.parse(
        language.declare("m", (Column("a", t.INT), Column("b", t.INT), Column("c", t.INT)), None), {}
    )
    text = language.declare("m", (Column("new", t.INT), Column("c", t.INT), Column("a", t.INT)), first)
    second = language.parse(text, {})
    assert {one.name: one.number for one in second.messages[0].fields.values()} == {"new": 4, "c": 3, "a": 1}
    assert second.messages[0].reserved == ((2, 2),)
    third = language.parse(language.declare("m", (Column("b", t.INT), Column("a", t.INT)), second), {})
    assert {one.name: one.number for one in third.messages[0].fields.values()} == {"b": 5, "a": 1}
    assert language.problems(second, first) == []


@pytest.mark.parametrize("format_", list(Format))
def test_a_stream_is_a_version_and_the_same_stream_the_same_one(registry: Registry, format_: Format) -> None:
    terms = {"power": Terms(format=format_)}
    first = bind(registry, [POWER], terms)["power"].version
    assert (first.subject, first.version, first.schema.format) == ("power-value", 1, format_)
    assert bind(registry, [POWER], terms)["power"].version == first
    wider = replace(POWER, columns=(*POWER.columns, Column("phase", t.INT)))
    assert bind(registry, [wider], terms)["power"].version.version == 2


def test_a_change_against_the_contract_is_refused_and_stores_nothing(registry: Registry) -> None:
    bind(registry, [POWER], {})
    other = replace(POWER, columns=(Column("client_id", t.BIGINT.with_nullable(False)), *POWER.columns[1:]))
    for dry_run in (True, False):
        with pytest.raises(IncompatibleError, match="/client_id: long does not read string") as caught:
            bind(registry, [other], {}, dry_run)
        assert "qanat schema compatibility power-value NONE" in str(caught.value)
    assert len(registry.versions("power-value")) == 1
    assert bind(registry, [other], {"power": Terms(compatibility=Level.NONE)})["power"].version.version == 2


def test_a_column_that_has_to_be_filled_may_not_come_later(registry: Registry) -> None:
    bind(registry, [POWER], {})
    with pytest.raises(IncompatibleError, match="READER_FIELD_MISSING_DEFAULT_VALUE"):
        bind(registry, [replace(POWER, columns=(*POWER.columns, Column("site", NEEDED)))], {})


def test_the_key_has_a_subject_of_its_own(registry: Registry) -> None:
    bind(registry, [replace(POWER, key=("client_id",))], {})
    fields = json.loads(registry.version("power-key", None).schema.text)["fields"]
    assert fields == [{"name": "client_id", "type": "string"}]


def test_the_event_time_may_be_missing_in_what_is_sent(registry: Registry) -> None:
    fields = json.loads(bind(registry, [POWER], {})["power"].version.schema.text)["fields"]
    assert fields[1]["type"][0] == "null"


def test_names_that_avro_does_not_allow_make_a_contract_in_json(registry: Registry) -> None:
    odd = Stream("odd", (Column("soil moisture", t.DOUBLE),))
    assert bind(registry, [odd], {})["odd"].version.schema.format is Format.JSON
    with pytest.raises(SchemaError, match="the contract of the stream odd: Avro does not allow the name") as caught:
        bind(registry, [odd], {"odd": Terms(format=Format.AVRO, compatibility=Level.NONE)})
    assert "json-schema" in str(caught.value)


def test_the_format_of_the_last_version_goes_on(registry: Registry) -> None:
    bind(registry, [POWER], {"power": Terms(format=Format.PROTOBUF)})
    assert bind(registry, [POWER], {})["power"].version.version == 1


def test_a_schema_of_ones_own_has_to_have_the_columns(registry: Registry) -> None:
    def own(*fields: tuple[str, str]) -> dict[str, Terms]:
        made = [{"name": name, "type": kind} for name, kind in fields]
        return {"power": Terms(format=Format.AVRO, text=json.dumps({"type": "record", "name": "P", "fields": made}))}

    assert bind(registry, [POWER], own(("client_id", "string"), ("watts", "float")))["power"].version.version == 1
    with pytest.raises(ConfigError, match="no field for the column client_id NOT NULL"):
        bind(registry, [POWER], own(("watts", "float")))
    with pytest.raises(ConfigError, match="has watts as BOOLEAN NOT NULL, the column is DOUBLE"):
        bind(registry, [POWER], own(("client_id", "string"), ("watts", "boolean")))


def test_formats_are_named_by_files_and_by_words() -> None:
    assert format_of("a.avsc") is Format.AVRO
    assert format_of("json-schema") is Format.JSON
    assert format_of("PROTOBUF") is Format.PROTOBUF
    with pytest.raises(ConfigError, match="no format 'thrift'"):
        format_of("thrift")


def test_two_processes_cannot_make_one_version(tmp_path: Path) -> None:
    """The second one waits for the first, and then finds what it has registered."""
    import threading

    registries = [Registry(tmp_path / "contracts.db") for _ in range(4)]
    found: list[int] = []

    def work(registry: Registry, number: int) -> None:
        for step in range(5):
            schema = {
                "type": "record",
                "name": "R",
                "fields": [{"name": f"f{number}_{step}", "type": "int", "default": 0}],
            }
            one = registry.register("s", Schema(Format.AVRO, json.dumps(schema)))
            assert one is not None
            found.append(one.version)

    threads = [threading.Thread(target=work, args=(one, number)) for number, one in enumerate(registries)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 21))
    for one in registries:
        one.close()

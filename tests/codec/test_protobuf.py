"""Protobuf payloads -> rows, held against the protobuf library, with every truncation and any bytes."""

from __future__ import annotations

import base64
import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanat.codec.base import Decoded
from qanat.codec.protobuf import protobuf_decoder
from qanat.codec.protobuf_schema import ProtoFile, parse_protobuf
from qanat.codec.protobuf_text import as_text
from qanat.errors import SchemaError
from qanat.model import types as t
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

SOURCE = """
syntax = "proto3";
package farm.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "google/type/date.proto";
import "confluent/type/decimal.proto";
message Reading {
  reserved 20, 30 to 40;
  reserved "old";
  enum Kind { UNKNOWN = 0; SOIL = 1; }
  message Inner { int32 a = 1; string b = 2; Reading again = 3; }
  string id = 1;
  int64 n = 2;
  optional double w = 3;
  Kind kind = 4;
  repeated int32 xs = 5;
  map<string, double> m = 6;
  Inner inner = 7;
  google.protobuf.Timestamp ts = 8;
  oneof one { string s = 9; sint32 z = 10; }
  google.protobuf.DoubleValue dv = 11;
  google.protobuf.Struct st = 12;
  bytes raw = 13;
  bool ok = 14;
  fixed32 fx = 15;
  repeated double ds = 16;
  repeated string ss = 17;
  repeated Inner inners = 18;
  uint64 u = 19;
  sint64 zz = 21;
  float f = 22;
  repeated sint32 packed = 23;
  repeated int32 unpacked = 24 [packed = false];
  google.type.Date day = 25;
  confluent.type.Decimal cost = 26;
}
"""
INNER = Type(Kind.ROW, fields=(("a", t.INT), ("b", t.STRING)))
COLUMNS: dict[str, Type] = {
    "id": t.STRING,
    "n": t.BIGINT,
    "w": t.DOUBLE,
    "kind": t.STRING,
    "xs": t.array(t.INT),
    "m": Type(Kind.MAP, key=t.STRING, element=t.DOUBLE),
    "inner": INNER,
    "ts": t.TIMESTAMP_LTZ,
    "s": t.STRING,
    "z": t.INT,
    "dv": t.DOUBLE,
    "st": t.STRING,
    "raw": t.BYTES,
    "ok": t.BOOLEAN,
    "fx": t.BIGINT,
    "ds": t.array(t.DOUBLE),
    "ss": t.array(t.STRING),
    "inners": t.array(INNER),
    "u": t.decimal(20, 0),
    "zz": t.BIGINT,
    "f": t.FLOAT,
    "packed": t.array(t.INT),
    "unpacked": t.array(t.INT),
    "day": t.DATE,
    "cost": t.decimal(10, 2),
    "nowhere": t.INT,
}


def classes(source: str) -> tuple[ProtoFile, descriptor_pool.DescriptorPool]:
    """The compiled file, and the protobuf library's own view of it."""
    file = parse_protobuf(source)
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, wrappers_pb2, struct_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for name in ("google/type/date.proto", "confluent/type/decimal.proto"):
        from qanat.codec.protobuf_schema import BUILT_IN

        pool.Add(_descriptor(parse_protobuf(BUILT_IN[name]), name))
    pool.Add(_descriptor(file, "it.proto"))
    return file, pool


def _descriptor(file: ProtoFile, name: str) -> descriptor_pb2.FileDescriptorProto:
    made = descriptor_pb2.FileDescriptorProto.FromString(file.descriptor)
    made.name = name
    return made


FILE, POOL = classes(SOURCE)
Reading = message_factory.GetMessageClass(POOL.FindMessageTypeByName("farm.v1.Reading"))


def decoded(payloads: list[bytes], **columns: Type) -> Decoded:
    made = protobuf_decoder(FILE.messages[0])(payloads, [Column(*one) for one in (columns or COLUMNS).items()])
    made.rows.validate(full=True)
    return made


def full() -> Any:
    made = Reading(
        id="h\u00e41", n=-5, w=0.0, kind=1, xs=[1, -2, 300], raw=b"\xff", ok=True, fx=7, ds=[0.5, 1.5], ss=["a", ""],
        u=2**64 - 1, zz=-(2**63), f=1.5, packed=[-1, 2**31 - 1], unpacked=[3, 4], z=-9,
    )  # fmt: skip
    made.m["k"] = 2.0
    made.inner.a = 3
    made.inner.again.id = "deep"
    made.ts.seconds, made.ts.nanos = 1_700_000_000, 5_999_999
    made.dv.value = 0
    made.st["watts"] = 5
    made.inners.add(b="x")
    made.inners.add(a=1)
    made.day.year, made.day.month, made.day.day = 2026, 11, 21
    made.cost.value, made.cost.scale = (12345).to_bytes(2, "big"), 2
    return made


def test_every_kind_of_field() -> None:
    row = decoded([full().SerializeToString()]).rows.to_pylist()[0]
    assert row == {
        "id": "h\u00e41",
        "n": -5,
        "w": 0.0,
        "kind": "SOIL",
        "xs": [1, -2, 300],
        "m": [("k", 2.0)],
        "inner": {"a": 3, "b": ""},
        "ts": dt.datetime(2023, 11, 14, 22, 13, 20, 5000, tzinfo=dt.UTC),
        "s": None,
        "z": -9,
        "dv": 0.0,
        "st": '{"watts":5.0}',
        "raw": b"\xff",
        "ok": True,
        "fx": 7,
        "ds": [0.5, 1.5],
        "ss": ["a", ""],
        "inners": [{"a": 0, "b": "x"}, {"a": 1, "b": ""}],
        "u": Decimal(2**64 - 1),
        "zz": -(2**63),
        "f": 1.5,
        "packed": [-1, 2**31 - 1],
        "unpacked": [3, 4],
        "day": dt.date(2026, 11, 21),
        "cost": Decimal("123.45"),
        "nowhere": None,
    }


def test_what_is_absent_is_null_where_that_can_be_told_and_zero_where_not() -> None:
    row = decoded([b""]).rows.to_pylist()[0]
    zeros = {"id": "", "n": 0, "kind": "UNKNOWN", "raw": b"", "ok": False, "fx": 0, "u": 0, "zz": 0, "f": 0.0}
    empty: dict[str, Any] = {name: [] for name in ("xs", "m", "ds", "ss", "inners", "packed", "unpacked")}
    assert row == dict.fromkeys(COLUMNS) | zeros | empty


def test_every_truncation_is_what_the_library_says_of_it() -> None:
    whole = full().SerializeToString()
    cut = [whole[:size] for size in range(len(whole))]
    made = decoded([*cut, whole])
    assert made.index.tolist()[-1] == len(cut)
    good = set(made.index.tolist())
    for size, payload in enumerate(cut):
        try:
            Reading.FromString(payload)
            assert size in good, size
        except DecodeError:
            assert size not in good, size


def test_the_last_of_several_counts_messages_are_merged_and_oneofs_exclude_each_other() -> None:
    one = Reading(id="a", s="text")
    one.inner.a = 1
    two = Reading(id="b", z=5)
    two.inner.b = "y"
    payload = one.SerializeToString() + two.SerializeToString()
    row = decoded([payload, one.SerializeToString(), b""]).rows.to_pylist()[0]
    assert (row["id"], row["s"], row["z"], row["inner"]) == ("b", None, 5, {"a": 1, "b": "y"})


def test_a_key_of_a_map_that_comes_twice_has_its_last_value() -> None:
    one, two = Reading(m={"k": 1.0, "l": 2.0}), Reading(m={"k": 3.0})
    payload = one.SerializeToString(deterministic=True) + two.SerializeToString()
    assert sorted(decoded([payload]).rows.to_pylist()[0]["m"]) == [("k", 3.0), ("l", 2.0)]


def test_unknown_fields_and_known_ones_in_another_form_are_passed_over() -> None:
    strange = b"\xa8\x06\x05" + b"\xa2\x06\x02hi" + b"\x08\x07"  # 101: 5, 100: "hi", and 1 (a string) as a number
    row = decoded([strange + Reading(n=3).SerializeToString()]).rows.to_pylist()[0]
    assert (row["id"], row["n"]) == ("", 3)


def test_numbers_of_enums_that_are_not_known_are_text() -> None:
    assert decoded([Reading(kind=7).SerializeToString()], kind=t.STRING).rows.to_pylist() == [{"kind": "7"}]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x0a\x05ab", "it ends too soon"),
        (b"\x0a\x01\xff", "a string that is not UTF-8"),
        (b"\x00\x01", "field number 0"),
        (b"\x0b\x0c", "a group"),
        (b"\x0f", "wire type 7"),
        (b"\x10" + b"\xff" * 11, "a number of more than 64 bits"),
        (b"\x2a\x01\x80", "the list xs ends too soon"),
        (b"\x82\x01\x07" + bytes(7), "the list ds has an odd length"),
        (b"\x3a\x02\x12\x05", "it ends too soon"),
        (b"\x42\x0b\x08" + b"\xff" * 9 + b"\x7f", "a time beyond the years 1677 to 2262"),
        (b"\xca\x01\x02\x08\x01", "a date that is none"),
    ],
)
def test_what_is_not_the_message_is_a_bad_row_and_its_neighbours_are_not(payload: bytes, reason: str) -> None:
    good = Reading(id="x").SerializeToString()
    made = decoded([good, payload, good])
    assert made.index.tolist() == [0, 2] or "1677" in reason
    assert [bad.index for bad in made.bad] == [1] or "1677" in reason
    assert made.bad == () or made.bad[0].reason.startswith(reason)


def test_required_fields_and_defaults_of_proto2() -> None:
    file = parse_protobuf(
        'syntax = "proto2"; message M { '
        "required int32 a = 1; optional int32 b = 2 [default = 7]; optional int32 c = 3; }"
    )
    columns = [Column(name, t.INT) for name in "abc"]
    made = protobuf_decoder(file.messages[0])([b"\x08\x01", b"\x10\x02"], columns)
    assert made.rows.to_pylist() == [{"a": 1, "b": 7, "c": None}]
    assert made.bad[0].reason == "the required field a is missing"


MESSAGES = st.fixed_dictionaries(
    {
        "id": st.text(max_size=3),
        "n": st.integers(-(2**63), 2**63 - 1),
        "xs": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "packed": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "unpacked": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "ss": st.lists(st.text(max_size=2), max_size=3),
        "zz": st.integers(-(2**63), 2**63 - 1),
        "u": st.integers(0, 2**64 - 1),
        "f": st.floats(width=32, allow_nan=False),
        "ok": st.booleans(),
        "raw": st.binary(max_size=3),
    },
    optional={"w": st.floats(allow_nan=False), "s": st.text(max_size=2), "z": st.integers(-(2**31), 2**31 - 1)},
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MESSAGES, max_size=8))
def test_what_the_library_writes_comes_out_again(values: list[dict[str, Any]]) -> None:
    messages = [Reading(**one) for one in values]
    made = decoded([one.SerializeToString() for one in messages])
    assert made.bad == ()
    for row, message in zip(made.rows.to_pylist(), messages, strict=True):
        for name in ("id", "n", "zz", "f", "ok", "raw", "u"):
            assert row[name] == getattr(message, name)
        for name in ("xs", "packed", "unpacked", "ss"):
            assert row[name] == list(getattr(message, name))
        for name in ("w", "s", "z"):
            assert row[name] == (getattr(message, name) if message.HasField(name) else None)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_any_bytes_are_taken_or_refused_as_the_library_does(noise: list[bytes]) -> None:
    """Groups apart, which are refused here, and strings inside of unknown or lone messages."""
    made = decoded([*noise, b"\x0a\x01x"], id=t.STRING, n=t.BIGINT)
    assert len(noise) in made.index.tolist()
    assert sorted([*made.index.tolist(), *(bad.index for bad in made.bad)]) == list(range(len(noise) + 1))
    rows = dict(zip(made.index.tolist(), made.rows.to_pylist(), strict=True))
    for place, payload in enumerate(noise):
        if place in rows:
            message = Reading.FromString(payload)
            assert (rows[place]["id"], rows[place]["n"]) == (message.id, message.n)


def test_text_descriptor_and_text_again_are_one_schema() -> None:
    text = as_text(descriptor_pb2.FileDescriptorProto.FromString(FILE.descriptor))
    assert parse_protobuf(text).descriptor == FILE.descriptor
    assert parse_protobuf(base64.b64encode(FILE.descriptor).decode()).descriptor == FILE.descriptor


@pytest.mark.parametrize(
    "source",
    [
        'syntax = "proto2"; message M { required string s = 1 [default = "a\\"b"]; extensions 100 to max; }',
        'syntax = "proto3"; enum E { option allow_alias = true; A = 0; B = 0; reserved 5 to 9; reserved "X"; }',
        'syntax = "proto3"; message M { map<int64, N> m = 1; message N { repeated int32 x = 1 [packed = false]; } }',
        'syntax = "proto3"; message M { oneof a { int32 x = 1; } int32 y = 2; oneof b { int32 z = 3; } }',
        'syntax = "proto3"; package a; message M { message A {} map<string, A> m = 1; message B {} }',
    ],
)
def test_what_is_printed_compiles_to_the_same(source: str) -> None:
    file = parse_protobuf(source)
    text = as_text(descriptor_pb2.FileDescriptorProto.FromString(file.descriptor))
    assert parse_protobuf(text).descriptor == file.descriptor


def test_what_is_no_schema_is_refused_with_line_and_column() -> None:
    with pytest.raises(SchemaError, match=r'schema.proto:2:3: .*"watt" is not defined'):
        parse_protobuf('syntax = "proto3"; message M {\n  watt w = 1; }')
    with pytest.raises(SchemaError, match="may not be named"):
        parse_protobuf('syntax = "proto3"; message M {}', {"../../x.proto": ""})


def test_messages_are_found_by_their_places() -> None:
    found = FILE.find([0, 0])
    assert found is not None
    assert json.dumps(found.local_name) == '"Reading.Inner"'
    assert FILE.find([1]) is None
    assert FILE.find([]) is None

"""SenML packs to rows: the examples of RFC 8428, base fields, times, what is refused, JSON and CBOR alike."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.base import Decoded, RelativeTimes
from qanat.codec.senml import FIELDS, SenmlDecoder
from qanat.model.streams import ArrivalColumn, Column
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind, Type

COLUMNS = (
    Column("name", STRING),
    Column("unit", STRING),
    Column("value", DOUBLE),
    Column("string_value", STRING),
    Column("boolean_value", BOOLEAN),
    Column("data_value", BYTES),
    Column("sum", DOUBLE),
    Column("time", TIMESTAMP_LTZ),
    Column("update_time", DOUBLE),
)
PLACES = {name: place for place, name in enumerate(FIELDS)}
LABELS = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}
Pack = Sequence[Mapping[str, Any]]


def as_json(pack: Pack) -> bytes:
    return orjson.dumps(pack)


def as_cbor(pack: Pack) -> bytes:
    def value(label: str, given: Any) -> Any:
        is_data = label == "vd" and isinstance(given, str)
        return base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)) if is_data else given

    return cbor2.dumps([{LABELS.get(label, label): value(label, one) for label, one in row.items()} for row in pack])


def decode(*payloads: bytes, columns: Sequence[Column] = COLUMNS, event_time: ArrivalColumn | None = None) -> Decoded:
    arrival = event_time or ArrivalColumn("time", None)
    return SenmlDecoder({one.name: PLACES[one.name] for one in columns if one.name in PLACES}, arrival)(
        payloads, columns
    )


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """Without what is NULL."""
    assert decoded.bad == (), decoded.bad[0].reason
    return [{name: value for name, value in row.items() if value is not None} for row in decoded.rows.to_pylist()]


def at(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(seconds=seconds)


OW = "urn:dev:ow:10e2073a01080063:"


@pytest.mark.parametrize("encode", [as_json, as_cbor])
@pytest.mark.parametrize(
    ("pack", "wanted"),
    [
        ([{"n": OW, "u": "Cel", "v": 23.1}], [{"name": OW, "unit": "Cel", "value": 23.1}]),
        (
            [{"bn": OW, "n": "voltage", "u": "V", "v": 120.1}, {"n": "current", "u": "A", "v": 1.2}],
            [
                {"name": f"{OW}voltage", "unit": "V", "value": 120.1},
                {"name": f"{OW}current", "unit": "A", "value": 1.2},
            ],
        ),
        (
            [
                {"bn": OW, "bt": 1.276020076001e9, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
                {"n": "current", "t": -5, "v": 1.2},
                {"n": "current", "v": 1.7},
            ],
            [
                {"name": f"{OW}voltage", "unit": "V", "value": 120.1, "time": at(1276020076.001)},
                {"name": f"{OW}current", "unit": "A", "value": 1.2, "time": at(1276020071.001)},
                {"name": f"{OW}current", "unit": "A", "value": 1.7, "time": at(1276020076.001)},
            ],
        ),
        (
            [
                {"bn": OW, "bt": 1.320067464e9, "bu": "%RH", "v": 20},
                {"u": "lon", "v": 24.30621},
                {"u": "lat", "v": 60.07965},
                {"t": 60, "v": 20.3},
            ],
            [
                {"name": OW, "unit": "%RH", "value": 20.0, "time": at(1320067464)},
                {"name": OW, "unit": "lon", "value": 24.30621, "time": at(1320067464)},
                {"name": OW, "unit": "lat", "value": 60.07965, "time": at(1320067464)},
                {"name": OW, "unit": "%RH", "value": 20.3, "time": at(1320067524)},
            ],
        ),
        (
            [
                {"bn": OW, "n": "temp", "u": "Cel", "v": 23.1},
                {"n": "label", "vs": "Machine Room"},
                {"n": "open", "vb": False},
                {"n": "nfc-reader", "vd": "aGkgCg"},
            ],
            [
                {"name": f"{OW}temp", "unit": "Cel", "value": 23.1},
                {"name": f"{OW}label", "string_value": "Machine Room"},
                {"name": f"{OW}open", "boolean_value": False},
                {"name": f"{OW}nfc-reader", "data_value": b"hi \n"},
            ],
        ),
        ([{"bn": OW, "bt": 1e9}, {"n": "a", "v": 1}], [{"name": f"{OW}a", "value": 1.0, "time": at(1e9)}]),
        (
            [{"bn": "m", "bv": 20, "bs": 100, "v": 1.5, "ut": 30}, {"s": 5}, {"n": "2"}],
            [
                {"name": "m", "value": 21.5, "sum": 100.0, "update_time": 30.0},
                {"name": "m", "sum": 105.0},
                {"name": "m2", "value": 20.0, "sum": 100.0},
            ],
        ),
        (
            [{"bn": "a/", "n": "x", "v": 1}, {"bn": "b/", "n": "x", "v": 2, "bu": "W"}, {"n": "y", "v": 3}],
            [
                {"name": "a/x", "value": 1.0},
                {"name": "b/x", "value": 2.0, "unit": "W"},
                {"name": "b/y", "value": 3.0, "unit": "W"},
            ],
        ),
        ([{"n": "a", "v": 1, "ct": "60", "t": 0}], [{"name": "a", "value": 1.0}]),
        ([], []),
    ],
)
def test_records_are_resolved(pack: Pack, wanted: list[dict[str, Any]], encode: Any) -> None:
    assert rows(decode(encode(pack))) == wanted


@pytest.mark.parametrize("encode", [as_json, as_cbor])
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"n": "a", "v": 1, "x_": 1}, "the field x_ must be understood"),
        ({"n": "a"}, "it has no value"),
        ({"n": "a", "v": 1, "vs": "x"}, "it has v and vs"),
        ({"n": "a", "v": True}, "v is boolean true"),
        ({"n": "a", "vb": 1}, "vb is number 1"),
        ({"n": "a", "v": "1"}, 'v is string "1"'),
        ({"n": 5, "v": 1}, "n is number 5"),
        ({"v": 1}, "it has no name"),
        ({"n": "-a", "v": 1}, 'its name is string "-a"'),
        ({"n": "größe", "v": 1}, "its name is"),
        ({"n": "a", "v": 1, "bver": 11}, "version 11"),
        ({"n": "a", "v": 1.7e308, "bv": 1.7e308}, "a sum with its base is out of range"),
    ],
)
def test_a_wrong_record_refuses_its_pack(record: Mapping[str, Any], reason: str, encode: Any) -> None:
    decoded = decode(encode([{"n": "good", "v": 1}, record]), encode([{"n": "other", "v": 2}]))
    assert [row["name"] for row in decoded.rows.to_pylist()] == ["other"]
    assert decoded.bad[0].index == 0
    assert f"record [1]: {reason}" in decoded.bad[0].reason


@pytest.mark.parametrize(
    "payload", [b"", b"[", b"{}", b"[1]", b"\x81\x01", b"\xa0", b"nonsense", b"[NaN]", b'[{"n":"a","vd":"+/=="}]']
)
def test_what_is_no_pack_is_refused(payload: bytes) -> None:
    decoded = decode(payload)
    assert decoded.rows.num_rows == 0
    assert decoded.bad[0].reason.startswith("not SenML")


def test_decimal_fractions_of_cbor_are_numbers() -> None:
    import decimal

    assert rows(decode(cbor2.dumps([{0: "a", 2: decimal.Decimal("27.5")}]))) == [{"name": "a", "value": 27.5}]


@pytest.mark.parametrize(
    ("kind", "per_second", "wanted"),
    [
        (TIMESTAMP, None, dt.datetime(2001, 9, 9, 1, 46, 40, 250_000)),
        (Type(Kind.TIMESTAMP_LTZ, precision=6), None, dt.datetime(2001, 9, 9, 1, 46, 40, 250_125, dt.UTC)),
        (BIGINT, 1, 1_000_000_000),
        (BIGINT, 1000, 1_000_000_000_250),
        (BIGINT, 1_000_000, 1_000_000_000_250_125),
        (DOUBLE, 1, 1_000_000_000.250125),
    ],
)
def test_times_come_in_the_unit_of_the_column(kind: Type, per_second: int | None, wanted: object) -> None:
    columns = (Column("name", STRING), Column("value", DOUBLE), Column("time", kind))
    decoded = decode(
        as_json([{"n": "a", "v": 1, "t": 1_000_000_000.250125}]),
        columns=columns,
        event_time=ArrivalColumn("time", per_second),
    )
    assert decoded.rows.to_pylist()[0]["time"] == wanted


def test_times_near_1970_count_from_the_arrival_and_the_decoder_says_so() -> None:
    decoder = SenmlDecoder(PLACES, ArrivalColumn("time", None))
    assert isinstance(decoder, RelativeTimes)
    assert decoder.relative_below == 2**28 * 1000
    assert rows(decode(as_json([{"n": "a", "v": 1, "t": -5.5}])))[0]["time"] == at(-5.5)


def test_a_time_from_now_needs_the_event_time_column() -> None:
    decoded = decode(as_json([{"n": "a", "v": 1, "t": -5}]), event_time=ArrivalColumn("ts", None))
    assert "counts from now" in decoded.bad[0].reason
    assert rows(decode(as_json([{"n": "a", "v": 1, "t": 1e9}]), event_time=ArrivalColumn("ts", None)))


@pytest.mark.parametrize("time", [1e12, -1e12, 2**63])
def test_a_time_beyond_the_calendar_is_refused(time: float) -> None:
    assert "out of range" in decode(as_json([{"n": "a", "v": 1, "t": time}])).bad[0].reason


def test_a_value_without_a_column_is_not_lost() -> None:
    columns = (Column("name", STRING), Column("value", DOUBLE))
    decoded = decode(as_json([{"n": "a", "v": 1}, {"n": "b", "vs": "x"}]), columns=columns)
    assert "record [1]: no column takes its string_value" in decoded.bad[0].reason


NAMES = st.text("abcXYZ019-:./_", min_size=1, max_size=8).map(lambda text: f"n{text}")
NUMBERS = st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9)
RECORDS = st.builds(
    lambda name, value, more: {"n": name, **value, **more},
    NAMES,
    st.one_of(
        NUMBERS.map(lambda v: {"v": v}),
        st.text(max_size=8).map(lambda v: {"vs": v}),
        st.booleans().map(lambda v: {"vb": v}),
        st.binary(max_size=8).map(lambda v: {"vd": base64.urlsafe_b64encode(v).decode().rstrip("=")}),
        NUMBERS.map(lambda v: {"s": v}),
    ),
    st.fixed_dictionaries({}, optional={"u": st.text(max_size=3), "t": st.integers(2**28, 2**33)}),
)


@given(st.lists(RECORDS, max_size=4))
def test_json_and_cbor_say_the_same_and_what_is_written_comes_back(pack: list[dict[str, Any]]) -> None:
    decoded = decode(as_json(pack), as_cbor(pack))
    wanted = [
        {
            "name": row["n"],
            "unit": row.get("u"),
            "value": row.get("v"),
            "string_value": row.get("vs"),
            "boolean_value": row.get("vb"),
            "data_value": None if "vd" not in row else base64.urlsafe_b64decode(row["vd"] + "=="),
            "sum": row.get("s"),
            "time": None if "t" not in row else at(row["t"]),
            "update_time": None,
        }
        for row in pack
    ]
    assert decoded.bad == ()
    assert decoded.rows.to_pylist() == wanted * 2
    assert decoded.index.tolist() == [0] * len(pack) + [1] * len(pack)


@given(st.lists(RECORDS, min_size=1, max_size=3), st.sampled_from([as_json, as_cbor]))
def test_every_truncated_prefix_is_a_bad_row(pack: list[dict[str, Any]], encode: Any) -> None:
    whole = encode(pack)
    decoded = decode(*[whole[:end] for end in range(len(whole))])
    assert decoded.rows.num_rows == 0
    assert [bad.index for bad in decoded.bad] == list(range(len(whole)))


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | NUMBERS | st.text(),
            lambda one: st.lists(one) | st.dictionaries(st.sampled_from(sorted(LABELS)), one),
        ),
        max_size=4,
    )
)
def test_no_pack_breaks_it(pack: list[Any]) -> None:
    for payload in (orjson.dumps(pack), cbor2.dumps(pack)):
        decoded = decode(payload)
        assert (decoded.rows.num_rows == 0) or decoded.bad == ()

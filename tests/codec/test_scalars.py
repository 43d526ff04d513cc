"""Bare values: numbers, truth values, texts and bytes; many at once and one by one say the same."""

from __future__ import annotations

import decimal
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.base import Decode
from qanat.codec.scalars import boolean_decoder, bytes_decoder, number_decoder, text_decoder
from qanat.model.streams import Column
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DATE, DOUBLE, FLOAT, STRING, TINYINT, Type
from qanat.model.types import decimal as decimal_type

OTHER = Column("time", BIGINT)


def taken(decoder: Decode, kind: Type, *payloads: bytes) -> list[Any]:
    """What the column holds, in the order of the payloads; the reason of those that were refused."""
    decoded = decoder(payloads, (OTHER, Column("v", kind)))
    found: dict[int, Any] = {bad.index: bad.reason for bad in decoded.bad}
    found |= dict(zip(decoded.index.tolist(), (row["v"] for row in decoded.rows.to_pylist()), strict=True))
    assert decoded.rows.column(0).null_count == decoded.rows.num_rows
    return [found[place] for place in range(len(payloads))]


NUMBER = number_decoder("v")


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        (b"21.5", DOUBLE, 21.5),
        (b" 21.5\r\n", DOUBLE, 21.5),
        (b"+3", DOUBLE, 3.0),
        (b".5", DOUBLE, 0.5),
        (b"1e3", DOUBLE, 1000.0),
        (b"NaN", FLOAT, math.nan),
        (b"-Infinity", DOUBLE, -math.inf),
        (b"007", BIGINT, 7),
        (b"3.0", BIGINT, 3),
        (b"1e3", BIGINT, 1000),
        (b"9223372036854775807", BIGINT, 2**63 - 1),
        (b"1.255", decimal_type(5, 2), decimal.Decimal("1.26")),
        (b"12345678901234567890", decimal_type(20, 0), decimal.Decimal("12345678901234567890")),
    ],
)
def test_a_number_is_read_alone_and_among_others(text: bytes, kind: Type, wanted: object) -> None:
    for payloads in ([text], [b"1", text], [b"x", text]):
        value = taken(NUMBER, kind, *payloads)[-1]
        assert value == wanted or (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"", DOUBLE),
        (b"x", DOUBLE),
        (b"0x1F", BIGINT),
        (b"1,5", DOUBLE),
        (b"1_000", BIGINT),
        (b"inf", DOUBLE),
        (b"nan", DOUBLE),
        (b"NaN", BIGINT),
        (b"1e999", DOUBLE),
        (b"1e39", FLOAT),
        (b"2.5", BIGINT),
        (b"300", TINYINT),
        (b"9223372036854775808", BIGINT),
        (b"1000", decimal_type(5, 2)),
        ("٣".encode(), BIGINT),
        (b"\xff", DOUBLE),
        (b"--1", BIGINT),
        (b"1 2", DOUBLE),
        (b"9" * 5000, DOUBLE),
        (b"1e999999999", decimal_type(5, 2)),
    ],
)
def test_what_is_no_such_number_has_a_reason_and_costs_no_other(text: bytes, kind: Type) -> None:
    good, bad, last = taken(NUMBER, kind, b"1", text, b"2")
    assert (good, last) == (1, 2)
    assert isinstance(bad, str)
    assert bad.startswith("column v: ")


@given(st.lists(st.sampled_from([b"1", b"-0", b"-0.0", b"2.5", b"1e5", b"3.", b"+4", b"x", b"", b"NaN", b"1e400"])))
def test_many_at_once_say_what_each_alone_says(payloads: list[bytes]) -> None:
    for kind in (DOUBLE, FLOAT, BIGINT, decimal_type(10, 2)):
        together = taken(NUMBER, kind, *payloads)
        alone = [taken(NUMBER, kind, one)[0] for one in payloads]
        assert list(map(repr, together)) == list(map(repr, alone))


def test_truth_values() -> None:
    texts = (b"true", b"FALSE", b"on", b"OFF\n", b"1", b"0")
    assert taken(boolean_decoder("v"), BOOLEAN, *texts) == [True, False, True, False, True, False]
    found = taken(boolean_decoder("v"), BOOLEAN, b"ON", b"2", b"", b"\xff")
    assert found[0] is True
    assert found[1] == 'column v: expected true or false, on or off, 1 or 0, found "2"'
    assert found[2].endswith("found nothing")
    assert found[3].endswith("not UTF-8: byte 0")


def test_texts_are_taken_as_they_are() -> None:
    assert taken(text_decoder("v"), STRING, b" a\n", b"", "ä".encode()) == [" a\n", "", "ä"]
    assert taken(text_decoder("v"), STRING, b"a", b"\xff") == ["a", "column v: not UTF-8: byte 0"]


def test_dates_may_come_as_texts() -> None:
    good, bad = taken(text_decoder("v"), DATE, b"2026-11-21", b"21.11.2026")
    assert str(good) == "2026-11-21"
    assert bad.startswith("column v: expected DATE")


def test_bytes_are_taken_as_they_are() -> None:
    assert taken(bytes_decoder("v"), BYTES, b"\xff\0", b"") == [b"\xff\0", b""]


def test_no_payloads_are_no_rows() -> None:
    assert NUMBER([], (OTHER, Column("v", DOUBLE))).rows.num_rows == 0

"""Payloads of several lines: whole or not at all, and never other bytes than those that came."""

from __future__ import annotations

from qanat.codec.json import decode_payloads
from qanat.codec.lines import csv_decoder, lines_of
from qanat.model.streams import Column
from qanat.model.types import BIGINT

COLUMNS = (Column("n", BIGINT),)
decode = lines_of(decode_payloads)


def test_a_payload_is_as_many_rows_as_it_has_lines() -> None:
    decoded = decode([b'{"n": 1}\n\n{"n": 2}\n', b'{"n": 3}'], COLUMNS)
    assert decoded.rows.to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert decoded.index.tolist() == [0, 0, 1]


def test_one_bad_line_refuses_its_payload_and_no_other() -> None:
    bad = b'{"n": 1}\n{"n": "x"}\n'
    decoded = decode([bad, b'{"n": 3}\n'], COLUMNS)
    assert decoded.rows.to_pylist() == [{"n": 3}]
    assert [(one.index, one.data) for one in decoded.bad] == [(0, bad)]
    assert decoded.bad[0].reason.startswith("line 2: ")


def test_a_bad_payload_of_one_line_keeps_its_line_break() -> None:
    decoded = decode([b'{"n": \n', b'{"n": 1}'], COLUMNS)
    assert [(one.index, one.data) for one in decoded.bad] == [(0, b'{"n": \n')]


def test_csv_of_nothing_but_blanks_is_refused_alone_as_among_others() -> None:
    decode_csv = csv_decoder(("n",), ",")
    for payloads in ([b" "], [b" ", b"1"], [b" \n", b'"1"'], [b"\n \n"]):
        decoded = decode_csv(payloads, COLUMNS)
        assert [one.index for one in decoded.bad] == [0]
        assert decoded.rows.to_pylist() == [{"n": 1}] * (len(payloads) - 1)

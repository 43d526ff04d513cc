"""Memcached's text protocol: however the bytes are cut, the answers are the same; what is no answer is noticed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import ProtocolError
from qanat.stores.cache.memcached_text import (
    Answer,
    Answers,
    Refused,
    Wanted,
    encode_delete,
    encode_get,
    encode_set,
    encode_version,
)

V, S, D, N = Wanted.VALUES, Wanted.STORED, Wanted.DELETED, Wanted.VERSION
TALK: list[tuple[Wanted, bytes, Answer]] = [
    (V, b"END\r\n", {}),
    (V, b"VALUE a 0 3\r\nxyz\r\nEND\r\n", {"a": b"xyz"}),
    (V, b"VALUE a 0 0\r\n\r\nVALUE b 0 7\r\nEND\r\n\r\n\r\nEND\r\n", {"a": b"", "b": b"END\r\n\r\n"}),
    (S, b"STORED\r\n", True),
    (S, b"NOT_STORED\r\n", False),
    (S, b"SERVER_ERROR object too large for cache\r\n", False),
    (S, b"SERVER_ERROR out of memory storing object\r\n", Refused("SERVER_ERROR out of memory storing object")),
    (D, b"DELETED\r\n", None),
    (D, b"NOT_FOUND\r\n", None),
    (N, b"VERSION 1.6.18\r\n", "1.6.18"),
    (V, b"SERVER_ERROR busy\r\n", Refused("SERVER_ERROR busy")),
]


@given(st.lists(st.sampled_from(TALK), max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_answers_are_the_same_however_they_are_cut(talk, cuts):
    answers, found = Answers(), []
    for wanted, _, _ in talk:
        answers.expect(wanted)
    data, at, number = b"".join(said for _, said, _ in talk), 0, 0
    while at < len(data):
        size = cuts[number % len(cuts)]
        found += answers.feed(data[at : at + size])
        at, number = at + size, number + 1
    assert found == [answer for _, _, answer in talk]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (V, b"STORED\r\n"),
        (S, b"END\r\n"),
        (S, b"VALUE a 0 1\r\nx\r\nEND\r\n"),
        (D, b"OK\r\n"),
        (N, b"HTTP/1.1 400 Bad Request\r\n"),
        (V, b"ERROR\r\n"),
        (V, b"VALUE a 0\r\n"),
        (V, b"VALUE a 0 -1\r\n"),
        (V, b"VALUE a 0 999999999999\r\n"),
        (V, b"VALUE a 0 99999999\r\n"),
        (V, b"VALUE a 0 1\r\nxyz\r\nEND\r\n"),
        (V, b"\xff" * 3000),
        (V, b"END\r\nEND\r\n"),
    ],
)
def test_what_is_no_answer_is_noticed(wanted, said):
    answers = Answers()
    answers.expect(wanted)
    with pytest.raises(ProtocolError):
        answers.feed(said)


@given(st.sampled_from(list(Wanted)), st.binary(max_size=200))
def test_no_bytes_do_anything_else(wanted, said):
    answers = Answers()
    answers.expect(wanted)
    with contextlib.suppress(ProtocolError):
        assert len(answers.feed(said)) <= 1


def test_requests_as_they_are_written():
    assert encode_get(["a", "b"]) == b"get a b\r\n"
    assert encode_set("a", b"xyz", 120) == b"set a 0 120 3\r\nxyz\r\n"
    assert encode_set("a", b"", 10**9) == b"set a 0 2592000 0\r\n\r\n"
    assert encode_delete("a") == b"delete a\r\n"
    assert encode_version() == b"version\r\n"

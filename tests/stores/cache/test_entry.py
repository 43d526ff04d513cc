"""What is kept under a key: it comes back as it was, or not at all."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from qanat.stores.cache.base import MAX_KEY, check_keys
from qanat.stores.cache.entry import Entry, new_stamp, pack, unpack
from qanat.stores.cache.tags import Keys, tag_of

MS = st.integers(0, 2**32 - 1)
ENTRIES = st.builds(
    Entry,
    st.binary(max_size=200),
    st.integers(0, 2**62),
    MS,
    MS,
    st.lists(st.binary(min_size=8, max_size=8), max_size=5).map(tuple),
)


@given(st.text(max_size=50), ENTRIES)
def test_an_entry_comes_back_as_it_was(key: str, entry: Entry) -> None:
    assert unpack(key, pack(key, entry)) == entry


@given(ENTRIES, st.randoms())
def test_what_was_cut_off_or_changed_is_noticed(entry: Entry, chance: random.Random) -> None:
    data = pack("k", entry)
    for end in range(len(data)):
        assert unpack("k", data[:end]) is None
    assert unpack("k", data + b"\0") is None
    for at in range(len(data)):
        assert unpack("k", data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]) is None


def test_the_answer_of_another_key_is_noticed() -> None:
    assert unpack("other", pack("k", Entry(b"x", 1, 2))) is None


@given(st.binary(max_size=200))
def test_anything_else_is_no_entry(data: bytes) -> None:
    assert unpack("k", data) is None


def test_an_entry_is_fresh_then_stale_then_nothing() -> None:
    entry = Entry(b"x", 1000, 120_000, 30_000)
    told = [(entry.fresh(at), entry.usable(at)) for at in (1000, 120_999, 121_000, 150_999, 151_000)]
    assert told == [(True, True), (True, True), (False, True), (False, True), (False, False)]


@given(st.lists(st.text(max_size=300), unique=True, max_size=10))
def test_every_text_has_a_key_of_its_own_that_all_caches_take(texts: list[str]) -> None:
    keys = Keys("p" * 32)
    found = [make(text) for text in texts for make in (keys.entry, keys.stamp)]
    check_keys([*found, keys.probe])
    assert len(set(found)) == len(found)
    assert all(len(key) <= MAX_KEY for key in found)
    assert Keys("a").probe != Keys("a").probe


def test_tags_of_different_values_are_different() -> None:
    values = [(), ("a", "b"), ("a/b",), ("a%2Fb",), (None,), ("",), ("%",), ("None",), ("é",), (7,), (7.5,)]
    tags = [tag_of("readings", *one) for one in values]
    assert len(set(tags)) == len(values)
    assert tag_of("readings", "temperature", 7) == "readings/temperature/7"
    assert new_stamp() != new_stamp()

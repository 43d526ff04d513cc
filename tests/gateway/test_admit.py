"""From offers to appends: arrival times, broken clocks, dead letters, partitions, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.base import Decoded
from qanat.codec.json import decode_payloads
from qanat.errors import ConfigError
from qanat.gateway.admit import Batch, Inlet, admit, open_inlet
from qanat.gateway.offers import Dead, DeadKind, Offer, Verdict
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, DOUBLE, INT, STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind, Type

NOW = 1_700_000_000_123
SKEW = 300_000


def inlet(kind: Type = BIGINT, per_second: int | None = 1, **more: Any) -> Inlet:
    columns = (Column("id", STRING), Column("t", kind))
    return open_inlet(Stream("s", columns, event_time=ArrivalColumn("t", per_second), **more), decode_payloads)


def offer(*payloads: bytes, arrived: int = NOW, known: bool = True, client: str = "c") -> Offer:
    return Offer("s", payloads, "mqtt", "s/1", client, arrived, lambda _: None, known=known)


def take(*offers: Offer, into: Inlet | None = None) -> Batch:
    return admit(offers, {"s": into or inlet()}, SKEW)


def rows(batch: Batch, stream: str = "s") -> list[dict[str, Any]]:
    return [row for one in batch.appends if one.stream == stream for row in one.rows.to_pylist()]


@pytest.mark.parametrize(
    ("kind", "per_second", "expected"),
    [
        (BIGINT, 1, NOW // 1000),
        (BIGINT, 1000, NOW),
        (BIGINT, 1_000_000, NOW * 1000),
        (INT, 1, NOW // 1000),
        (DOUBLE, 1, NOW / 1000),
        (DOUBLE, 1000, float(NOW)),
        (TIMESTAMP, None, datetime.fromtimestamp(NOW / 1000, UTC).replace(tzinfo=None)),
        (TIMESTAMP_LTZ, None, datetime.fromtimestamp(NOW / 1000, UTC)),
        (Type(Kind.TIMESTAMP_LTZ, precision=6), None, datetime.fromtimestamp(NOW / 1000, UTC)),
        (BIGINT.with_nullable(False), 1, NOW // 1000),
    ],
)
@pytest.mark.parametrize("payload", [b'{"id": "a"}', b'{"id": "a", "t": null}'])
def test_a_missing_time_becomes_the_arrival_time(
    kind: Type, per_second: int | None, expected: object, payload: bytes
) -> None:
    batch = take(offer(payload), into=inlet(kind, per_second))
    assert rows(batch) == [{"id": "a", "t": expected}]
    append = batch.appends[0]
    assert append.at == NOW
    assert append.min_time == append.max_time
    assert abs((append.min_time or 0) - NOW) < 1000


def test_a_given_time_is_kept_and_indexes_the_append() -> None:
    batch = take(offer(b'{"t": 1000}', b'{"t": 3000}'), offer(b'{"t": 2000}', arrived=NOW + 5))
    assert [row["t"] for row in rows(batch)] == [1000, 3000, 2000]
    (append,) = batch.appends
    assert (append.min_time, append.max_time, append.at) == (1_000_000, 3_000_000, NOW)


@pytest.mark.parametrize(("kind", "per_second"), [(BIGINT, 1), (BIGINT, 1000), (DOUBLE, 1000), (INT, 1)])
def test_a_clock_that_runs_ahead_is_a_dead_letter(kind: Type, per_second: int) -> None:
    limit = (NOW + SKEW) * per_second // 1000
    step = max(1, per_second // 1000)
    good, bad = b'{"t": %d}' % limit, b'{"t": %d}' % (limit + step)
    batch = take(offer(good, bad), into=inlet(kind, per_second))
    assert len(rows(batch)) == 1
    (row,) = rows(batch, "dead_letters")
    assert row["data"] == bad
    assert "max_future_skew" in row["reason"]
    assert batch.verdicts == [Verdict(1, (Dead(1, DeadKind.FUTURE, row["reason"]),), rows=1)]


def test_the_guard_is_measured_from_each_rows_own_arrival() -> None:
    payload = b'{"t": %d}' % ((NOW + SKEW) // 1000 + 60)
    batch = take(offer(payload), offer(payload, arrived=NOW + 120_000))
    assert [verdict.accepted for verdict in batch.verdicts] == [0, 1]


@pytest.mark.parametrize("time", [2**63 - 1, 2**62, 10**16])
def test_times_beyond_all_bounds_do_not_wrap_around(time: int) -> None:
    batch = take(offer(b'{"t": %d}' % time))
    assert batch.verdicts[0].dead[0].kind is DeadKind.FUTURE
    batch = take(offer(b'{"t": %d}' % -time))
    assert batch.verdicts == [Verdict(1, rows=1)]
    assert (batch.appends[0].min_time or 0) < 0


def test_an_unknown_stream_sends_everything_to_the_dead_letters() -> None:
    batch = take(offer(b"1", b"2", known=False))
    assert [row["data"] for row in rows(batch, "dead_letters")] == [b"1", b"2"]
    assert batch.verdicts[0].accepted == 0
    assert batch.dead == {("", "unknown_stream"): 2}


def test_verdicts_count_for_their_own_offer() -> None:
    batch = take(offer(b'{"t":1}', b"x"), offer(b"y", b'{"t":2}', b"z"), offer(b'{"t":3}'), offer(b"?", known=False))
    assert [verdict.accepted for verdict in batch.verdicts] == [1, 1, 1, 0]
    assert [[dead.index for dead in verdict.dead] for verdict in batch.verdicts] == [[1], [0, 2], [], [0]]
    assert sorted(row["data"] for row in rows(batch, "dead_letters")) == [b"?", b"x", b"y", b"z"]
    assert batch.accepted == {"s": 3}


def test_a_decoder_that_fails_costs_only_the_payload_it_fails_on() -> None:
    def brittle(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        if b"poison" in payloads:
            raise OverflowError("deep inside")
        return decode_payloads(payloads, columns)

    into = replace(inlet(), decode=brittle)
    batch = take(offer(b'{"t":1}', b"poison", b'{"t":2}'), offer(b"bad", b'{"t":3}', b"poison"), into=into)
    assert [row["t"] for row in rows(batch)] == [1, 2, 3]
    assert [[dead.index for dead in verdict.dead] for verdict in batch.verdicts] == [[1], [0, 2]]
    assert "OverflowError: deep inside" in batch.verdicts[0].dead[0].reason


#: CRC-32 of the UTF-8 text, modulo 4; also what `crc32` of the command line says.
GOLDEN = {"h1": 2, "h2": 0, "größe": 1, "": 0}


def test_partitions_never_move() -> None:
    into = inlet(key=("id",), partitions=4)
    batch = take(offer(*[b'{"id": "%s", "t": 1}' % name.encode() for name in GOLDEN], b'{"t": 1}'), into=into)
    found = {row["id"]: one.partition for one in batch.appends for row in one.rows.to_pylist()}
    assert found == {**GOLDEN, None: GOLDEN[""]}


def test_a_key_of_several_columns() -> None:
    into = inlet(key=("id", "t"), partitions=64)
    batch = take(offer(b'{"id": "a", "t": 1}', b'{"id": "a", "t": 2}', b'{"id": "a", "t": 1}'), into=into)
    assert sorted(one.rows.num_rows for one in batch.appends) == [1, 2]


def test_without_a_key_a_clients_rows_stay_together() -> None:
    into = inlet(partitions=8)
    offers = [offer(b'{"id": "%d"}' % i, client=f"c{i % 5}") for i in range(50)]
    batch = take(*offers, into=into)
    homes: dict[int, set[int]] = {}
    for one in batch.appends:
        numbers = [int(row["id"]) for row in one.rows.to_pylist()]
        assert numbers == sorted(numbers)
        for number in numbers:
            homes.setdefault(number % 5, set()).add(one.partition)
    assert all(len(found) == 1 for found in homes.values())
    assert len(batch.appends) > 1


@given(st.lists(st.lists(st.sampled_from([b'{"id":"%d"}', b"bad%d", b'{"id":"%d","t":99999999999}']), max_size=5)))
def test_flushing_together_or_apart_is_the_same(groups: list[list[bytes]]) -> None:
    numbered, count = [], 0
    for group in groups:
        numbered.append([text % (count + i) for i, text in enumerate(group)])
        count += len(group)
    together = take(*[offer(*group) for group in numbered])
    apart = [take(offer(*group)) for group in numbered]
    assert together.verdicts == [one.verdicts[0] for one in apart]
    assert rows(together) == [row for one in apart for row in rows(one)]
    dead = sorted(row["data"] for row in rows(together, "dead_letters"))
    assert dead == sorted(row["data"] for one in apart for row in rows(one, "dead_letters"))


def test_columns_that_cannot_hold_times_are_refused_at_once() -> None:
    for kind, per_second in ((STRING, 1), (BIGINT, None), (TIMESTAMP, 1000)):
        with pytest.raises(ConfigError, match="holds no times"):
            inlet(kind, per_second)
    with pytest.raises(ConfigError, match="not a column"):
        open_inlet(Stream("s", (Column("id", STRING),), event_time=ArrivalColumn("t", 1)), decode_payloads)


def test_a_stream_without_times() -> None:
    batch = take(offer(b'{"id": "a"}'), into=open_inlet(Stream("s", (Column("id", STRING),)), decode_payloads))
    assert batch.appends[0].min_time is None
    assert rows(batch) == [{"id": "a"}]
    assert isinstance(batch.appends[0].rows, pa.RecordBatch)
    assert np.array_equal([one.rows.num_rows for one in batch.appends], [1])


def from_topic(*payloads: bytes, t: str, topic: str = "s/1") -> Offer:
    return Offer("s", payloads, "mqtt", topic, "c", NOW, lambda _: None, fill=(("t", t),))


def test_what_the_topic_says_stands_in_every_row_whatever_the_payload_says() -> None:
    batch = take(from_topic(b'{"id": "a", "t": 1}', b'{"id": "b"}', t="1700000000"), from_topic(b"{}", t="1700000001"))
    assert rows(batch) == [
        {"id": "a", "t": 1_700_000_000},
        {"id": "b", "t": 1_700_000_000},
        {"id": None, "t": 1_700_000_001},
    ]
    assert [verdict.rows for verdict in batch.verdicts] == [2, 1]


def test_a_topic_that_does_not_fit_its_column_buries_the_payloads_of_its_offer_alone() -> None:
    batch = take(from_topic(b'{"id": "a"}', t="soon", topic="s/soon"), from_topic(b'{"id": "b"}', t="1700000000"))
    assert rows(batch) == [{"id": "b", "t": 1_700_000_000}]
    bad, good = batch.verdicts
    assert [(dead.index, dead.kind) for dead in bad.dead] == [(0, DeadKind.CAPTURE)]
    assert bad.dead[0].reason == 's/soon: column t: expected BIGINT, found "soon"'
    assert good == Verdict(1, rows=1)


def test_an_offer_brings_its_own_decoder() -> None:
    def numbers(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        return decode_payloads([b'{"id": "%b"}' % payload for payload in payloads], columns)

    mine = Offer("s", [b"7"], "mqtt", "s/1", "c", NOW, lambda _: None, decode=numbers, fill=(("t", "5"),))
    assert rows(take(offer(b'{"id": "a", "t": 4}'), mine)) == [{"id": "a", "t": 4}, {"id": "7", "t": 5}]


def test_state_is_made_of_the_verdict_and_kept_with_the_rows() -> None:
    def told(verdict: Verdict) -> dict[str, bytes | None]:
        return {"answer": b"%d of 2" % verdict.accepted}

    mine = Offer("s", [b'{"id": "a"}', b"no"], "http", "/streams/s", "c", NOW, lambda _: None, state=told)
    only_state = Offer("", [], "mqtt", "", "c", NOW, lambda _: None, state=lambda _: {"gone": None})
    batch = take(mine, only_state)
    assert batch.state == {"answer": b"1 of 2", "gone": None}
    assert batch.verdicts[1] == Verdict()

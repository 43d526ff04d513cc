"""Formats of sources, from payloads to stored rows: every format takes payloads whole, strictly, with arrival times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest

from qanat.codec.json import decode_payloads
from qanat.gateway.admit import Batch, admit, open_inlet
from qanat.gateway.formats import CONTENT_TYPES, FORMATS, format_of
from qanat.gateway.offers import DeadKind
from qanat.gateway.routes import Routes, Sender
from qanat.model.sources import Source
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, STRING, TIMESTAMP_LTZ

NOW = 1_700_000_000_123
SKEW = 300_000
ARRIVED = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=NOW)
READINGS = Stream(
    "readings",
    (
        Column("id", STRING),
        Column("kind", STRING),
        Column("value", DOUBLE),
        Column("on", BOOLEAN),
        Column("raw", BYTES),
        Column("n", BIGINT),
        Column("ts", TIMESTAMP_LTZ),
    ),
    event_time=ArrivalColumn("ts", None),
)


def take(source: Source, *payloads: bytes, topic: str = "s/t1", content_type: str = "") -> Batch:
    """What one flush makes of these payloads, each an offer of its own."""
    routes = Routes({"readings": READINGS}, None, {"s": source})
    attributes = {"content_type": content_type} if content_type else {}
    sender = Sender("mqtt", topic, "dev", attributes)
    route = routes.resolve(topic)
    offers = [route.offer([payload], sender, NOW, lambda _: None) for payload in payloads]
    return admit(offers, {"readings": open_inlet(READINGS, decode_payloads)}, SKEW)


def rows(batch: Batch) -> list[dict[str, Any]]:
    """The stored rows, without what is NULL, and without the arrival time."""
    stored = [row for one in batch.appends if one.stream == "readings" for row in one.rows.to_pylist()]
    return [
        {name: value for name, value in row.items() if value is not None and not (name == "ts" and value == ARRIVED)}
        for row in stored
    ]


def source(format: str | None = None, **more: Any) -> Source:  # noqa: A002  the name that qanat.yaml has
    return Source(stream="readings", topic="s/{id}", format=format, **more)


ROW = {"id": "x", "kind": "ph", "value": 6.5}
MINE = {"id": "t1", "kind": "ph", "value": 6.5}


@pytest.mark.parametrize(
    ("made", "payload", "wanted"),
    [
        (source("json"), json.dumps(ROW), [MINE]),
        (source("json"), json.dumps([ROW, {"value": 1}]), [MINE, {"id": "t1", "value": 1.0}]),
        (source("json", path="d.r"), json.dumps({"d": {"r": [ROW], "x": 1}}), [MINE]),
        (source("json", rename={"v": "value"}), '{"v": 6.5, "value": "theirs", "kind": "ph"}', [MINE]),
        (source("json", rename={"n": "value"}), '{"n": 6.5, "kind": "ph"}', [MINE]),
        (source("json", rename={"n": "value", "m": "n"}), '{"n": 6.5, "m": 1, "kind": "ph"}', [{**MINE, "n": 1}]),
        (source("json", path="d", rename={"v": "value"}), '{"d": {"v": 6.5, "kind": "ph"}}', [MINE]),
        (source("ndjson"), '{"value": 1}\n{"value": 2}\n', [{"id": "t1", "value": 1.0}, {"id": "t1", "value": 2.0}]),
        (source("csv", header=("kind", "", "value")), "ph,9,6.5\r\n", [MINE]),
        (source("csv"), "value;kind;more\n6.5;ph;1", None),
        (source("csv", delimiter=";"), "value;kind;more\n6.5;ph;1\n7;;", [MINE, {"id": "t1", "value": 7.0}]),
        (source("csv", rename={"v": "value"}), "v,kind\n6.5,ph\n", [MINE]),
        (source("number", value="value", columns={"kind": "ph"}), "6.5", [MINE]),
        (source("number", value="n"), " 7\n", [{"id": "t1", "n": 7}]),
        (source("boolean", value="on"), "OFF", [{"id": "t1", "on": False}]),
        (source("text", value="kind"), "ph", [{"id": "t1", "kind": "ph"}]),
        (source("bytes", value="raw"), "ph", [{"id": "t1", "raw": b"ph"}]),
        (
            source("senml", fields={"name": "kind"}),
            '[{"bn": "a/", "n": "ph", "v": 6.5}]',
            [{**MINE, "kind": "a/ph"}],
        ),
    ],
)
def test_each_format_makes_rows(made: Source, payload: str, wanted: list[Mapping[str, Any]] | None) -> None:
    batch = take(made, payload.encode())
    if wanted is None:
        assert batch.verdicts[0].dead[0].kind is DeadKind.DECODE
    else:
        assert rows(batch) == wanted
        assert batch.verdicts[0].accepted == 1
        assert batch.verdicts[0].rows == len(wanted)


def test_cbor_makes_rows() -> None:
    assert rows(take(source("cbor"), cbor2.dumps(ROW))) == [MINE]
    made = source("cbor", path="d", rename={"v": "value"})
    assert rows(take(made, cbor2.dumps({"d": [{"v": 6.5, "kind": "ph"}]}))) == [MINE]


GOOD: Mapping[str, tuple[Source, bytes, bytes]] = {
    "json": (source("json"), b'{"value": 1}', b'{"value": "1"}'),
    "path": (source("json", path="a"), b'{"a": {"value": 1}}', b'{"a": {"value": "1"}}'),
    "ndjson": (source("ndjson"), b'{"value": 1}\n{"value": 1}', b'{"value": 1}\n{"value": "1"}'),
    "csv": (source("csv", header=("value",)), b"1\n2", b"1\nx"),
    "number": (source("number", value="value"), b"1", b"one"),
    "boolean": (source("boolean", value="on"), b"true", b"yes"),
    "text": (source("text", value="kind"), b"a", b"\xff"),
    "cbor": (source("cbor"), cbor2.dumps([{"value": 1}]), cbor2.dumps([{"value": 1}, {"value": "1"}])),
    "senml": (
        source("senml", fields={"name": "kind"}),
        b'[{"n": "a", "v": 1}]',
        b'[{"n": "a", "v": 1}, {"n": "b", "v": "1"}]',
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_payload_that_does_not_fit_is_a_dead_letter_and_costs_no_other(name: str) -> None:
    made, good, bad = GOOD[name]
    batch = take(made, good, bad, good)
    assert [verdict.accepted for verdict in batch.verdicts] == [1, 0, 1]
    (letter,) = [row for one in batch.appends if one.stream == "dead_letters" for row in one.rows.to_pylist()]
    assert letter["data"] == bad
    assert letter["reason"]
    assert len(rows(batch)) == 2 * batch.verdicts[0].rows


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_event_time_is_the_arrival_time(name: str) -> None:
    made, good, _ = GOOD[name]
    stored = [row for one in take(made, good).appends for row in one.rows.to_pylist()]
    assert stored
    assert {row["ts"] for row in stored} == {ARRIVED}


def test_senml_times_before_1978_count_from_the_arrival() -> None:
    made = source("senml", fields={"name": "kind"})
    pack = b'[{"n":"a","v":1,"t":-5},{"n":"b","v":1},{"n":"c","v":1,"t":1600000000}]'
    times = [row["ts"] for one in take(made, pack).appends for row in one.rows.to_pylist()]
    assert times == [ARRIVED - timedelta(seconds=5), ARRIVED, datetime.fromtimestamp(1_600_000_000, UTC)]


def test_a_pack_with_one_time_too_far_ahead_is_dead_as_a_whole_and_once() -> None:
    made = source("senml", fields={"name": "kind"})
    batch = take(made, b'[{"n":"a","v":1},{"n":"b","v":1,"t":600},{"n":"c","v":1,"t":900}]', b'[{"n":"d","v":1}]')
    assert [row["kind"] for row in rows(batch)] == ["d"]
    letters = [row for one in batch.appends if one.stream == "dead_letters" for row in one.rows.to_pylist()]
    assert len(letters) == 1
    assert "max_future_skew" in letters[0]["reason"]


def test_the_event_time_may_come_from_the_topic() -> None:
    made = Source(stream="readings", topic="s/{id}/{ts}", format="number", value="value")
    batch = take(made, b"1", topic="s/t1/2023-11-14 20:00:00Z")
    assert rows(batch) == [{"id": "t1", "value": 1.0, "ts": datetime(2023, 11, 14, 20, tzinfo=UTC)}]
    batch = take(made, b"1", topic="s/t1/yesterday")
    assert batch.verdicts[0].dead[0].kind is DeadKind.CAPTURE


def test_a_property_that_is_not_there_is_null_or_the_arrival_time() -> None:
    made = source("number", value="value", columns={"kind": "$property.kind", "ts": "$property.at"})
    assert rows(take(made, b"1")) == [{"id": "t1", "value": 1.0}]


def test_a_topic_that_does_not_fit_buries_each_payload_once() -> None:
    made = Source(stream="readings", topic="s/{n}", format="json")
    batch = take(made, b"{}", b"broken", topic="s/seven")
    letters = [row for one in batch.appends if one.stream == "dead_letters" for row in one.rows.to_pylist()]
    assert sorted(letter["data"] for letter in letters) == [b"broken", b"{}"]
    assert "expected BIGINT" in next(letter["reason"] for letter in letters if letter["data"] == b"{}")


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_content_types_name_formats_that_there_are(content_type: str) -> None:
    assert format_of(content_type) in FORMATS


@pytest.mark.parametrize(
    ("content_type", "payload", "wanted"),
    [
        ("application/cbor", cbor2.dumps(ROW), [MINE]),
        ("60", cbor2.dumps(ROW), [MINE]),
        ("text/csv; charset=utf-8", b"kind,value\nph,6.5\n", [MINE]),
        ("application/x-ndjson", b'{"value": 6.5, "kind": "ph"}\n', [MINE]),
        ("application/octet-stream", b'{"value": 6.5, "kind": "ph"}', [MINE]),
        ("application/senml+json", b'[{"n": "ph", "v": 6.5}]', [{**MINE, "kind": "ph"}]),
        ("application/senml+cbor", cbor2.dumps([{0: "ph", 2: 6.5}]), [{**MINE, "kind": "ph"}]),
    ],
)
def test_the_content_type_says_how_a_payload_is_read(
    content_type: str, payload: bytes, wanted: Sequence[Mapping[str, Any]]
) -> None:
    assert rows(take(source(fields={"name": "kind"}), payload, content_type=content_type)) == wanted


def test_a_content_type_that_nothing_reads_is_a_dead_letter() -> None:
    batch = take(source(), b"{}", content_type="image/png")
    assert batch.verdicts[0].dead[0].reason == "no format reads the content type 'image/png'"


@pytest.mark.parametrize("name", ["json", "path", "ndjson", "cbor", "senml"])
def test_every_truncated_prefix_is_a_dead_letter(name: str) -> None:
    made, good, _ = GOOD[name]
    ends = [end for end in range(len(good)) if name != "ndjson" or b"\n" not in good[:end]]
    batch = take(made, *[good[:end] for end in ends if not (name == "ndjson" and end == good.index(b"\n"))])
    assert {verdict.accepted for verdict in batch.verdicts} == {0}

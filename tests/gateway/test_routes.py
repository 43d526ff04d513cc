"""Sources: which stream a topic feeds, which columns are filled for it, and what cannot be declared."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import pytest

from qanat.errors import ConfigError
from qanat.gateway.routes import Route, Routes, Sender
from qanat.model.sources import Broker, Source, WatchedFolder
from qanat.model.streams import ArrivalColumn, Column, Stream, dead_letter_stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, INT, STRING, TIMESTAMP_LTZ

READINGS = Stream(
    "readings",
    (
        Column("site_id", STRING),
        Column("sensor_id", STRING),
        Column("kind", STRING),
        Column("value", DOUBLE),
        Column("floor", INT),
        Column("ok", BOOLEAN),
        Column("ts", TIMESTAMP_LTZ),
    ),
    event_time=ArrivalColumn("ts", None),
)
RAW = Stream("raw", (Column("topic", STRING), Column("client", STRING), Column("data", BYTES), Column("n", BIGINT)))
STREAMS = {
    "readings": READINGS,
    "raw": RAW,
    "results": Stream("results", (Column("id", STRING),)),
    "dead_letters": dead_letter_stream(),
}
FARM = "farm/{site_id}/{sensor_id}/{kind}"


def routes(**sources: Source) -> Routes:
    return Routes(STREAMS, frozenset({"readings", "raw"}), sources)


def fill(route: Route, **attributes: str) -> Mapping[str, str | None]:
    """What an offer of this route fills."""
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    offer = route.offer([b"x"], Sender("mqtt", "topic", "dev-1", named), 0, lambda _: None)
    return dict(offer.fill)


def test_a_topic_of_a_source_feeds_its_stream_and_fills_its_columns() -> None:
    route = routes(farm=Source(stream="readings", topic=FARM)).resolve("farm/7/t1/ph")
    assert (route.name, route.stream, route.refusal) == ("readings", READINGS, None)
    assert fill(route) == {"site_id": "7", "sensor_id": "t1", "kind": "ph"}


def test_topics_of_a_streams_own_name_feed_it_as_before() -> None:
    found = routes(farm=Source(stream="readings", topic=FARM))
    for topic in ("readings", "readings/a/b"):
        assert found.resolve(topic).stream is READINGS
        assert fill(found.resolve(topic)) == {}
    assert found.resolve("farm/7").stream is None
    assert found.resolve("farm/7").name == "farm"
    assert found.find("readings").stream is READINGS
    assert found.resolve("results/x").refusal is not None
    assert found.resolve("dead_letters").refusal is not None


def test_a_source_goes_before_the_streams_own_name() -> None:
    found = routes(north=Source(stream="raw", topic="readings/north/#"))
    assert found.resolve("readings/north/1").stream is RAW
    assert found.resolve("readings/south/1").stream is READINGS


def test_columns_are_filled_from_captures_sender_and_text() -> None:
    columns: dict[str, Any] = {
        "site_id": "{site}-{line}",
        "sensor_id": "$client",
        "kind": "$property.kind",
        "floor": 3,
        "ok": True,
    }
    route = routes(a=Source(stream="readings", topic="a/{site}/{line...}", columns=columns)).resolve("a/x/1/2")
    assert fill(route, property__kind="ph") == {
        "site_id": "x-1/2",
        "sensor_id": "dev-1",
        "kind": "ph",
        "floor": "3",
        "ok": "true",
    }
    assert fill(route)["kind"] is None


def test_topic_user_and_content_type_can_be_asked_for_and_dollars_written() -> None:
    columns: dict[str, Any] = {"site_id": "$topic", "sensor_id": "$user", "kind": "$content_type"}
    found = routes(
        a=Source(stream="readings", topic="a/+", columns=columns, format="json"),
        b=Source(stream="readings", topic="b", columns={"kind": "$$x"}),
    )
    assert fill(found.resolve("a/b"), user="eve", content_type="text/x") == {
        "site_id": "a/b",
        "sensor_id": "eve",
        "kind": "text/x",
    }
    assert fill(found.resolve("b")) == {"kind": "$x"}


def test_offers_of_one_source_have_one_decoder_and_the_same_columns() -> None:
    found = routes(
        a=Source(stream="readings", topic="a/{sensor_id}", format="number", value="value"),
        b=Source(stream="readings", topic="b/{sensor_id}"),
    )
    one, other = (found.resolve(topic).offer([b"1"], Sender("mqtt", topic, ""), 0, print) for topic in ("a/1", "a/2"))
    assert one.decode is other.decode is not None
    assert [name for name, _ in one.fill] == [name for name, _ in other.fill] == ["sensor_id"]
    assert found.resolve("b/1").offer([b"1"], Sender("mqtt", "b/1", ""), 0, print).decode is None


def test_the_content_type_decides_where_the_source_names_no_format() -> None:
    found = routes(
        named=Source(stream="readings", topic="named/#", format="number", value="value"),
        open=Source(stream="readings", topic="open/#"),
    )

    def decoder(topic: str, content_type: str) -> object:
        return (
            found.resolve(topic)
            .offer([b"1"], Sender("mqtt", topic, "", {"content_type": content_type}), 0, print)
            .decode
        )

    assert decoder("named/1", "application/cbor") is decoder("named/1", "")
    cbor = decoder("open/1", "application/cbor")
    assert cbor is not None
    assert decoder("open/2", "60") is cbor
    assert decoder("open/2", "application/vnd.acme+cbor; v=1") is cbor
    for plain in ("application/json; charset=utf-8", "", "text/plain", "application/vnd.acme+json", "50"):
        assert decoder("open/1", plain) is None
    assert decoder("readings", "application/senml+json") is not None


def test_brokers_and_folders_have_routes_of_their_own() -> None:
    found = routes(
        plant=Source(
            stream="readings", mqtt=Broker(url="mqtt://x", topics=("p/{site_id}/{kind}", "q/{kind}/+/{site_id}"))
        ),
        files=Source(stream="raw", folder=WatchedFolder(path="in"), columns={"topic": "$topic", "client": "x"}),
    )
    plant, files = found.intake("plant"), found.intake("files")
    assert plant.filters == ("p/+/+", "q/+/+/+")
    assert fill(plant.resolve("q/ph/9/7")) == {"site_id": "7", "kind": "ph"}
    assert plant.resolve("p//ph").stream is None
    assert found.resolve("p/7/ph").stream is None
    assert fill(files.resolve("in/a.csv")) == {"topic": "in/a.csv", "client": "x"}


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (Source(stream="reading", topic="a"), "no stream 'reading'", "did you mean readings?"),
        (Source(stream="results", topic="a"), "takes no input from outside", "raw, readings"),
        (Source(stream="dead_letters", topic="a"), "takes no input", "raw, readings"),
        (Source(stream="readings", topic="a/{sensorid}"), "no column 'sensorid'", "did you mean sensor_id?"),
        (Source(stream="readings", topic="a/{qqq}"), "no column 'qqq'", "is written +"),
        (Source(stream="readings", topic="a", columns={"sit_id": "x"}), "no column 'sit_id'", "site_id"),
        (Source(stream="readings", topic="a/{site_id}", columns={"kind": "{side}"}), "captures no {side}", "site_id"),
        (Source(stream="readings", topic="a", columns={"kind": "$clint"}), "there is no $clint", "$client"),
        (Source(stream="readings", topic="a", columns={"kind": "$property."}), "there is no $property.", "$property"),
        (Source(stream="readings", topic="a", columns={"floor": "x"}), "column floor: expected INT", "columns.floor"),
        (Source(stream="readings", topic="a/{x"), "no level of a topic pattern", "farm/"),
        (Source(stream="readings", topic="a", format="jso"), "no format 'jso'", "did you mean json?"),
        (Source(stream="readings", topic="a", format="number"), "a bare value needs a column", "value:"),
        (Source(stream="readings", topic="a", format="number", value="kind"), "the column kind is STRING", "text"),
        (Source(stream="readings", topic="a", format="number", value="valu"), "no column 'valu'", "value"),
        (
            Source(stream="readings", topic="a/{value}", format="number", value="value"),
            "is filled by the topic",
            "wins over the payload",
        ),
        (Source(stream="readings", topic="a", value="value"), "`value` means nothing without a format", "number"),
        (Source(stream="readings", topic="a", format="json", header=("x",)), "`header` means nothing to json", "csv"),
        (Source(stream="readings", topic="a", path="a..b"), "has an empty name", "data.readings"),
        (Source(stream="readings", topic="a", rename={"x": "valu"}), "rename.x: the stream has no column", "value"),
        (Source(stream="readings", topic="a", rename={"x": "value", "y": "value"}), "feed the column value", ""),
        (Source(stream="readings", topic="a", format="csv", header=("kind", "sort")), "no column 'sort'", '""'),
        (Source(stream="readings", topic="a", format="csv", header=("kind", "kind")), "twice", ""),
        (Source(stream="readings", topic="a", format="csv", delimiter="::"), "one ASCII character", ""),
        (Source(stream="readings", topic="a", format="senml", fields={"nam": "kind"}), "no such field", "name"),
        (Source(stream="readings", topic="a", format="senml", fields={"name": "sensor"}), "no column", "sensor_id"),
        (
            Source(stream="readings", mqtt=Broker(url="mqtt://x", topics=("a/{kind}", "b/{site_id}"))),
            "do not capture the same names",
            "+",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_the_start_with_the_sources_name(source: Source, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        routes(north=source)
    assert caught.value.message.startswith("source 'north': ")
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_ambiguous_sources_are_refused_with_both_names() -> None:
    with pytest.raises(ConfigError, match=r"source 'one' .* and source 'two' .* both take topics such as a/b/c"):
        routes(one=Source(stream="raw", topic="a/+/c"), two=Source(stream="raw", topic="a/b/+"))


def test_a_column_that_must_not_be_null_has_to_be_fed() -> None:
    strict = Stream("strict", (Column("v", DOUBLE), Column("id", STRING.with_nullable(False))))
    bare = Source(stream="strict", topic="s/+", format="number", value="v")
    with pytest.raises(ConfigError, match="nothing feeds the column id"):
        Routes({"strict": strict}, None, {"s": bare})
    Routes({"strict": strict}, None, {"s": Source(stream="strict", topic="s/{id}", format="number", value="v")})


def test_a_hundred_thousand_topics_are_remembered_within_bounds() -> None:
    found = routes(farm=Source(stream="readings", topic=FARM))
    for number in range(120_000):
        assert found.resolve(f"farm/{number % 100}/sensor-{number}/ph").stream is READINGS
    assert found.resolve("farm/1/2/" + "x" * 60_000).stream is READINGS
    kept = [one for one in gc.get_objects() if type(one) is Route]
    assert len(kept) <= 50_000
    assert max(len(text or "") for route in kept for _, text in route.fill) < 200

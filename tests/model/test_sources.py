"""The table of sources in qanat.yaml: what may be declared, and what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from qanat.errors import ConfigError
from qanat.model.project import validate
from qanat.model.sources import Source


def declared(**source: Any) -> Source:
    """One source as qanat.yaml has it."""
    return validate({"sources": {"north": source}}, "qanat.yaml", lambda _: 7).sources["north"]


def test_a_source_has_a_stream_and_one_way_in() -> None:
    source = declared(stream="readings", topic="farm/{site}", columns={"floor": 3, "ok": True, "site": "{site}"})
    assert source.ways == ("topic",)
    assert source.columns == {"floor": 3, "ok": True, "site": "{site}"}
    assert source.format is None
    assert declared(stream="s", mqtt={"url": "mqtt://x", "topics": ["a/#"]}).ways == ("mqtt",)
    assert declared(stream="s", folder={"path": "in"}).ways == ("folder",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"stream": "s"}, "needs one of topic, mqtt and folder; found none of them"),
        ({"stream": "s", "topic": "a", "folder": {"path": "in"}}, "found topic and folder"),
        ({"topic": "a"}, "stream"),
        ({"stream": "s", "topc": "a"}, "sources.north has no key 'topc'; did you mean topic?"),
        ({"stream": "s", "mqtt": {"ulr": "x", "topics": []}}, "sources.north.mqtt has no key 'ulr'; did you mean url?"),
        ({"stream": "s", "mqtt": "mqtt://x"}, "sources.north.mqtt must be a mapping"),
        ({"stream": "s", "topic": 5}, "sources.north.topic"),
        ({"stream": "s", "topic": "a", "columns": {"x": [1]}}, "sources.north.columns"),
        ({"stream": "s", "topic": "a", "header": "a,b"}, "sources.north.header"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declared(**source)
    assert caught.value.message.startswith("qanat.yaml:7: ")
    assert message in caught.value.message


def test_a_table_of_sources_is_a_mapping_of_mappings() -> None:
    for raw in ([], {"north": None}, {"north": "x"}):
        with pytest.raises(ConfigError, match="sources"):
            validate({"sources": raw}, "qanat.yaml", lambda _: None)

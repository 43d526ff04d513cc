"""Questions: what a query string means, one key for all that ask the same, and refusals that name what was meant."""

from __future__ import annotations

import contextlib
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.aggregate.conftest import MEASURE, NOW

from qanat.errors import ConfigError
from qanat.model.serve import Aggregate
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, STRING, TIMESTAMP_LTZ
from qanat.serve.aggregate.measure import measures_of
from qanat.serve.aggregate.question import Moment, QuestionError, parse, settle

HOUR = 3_600_000


def ask(**parameters: object) -> object:
    return parse(urlencode(parameters, doseq=True), MEASURE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("window=60%20min", "window=1h"),
        ("site=a&field=1", "field=1&site=a"),
        ("site=a&site=b", "site=b&site=a&site=a"),
        ("functions=avg,min", "functions=min&functions=avg,avg"),
        ("functions=p95.0", "functions=p95"),
        ("functions=count,min,max,avg", ""),
        ("from=2023-11-14T22:13:20Z", "from=1700000000"),
        ("from=1700000000000", "from=1700000000"),
        ("from=2023-11-14T23:13:20%2B01:00", "from=1700000000"),
        ("from=2023-11-14T23:13:20+01:00", "from=1700000000"),
        ("from=2023-11-14T23:13:20&tz=Europe/Berlin", "from=1700000000"),
        ("from=-1h", "from=-60%20min&to=now&align=clock"),
        ("site=&kind=", "site="),
        ("", "tz=UTC&empty=true&by=&from="),
        ("window=1h", "from=-1h&align=from&window=1h"),
    ],
)
def test_the_same_question_has_one_key(one: str, other: str) -> None:
    measure = measures_of(
        {"readings": Aggregate(stream="s", value="v", dimensions=("site", "field", "kind"))}, {"s": S}
    )
    assert parse(one, measure["readings"]).key == parse(other, measure["readings"]).key


S = Stream(
    "s",
    (
        *(Column(name, STRING) for name in ("site", "kind", "from")),
        Column("field", BIGINT),
        Column("on", BOOLEAN),
        Column("ts", BIGINT),
        Column("at", TIMESTAMP_LTZ),
        Column("v", DOUBLE),
        Column("raw", BYTES),
    ),
    event_time=ArrivalColumn("ts", 1000),
)


def test_different_questions_have_different_keys() -> None:
    texts = [
        "",
        "site=a",
        "field=1",
        "by=site",
        "window=1h",
        "from=-2h",
        "to=-1min",
        "from=-1h&tz=Europe/Berlin&window=1d",
    ]
    texts += ["functions=avg", "empty=false", "from=-1h", "by=site,field", "by=field,site", "from=-1h&window=1d"]
    keys = {parse(text, MEASURE).key for text in texts}
    assert len(keys) == len(texts) - 1  # from=-1h is what is meant where nothing is said


@pytest.mark.parametrize(
    ("query", "part", "hint"),
    [
        ("sit=a", "did you mean site", "site"),
        ("windw=1h", "did you mean window", "window"),
        ("by=sites", "did you mean site", "field"),
        ("functions=mean", "no value of functions is 'mean'", "avg"),
        ("functions=p101", "beyond 100", "p95"),
        ("functions=madian", "no value of functions", "p50"),
        ("window=15", "window: expected a duration", "15 min"),
        ("window=0s", "window is 0s", "15 min"),
        ("window=1h&window=2h", "given 2 times", "once"),
        ("tz=Europe/Berln", "did you mean Europe/Berlin", "Europe/Berlin"),
        ("from=yesterday", "which is no time", "-1h"),
        ("from=2023-13-01", "which is no time", "2026"),
        ("from=1e99", "which is no time", "2026"),
        ("from=99999999999999999", "in no year", "2026"),
        ("from=2024-01-02&to=2024-01-01", "from is 2024-01-02", "before"),
        ("field=x", "no whole number", "field=7"),
        ("align=left", "no value of align", "clock"),
        ("empty=maybe", "no value of empty", "false"),
        ("site=%ff", "cannot be read", "UTF-8"),
    ],
)
def test_refusals_say_what_would_be_right(query: str, part: str, hint: str) -> None:
    with pytest.raises(QuestionError) as refused:
        parse(query, MEASURE)
    assert part in refused.value.message
    assert hint in (refused.value.hint or "")


@given(st.text(max_size=60))
def test_any_text_is_a_question_or_is_refused(text: str) -> None:
    for query in (text, urlencode({"from": text}, errors="replace"), urlencode({"window": text}, errors="replace")):
        with contextlib.suppress(QuestionError):
            assert parse(query, MEASURE).key == parse(query, MEASURE).key


def test_a_window_alone_is_the_last_one_and_nothing_at_all_the_last_hour() -> None:
    assert settle(parse("window=15min", MEASURE), NOW) == (NOW - 900_000, NOW)
    assert settle(parse("", MEASURE), NOW) == (NOW - HOUR, NOW)
    assert settle(parse("window=15min&to=1700000000", MEASURE), 0) == (NOW - 900_000, NOW)
    assert parse("to=-1h", MEASURE).start == Moment(-2 * HOUR, relative=True)
    with pytest.raises(QuestionError, match="before to"):
        settle(parse("from=-1h&to=1600000000", MEASURE), NOW)


@pytest.mark.parametrize(
    ("declared", "part"),
    [
        ({"stream": "t"}, "serve.aggregates.x.stream: there is no t"),
        ({"value": "vv"}, "did you mean v"),
        ({"value": "site"}, "site is STRING"),
        ({"time": "site"}, "site is STRING"),
        ({"dimensions": ("raw",)}, "raw is BYTES"),
        ({"dimensions": ("from",)}, "from is a parameter"),
        ({"dimensions": ("fild",)}, "did you mean field"),
    ],
)
def test_what_cannot_be_declared_is_named(declared: dict[str, object], part: str) -> None:
    wanted = Aggregate(**({"stream": "s", "value": "v"} | declared))
    with pytest.raises(ConfigError) as refused:
        measures_of({"x": wanted}, {"s": S})
    assert part in refused.value.message
    assert refused.value.hint


def test_other_times_than_the_logs_are_not_followed() -> None:
    found = measures_of({name: Aggregate(stream="s", value="v", time=name) for name in ("ts", "at")}, {"s": S})
    assert (found["ts"].follows_log, found["at"].follows_log) == (True, False)

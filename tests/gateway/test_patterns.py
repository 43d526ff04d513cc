"""Patterns of topics: what they match, which wins, what is ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import ConfigError
from qanat.gateway.patterns import PatternTable, parse_pattern


def table(*texts: str) -> PatternTable[str]:
    return PatternTable([(f"source {text!r}", parse_pattern(text, "s"), text) for text in texts])


@pytest.mark.parametrize(
    ("pattern", "topic", "captured"),
    [
        ("farm/{site_id}/{sensor_id}/{kind}", "farm/7/t1/ph", {"site_id": "7", "sensor_id": "t1", "kind": "ph"}),
        ("farm/{site_id}", "farm/größe 1", {"site_id": "größe 1"}),
        ("farm/+/x", "farm/7/x", {}),
        ("farm/+/x", "farm//x", {}),
        ("farm/{a}/x", "farm//x", None),
        ("farm/#", "farm", {}),
        ("farm/#", "farm/a/b/c", {}),
        ("farm/#", "farmer/a", None),
        ("farm/{rest...}", "farm/a/b/c", {"rest": "a/b/c"}),
        ("farm/{rest...}", "farm/a", {"rest": "a"}),
        ("farm/{rest...}", "farm", None),
        ("farm/{rest...}", "farm/", None),
        ("{a}/{rest...}", "x/y//z", {"a": "x", "rest": "y//z"}),
        ("#", "a/b", {}),
        ("#", "$SYS/x", None),
        ("+/x", "$SYS/x", None),
        ("$SYS/x", "$SYS/x", {}),
        ("farm/x", "farm/x/", None),
        ("/a", "/a", {}),
        ("/a", "a", None),
    ],
)
def test_what_a_pattern_matches_and_captures(pattern: str, topic: str, captured: dict[str, str] | None) -> None:
    found = table(pattern).find(topic)
    assert found == (None if captured is None else (pattern, captured))


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [("a/{x}/+/b", "a/+/+/b"), ("a/{rest...}", "a/#"), ("#", "#"), ("{x...}", "#"), ("a/b", "a/b"), ("a/#", "a/#")],
)
def test_the_filter_for_a_broker_lets_the_same_topics_through(pattern: str, wanted: str) -> None:
    assert parse_pattern(pattern, "s").filter == wanted


@pytest.mark.parametrize(
    "text", ["", "a/#/b", "a+/b", "a/{x", "a/{x}y", "a/{1x}", "a/{x...}/b", "a/{}", "a#", "a/{x}/{x}", "a/{x}/{x...}"]
)
def test_what_is_no_pattern_is_refused_with_its_source(text: str) -> None:
    with pytest.raises(ConfigError, match="source 'north'"):
        parse_pattern(text, "source 'north'")


def test_the_most_specific_pattern_wins() -> None:
    found = table("#", "farm/#", "farm/{site}/{kind}", "farm/7/{kind}", "farm/7/ph", "farm/{site}/ph", "farm/7/{r...}")
    wins = {
        "farm/7/ph": "farm/7/ph",
        "farm/8/ph": "farm/{site}/ph",
        "farm/7/rain": "farm/7/{kind}",
        "farm/8/rain": "farm/{site}/{kind}",
        "farm/7/a/b": "farm/7/{r...}",
        "farm/8/a/b": "farm/#",
        "farm": "farm/#",
        "other": "#",
    }
    assert {topic: found.find(topic)[0] for topic in wins} == wins  # type: ignore[index]


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("a/{x}", "a/+", "a/+"),
        ("a/{x}/c", "a/b/{y}", "a/b/c"),
        ("{x}/b", "a/#", "a/b"),
        ("a/{r...}", "a/+/#", "a/+/#"),
        ("+/b/#", "a/+", "a/b"),
    ],
)
def test_ambiguous_patterns_are_refused_with_both_names(one: str, other: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table(one, other)
    assert repr(one) in caught.value.message
    assert repr(other) in caught.value.message
    assert f"such as {shown}" in caught.value.message


def test_what_two_patterns_share_may_be_a_source_of_its_own() -> None:
    found = table("a/{x}/c", "a/b/{y}", "a/b/c")
    assert [found.find(topic)[0] for topic in ("a/b/c", "a/z/c", "a/b/z")] == ["a/b/c", "a/{x}/c", "a/b/{y}"]  # type: ignore[index]


LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)


def matches(pattern: str, topic: str) -> bool:
    """The plain definition of MQTT 5, 4.7.1."""
    wanted, given = pattern.split("/"), topic.split("/")
    is_open = wanted[-1] == "#"
    wanted = wanted[:-1] if is_open else wanted
    fits = len(given) >= len(wanted) if is_open else len(given) == len(wanted)
    return fits and all(w in ("+", g) for w, g in zip(wanted, given, strict=False))


@given(
    st.lists(st.builds(lambda levels, more: "/".join(levels + more), LEVELS, st.sampled_from([[], ["#"]])), max_size=6),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map("/".join),
)
def test_the_winner_lies_inside_of_every_other_pattern_that_fits(patterns: list[str], topic: str) -> None:
    try:
        found = table(*patterns).find(topic)
    except ConfigError:
        return
    fitting = [pattern for pattern in patterns if matches(pattern, topic)]
    assert (found is not None) == bool(fitting)
    if found is not None:
        every = ["/".join(levels) for levels in _topics()]
        for other in fitting:
            assert all(matches(other, one) for one in every if matches(found[0], one))


def _topics() -> list[list[str]]:
    found: list[list[str]] = []
    grown: list[list[str]] = [[]]
    for _ in range(5):
        grown = [[*levels, one] for levels in grown for one in "abc"]
        found += grown
    return found

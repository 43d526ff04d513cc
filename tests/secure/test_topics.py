"""Topic filters of devices: what they match, and what they may be asked for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.model.devices import filter_problem
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.topics import covers, matches
from qanat.secure.users import DeviceRights, User, may_manage, may_publish, may_subscribe

HASH = hash_password("right", Cost.DEVICE)
#: Every topic of up to three levels out of three words.
TOPICS = ["/".join(levels) for n in (1, 2, 3) for levels in itertools.product(("a", "b", ""), repeat=n) if any(levels)]
FILTERS = st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from(["/".join(levels) or "a", "/".join([*levels, "#"]), "#"])
)


@pytest.mark.parametrize(
    ("granted", "topic", "right"),
    [
        ("power", "power", True),
        ("power", "power/h1", False),
        ("power/+", "power/h1", True),
        ("power/+", "power", False),
        ("power/+", "power/h1/x", False),
        ("power/#", "power", True),
        ("power/#", "power/h1/x", True),
        ("power/#", "powers", False),
        ("+/h1/#", "power/h1", True),
        ("+/h1/#", "power/h2", False),
        ("#", "power", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/+", "$SYS/x", True),
    ],
)
def test_filters_match_as_mqtt_says(granted: str, topic: str, right: bool) -> None:
    assert matches(granted, topic) is right


@pytest.mark.parametrize(
    ("granted", "wanted", "right"),
    [
        ("+", "#", False),
        ("a/+", "a/#", False),
        ("+/+", "+/#", False),
        ("a/b", "a/+", False),
        ("a", "+", False),
        ("#", "+/a/#", True),
        ("a/#", "a/+/b", True),
        ("+/h1/#", "+/h1", True),
        ("+/h1/#", "+/+", False),
        ("#", "$SYS/#", False),
    ],
)
def test_a_filter_is_asked_for_only_within_what_is_granted(granted: str, wanted: str, right: bool) -> None:
    assert covers(granted, wanted) is right


@given(FILTERS, FILTERS)
def test_a_filter_that_covers_another_matches_all_that_it_matches(granted: str, wanted: str) -> None:
    assert covers(granted, granted)
    if covers(granted, wanted):
        assert [one for one in TOPICS if matches(wanted, one) and not matches(granted, one)] == []


@pytest.mark.parametrize("text", ["", "a/#/b", "a#", "a/b#", "a+/b", "+a", "a\0b"])
def test_a_filter_that_mqtt_does_not_know_is_named(text: str) -> None:
    assert filter_problem(text)


@given(FILTERS)
def test_a_filter_that_mqtt_knows_is_not(text: str) -> None:
    assert filter_problem(text) is None


def test_a_device_has_rights_to_topics_not_to_streams() -> None:
    user = User("h1", "", device=DeviceRights(("power/h1/#", "state"), ("predictions/h1",)))
    assert may_publish(user, "power", "power/h1")
    assert may_publish(user, "state")
    assert not may_publish(user, "power")
    assert not may_publish(user, "power", "power/h2")
    assert [may_subscribe(user, one) for one in ("predictions/h1", "predictions/+", "predictions", "#")] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "wanted", "right"),
    [
        (("power/*",), "power/h1", True),
        (("power*",), "power/#", True),
        (("power/*",), "power/#", False),
        (("power", "power/*"), "power/#", True),
        (("power/?",), "power/+", False),
        (("power/[!a]*",), "power/+", False),
        (("power/*",), "power/+", True),
        (("*",), "#", True),
        (("power/h*",), "power/+", False),
        ((), "power", False),
    ],
)
def test_a_person_is_given_a_filter_only_where_he_may_read_all_of_it(
    patterns: tuple[str, ...], wanted: str, right: bool
) -> None:
    assert may_subscribe(User("p", HASH, subscribe=patterns), wanted) is right


def test_only_an_admin_manages_devices() -> None:
    assert [may_manage(one) for one in (None, User("a", HASH, admin=True), User("b", HASH))] == [False, True, False]

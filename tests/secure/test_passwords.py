"""Users, what they may publish, and their passwords."""

from __future__ import annotations

import pytest

from qanat.errors import ConfigError
from qanat.secure.passwords import Cost, Passwords, draw_secret, hash_password
from qanat.secure.users import User, index_users, may_publish

HASH = hash_password("right", Cost.DEVICE)


def test_patterns_say_which_streams_a_user_may_feed() -> None:
    user = User("h1", HASH, ("power", "farm_*"))
    assert [may_publish(user, name) for name in ("power", "farm_soil", "Power", "device_state", "power2")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert may_publish(User("h2", HASH), "power")
    assert not may_publish(User("h3", HASH, ()), "power")
    assert may_publish(None, "power")


def test_users_need_distinct_names_and_a_hash() -> None:
    assert set(index_users([User("a", HASH), User("b", HASH)])) == {"a", "b"}
    with pytest.raises(ConfigError, match="twice"):
        index_users([User("a", HASH), User("a", HASH)])
    with pytest.raises(ConfigError, match="argon2 hash"):
        index_users([User("a", "right")])


def test_a_password_is_recalled_only_after_it_was_right_once() -> None:
    passwords = Passwords(index_users([User("a", HASH), User("b", HASH)]))
    assert passwords.recall("a", "right") is None
    assert passwords.verify("a", "wrong") is None
    assert passwords.recall("a", "wrong") is None
    user = passwords.verify("a", "right")
    assert user is not None
    assert passwords.recall("a", "right") is user
    assert passwords.recall("a", "wrong") is None
    assert passwords.recall("b", "right") is None


def test_an_unknown_user_is_nobody_even_with_a_right_looking_password() -> None:
    passwords = Passwords(index_users([User("a", HASH)]))
    assert passwords.verify("z", "right") is None
    assert passwords.recall("z", "right") is None


def test_name_and_password_do_not_run_into_each_other() -> None:
    passwords = Passwords({})
    assert passwords.digest("ab", "c") != passwords.digest("a", "bc")
    assert passwords.digest("a", "c") != Passwords({}).digest("a", "c")


def test_hashes_of_both_costs_verify_and_secrets_differ() -> None:
    assert draw_secret() != draw_secret()
    secret = draw_secret()
    for cost in Cost:
        assert Passwords(index_users([User("d", hash_password(secret, cost))])).verify("d", secret) is not None

"""A fleet that comes all at once: one argon2 check per secret."""

from __future__ import annotations

import asyncio
import time

import pytest

from qanat.gateway.auth import Authenticator
from qanat.secure.passwords import Cost, Passwords, hash_password
from qanat.secure.users import User

HASH = hash_password("secret", Cost.DEVICE)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that argon2 was asked about."""
    asked: list[str] = []
    real = Passwords.verify

    def counted(self: Passwords, name: str, password: str) -> User | None:
        asked.append(name)
        return real(self, name, password)

    monkeypatch.setattr(Passwords, "verify", counted)
    return asked


def test_thousands_with_one_secret_cost_one_check(checks: list[str]) -> None:
    async def connect() -> list[User | None]:
        auth = Authenticator((User("fleet", HASH),))
        found = await asyncio.gather(*(auth.verify("fleet", "secret") for _ in range(4000)))
        found.append(await auth.verify("fleet", "secret"))
        auth.close()
        return found

    assert all(asyncio.run(connect()))
    assert checks == ["fleet"]


def test_a_wrong_password_is_checked_each_time_and_the_loop_goes_on(checks: list[str]) -> None:
    async def connect() -> list[User | None]:
        auth = Authenticator((User("fleet", HASH),))
        found = [await auth.verify("fleet", "wrong"), await auth.verify("fleet", "wrong")]
        auth.close()
        return found

    assert asyncio.run(connect()) == [None, None]
    assert checks == ["fleet", "fleet"]


def test_drawn_secrets_are_cheap_enough_for_a_fleet() -> None:
    users = [User(f"h{i}", HASH) for i in range(500)]

    async def connect() -> float:
        auth = Authenticator(users)
        begin = time.perf_counter()
        assert all(await asyncio.gather(*(auth.verify(user.name, "secret") for user in users)))
        taken = time.perf_counter() - begin
        auth.close()
        return taken

    assert asyncio.run(connect()) < 30


def test_without_users_nobody_is_asked() -> None:
    assert not Authenticator(()).demanded

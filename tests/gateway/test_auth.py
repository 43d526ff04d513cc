"""A fleet that comes all at once: one argon2 check per secret."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from qanat.gateway.auth import Authenticator
from qanat.model.devices import Device, Record
from qanat.secure.enrolment import enrol
from qanat.secure.gatekeeper import Gatekeeper
from qanat.secure.passwords import Cost, Passwords, hash_password
from qanat.secure.registry import Registry
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


def test_who_is_disabled_while_his_password_is_checked_does_not_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Registry(tmp_path / "devices.db")
    made = enrol([Record(id="h1")], 0)[0]
    desk.add([made.device], [made.credential])
    real = Gatekeeper.verify

    async def connect() -> User | None:
        auth = Authenticator((), Registry(desk.path))
        loop = asyncio.get_running_loop()

        def slow(self: Gatekeeper, name: str, password: str) -> User | None:
            user = real(self, name, password)
            assert user is not None
            desk.replace([Device("h1", disabled=True)])
            told = threading.Event()
            loop.call_soon_threadsafe(lambda: (auth.refresh(), told.set()))
            assert told.wait(10)
            return user

        monkeypatch.setattr(Gatekeeper, "verify", slow)
        found = await auth.verify("h1", made.secret or "")
        auth.close()
        return found

    assert asyncio.run(connect()) is None
    desk.close()


def test_without_users_nobody_is_asked() -> None:
    assert not Authenticator(()).demanded

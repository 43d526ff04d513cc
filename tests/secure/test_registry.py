"""The registry of devices and who comes in by it: real files, a clock that stands until it is moved."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qanat.errors import ConfigError, DeviceExistsError, RegistryError, UnknownDeviceError
from qanat.model.devices import Device, Record, Secret
from qanat.secure.enrolment import Enrolled, credential_of, enrol, numbered
from qanat.secure.gatekeeper import Gatekeeper
from qanat.secure.registry import Filter, Registry
from qanat.secure.users import may_publish

NOW = 1_700_000_000_000


class Desk:
    """A registry as the command line opens it, and a gatekeeper that reads the same file as `qanat up` does."""

    def __init__(self, path: Path) -> None:
        self.now = NOW
        self.refused: list[str] = []
        self.registry = Registry(path)
        self.gate = Gatekeeper(Registry(path), lambda: self.now, self.refused.append)
        self.gate.news()

    def add(self, *records: Record) -> tuple[Enrolled, ...]:
        made = enrol(records, self.now)
        self.registry.add([one.device for one in made], [one.credential for one in made])
        return made

    def secret(self, name: str = "h1", **said: str) -> str:
        secret = self.add(Record(id=name, **said))[0].secret  # type: ignore[arg-type]
        assert secret is not None
        return secret

    def rotate(self, name: str, grace_ms: int | None) -> str:
        credential, secret = credential_of(Record(id=name), self.now)
        self.registry.rotate([credential], None if grace_ms is None else self.now + grace_ms, self.now)
        assert secret is not None
        return secret


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path / "devices.db")
    yield one
    one.gate.registry.close()
    one.registry.close()


def test_a_device_comes_in_with_its_password_and_with_no_other(desk: Desk) -> None:
    secret = desk.secret("h1")
    other = desk.secret("h2")
    assert desk.gate.recall("h1", secret) is None
    user = desk.gate.verify("h1", secret)
    assert user is not None
    assert (user.name, user.admin) == ("h1", False)
    assert may_publish(user, "power", "power/h1")
    assert not may_publish(user, "power", "power/h2")
    assert desk.gate.recall("h1", secret) is user
    assert [desk.gate.verify(*pair) for pair in (("h1", other), ("h2", secret), ("h3", secret))] == [None] * 3
    assert desk.refused == ["wrong", "wrong", "unknown"]


def test_a_token_is_enough_and_counts_as_password_too(desk: Desk) -> None:
    token = desk.secret("h1", credential="token")
    desk.secret("h2")
    for user in (desk.gate.token(token), desk.gate.verify("h1", token), desk.gate.recall("h1", token)):
        assert user is not None
        assert user.name == "h1"
    assert desk.gate.token(token) is desk.gate.token(token)
    assert desk.gate.token(token + "x") is None
    assert desk.gate.verify("h2", token) is None


def test_no_secret_is_in_the_file(desk: Desk, tmp_path: Path) -> None:
    secrets = [desk.secret("h1"), desk.secret("h2", credential="token")]
    desk.registry.close()
    desk.gate.registry.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [secret for secret in secrets if secret.encode() in stored] == []


def test_a_disabled_device_is_forgotten_and_does_not_come_back(desk: Desk) -> None:
    secret = desk.secret()
    user = desk.gate.verify("h1", secret)
    assert user is not None
    assert desk.gate.still(user)
    desk.registry.replace([Device("h1", disabled=True)])
    assert not desk.gate.still(user)
    assert desk.gate.news() == ("h1",)
    assert desk.gate.recall("h1", secret) is None
    assert desk.gate.verify("h1", secret) is None
    assert desk.refused == ["disabled"]
    desk.registry.replace([Device("h1")])
    assert desk.gate.news() == ("h1",)
    assert desk.gate.verify("h1", secret) is not None


def test_news_are_of_rights_and_come_once(desk: Desk) -> None:
    secret = desk.secret()
    assert desk.gate.news() == ()
    desk.registry.replace([Device("h1", owner="ada", labels={"site": "north"})])
    assert desk.gate.news() == ()
    user = desk.gate.verify("h1", secret)
    assert user is not None
    desk.registry.replace([Device("h1", publish=("state",))])
    assert (desk.gate.news(), desk.gate.news()) == (("h1",), ())
    assert not desk.gate.still(user)
    desk.registry.remove(["h1"], NOW)
    assert desk.gate.news() == ("h1",)
    assert desk.gate.verify("h1", secret) is None


def test_the_old_secret_counts_through_the_grace_and_not_after_it(desk: Desk) -> None:
    old = desk.secret()
    first = desk.gate.verify("h1", old)
    new = desk.rotate("h1", 60_000)
    assert desk.gate.news() == ("h1",)
    second = desk.gate.verify("h1", new)
    assert first is not None
    assert second is not None
    desk.now += 59_999
    assert desk.gate.verify("h1", old) == desk.gate.recall("h1", old) == first
    assert desk.gate.still(first)
    desk.now += 1
    assert desk.gate.recall("h1", old) is None
    assert desk.gate.news() == ("h1",)
    assert (desk.gate.still(first), desk.gate.still(second)) == (False, True)
    assert desk.gate.verify("h1", old) is None
    assert desk.refused == ["expired"]
    assert desk.gate.verify("h1", new) is not None
    assert desk.gate.news() == ()


def test_without_grace_the_old_secret_is_gone_at_once(desk: Desk) -> None:
    old = desk.secret()
    user = desk.gate.verify("h1", old)
    new = desk.rotate("h1", None)
    assert user is not None
    assert not desk.gate.still(user)
    assert desk.gate.news() == ("h1",)
    assert desk.gate.verify("h1", old) is None
    assert desk.gate.verify("h1", new) is not None
    assert desk.registry.get("h1").rotated_at == NOW


def test_what_was_verified_while_rights_ended_is_not_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is read, then disabled and forgotten, and only then the check of its password ends."""
    secret = desk.secret()
    real = Registry.credentials

    def slow(self: Registry, name: str) -> object:
        desk.registry.replace([Device("h1", disabled=True)])
        assert desk.gate.news() == ("h1",)
        return real(self, name)

    monkeypatch.setattr(Registry, "credentials", slow)
    desk.gate.verify("h1", secret)
    assert desk.gate.recall("h1", secret) is None


def test_a_reader_that_was_away_for_too_long_takes_everything_as_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qanat.secure.registry._KEPT_CHANGES", 3)
    secrets = {name: desk.secret(name) for name in ("h1", "h2", "h3")}
    for name, secret in secrets.items():
        assert desk.gate.verify(name, secret)
    for _ in range(5):
        for disabled in (True, False):
            desk.registry.replace([Device("h3", disabled=disabled)])
    assert desk.gate.news() == ("h1", "h2", "h3")


def test_devices_are_found_by_what_is_known_of_them(desk: Desk) -> None:
    desk.add(
        Record(id="a1", owner="ada", kind="meter", labels={"site": "north", "row": "1"}),
        Record(id="a2", owner="ada", kind="pump", labels={"site": "north"}),
        Record(id="b1", owner="bob", kind="meter", labels={"site": "süd"}),
    )
    desk.registry.replace([Device("b1", owner="bob", kind="meter", labels={"site": "süd"}, disabled=True)])

    def names(after: str = "", limit: int = 100, **wanted: object) -> list[str]:
        return [one.id for one in desk.registry.select(Filter(**wanted), after, limit)]  # type: ignore[arg-type]

    assert names() == ["a1", "a2", "b1"]
    assert names(limit=2) == ["a1", "a2"]
    assert names("a2") == ["b1"]
    assert names(owner="ada", kind="meter") == ["a1"]
    assert names(labels={"site": "north"}) == ["a1", "a2"]
    assert names(labels={"site": "süd"}) == ["b1"]
    assert names(labels={"site": "north", "row": "1"}) == ["a1"]
    assert names(disabled=False) == ["a1", "a2"]
    assert names(text="a_") == []
    assert names(text="a") == ["a1", "a2"]
    assert desk.registry.count(Filter(owner="ada")) == 2


def test_many_are_added_or_none(desk: Desk) -> None:
    desk.secret("m00003")
    with pytest.raises(DeviceExistsError, match="'m00003' is already registered"):
        desk.add(*numbered(Record(), "m", 5))
    assert desk.registry.count() == 1
    with pytest.raises(ConfigError, match="given twice"):
        desk.add(Record(id="x"), Record(id="x"))
    assert len(desk.add(*numbered(Record(kind="meter"), "n", 300, first=7))) == 300
    assert desk.registry.select(Filter(text="n"), "", 1)[0].id == "n00007"


def test_one_certificate_belongs_to_one_device(desk: Desk) -> None:
    desk.add(Record(id="h1", certificate="ab" * 32))
    with pytest.raises(DeviceExistsError, match="certificate"):
        desk.add(Record(id="h2", certificate="AB:" * 31 + "AB"))
    assert desk.registry.find("h2") is None


def test_what_is_not_there_cannot_be_changed(desk: Desk) -> None:
    desk.secret("h1")
    credential, _ = credential_of(Record(id="h9"), NOW)
    for change in (
        lambda: desk.registry.remove(["h1", "h9"], NOW),
        lambda: desk.registry.replace([Device("h9")]),
        lambda: desk.registry.rotate([credential], None, NOW),
    ):
        with pytest.raises(UnknownDeviceError, match="'h9'"):
            change()
    assert desk.registry.count() == 1


def test_who_was_removed_is_known_until_registered_again(desk: Desk) -> None:
    desk.secret("h1")
    desk.secret("h2")
    with pytest.raises(UnknownDeviceError):
        desk.registry.remove(["h1", "h9"], NOW)
    with desk.registry.rehearsal():
        desk.registry.remove(["h1"], NOW)
    assert desk.registry.retired() == {}
    desk.registry.remove(["h1", "h2"], NOW)
    assert desk.registry.retired() == {"h1": NOW, "h2": NOW}
    desk.secret("h1")
    assert desk.registry.retired() == {"h2": NOW}


def test_a_registry_of_before_learns_who_was_removed(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "old.db")
    registry.add([Device("h1")], [])
    registry.close()
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.execute("DROP TABLE retired")
    registry = Registry(tmp_path / "old.db")
    registry.remove(["h1"], NOW)
    assert registry.retired() == {"h1": NOW}
    registry.close()


def test_when_a_device_was_last_seen_is_kept_and_never_goes_back(desk: Desk) -> None:
    desk.secret("h1")
    desk.registry.see({"h1": NOW + 5, "gone": NOW})
    desk.registry.see({"h1": NOW})
    assert desk.registry.get("h1").seen_at == NOW + 5
    assert desk.gate.news() == ()


def test_a_file_that_is_no_registry_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "devices.db").write_bytes(b"this is not a database, it is a letter" * 100)
    with pytest.raises(RegistryError, match=r"devices\.db"):
        Registry(tmp_path / "devices.db")
    with pytest.raises(RegistryError, match="unable to open"):
        Registry(tmp_path / "nowhere" / "devices.db")
    newer = tmp_path / "newer.db"
    Registry(newer).close()
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(RegistryError, match="version 99"):
        Registry(newer)


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a+", "#", "$a", "a:b", "{id}", "a\n", "x" * 129, "e\u0301", "\ud800"]
)
def test_ids_that_could_be_mistaken_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="device id") as caught:
        enrol([Record(id=name)], NOW)
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["h1", "zähler-17", "体温計_3", "a.b-c_d"])
def test_ids_in_any_script_are_fine(desk: Desk, name: str) -> None:
    assert desk.gate.verify(name, desk.secret(name)) is not None


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Record(id="h", publish=("power/#/x",)), "#"),
        (Record(id="h", subscribe=("{name}/x",)), "{id}"),
        (Record(id="h", interval="often"), "interval"),
        (Record(id="h", labels={"a": "x\0"}), "label"),
        (Record(id="h", password="x", credential="token"), "one way"),
        (Record(id="h", password_hash="x"), "argon2"),
        (Record(id="h", certificate="-----"), "no certificate"),
    ],
)
def test_a_description_that_cannot_be_says_what_is_wrong(record: Record, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        enrol([record], NOW)
    assert said in str(caught.value)


def test_a_password_that_somebody_chose_costs_what_such_a_password_must(desk: Desk) -> None:
    made = desk.add(Record(id="h1", password="abc"))[0]
    assert made.secret is None
    assert "m=19456" in made.credential.value
    assert desk.gate.verify("h1", "abc") is not None
    assert Secret.PASSWORD is made.credential.kind

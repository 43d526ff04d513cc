"""Which cache is asked: by configuration, at run time, and what a wrong one says."""

from __future__ import annotations

import asyncio
import builtins
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.stores.cache.conftest import Bench, Within, settings
from tests.stores.cache.servers import Server, free_port

from qanat.clock import SYSTEM
from qanat.errors import CacheError, ConfigError
from qanat.model.cache import Cache, CacheServer
from qanat.model.sections import Duration
from qanat.stores.cache import open_cache, open_server
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.base import CacheOptions
from qanat.stores.cache.switch import Switch

Started = Callable[..., Server]


def in_use(bench: Bench, *drivers: str) -> list[str]:
    return [driver for driver in drivers if bench.counted("in_use", driver=driver)]


def test_another_cache_at_run_time_and_back_without_losing_what_the_first_one_has(
    within: Within, started: Started
) -> None:
    redis, memcached = started("redis"), started("memcached")
    urls = {"redis": f"redis://127.0.0.1:{redis.port}/0", "memcached": f"memcached://127.0.0.1:{memcached.port}"}

    async def scenario(bench: Bench) -> None:
        for number, name in enumerate(("redis", "memcached", "memory", "redis")):
            await bench.aside.use(settings(urls.get(name, "memory://"), timeout=1000, slow=500))
            await bench.aside.fetch("k", bench.maker(name.encode()))
            await bench.settled()
            assert in_use(bench, "redis", "memcached", "memory") == [name], number
        assert bench.made == 3
        assert await bench.aside.fetch("k", bench.maker()) == b"redis"

    within(scenario, "memory://", clock=SYSTEM)


def test_what_stays_declared_stays_open(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        await bench.aside.use(settings("memory://", ttl=1000))
        assert bench.aside.peek("k") == b"answer"
        await bench.aside.fetch("other", bench.maker())
        await bench.settled()
        bench.clock.move(1)
        assert bench.aside.peek("k") == b"answer"
        assert bench.aside.peek("other") is None
        await bench.aside.use(settings("memory://", memory=1_000_000))
        assert bench.aside.peek("k") is None

    within(scenario)


def test_what_cannot_be_opened_changes_nothing(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        before = bench.switch.settings
        for wrong in (
            settings("memory://", "nonsense://x"),
            Cache(url="redis://127.0.0.1", password_env="NOT_SET_ANYWHERE"),
        ):
            with pytest.raises(ConfigError):
                await bench.aside.use(wrong)
        assert bench.switch.settings is before
        assert bench.aside.peek("k") == b"answer"

    within(scenario)


def test_two_of_the_same_product_have_names_of_their_own(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.switch.pick() is not None
        text = bench.metrics.render().decode()
        assert 'qanat_cache_in_use{driver="memcached"} 1.0' in text
        assert 'qanat_cache_in_use{driver="memcached-2"} 0.0' in text
        assert 'qanat_cache_breaker_state{driver="memcached-2"} 0.0' in text

    within(scenario, f"memcached://127.0.0.1:{free_port()}", f"memcached://127.0.0.1:{free_port()}")


# --- passwords and TLS -----------------------------------------------------------------------------------------------


async def once(cache: Cache, env: dict[str, str], base: Path | None = None) -> dict[str, float]:
    """One answer through these caches; how the looks went."""
    switch = Switch(cache, env=env, base=base)
    aside = Aside(switch)

    async def make() -> bytes:
        return b"answer"

    try:
        for _ in range(2):
            assert await aside.fetch("k", make) == b"answer"
            await aside.idle()
        found = {}
        for one in ("hit", "miss", "error"):
            labels = {"driver": "redis", "outcome": one}
            found[one] = switch.metrics.registry.get_sample_value("qanat_cache_reads_total", labels)
        return {one: count for one, count in found.items() if count}
    finally:
        await aside.close()


PATIENT = {"timeout": Duration(2000), "slow": Duration(1000)}


def test_a_password_comes_from_the_environment(started: Started) -> None:
    url = f"redis://127.0.0.1:{started('redis', '--requirepass', 'secret').port}/0"
    cache = Cache(url=url, password_env="CACHE_PASSWORD", **PATIENT)
    assert asyncio.run(once(cache, {"CACHE_PASSWORD": "secret"})) == {"miss": 1, "hit": 1}
    assert asyncio.run(once(cache, {"CACHE_PASSWORD": "wrong"})) == {"error": 2}
    assert asyncio.run(once(Cache(url=url, **PATIENT), {})) == {"error": 2}
    with pytest.raises(ConfigError, match="should be in CACHE_PASSWORD, which is not set") as caught:
        Switch(cache, env={})
    assert caught.value.hint == "export CACHE_PASSWORD=..."


def test_tls_and_only_with_a_certificate_that_is_trusted(started: Started, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    port = free_port()
    # redis-server listens with TLS beside its plain port
    started(
        "redis", "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "server.pem"),
        "--tls-key-file", str(tmp_path / "server.pem"), "--tls-auth-clients", "no",
    )  # fmt: skip
    url = f"rediss://127.0.0.1:{port}/0"
    assert asyncio.run(once(Cache(url=url, ca="ca.pem", **PATIENT), {}, tmp_path)) == {"miss": 1, "hit": 1}
    assert asyncio.run(once(Cache(url=url, ca="other.pem", **PATIENT), {}, tmp_path)) == {"error": 2}
    assert asyncio.run(once(Cache(url=url, **PATIENT), {}, tmp_path)) == {"error": 2}


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "no cache is named by ''"),
        ("memory", "no cache is named by 'memory'"),
        ("valkey://127.0.0.1", "no cache is named by valkey://127.0.0.1"),
        ("kafka://user:secret@127.0.0.1/x", r"no cache is named by kafka://127\.0\.0\.1/x"),
        ("redis://", "redis:// needs a host"),
        ("redis://127.0.0.1/none", "redis:// needs a host"),
        ("redis://127.0.0.1:x", "no URL"),
        ("redis://127.0.0.1/0?x=1", "redis:// needs a host"),
        ("memory://host", "memory:// takes no host"),
        ("memcached://", "a Memcached is named by host and port only"),
        ("memcached://user:pw@127.0.0.1", "a Memcached is named by host and port only"),
    ],
)
def test_a_wrong_url_says_what_to_write(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        open_cache(url)
    assert "write " in str(caught.value.hint)
    assert "secret" not in str(caught.value)


def test_options_that_a_driver_has_no_use_for_are_refused(tmp_path: Path) -> None:
    for url in ("memory://", "memcached://127.0.0.1"):
        with pytest.raises(ConfigError):
            open_cache(url, CacheOptions(password="x"))
    for url in ("memory://", "memcached://127.0.0.1", "redis://127.0.0.1"):
        with pytest.raises(ConfigError):
            open_server(CacheServer(url=url, ca="ca.pem"), 1000, base=tmp_path)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] == "redis":
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        return imported(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, "qanat.stores.cache.redis", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match="redis:// needs a package that is not installed: redis") as caught:
        open_cache("redis://127.0.0.1")
    assert caught.value.hint == "pip install 'qanat[redis]'"


def test_nobody_pays_for_a_driver_that_is_not_used() -> None:
    code = (
        "import sys, qanat.stores.cache.aside; from qanat.stores.cache import open_cache; open_cache('memory://');"
        "print([name for name in ('redis', 'hiredis', 'qanat.stores.cache.memcached') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_server_that_is_not_there_is_a_cache_error() -> None:
    async def ask(url: str) -> None:
        cache = open_cache(url)
        try:
            for call in (cache.ping(), cache.get(["k"]), cache.put({"k": b""}, 1000), cache.drop(["k"])):
                with pytest.raises(CacheError, match=r"127\.0\.0\.1"):
                    await call
        finally:
            await cache.close()

    for scheme in ("redis", "memcached"):
        asyncio.run(ask(f"{scheme}://127.0.0.1:{free_port()}"))

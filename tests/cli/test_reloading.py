"""qanat.yaml changes under a running `qanat up`: another cache is in force at once, a mistake changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
from tests.cli.conftest import Run, Server

from qanat.cli.reloading import Reloading
from qanat.errors import ConfigError
from qanat.model.cache import Cache


def put(folder: Path, text: str) -> None:
    part = folder / "qanat.yaml.part"
    part.write_text(text)
    part.replace(folder / "qanat.yaml")


def health(server: Server) -> dict[str, str]:
    return dict(httpx.get(f"{server.url}/healthz").json()["checks"])


def test_another_cache_is_in_force_without_a_restart(up: Callable[..., Server], qanat: Run, tmp_path: Path) -> None:
    assert qanat("init", "farm").returncode == 0
    server = up(tmp_path / "farm")
    assert server.process.stdout is not None
    put(server.folder, "cache: {url: 'memory://', ttl: 5 s}\n")
    assert json.loads(server.process.stdout.readline()) == {"event": "reloaded", "section": "cache"}
    assert "qanat.yaml" not in health(server)

    put(server.folder, "cache: {url: 'carrier-pigeon://loft'}\n")
    while "qanat.yaml" not in (said := health(server)):
        pass
    assert "carrier-pigeon" in said["qanat.yaml"]
    assert said["qanat.yaml"].endswith("; the cache stays as it was")

    put(server.folder, "cache: {invalidate: true}\n")
    while "next start" not in (said := health(server)).get("qanat.yaml", ""):
        pass
    put(server.folder, "cache: {ttl: 6 s}\n")
    assert json.loads(server.process.stdout.readline())["event"] == "reloaded"
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert server.stop() == (0, "")


def test_only_a_changed_file_is_read_and_a_mistake_leaves_all_as_it_was(tmp_path: Path) -> None:
    used: list[Cache] = []

    async def use(cache: Cache) -> None:
        if cache.url == "redis://nowhere":
            raise ConfigError("no such cache")
        used.append(cache)

    reloading = Reloading(tmp_path / "qanat.yaml", use)

    def check() -> bool:
        return asyncio.run(reloading.check())

    assert not check()
    put(tmp_path, "cache: {ttl: 7 s}")
    assert (check(), check()) == (True, False)
    put(tmp_path, "cache: {ttl: 7 s, oops: 1}")
    assert not check()
    assert "no key 'oops'" in str(reloading.fault)
    put(tmp_path, "cache: {url: 'redis://nowhere'}")
    assert not check()
    assert reloading.fault == "no such cache; the cache stays as it was"
    (tmp_path / "qanat.yaml").unlink()
    assert check()
    assert reloading.fault is None
    assert [int(one.ttl) for one in used] == [7000, 120_000]

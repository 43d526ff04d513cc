"""The bench of caches: it measures caches that give what was put, and says so where one is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cache
from tests.stores.cache.servers import needed

ROOT = Path(__file__).resolve().parents[2]


def test_a_quick_look_is_printed_and_written_and_leaves_the_committed_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("redis-server")
    needed("memcached")
    monkeypatch.setenv("QANAT_BENCH_WORK", str(tmp_path / "work"))
    target = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench", "cache", "--seconds", "1", "--json", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())["cache"]
    assert [one["driver"] for one in found["results"]] == ["memory", "redis", "memcached"]
    for one in found["results"]:
        assert [load["wrong"] for load in one["loads"]] == [0, 0]
        assert [each["rows_per_second"] for each in one["invalidation"]] == list(cache.INVALIDATIONS)
        assert all(each["fetches"] > 0 for each in one["invalidation"])
    assert len(found["wanted"]) == 4
    assert "rows that come in" in done.stdout
    assert not (tmp_path / "cache.json").exists()


def test_a_cache_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.shutil, "which", lambda name: None)
    monkeypatch.setattr(cache, "_measured", lambda *_: {"wrong": 1})
    monkeypatch.setattr(cache, "INVALIDATIONS", ())
    found = cache.measure(1, lambda text: None)
    assert [one["driver"] for one in found if "error" in one] == ["redis", "memcached"]
    assert not cache.right(found)

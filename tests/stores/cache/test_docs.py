"""docs/cache.md: its settings are settings, its example runs, its metrics are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qanat.cli.project import read_config
from qanat.observe.metrics import Metrics

TEXT = (Path(__file__).parents[3] / "docs" / "cache.md").read_text()


def test_the_settings_are_settings(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "qanat.yaml"
    path.write_text(example)
    cache = read_config(path).cache
    assert [server.url.partition(":")[0] for server in cache.servers] == ["redis", "memcached", "memory"]
    assert (cache.ttl, cache.stale, cache.invalidate) == (120_000, 30_000, True)


def test_the_example_prints_what_it_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    shown = re.search(r"asyncio\.run\(main\(\)\)\n```\n\n((?:    .*\n)+)", TEXT)
    assert shown is not None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == re.sub(r"^    ", "", shown[1], flags=re.MULTILINE)


@pytest.mark.parametrize(
    "name", [family.name for family in Metrics().registry.collect() if family.name.startswith("qanat_cache")]
)
def test_every_metric_is_documented(name: str) -> None:
    assert re.search(rf"`{name}(_total)?`", TEXT)

"""A million rows through pages and live, with memory that does not grow with them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import qanat
from qanat.log.base import Append, Transaction

from .conftest import NOW

Start = Callable[..., Any]
ROWS = 1_000_000
BATCH = 20_000
#: What pages and live may add: pages, caches and pools, not rows (a million of them are 100 MB and more).
MOST_MB = 120


def memory_mb() -> float:
    """What this process, and so client and server together, has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


@pytest.fixture
def server(start: Start) -> Any:
    found = start()
    for first in range(0, ROWS, BATCH):
        numbers = np.arange(first, first + BATCH)
        ids = pa.array([f"k{n % 1000}" for n in numbers])
        rows = pa.record_batch([ids, pa.array(numbers, pa.int64())], names=["id", "n"])
        found.log.submit(Transaction([Append("spread", (first // BATCH) % 4, rows, NOW)])).result()
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells how much memory is in use")
def test_a_million_rows_in_pages_and_live(server: Any) -> None:
    client = qanat.connect(server.url)
    seen = np.zeros(ROWS, dtype=np.bool_)
    pages = client.pages("spread")
    seen[next(pages).column("n").to_numpy()] = True
    before = peak = memory_mb()
    for page in pages:
        numbers = page.column("n").to_numpy()
        assert not seen[numbers].any()
        seen[numbers] = True
        peak = max(peak, memory_mb())
    assert seen.all()
    assert peak - before < MOST_MB

    seen[:] = False
    live = client.live("spread", start="earliest")
    seen[next(live).values["n"]] = True  # type: ignore[index]
    before = peak = memory_mb()
    for number, row in enumerate(live, 2):
        assert row.values is not None
        assert not seen[row.values["n"]]
        seen[row.values["n"]] = True
        if number % 10_000 == 0:
            peak = max(peak, memory_mb())
        if number == ROWS:
            break
    assert seen.all()
    assert peak - before < MOST_MB
    live.close()

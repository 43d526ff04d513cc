"""What only Cassandra does: rows that go by themselves, and a node that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.cassandra import CassandraNode
from tests.conformance.store.places import need
from tests.conformance.store.streams import DAY, batch_of, reading, readings, rows_of

from qanat.cli.storing import LogSource
from qanat.clock import now_ms
from qanat.errors import StoreError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.stores import consumer_of
from qanat.stores.hot import open_store
from qanat.stores.hot.feeder import Feeder


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraNode]:
    need("cassandra")
    with CassandraNode(tmp_path_factory.mktemp("cassandra"), sync="batch") as found:
        yield found


def ids(store, name):
    return store.read(name, ["a"], order="oldest").column("id").to_pylist()


def test_rows_go_when_their_time_is_over(node: CassandraNode) -> None:
    table = readings("short", retention_ms=60_000)
    store = open_store(f"cassandra://127.0.0.1:{node.port}/hot")
    store.prepare(table)
    now = now_ms()
    ages = {1: DAY, 2: 61_000, 3: 56_000, 4: 0}
    store.write("short", batch_of(table, [reading(n, "a", now - age) for n, age in ages.items()]))
    assert ids(store, "short") == [3, 4]
    store.write("short", batch_of(table, [reading(n, "a", now - age) for n, age in ages.items()]))
    end = time.monotonic() + 20
    while ids(store, "short") != [4]:
        assert time.monotonic() < end, "row 3 is still there"
        time.sleep(0.1)
    assert store.position("short") == {0: 4}
    store.close()


def test_a_node_that_is_killed_and_comes_back(node: CassandraNode, tmp_path: Path) -> None:
    table = readings("killed")
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    log.create(table.stream)

    def append(first: int) -> None:
        rows = rows_of(table, [reading(n, "a", n) for n in range(first, first + 100)])
        log.submit(Transaction([Append("killed", 0, rows, 1)])).result()

    store = open_store(f"cassandra://127.0.0.1:{node.port}/hot")
    feeder = Feeder(store, table, LogSource(log, "killed", consumer_of("hot", "killed")))
    append(0)
    feeder.step()
    node.kill()
    append(100)
    with pytest.raises(StoreError, match="Cassandra at 127"):
        feeder.step()
    node.start()
    feeder.begin_anew()
    end = time.monotonic() + 60
    while True:
        try:
            feeder.step()
            break
        except StoreError:  # the driver looks for it every now and then
            assert time.monotonic() < end
            time.sleep(0.2)
    assert ids(store, "killed") == list(range(200))
    store.close()
    log.close()

"""Where stores are for tests: files, and servers of our own on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.cassandra import CassandraNode
from bench.install import cassandra_is_here

from qanat.stores.hot import open_store
from qanat.stores.hot.base import HotStore

ROOT = Path(__file__).parents[3]
DRIVERS = ("duckdb", "chdb", "clickhouse", "cassandra")


@dataclass(frozen=True, slots=True)
class Place:
    """A database and its URL."""

    driver: str
    url: str

    def open(self) -> HotStore:
        """A store on it."""
        return open_store(self.url)


def need(driver: str) -> None:
    """Skip where a driver cannot be tested; in CI that is a failure."""
    if driver == "cassandra" and not cassandra_is_here():
        text = "no jars of Cassandra: make services fetches them"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


@contextmanager
def place_of(driver: str, folder: Path) -> Iterator[Place]:
    """A database of a driver, with its server, if it has one, for as long as this is open. See `need`."""
    need(driver)
    match driver:
        case "duckdb":
            yield Place(driver, f"duckdb:///{folder}/hot.duckdb")
        case "chdb":
            yield Place(driver, f"chdb:///{folder}/hot")
        case "clickhouse":
            with ClickHouseServer(folder) as server:
                yield Place(driver, server.url)
        case "cassandra":
            with CassandraNode(folder) as node:
                yield Place(driver, f"cassandra://127.0.0.1:{node.port}/hot")
        case _:
            raise AssertionError(driver)


class ClickHouseServer:
    """ClickHouse over HTTP in a process of its own; see `clickhouse_server`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the database `hot`."""
        return f"clickhouse://127.0.0.1:{self.port}/hot"

    def start(self) -> None:
        """Serve; on the port that it had before."""
        command = [sys.executable, "-m", "tests.conformance.store.clickhouse_server", str(self._folder), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> ClickHouseServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

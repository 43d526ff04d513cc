"""A feeder that is killed, at chosen and at any moments, loses no row and repeats none, whatever the store."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.store.places import DRIVERS, ROOT, Place, place_of
from tests.stores.hot.children import KEYS, MOMENTS, ROWS, table_of

from qanat.log import open_log
from qanat.model.stores import consumer_of

CHILD = Path(__file__).with_name("children.py")
_numbers = itertools.count()


@pytest.fixture(scope="module", params=DRIVERS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_of(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def start(log: Path, place: Place, stream: str, moment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), f"sqlite:///{log}", place.url, stream, moment]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def run(log: Path, place: Place, stream: str, moment: str = "never") -> int:
    """The exit code of a child that ends by itself or by its own hand."""
    process = start(log, place, stream, moment)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0 or said.endswith("end\n")
    return process.returncode


def check(place: Place, stream: str) -> None:
    """Every row once; of an upsert stream the last of each key, where it was not deleted."""
    store = place.open()
    store.prepare(table_of(stream))
    keys = [f"k{number}" for number in range(KEYS)]
    found = {key: store.read(stream, [key], limit=ROWS, order="oldest").column("id").to_pylist() for key in keys}
    store.close()
    if stream.startswith("u"):
        last = {key: max(i for i in range(ROWS) if i % KEYS == number) for number, key in enumerate(keys)}
        assert found == {key: [i] if i % 7 else [] for key, i in last.items()}
    else:
        assert found == {key: list(range(number, ROWS, KEYS)) for number, key in enumerate(keys)}


def check_positions(log_file: Path, place: Place, stream: str) -> None:
    """The log was never told of more than the store has: it may delete what it was told of."""
    store, log = place.open(), open_log(f"sqlite:///{log_file}")
    there = store.position(stream)
    assert all(end <= there.get(at[1], 0) for at, end in log.positions(consumer_of("hot", stream)).items())
    store.close()
    log.close()


@pytest.mark.parametrize("kind", "au")
def test_killed_at_every_kind_of_moment(place: Place, tmp_path: Path, kind: str) -> None:
    stream = f"{kind}{next(_numbers)}_{os.getpid()}"
    for moment in MOMENTS if kind == "a" else ("half:2", "wrote:3"):
        assert run(tmp_path / "log.db", place, stream, moment) == -signal.SIGKILL, moment
        check_positions(tmp_path / "log.db", place, stream)
    assert run(tmp_path / "log.db", place, stream) == 0
    check(place, stream)


def test_killed_at_any_moment(place: Place, tmp_path: Path) -> None:
    stream = f"a{next(_numbers)}_{os.getpid()}"
    moments = random.Random(5)
    kills = 0
    for _ in range(4):
        process = start(tmp_path / "log.db", place, stream, "never")
        assert process.stdout is not None
        process.stdout.readline()  # it has begun to feed
        timer = threading.Timer(moments.uniform(0, 0.12), process.kill)
        timer.start()
        process.stdout.read()
        kills += process.wait() == -signal.SIGKILL
        timer.cancel()
        process.stdout.close()
    assert kills, "all of them were done before they were killed"
    assert run(tmp_path / "log.db", place, stream) == 0
    check(place, stream)

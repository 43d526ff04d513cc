"""One suite for all hot stores: `place` is one of every driver, `store` opens it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qanat.stores.hot.base import HotStore
from tests.conformance.store.places import DRIVERS, Place, place_of


@pytest.fixture(scope="session", params=DRIVERS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A database of each driver. Skips where a service is not installed; in CI that is a failure."""
    with place_of(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def store(place: Place) -> Iterator[HotStore]:
    """The database, opened."""
    opened = place.open()
    yield opened
    opened.close()


_numbers = itertools.count()


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of a stream that no other test has."""
    return f"s{next(_numbers)}_{os.getpid()}"

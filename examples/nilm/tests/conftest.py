"""What the tests of this example share: where it lies, where the recordings are, and a running qanat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qanat.cli.demo import Server, running

EXAMPLE = Path(__file__).parents[1]
REFIT = EXAMPLE.parents[1].parent / "shared" / "data" / "refit-8s"


@pytest.fixture(scope="session")
def example() -> Path:
    """The folder of the example."""
    return EXAMPLE


@pytest.fixture(scope="session")
def refit() -> Path:
    """The folder of recordings. Skips the test where it is absent; in CI that is a failure."""
    if not REFIT.is_dir():
        text = f"the REFIT recordings are not at {REFIT} (../shared/data/refit-8s beside the repository)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return REFIT


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Server]:
    """`qanat up examples/nilm`."""
    with running(EXAMPLE, tmp_path / "data") as server:
        yield server


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Server]:
    """`qanat up examples/nilm/refit`."""
    with running(EXAMPLE / "refit", tmp_path / "data") as server:
        yield server

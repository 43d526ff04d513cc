"""A real Flink for the tests that compare with it: one cluster for all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from bench.install import FLINK_VERSION
from bench.work import WORK

from tests.conformance.sql.flink import Flink, cluster


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    """Skips where Flink is not installed; in CI that is a failure."""
    mark = WORK / "flink" / "installed"
    installed = shutil.which("java") is not None and mark.exists() and mark.read_text() == FLINK_VERSION
    if not installed and "QANAT_FLINK" not in os.environ:
        text = f"Flink {FLINK_VERSION} is not installed: python -m bench.install flink (takes a JDK 17 and Maven)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    with cluster(tmp_path_factory.mktemp("flink")) as running:
        yield running

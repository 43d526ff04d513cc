"""Where the recorded homes are, for the tests that need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFIT = Path(__file__).parents[2].parent / "shared" / "data" / "refit-8s"


@pytest.fixture(scope="session")
def refit() -> Path:
    """The folder of recordings. Skips the test where it is absent; in CI that is a failure."""
    if not REFIT.is_dir():
        text = f"the REFIT recordings are not at {REFIT} (../shared/data/refit-8s beside the repository)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return REFIT

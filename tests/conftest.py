"""The order of the tests, and Hypothesis on a machine that others use, too."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# two cores that others use too: what takes long here says nothing
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

#: Single tests in here take minutes. Begun first, none of them is still running when all workers but one are idle.
_LONG = ("tests/conformance/sql/test_flink.py", "tests/crash/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first; else as they stand."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))

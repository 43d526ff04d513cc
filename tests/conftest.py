"""The order of the tests."""

from __future__ import annotations

import pytest

#: Single tests in here take minutes. Begun first, none of them is still running when all workers but one are idle.
_LONG = ("tests/conformance/sql/test_flink.py", "tests/crash/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first; else as they stand."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))

"""The gateway of its own tests, and projects of one case."""

from __future__ import annotations

from tests.gateway.conftest import fake_log, raw, start

__all__ = ["fake_log", "raw", "start"]

"""The one-process runtime: runs a `Program` over a log. See docs/design/runtime.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat.sql.embedded.connectors.sinks import collected_schema
    from qanat.sql.embedded.engine import Engine
    from qanat.sql.embedded.restarts import RestartPolicy
    from qanat.sql.embedded.runner import EngineOptions
    from qanat.sql.embedded.worker import PipelineStatus

__all__ = ["Engine", "EngineOptions", "PipelineStatus", "RestartPolicy", "collected_schema"]

_WHERE = {
    "Engine": "engine",
    "PipelineStatus": "worker",
    "RestartPolicy": "restarts",
    "EngineOptions": "runner",
    "collected_schema": "connectors.sinks",
}


def __getattr__(name: str) -> object:
    """Load the engine when it is first used: importing polars and pyarrow takes a moment."""
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

"""The API over HTTP: rows, SQL, sites, devices, dead letters and pipelines under /v1, live rows, GraphQL.

`mount(app, ServeContext(...))` adds it to the gateway's app. `qanat.serve.client` is the other end of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat.serve.app import mount
    from qanat.serve.context import ServeContext

__all__ = ["ServeContext", "mount"]


def __getattr__(name: str) -> object:
    """Loaded when first used: the client needs no FastAPI."""
    match name:
        case "mount":
            from qanat.serve.app import mount

            return mount
        case "ServeContext":
            from qanat.serve.context import ServeContext

            return ServeContext
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

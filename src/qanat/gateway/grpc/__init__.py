"""gRPC: rows in with acknowledgements, rows out, as `qanat.proto` says.

Its packages are an extra of qanat, and `server` needs them: it is imported by `open_server` only.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from qanat.errors import ConfigError

if TYPE_CHECKING:
    from qanat.codec.arrow_body import Limits
    from qanat.gateway.auth import Authenticator
    from qanat.gateway.grpc.server import Checks, GrpcServer
    from qanat.gateway.intakes import Shared
    from qanat.gateway.limits import Limiter
    from qanat.gateway.outlets import Outlets
    from qanat.gateway.routes import Routes

_PACKAGES = ("grpc", "grpc_health", "grpc_reflection", "google.protobuf", "google.rpc")


def open_server(
    shared: Shared,
    routes: Routes,
    auth: Authenticator,
    outlets: Outlets,
    checks: Checks,
    limits: Limits,
    max_message_bytes: int,
    limiter: Limiter,
) -> GrpcServer:
    """The server, not bound yet. Raises `ConfigError` where its packages are missing."""
    if not all(_is_there(name) for name in _PACKAGES):
        raise ConfigError("the gRPC listener needs packages that are not installed", hint="pip install 'qanat[grpc]'")
    from qanat.gateway.grpc.server import GrpcContext, GrpcServer

    return GrpcServer(GrpcContext(shared, routes, auth, outlets, checks, limits, max_message_bytes, limiter))


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a name with dots: what is before the dot
        return False

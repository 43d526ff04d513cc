"""The gRPC listener: binds, serves `calls`, health and reflection, ends in order. It knows no rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from qanat.codec.arrow_body import Limits
from qanat.errors import ConfigError, QanatError
from qanat.gateway.answers import Answers, State
from qanat.gateway.auth import Authenticator
from qanat.gateway.config import Listener, TlsFiles
from qanat.gateway.grpc import qanat_pb2_grpc as generated
from qanat.gateway.grpc.appends import PROTOCOL, AppendContext
from qanat.gateway.grpc.calls import CallContext, Calls
from qanat.gateway.grpc.qanat_pb2 import DESCRIPTOR
from qanat.gateway.intakes import Shared, put_state
from qanat.gateway.limits import Limiter
from qanat.gateway.outlets import Outlets
from qanat.gateway.routes import Routes

_SERVICE = DESCRIPTOR.services_by_name["Gateway"].full_name
_LOOK_S = 1.0
_TIDY_S = 3600.0

Checks = Callable[[], Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class GrpcContext:
    """What the gateway gives to its gRPC listener. `limits`: rows of one message, and their bytes once decoded."""

    shared: Shared
    routes: Routes
    auth: Authenticator
    outlets: Outlets
    checks: Checks
    limits: Limits
    max_message_bytes: int
    limiter: Limiter = field(default_factory=Limiter)


class GrpcServer:
    """One listener. Made, bound, started and stopped in one event loop."""

    def __init__(self, context: GrpcContext) -> None:
        self._context = context
        self._answers = Answers(PROTOCOL, context.shared.log.state)
        self._health = health.aio.HealthServicer()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None

    def bind(self, listener: Listener) -> int:
        """Take the port, and say which it is. Raises `ConfigError`."""
        context, shared = self._context, self._context.shared
        appends = AppendContext(
            shared.ingest, context.routes, self._answers, shared.clock, context.limits, context.limiter
        )
        self._calls = Calls(CallContext(appends, context.auth, context.outlets, shared.metrics))
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", context.max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        generated.add_GatewayServicer_to_server(self._calls, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        host = f"[{listener.host}]" if ":" in listener.host else listener.host
        address = f"{host}:{listener.port}"
        try:
            if listener.tls is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, _credentials(listener.tls))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen for {PROTOCOL} on {address}",
                hint="perhaps another program has the port: use another one in listeners.grpc.port, or 0 for any",
            ) from error
        self._server = server
        return port

    async def start(self) -> None:
        """Serve."""
        assert self._server is not None
        await self._server.start()
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._tidy())]

    async def stop(self, timeout: float) -> None:
        """Take no new calls and read nothing more; what was taken has `timeout` seconds to be answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            self._calls.quiesce()
            await self._server.stop(timeout)

    async def _look(self) -> None:
        """Health by gRPC is what /healthz is."""
        statuses = health_pb2.HealthCheckResponse
        while True:
            well = not any(self._context.checks().values())
            for name in ("", _SERVICE):
                await self._health.set(name, statuses.SERVING if well else statuses.NOT_SERVING)
            await asyncio.sleep(_LOOK_S)

    async def _tidy(self) -> None:
        """Forget answers to idempotency keys that are too old."""
        while True:
            await asyncio.sleep(_TIDY_S)
            await self._answers.tidy(self._context.shared.clock(), self._store)

    async def _store(self, state: State) -> bool:
        try:
            await put_state(self._context.shared, PROTOCOL, state)
        except QanatError:
            return False  # they are kept, and looked at again in an hour
        return True


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Client certificates are asked for only where they are demanded: gRPC has nothing in between."""
    try:
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        client_ca = None if tls.client_ca is None else tls.client_ca.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}", hint="listeners.grpc.tls") from error
    return grpc.ssl_server_credentials([pair], client_ca, tls.demand_client)

"""The gateway as a whole: checks its settings, binds, starts and stops in order. It looks at no bytes or rows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from qanat.clock import now_ms
from qanat.codec.json import decode_payloads
from qanat.contracts.decoders import Contracts
from qanat.errors import ConfigError
from qanat.gateway.admit import Inlet, open_inlet
from qanat.gateway.auth import Authenticator
from qanat.gateway.config import GatewayConfig, check_config
from qanat.gateway.grpc import open_server
from qanat.gateway.http.app import Checks, HttpContext, HttpFront
from qanat.gateway.http.dead import DeadLetterContext, mount_dead_letters
from qanat.gateway.http.devices import DeviceContext, mount_devices
from qanat.gateway.http.identity import authenticate
from qanat.gateway.http.mqtt_socket import MqttSocket
from qanat.gateway.http.quick import Quick
from qanat.gateway.http.registry import registry_routes
from qanat.gateway.http.server import HttpServer
from qanat.gateway.ingest import Ingest
from qanat.gateway.intakes import Shared, checks_of, open_intakes
from qanat.gateway.limits import Limiter
from qanat.gateway.listening import Keeper, Open, bind_all
from qanat.gateway.mqtt.server import MqttContext, MqttServer
from qanat.gateway.outlets import Outlets
from qanat.gateway.repair import Repair
from qanat.gateway.routes import Routes
from qanat.gateway.tls import server_context
from qanat.log.base import Log
from qanat.log.declarations import declare_kept
from qanat.model.streams import DEAD_LETTERS, Stream, dead_letter_stream
from qanat.observe.metrics import Metrics
from qanat.secure.keyring import Keyring
from qanat.secure.registry import Registry

if TYPE_CHECKING:
    from qanat.gateway.grpc.server import GrpcServer


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a gateway that belong to it. `append` answers POST /streams/NAME; `hot`, `at_hand`: see `HttpFront`."""

    auth: Authenticator
    outlets: Outlets
    limiter: Limiter
    repair: Repair
    append: Callable[[Scope, Receive], Awaitable[Response]]
    checks: Checks
    hot: MutableMapping[str, ASGIApp]
    at_hand: MutableMapping[bytes, Quick]


class Gateway:
    """Listeners in front of a log.

    `streams`: all streams of the project, already created in the log. `checks`: what `/healthz` reports beside the
    gateway itself. `app`: the HTTP application; other rooms may add routes to it before `start`. Made, started and
    stopped in one event loop.

    Raises `ConfigError` for settings that cannot work: at once, or in `start` where a port is taken.
    """

    def __init__(
        self,
        config: GatewayConfig,
        streams: Mapping[str, Stream],
        log: Log,
        metrics: Metrics,
        checks: Checks | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        check_config(config)
        self._config, self._log = config, log
        self._checks: Checks = checks if checks is not None else dict
        contracts = config.contracts
        routes = Routes(streams, config.accepts, config.sources, contracts)
        inlets = _open_inlets(routes, streams, contracts)
        self._limiter = Limiter(config.limits)
        self._auth = _open_auth(config, self._limiter, metrics, clock)
        self._ingest = Ingest(inlets, log, metrics, config.ingest, clock)
        readable = {**streams, DEAD_LETTERS: dead_letter_stream()}
        self._outlets = Outlets(log, readable)
        self._mqtt = self._open_mqtt(routes, readable, metrics, clock)
        self._web = HttpFront(
            HttpContext(
                self._ingest,
                routes,
                self._auth,
                metrics,
                self._health,
                clock,
                self._limiter,
                self._outlets,
                log.state,
                config.max_body_bytes,
                config.body_limits,
                MqttSocket(self._mqtt),
            )
        )
        self.app: FastAPI = self._web.app
        self.repair = repair = Repair(log, streams, routes, config.ingest.max_future_skew_ms, clock)
        identify = partial(authenticate, self._auth)
        mount_dead_letters(self.app, DeadLetterContext(log, repair, identify))
        if contracts is not None:
            self.app.include_router(registry_routes(contracts.registry, identify))
        if self._auth.desk is not None:
            mount_devices(self.app, DeviceContext(self._auth.desk, self._auth, identify, clock))
        shared = Shared(self._ingest, log, metrics, clock)
        self._intakes = open_intakes(config.sources, routes, config.base, shared)
        self._grpc = None if config.grpc.port is None else self._open_grpc(shared, routes)
        tls = config.mqtts.tls
        self._mqtts_context = None if tls is None else server_context(tls)
        self._https: list[HttpServer] = []
        self._keeper = Keeper()
        self.ports: dict[str, int] = {}

    @property
    def parts(self) -> Parts:
        """What rooms that add routes to `app` may use."""
        return Parts(
            self._auth,
            self._outlets,
            self._limiter,
            self.repair,
            self._web.append,
            self._health,
            self._web.hot,
            self._web.at_hand,
        )

    @property
    def mqtt_port(self) -> int | None:
        """Where MQTT listens, once started."""
        return self.ports.get("mqtt")

    @property
    def http_port(self) -> int | None:
        """Where HTTP listens, once started."""
        return self.ports.get("http")

    async def start(self) -> None:
        """Bind and listen; `ports` then says where, by protocol. Nothing stays bound where one port is taken."""
        config = self._config
        listeners = [one for one in config.listeners if one.protocol != "grpc"]
        bound = bind_all(listeners)
        self.ports = {name: sock.getsockname()[1] for name, sock in bound.items()}
        self._bind_grpc(bound)
        declare_kept(self._log, dead_letter_stream())
        self._auth.start()
        self._ingest.start()
        self._web.start()
        opens: dict[str, Open] = {
            "mqtt": self._mqtt.start,
            "mqtts": partial(self._mqtt.start, tls=self._mqtts_context),
            "http": self._open_http,
        }
        for one in listeners:
            if one.protocol in bound:
                await self._keeper.open(one, bound[one.protocol], opens[one.protocol])
        self._keeper.start()
        if self._grpc is not None:
            await self._grpc.start()
        for intake in self._intakes:
            intake.start()

    def _bind_grpc(self, bound: Mapping[str, socket.socket]) -> None:
        """gRPC binds by itself; where it cannot, nothing else stays bound."""
        if self._grpc is None:
            return
        try:
            self.ports["grpc"] = self._grpc.bind(self._config.grpc)
        except ConfigError:
            for sock in bound.values():
                sock.close()
            raise

    async def stop(self) -> None:
        """Take nothing more, let what is in flight become durable, acknowledge it, close."""
        await self._keeper.stop()
        self._mqtt.quiesce()
        for intake in self._intakes:
            intake.quiesce()
        self._web.stop()
        await asyncio.gather(*(http.stop() for http in self._https))
        if self._grpc is not None:
            await self._grpc.stop(self._config.stop_timeout_ms / 1000)
        await self._ingest.stop(self._config.stop_timeout_ms / 1000)
        await asyncio.gather(*(intake.stop() for intake in self._intakes))
        await self._mqtt.stop()
        self._outlets.close()
        self._auth.close()

    async def _open_http(self, sock: socket.socket) -> Callable[[], None]:
        """A server of its own for each time that the listener is opened: connections of an older one stay with that."""
        config = self._config
        self._mqtt.prepare()
        server = HttpServer(self._web, config.stop_timeout_ms / 1000, config.max_body_bytes, config.http_tls)
        self._https.append(server)
        await server.start(sock)
        return server.close

    def _open_mqtt(
        self, routes: Routes, readable: Mapping[str, Stream], metrics: Metrics, clock: Callable[[], int]
    ) -> MqttServer:
        config = self._config
        context = MqttContext(
            self._ingest,
            routes,
            self._auth,
            metrics,
            config.mqtt,
            clock,
            config.max_connections,
            self._log,
            self._outlets,
            readable,
            self._limiter,
        )
        return MqttServer(context)

    def _open_grpc(self, shared: Shared, routes: Routes) -> GrpcServer:
        config = self._config
        return open_server(
            shared,
            routes,
            self._auth,
            self._outlets,
            self._health,
            config.body_limits,
            config.max_body_bytes,
            self._limiter,
        )

    def _health(self) -> Mapping[str, str | None]:
        full = "waits for the log" if self._ingest.is_full else None
        own = {"gateway": full, **self._keeper.checks()}
        return {**own, **self._auth.checks(), **checks_of(self._intakes), **self._checks()}


def _open_auth(config: GatewayConfig, limiter: Limiter, metrics: Metrics, clock: Callable[[], int]) -> Authenticator:
    """Users and the registry of devices; who was seen is known by the limiter."""
    registry = None if config.devices is None else Registry(config.devices)
    keys = None if config.keys is None else Keyring(config.keys, clock)
    auth = Authenticator(config.users, registry, metrics, clock, config.registered, keys)
    auth.seen = lambda: limiter.seen(clock())
    metrics.devices_connected(lambda: limiter.connected)
    return auth


def _open_inlets(routes: Routes, streams: Mapping[str, Stream], contracts: Contracts | None) -> dict[str, Inlet]:
    """An inlet for each stream that takes input, with the version of its contract that is in force."""
    versions = {} if contracts is None else {name: contracts.version(name) for name in routes.inputs}
    return {name: open_inlet(streams[name], decode_payloads, versions.get(name)) for name in routes.inputs}

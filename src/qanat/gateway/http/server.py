"""uvicorn inside our own event loop: we bind, start and stop it, and it leaves the process's signals alone.

With TLS files it speaks TLS, and puts the client's certificate, if it was verified, where `identity` looks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from qanat.gateway.config import TlsFiles
from qanat.gateway.http.identity import CERTIFICATE
from qanat.gateway.http.problems import problem
from qanat.gateway.http.quick import Headers, QuickAnswer, is_plain, written
from qanat.gateway.tls import server_context

#: A connection without a request is closed after so long (s): at its beginning, and between two requests.
_FIRST_REQUEST = 30.0
_NEXT_REQUEST = 75


class Front(Protocol):
    """An ASGI application that may have an answer at once; see `quick`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or one WebSocket."""
        ...

    def quick(self, target: bytes, headers: Headers, state: Mapping[str, Any]) -> QuickAnswer | None:
        """The answer to a plain GET, where it is at hand."""
        ...


class HttpServer:
    """One listener for one app. Raises `ConfigError` for TLS files that cannot be used."""

    def __init__(self, app: Front, stop_timeout: float, max_message_bytes: int, tls: TlsFiles | None = None) -> None:
        context = None if tls is None else server_context(tls)
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="websockets-sansio",
            ws_max_size=max_message_bytes,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_NEXT_REQUEST,
            timeout_graceful_shutdown=max(1, round(stop_timeout)),
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket; returns when requests are answered."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[sock]))
        ready = asyncio.ensure_future(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._task

    def close(self) -> None:
        """Accept nothing more; connections stay."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Accept nothing more, answer what is under way, close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with the client's certificate in the state of each request, patience for the first one only, and
    answers that are at hand given at once."""

    _waiting: asyncio.TimerHandle | None = None
    _is_answered = False

    def __init__(self, config: uvicorn.Config, *args: Any, **more: Any) -> None:
        super().__init__(config, *args, **more)
        self._front: Front = config.app  # type: ignore[assignment]  # as HttpServer was given it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        if certificate is not None:
            self.app_state = {**self.app_state, CERTIFICATE: certificate}
        self._waiting = self.loop.call_later(_FIRST_REQUEST, self._give_up)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._is_answered = self._answer_quickly()
        if not self._is_answered:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_answered:
            super().on_message_complete()

    def _answer_quickly(self) -> bool:
        """Only where no other answer of this connection is under way, and the client takes what it is given."""
        parser, before = self.parser, self.cycle
        if parser.get_method() != b"GET" or (before is not None and not before.response_complete):
            return False
        if not (parser.get_http_version() == "1.1" and parser.should_keep_alive() and is_plain(self.headers)):
            return False
        if self.flow.write_paused:
            return False
        try:
            answer = self._front.quick(self.url, self.headers, self.app_state)
        except Exception as error:  # noqa: BLE001 - the ordinary way meets it again, and answers with a problem
            self.logger.warning("%r is answered the ordinary way: %r", self.url, error)
            return False
        if answer is None:
            return False
        self.transport.write(written(answer, self.server_state.default_headers))
        self.on_response_complete()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP never becomes a request; its answer looks like every other one all the same."""
        body = problem(400, msg, hint="curl -v shows what is sent").body
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + bytes(body))
        self.transport.close()

    def _give_up(self) -> None:
        self._waiting = None
        self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the command line."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

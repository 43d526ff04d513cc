"""Alerts by HTTP POST: one JSON document, or an array where a request holds several.

Every request has `Idempotency-Key`. With a secret it is signed as Standard Webhooks has it
(https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,BASE64`, the HMAC-SHA256
of `ID.TIMESTAMP.BODY`. Redirects are not followed: a POST that went elsewhere would look delivered.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from qanat.clock import now_ms
from qanat.errors import ConfigError
from qanat.model.sinks import Webhook
from qanat.notify.messages import Message, encode_event, encode_json, id_of
from qanat.notify.target import DownError, RefusedError, client_context, secret_of

#: format -> content type of one, content type of several, how one is written.
_FORMATS = {
    "json": ("application/json", "application/json", encode_json),
    "cloudevents": ("application/cloudevents+json", "application/cloudevents-batch+json", encode_event),
}
#: Answers that say nothing about the alert: we are not known, the address is wrong, too early, too much.
_NOT_NOW = frozenset({401, 403, 404, 407, 408, 425, 429})
#: Bytes of an answer that are read; so many characters of them are told.
_ANSWER, _TOLD = 4096, 200
_EXAMPLE = "url: https://HOST/PATH"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and what they carry. `tls` None: http://. `timeout`: seconds for a whole request."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    timeout: float
    format: str = "json"
    headers: Mapping[str, str] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)


def open_webhook(name: str, declared: Webhook, timeout: float, base: Path) -> WebhookTarget:
    """The target that qanat.yaml declares. Raises `ConfigError`."""
    try:
        parts = urlsplit(declared.url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"sink {name}: webhook.url is no URL: {error}", hint=_EXAMPLE) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"sink {name}: webhook.url is no http:// or https:// URL", hint=_EXAMPLE)
    if parts.username is not None:
        raise ConfigError(f"sink {name}: webhook.url holds credentials", hint="token_env: NAME_OF_A_VARIABLE")
    tls = client_context(name, declared.ca, base) if parts.scheme == "https" else None
    headers = dict(declared.headers)
    token = secret_of(name, "webhook.token_env", declared.token_env)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    for header, value in headers.items():
        if not header.isascii() or not value.isprintable() or not value.isascii() or set(header) & set(": \r\n"):
            raise ConfigError(f"sink {name}: webhook.headers: {header!r} cannot be sent", hint="printable ASCII")
    secret = secret_of(name, "webhook.secret_env", declared.secret_env)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookTarget(
        Endpoint(
            parts.hostname,
            port or (443 if tls is not None else 80),
            path,
            tls,
            timeout,
            declared.format,
            headers,
            None if secret is None else key_of(name, secret),
        )
    )


def key_of(name: str, secret: str) -> bytes:
    """The key of a secret: `whsec_BASE64` as Standard Webhooks writes it, or the text itself."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ConfigError(f"sink {name}: the secret begins with whsec_ and is not base64 after it") from error


def signature_of(key: bytes, name: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 of `name.timestamp.body`."""
    digest = hmac.digest(key, f"{name}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookTarget:
    """See `Target`. A connection per request: alerts are rare, and a kept one may be dead when it is needed."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], int] = now_ms) -> None:
        self._endpoint, self._clock = endpoint, clock
        self.where = (
            f"{'http' if endpoint.tls is None else 'https'}://{endpoint.host}:{endpoint.port}{_shown(endpoint)}"
        )
        self._connection: http.client.HTTPConnection | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """See `Target`."""
        body, kind = self._body(messages)
        connection = self._connect()
        self._connection = connection
        watchdog = threading.Timer(self._endpoint.timeout, _cut, [connection])
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request("POST", self._endpoint.path, body, self._headers(messages, body, kind))
            response = connection.getresponse()
            status = response.status
            told = b"" if _is_taken(status) else response.read1(_ANSWER)
            retry_after = response.headers.get("Retry-After")
        except ssl.SSLCertVerificationError as error:
            raise DownError(f"the certificate of {self.where} is not trusted: {error.verify_message}") from error
        except TimeoutError as error:
            raise DownError(f"{self.where} has not answered within {self._endpoint.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise DownError(f"cannot reach {self.where}: {str(error) or type(error).__name__}") from error
        finally:
            watchdog.cancel()
            self._connection = None
            connection.close()
        self._judge(status, told, retry_after)

    def abort(self) -> None:
        """See `Target`."""
        connection = self._connection
        if connection is not None:
            _cut(connection)

    def _connect(self) -> http.client.HTTPConnection:
        one = self._endpoint
        if one.tls is None:
            return http.client.HTTPConnection(one.host, one.port, timeout=one.timeout)
        return http.client.HTTPSConnection(one.host, one.port, timeout=one.timeout, context=one.tls)

    def _body(self, messages: Sequence[Message]) -> tuple[bytes, str]:
        alone, several, encode = _FORMATS[self._endpoint.format]
        if len(messages) == 1:
            return encode(messages[0]), alone
        return b"[" + b",".join(map(encode, messages)) + b"]", several

    def _headers(self, messages: Sequence[Message], body: bytes, kind: str) -> dict[str, str]:
        name = id_of(messages)
        headers = {"Content-Type": kind, "Idempotency-Key": name, "User-Agent": "qanat", **self._endpoint.headers}
        if self._endpoint.key is not None:
            timestamp = self._clock() // 1000
            headers["webhook-id"] = name
            headers["webhook-timestamp"] = str(timestamp)
            headers["webhook-signature"] = signature_of(self._endpoint.key, name, timestamp, body)
        return headers

    def _judge(self, status: int, told: bytes, retry_after: str | None) -> None:
        if _is_taken(status):
            return
        said = " ".join(told.decode(errors="replace").split())[:_TOLD]
        text = f"{self.where} answered {status}" + (f": {said}" if said else "")
        if 300 <= status < 500 and status not in _NOT_NOW:
            raise RefusedError(text)
        seconds = float(retry_after) if retry_after is not None and retry_after.strip().isdigit() else None
        raise DownError(text, retry_after=seconds)


def _is_taken(status: int) -> bool:
    return 200 <= status < 300


def _shown(endpoint: Endpoint) -> str:
    """The path without its query, which may hold a secret."""
    return endpoint.path.partition("?")[0]


def _cut(connection: http.client.HTTPConnection) -> None:
    """Whoever reads or writes there hears that it is over. A dripping server would keep a plain timeout waiting."""
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

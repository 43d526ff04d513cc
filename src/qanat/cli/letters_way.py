"""How a retry reaches the log: through the `qanat up` that writes it, or directly where none runs."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from qanat.cli.contracts import known_contracts
from qanat.cli.project import compile_folder, data_folder, existing_log_url, open_folder, parse_params
from qanat.cli.running import Running, read_running
from qanat.cli.streams import all_streams, with_retention, written_by
from qanat.clock import now_ms
from qanat.errors import AuthError, BackpressureError, ConfigError, LogLockedError, QanatError
from qanat.gateway.letters import data_fields, parse_id
from qanat.gateway.repair import AT_ONCE, Fate, Repair, Terms, Tried
from qanat.gateway.routes import Routes
from qanat.log import open_log
from qanat.log.base import Log
from qanat.model.streams import DEAD_LETTERS, LATE

#: A request has about so many bytes of payloads at most, and is given up after so many seconds.
_BODY_BYTES = 4 << 20
_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Target:
    """The project whose letters are tried."""

    directory: Path
    data: Path | None
    params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks the running server."""

    user: str | None = None
    password: str | None = None
    token: str | None = None

    def headers(self) -> dict[str, str]:
        """The header that says so, if there is anything to say."""
        if self.token is not None:
            return {"authorization": f"Bearer {self.token}"}
        if self.user is None:
            return {}
        pair = base64.b64encode(f"{self.user}:{self.password or ''}".encode()).decode()
        return {"authorization": f"Basic {pair}"}


class Way(Protocol):
    """`told`: which one it is, for people."""

    told: str

    def run(self, changed: Mapping[int, bytes | None], terms: Terms) -> Iterator[Tried]:
        """Try them; each is answered once its rows are durable."""
        ...


@contextmanager
def open_way(target: Target, login: Login) -> Iterator[Way]:
    """The one that is open now."""
    try:
        log = open_log(existing_log_url(target.directory, target.data))
    except LogLockedError as locked:
        running = read_running(data_folder(target.directory, target.data))
        if running is None or running.url is None:
            raise LogLockedError(
                f"{locked.message}, and listens for no HTTP", hint="stop it, or give it an HTTP port; then retry"
            ) from locked
        yield _Served(running, login)
        return
    try:
        repair = open_repair(log, target.directory, target.data, list(target.params), declare=True)
        yield _Direct(repair)
    finally:
        log.close()


def open_repair(log: Log, directory: Path, data: Path | None, params: list[str] | None, *, declare: bool) -> Repair:
    """The repair that `qanat up` would have; with `declare` the streams are brought up to date as it would do."""
    folder = open_folder(directory, data)
    program = with_retention(compile_folder(folder, parse_params(params or [])), folder.project)
    streams = all_streams(program)
    for stream in streams.values() if declare else ():
        log.create(folder.project.retained(stream))
    inputs = frozenset(streams) - {DEAD_LETTERS, LATE} - written_by(program)
    routes = Routes(streams, inputs, folder.project.sources, known_contracts(folder, streams, inputs))
    return Repair(log, streams, routes, int(folder.project.max_future_skew), now_ms)


class _Direct:
    def __init__(self, repair: Repair) -> None:
        self.told = "directly: no qanat up writes this log"
        self._repair = repair

    def run(self, changed: Mapping[int, bytes | None], terms: Terms) -> Iterator[Tried]:
        yield from self._repair.run(changed, terms)


class _Served:
    def __init__(self, running: Running, login: Login) -> None:
        self.told = f"through the running qanat up (process {running.pid}) at {running.url}"
        self._url = f"{running.url}/v1/dead-letters/retry"
        self._headers = {"content-type": "application/json", **login.headers()}
        self._tls = _trusting(running.ca)

    def run(self, changed: Mapping[int, bytes | None], terms: Terms) -> Iterator[Tried]:
        for part in _cut(changed):
            letters = [
                {"id": f"0:{offset}", **({} if data is None else data_fields(data))} for offset, data in part.items()
            ]
            body = {
                "letters": letters,
                "to": terms.to,
                "set": dict(terms.set),
                "format": terms.format,
                "dry_run": terms.dry_run,
            }
            yield from map(_tried, self._ask(orjson.dumps(body))["letters"])

    def _ask(self, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310 - a URL of our own
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S, context=self._tls) as answer:  # noqa: S310
                found: dict[str, Any] = orjson.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.headers.get("retry-after"), error.read()) from None
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
            hint = "try again: letters that were repaired are not stored twice"
            raise QanatError(f"{self._url} did not answer: {error}", hint=hint) from error


def _cut(changed: Mapping[int, bytes | None]) -> Iterator[dict[int, bytes | None]]:
    """Pieces that are one transaction and one request each."""
    part: dict[int, bytes | None] = {}
    size = 0
    for offset in sorted(changed):
        data = changed[offset]
        if part and (len(part) == AT_ONCE or size + len(data or b"") > _BODY_BYTES):
            yield part
            part, size = {}, 0
        part[offset] = data
        size += len(data or b"")
    if part:
        yield part


def _tried(fields: Mapping[str, Any]) -> Tried:
    fate = Fate(fields["fate"])
    return Tried(parse_id(fields["id"]), fate, fields["stream"], fields["rows"], fields["reason"])


def _refused(status: int, after: str | None, body: bytes) -> QanatError:
    try:
        said = orjson.loads(body)
        detail, hint = str(said["detail"]), said.get("hint")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail, hint = f"the running qanat up answered {status}", None
    match status:
        case 401:
            return AuthError(detail, hint="--user NAME with QANAT_PASSWORD, or QANAT_TOKEN")
        case 403:
            return AuthError(detail, hint=hint)
        case 429 | 503 | 507:
            return BackpressureError(detail, retry_after=float(after or 1), hint=hint)
        case 400 | 413 | 422:
            return ConfigError(detail, hint=hint)
        case _:
            return QanatError(detail, hint=hint)


def _trusting(ca: str | None) -> ssl.SSLContext | None:
    """Trust in the very certificate of the server on this machine, whatever name it is for."""
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    return context

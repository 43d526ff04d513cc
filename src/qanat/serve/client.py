"""A client of the API: `qanat.connect("http://127.0.0.1:8080", key="qk_...")`. Synchronous; needs nothing but pyarrow.

Rows, queries and live rows of a running project, and rows sent to it. What the server refuses is an `ApiError` with its
status and hint. One client may be used by several threads: every call has a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

import pyarrow as pa

from qanat.errors import ConfigError, QanatError

_ARROW = "application/vnd.apache.arrow.stream"
#: So many times a request is sent again where that can do no harm, and how long (s) is waited before the first time.
_TRIES, _FIRST_WAIT = 5, 0.2
_PAGE = 10_000

Order = Literal["oldest", "newest"]
Parameters = Sequence[object] | Mapping[str, object]


class ApiError(QanatError):
    """The server refused, or cannot be reached (`status` 0)."""

    def __init__(self, status: int, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, slots=True)
class Row:
    """A live row: its columns, its place, and the position after it, which `Client.live` takes as `start`.

    `values` is None where an upsert stream says that the key is gone.
    """

    values: dict[str, Any] | None
    position: str
    partition: int
    offset: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of rows: they are durable. `errors`: row and reason of the first ones that did not fit."""

    accepted: int
    dead_letters: int
    errors: tuple[Mapping[str, Any], ...] = ()


class Client:
    """One server. `timeout` (s): of connecting and of waiting for the next bytes; `ca`: PEM file to trust."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        user: tuple[str, str] | None = None,
        timeout: float = 60.0,
        ca: str | None = None,
    ) -> None:
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname:
            raise ConfigError(f"{url!r} is no address of a server", hint="http://HOST:PORT")
        self._host, self._base, self._timeout = found.hostname, found.path.rstrip("/"), timeout
        self._port = found.port or (443 if found.scheme == "https" else 80)
        self._tls = ssl.create_default_context(cafile=ca) if found.scheme == "https" else None
        self._headers = _credentials(key, user)

    # --- asking ------------------------------------------------------------------------------------------------------

    def streams(self) -> list[dict[str, Any]]:
        """The streams that you may read: columns, key, rows, newest event time, ..."""
        return list(self._get("/v1/streams")["streams"])

    def stream(self, name: str) -> dict[str, Any]:
        """One of them."""
        return dict(self._get(f"/v1/streams/{quote(name, safe='')}"))

    def rows(
        self,
        stream: str,
        *,
        where: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        order: Order = "oldest",
        limit: int | None = None,
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """Rows of a stream, all that there are or `limit` of them. `where`: conditions such as `temperature>20`."""
        found = list(
            self.pages(stream, where=where, since=since, until=until, order=order, limit=limit, columns=columns)
        )
        return pa.concat_tables(found)

    def pages(
        self,
        stream: str,
        *,
        where: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        order: Order = "oldest",
        limit: int | None = None,
        columns: Sequence[str] = (),
        page: int = _PAGE,
    ) -> Iterator[pa.Table]:
        """As `rows`, page by page, at least one; holds one page at a time."""
        given = _filter(where, since, until)
        given += [("order", order), *([("columns", ",".join(columns))] if columns else [])]
        left, after = limit, None
        while left is None or left > 0:
            size = page if left is None else min(page, left)
            query = [*given, ("limit", str(size)), *([("after", after)] if after else [])]
            body, headers = self._ask("GET", f"{_rows_path(stream)}?{urlencode(query)}", accept=_ARROW)
            table = pa.ipc.open_stream(body).read_all()
            yield table
            left = None if left is None else left - table.num_rows
            if headers.get("link") is None:
                return
            after = headers["qanat-position"]

    def query(
        self, sql: str, parameters: Parameters = (), *, limit: int | None = None, timeout: float | None = None
    ) -> pa.Table:
        """The answer of a SELECT. Raises `ApiError` also where it was cut off by the limits of the server."""
        asked: dict[str, Any] = {"sql": sql, "parameters": _plain(parameters)}
        asked |= {name: value for name, value in (("limit", limit), ("timeout", timeout)) if value is not None}
        body, headers = self._ask("POST", "/v1/query", json.dumps(asked).encode(), accept=_ARROW, repeatable=True)
        table = pa.ipc.open_stream(body).read_all()
        if headers.get("qanat-truncated") and (limit is None or table.num_rows < limit):
            hint = "ask for less: LIMIT, an aggregate; or raise api.query.rows in qanat.yaml"
            raise ApiError(200, f"the answer was cut off after {table.num_rows} rows", hint=hint)
        return table

    def aggregate(self, name: str, **parameters: str | Sequence[str]) -> dict[str, Any]:
        """An aggregate that the project declares: `aggregate("power", window="1h", **{"from": "-1d"}, by="site")`."""
        query = urlencode(parameters, doseq=True)
        return dict(self._get(f"/v1/aggregate/{quote(name, safe='')}?{query}"))

    def sites(self) -> list[dict[str, Any]]:
        """Sites with their sensors and last readings."""
        return list(self._get("/v1/sites")["sites"])

    def pipelines(self) -> list[dict[str, Any]]:
        """State, lag, late rows and error of the pipelines."""
        return list(self._get("/v1/pipelines")["pipelines"])

    # --- live --------------------------------------------------------------------------------------------------------

    def live(
        self,
        stream: str,
        *,
        start: str = "latest",
        keys: Sequence[str] = (),
        where: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        again: bool = True,
    ) -> Iterator[Row]:
        """Rows as they come, for ever. `start`: latest, earliest, or the position of a row; the rest as for `rows`.

        Where the connection is lost it comes again where it was, without loss or repetition; `again` False: it ends.
        Raises `ApiError` where the server refuses, and where rows were deleted before they could be read.
        """
        chosen = [("key", one) for one in keys] + _filter(where, since, until)
        path, last, tries = f"{_rows_path(stream)}/live?{urlencode([('from', start), *chosen])}", None, 0
        while True:
            try:
                for event, position, data in self._events(path, last):
                    last, tries = position or last, 0
                    if event == "row":
                        yield _row(data, position)
                    elif event not in ("open", ""):
                        raise _ended(event, data)
            except (OSError, http.client.HTTPException) as error:
                if not again or tries == _TRIES:
                    raise _unreachable(self._host, error) from error
            else:
                if not again:
                    return
            tries += 1
            time.sleep(_FIRST_WAIT * 2**tries if tries > 1 else 0)

    def _events(self, path: str, last: str | None) -> Iterator[tuple[str, str, Any]]:
        """Events of one connection: name, id, data. One without a name tells where it stands."""
        connection = self._connection()
        try:
            headers = {**self._headers, "accept": "text/event-stream"} | (
                {} if last is None else {"last-event-id": last}
            )
            connection.request("GET", self._base + path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response, response.read())
            found: dict[str, str] = {}
            while line := response.readline():
                text = line.rstrip(b"\r\n").decode()
                if text and not text.startswith(":"):
                    name, _, value = text.partition(": ")
                    found[name] = value
                elif not text and found:
                    yield found.get("event", ""), found.get("id", ""), json.loads(found.get("data", "null"))
                    found = {}
        finally:
            connection.close()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(
        self,
        stream: str,
        rows: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> Sent:
        """Append rows; returns when they are durable.

        With a key (of your own, for these rows) it is sent again where the answer was lost, and stored once.
        """
        body, kind = _body_of(rows)
        more = {"content-type": kind} | (
            {} if idempotency_key is None else {"idempotency-key": json.dumps(idempotency_key)}
        )
        repeatable = idempotency_key is not None
        answer, _ = self._ask("POST", _rows_path(stream), body, more, repeatable=repeatable)
        told = json.loads(answer)
        return Sent(told["accepted"], told["dead_letters"], tuple(told.get("errors") or ()))

    # --- inside ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is held open."""

    def _get(self, path: str) -> Any:
        return json.loads(self._ask("GET", path)[0])

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        more: Mapping[str, str] | None = None,
        *,
        accept: str = "application/json",
        repeatable: bool = False,
    ) -> tuple[bytes, Mapping[str, str]]:
        """The answer and its headers. What may be asked twice is, where the server is away or says later."""
        headers = {**self._headers, "accept": accept, **(more or {})}
        for number in range(_TRIES):
            try:
                return self._once(method, path, body, headers)
            except ApiError as error:
                again = error.status in (0, 429, 503) and (method == "GET" or repeatable or error.status == 429)
                if not again or number == _TRIES - 1:
                    raise
                time.sleep(min(error.retry_after or _FIRST_WAIT * 2**number, 10.0))
        raise AssertionError("the last try raises")

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[bytes, Mapping[str, str]]:
        connection = self._connection()
        try:
            connection.request(method, self._base + path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._host, error) from error
        finally:
            connection.close()
        if response.status not in (200, 201):
            raise _refusal(response, content)
        return content, {name.lower(): value for name, value in response.getheaders()}

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)


def _credentials(key: str | None, user: tuple[str, str] | None) -> dict[str, str]:
    import base64

    if key is not None:
        return {"authorization": f"Bearer {key}"}
    if user is not None:
        return {"authorization": f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"}
    return {}


def _filter(where: Sequence[str], since: str | None, until: str | None) -> list[tuple[str, str]]:
    times = (("since", since), ("until", until))
    return [("where", one) for one in where] + [(name, text) for name, text in times if text is not None]


def _rows_path(stream: str) -> str:
    return f"/v1/streams/{quote(stream, safe='')}/rows"


def _plain(parameters: Parameters) -> object:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


def _body_of(rows: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]]) -> tuple[bytes, str]:
    if isinstance(rows, pa.Table | pa.RecordBatch):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write(rows)
        return bytes(sink.getvalue()), _ARROW
    return "\n".join(json.dumps(row, default=str) for row in rows).encode(), "application/x-ndjson"


def _row(data: Mapping[str, Any], position: str) -> Row:
    return Row(data["row"], position, data["partition"], data["offset"], data.get("key"))


def _ended(event: str, data: Any) -> ApiError:
    if event == "gap":
        hint = "begin again with start='earliest', or keep rows for longer"
        return ApiError(410, f"rows were deleted before they were read: {data['lost']}", hint=hint)
    return ApiError(401, str(data.get("detail", event)), hint="come again with a key that counts")


def _refusal(response: http.client.HTTPResponse, content: bytes) -> ApiError:
    try:
        told = json.loads(content)
        message, hint = str(told["detail"]), told.get("hint")
    except (ValueError, KeyError, TypeError):
        message, hint = f"HTTP {response.status}: {content[:200]!r}", None
    wait = response.headers.get("retry-after", "")
    return ApiError(response.status, message, hint=hint, retry_after=float(wait) if wait.isdigit() else None)


def _unreachable(host: str, error: Exception) -> ApiError:
    why = "took too long" if isinstance(error, socket.timeout | TimeoutError) else str(error) or type(error).__name__
    return ApiError(0, f"{host} cannot be reached: {why}", hint="is qanat up running there?")

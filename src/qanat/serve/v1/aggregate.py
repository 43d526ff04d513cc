"""GET /v1/aggregate and /v1/aggregate/NAME: windows over a column, from the cache where they are known.

It goes past FastAPI: a hit is a look at two dictionaries and the bytes that were kept. What is asked and how it is
answered is `qanat.serve.aggregate`; who may is `secure`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qanat.errors import QanatError
from qanat.gateway.http.identity import is_basic
from qanat.gateway.http.problems import RefusedError, problem_of
from qanat.gateway.http.quick import Headers, Quick, QuickAnswer
from qanat.observe.aggregates import Aggregates
from qanat.secure.users import User, may_subscribe
from qanat.serve.aggregate.question import Question, QuestionError, parse
from qanat.serve.aggregate.service import Answers
from qanat.serve.documented import problems

PATH = "/v1/aggregate"
#: Texts of requests whose meaning is kept.
_MOST_TEXTS = 20_000
_TAG = 18

Identify = Callable[[Scope, dict[bytes, bytes]], Awaitable[User | None]]
IdentifyAtOnce = Callable[[Mapping[str, Any], dict[bytes, bytes]], User | None]
Make = Callable[[], Awaitable[bytes]]


class Cached(Protocol):
    """Where answers are kept; `qanat.stores.cache.aside.Aside` is one."""

    def peek(self, key: str) -> bytes | None:
        """The answer, where it is at hand."""
        ...

    def fetch_at_once(
        self, key: str, make: Callable[[], bytes | None], *, tags: Sequence[str] = (), ttl_ms: int | None = None
    ) -> bytes | None:
        """The answer that `make` gives without waiting, where that will do."""
        ...

    async def fetch(self, key: str, make: Make, *, tags: Sequence[str] = (), ttl_ms: int | None = None) -> bytes:
        """The kept answer or the one that `make` gives."""
        ...


class Watched(Protocol):
    """Who ends answers when rows come in; see `qanat.serve.aggregate.endings`."""

    def tags(self, question: Question) -> Sequence[str]:
        """What an answer depends on."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a text means."""

    question: Question
    key: str
    stream: str
    ttl_ms: int


def mount_aggregates(
    app: FastAPI,
    hot: MutableMapping[str, ASGIApp],
    at_hand: MutableMapping[bytes, Quick],
    endpoint: AggregateEndpoint,
) -> None:
    """Add the routes. Requests of pages from other origins, and for other methods, take the way of all other routes."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["method"] in ("GET", "HEAD") and not any(name == b"origin" for name, _ in scope["headers"])
        await (endpoint if plain else app)(scope, receive, send)

    def answer() -> Response:
        return _Through(endpoint)

    for path in (PATH, PATH + "/{name}"):
        app.add_api_route(path, answer, methods=["GET"], tags=["aggregates"], **_documented(path))
    hot[PATH] = front
    at_hand[PATH.encode()] = endpoint.quick


class _Through(Response):
    """The endpoint, as FastAPI wants to have it."""

    def __init__(self, endpoint: AggregateEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        await self._endpoint(scope, receive, send)


class AggregateEndpoint:
    """An ASGI application for the paths below `PATH`."""

    def __init__(
        self,
        answers: Answers,
        cached: Cached,
        watched: Watched,
        identify: Identify,
        identify_at_once: IdentifyAtOnce,
        meter: Aggregates,
    ) -> None:
        self._answers, self._cached, self._watched = answers, cached, watched
        self._identify, self._identify_at_once, self._meter = identify, identify_at_once, meter
        self._asked: dict[tuple[str, bytes], _Asked] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        began = time.perf_counter()
        headers = dict(scope["headers"])
        try:
            found, hit = await self._find(scope, headers)
        except QanatError as error:
            await problem_of(_refusal(error))(scope, receive, send)
            self._meter.refused(time.perf_counter() - began)
            return
        answer = _answer(headers, found, began, hit=hit)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
        (self._meter.hit if hit else self._meter.miss)(time.perf_counter() - began)

    def quick(self, target: bytes, sent: Headers, state: Mapping[str, Any]) -> QuickAnswer | None:
        """An answer that is kept, or made of few rows in memory; see `Quick`."""
        began = time.perf_counter()
        headers = dict(sent)
        path, _, query = target.partition(b"?")
        if b"%" in path or b"origin" in headers or is_basic(headers):
            return None
        try:
            user = self._identify_at_once(state, headers)
            asked = self._meaning(path.decode("latin-1"), query)
            if not may_subscribe(user, asked.stream):
                return None
            found, hit = self._cached.peek(asked.key), True
            if found is None:
                found, hit = self._made_at_once(asked), False
        except QanatError:  # the ordinary way comes upon it again, and says so
            return None
        if found is None:
            return None
        answer = _answer(headers, found, began, hit=hit)
        (self._meter.hit if hit else self._meter.miss)(time.perf_counter() - began)
        return answer

    def _made_at_once(self, asked: _Asked) -> bytes | None:
        tags = self._watched.tags(asked.question)
        make = partial(self._answers.make_at_once, asked.question)
        return self._cached.fetch_at_once(asked.key, make, tags=tags, ttl_ms=asked.ttl_ms)

    async def _find(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[bytes, bool]:
        """The answer with its tag before it, and whether nothing had to be computed for it."""
        if scope["method"] not in ("GET", "HEAD"):
            raise RefusedError(405, f"{scope['method']} {scope['path']}", hint="GET")
        user = await self._identify(scope, headers)
        asked = self._meaning(scope["path"], scope["query_string"])
        if not may_subscribe(user, asked.stream):
            hint = f"qanat key add NAME --scope read:{asked.stream} makes a key that may"
            raise RefusedError(403, f"this user may not read {asked.stream}", hint=hint)
        found = self._cached.peek(asked.key)
        if found is not None:
            return found, True
        hit = True

        async def make() -> bytes:
            nonlocal hit
            hit = False
            return await self._answers.make(asked.question)

        tags = self._watched.tags(asked.question)
        found = await self._cached.fetch(asked.key, make, tags=tags, ttl_ms=asked.ttl_ms)
        return found, hit

    def _meaning(self, path: str, query: bytes) -> _Asked:
        return self._asked.get((path, query)) or self._read(path, query)

    def _read(self, path: str, query: bytes) -> _Asked:
        measures = self._answers.measures
        name = path[len(PATH) :].strip("/") or next(iter(measures), "")
        if name not in measures or path[len(PATH) : len(PATH) + 1] not in ("", "/"):
            hint = (
                f"there are: {', '.join(measures)}" if measures else "declare one under serve.aggregates in qanat.yaml"
            )
            raise RefusedError(404, f"no aggregate {name!r}", hint=hint)
        measure = measures[name]
        question = parse(query.decode("latin-1"), measure)
        asked = _Asked(question, question.key, measure.stream.name, measure.ttl_ms)
        if len(self._asked) >= _MOST_TEXTS:
            self._asked.clear()
        self._asked[path, query] = asked
        return asked


def _refusal(error: QanatError) -> QanatError:
    return RefusedError(400, error.message, hint=error.hint) if isinstance(error, QuestionError) else error


def _answer(headers: Mapping[bytes, bytes], found: bytes, began: float, *, hit: bool) -> QuickAnswer:
    tag = b'"' + found[:_TAG] + b'"'
    sent = [
        (b"content-type", b"application/json"),
        (b"etag", tag),
        (b"cache-control", b"private, no-cache"),
        (b"vary", b"Authorization, X-API-Key"),
        (b"cache-status", b"qanat; hit" if hit else b"qanat; fwd=miss"),
    ]
    known = headers.get(b"if-none-match")
    status, body = 200, found[_TAG:]
    if known is not None and (known == b"*" or tag in known):
        status, body = 304, b""
    else:
        sent.append((b"content-length", str(len(body)).encode()))
    took = (time.perf_counter() - began) * 1000
    sent.append((b"server-timing", b"total;dur=%.3f" % took))
    return QuickAnswer(status, sent, body)


_PARAMETERS = {
    "by": "dimensions to group by, with commas",
    "window": "width of the windows: 15 min, 1 h, 1 d; without it the whole range is one",
    "from": "ISO 8601, seconds or milliseconds since 1970, or before now: -1h",
    "to": "the same; now where it is left out; not included",
    "tz": "the zone whose days windows keep to: Europe/Berlin",
    "align": "clock: windows begin at multiples of their width; from: at `from`",
    "functions": "with commas: count, min, max, avg, sum, first, last, stddev, p50, p95, p99.9",
    "empty": "true: windows without a row are told, too; or false",
}


def _documented(path: str) -> dict[str, Any]:
    """What the OpenAPI document says; dimensions are parameters, too, which differ from aggregate to aggregate."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in _PARAMETERS.items()
    ]
    if path != PATH:
        parameters.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "summary": "Windows over a column; every dimension is a parameter, too, and may be repeated",
        "openapi_extra": {"parameters": parameters},
        "response_class": Response,
        "responses": {200: {"description": "OK", "content": content}, 304: {"description": "nothing has changed"}}
        | problems(400, 403, 404),
    }

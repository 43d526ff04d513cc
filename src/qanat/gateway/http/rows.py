"""POST /streams/TOPIC: a body of rows in, an answer when they are durable. One request at a time, no sockets.

TOPIC is the name of a stream, or a topic as MQTT has them: `NAME/...`, or what a source of qanat.yaml maps.

This is the hot path of HTTP: it uses Starlette's responses and nothing else of it. What a body is: `bodies`; who sends
it: `identity`; what makes a repeated request harmless: `gateway.answers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.responses import Response

from qanat.codec.arrow_body import Limits
from qanat.errors import BackpressureError, QanatError
from qanat.gateway.answers import Answer, Answers, Claim, Named, State, digest
from qanat.gateway.auth import Authenticator
from qanat.gateway.http import bodies, codings
from qanat.gateway.http.bodies import Body
from qanat.gateway.http.identity import Scope, identify
from qanat.gateway.http.problems import RefusedError, problem, problem_of
from qanat.gateway.ingest import Ingest
from qanat.gateway.limits import Limiter
from qanat.gateway.offers import Dead, Offer, Verdict
from qanat.gateway.routes import Route, Routes, Sender
from qanat.observe.metrics import Metrics
from qanat.secure.users import User, may_publish

PROTOCOL = "http"
PREFIX = "/streams/"
#: So many reasons of dead letters are told in an answer, unless all are asked for.
TOLD = 10
#: A body may take so long (s), and a second more for each KiB that has come.
_PATIENCE = 30.0
_SLOWEST = 1024
#: Bodies larger than this are cut in a thread.
_INLINE = 1 << 20
_LONGEST_KEY = 255
_OPTIONS = {
    "allow": "POST, OPTIONS",
    "accept-post": bodies.ACCEPTED,
    "accept-encoding": codings.ACCEPTED,
}

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class RowsContext:
    """What all requests share. `limits` are those of a body once decoded, `max_body_bytes` before."""

    ingest: Ingest
    routes: Routes
    auth: Authenticator
    metrics: Metrics
    answers: Answers
    limiter: Limiter
    clock: Callable[[], int]
    max_body_bytes: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Request:
    """A request whose sender may feed the stream. `who` stands for him in the names of his requests."""

    route: Route
    sender: Sender
    headers: Headers
    who: str
    tell_all: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of the rows; `dead` by row. `repeated`: of how many rows this is an old answer."""

    accepted: int
    dead: tuple[tuple[int, str], ...] = ()
    repeated: int = 0

    @classmethod
    def of(cls, verdict: Verdict) -> _Outcome:
        return cls(verdict.accepted, tuple((dead.index, dead.reason) for dead in verdict.dead))

    @property
    def counts(self) -> dict[str, Any]:
        """As it is told, without the errors."""
        counts: dict[str, Any] = {"accepted": self.accepted, "dead_letters": len(self.dead)}
        if self.repeated:
            counts["repeated"] = self.repeated
        return counts

    def told(self, most: int | None = TOLD) -> dict[str, Any]:
        """As it is told, with the first errors (None: all)."""
        counts = self.counts
        if self.dead:
            counts["errors"] = [{"row": row, "reason": reason} for row, reason in self.dead[:most]]
        return counts


class RowsEndpoint:
    """Answers requests for /streams/NAME."""

    def __init__(self, context: RowsContext) -> None:
        self._context = context

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """The response to a POST or OPTIONS request; nothing is raised that a client could cause."""
        try:
            if scope["method"] == "OPTIONS":
                return Response(status_code=204, headers=_OPTIONS)
            return await self._post(scope, receive)
        except QanatError as error:
            self._context.metrics.gateway_refused(PROTOCOL, type(error).__name__)
            return problem_of(error)

    async def tidy(self) -> None:
        """Forget answers that are too old, also in the log."""
        context = self._context
        await context.answers.tidy(context.clock(), self._store_state)

    async def _post(self, scope: Scope, receive: Receive) -> Response:
        context = self._context
        headers: Headers = dict(scope["headers"])
        user = await identify(context.auth, scope, headers)
        topic = scope["path"][len(PREFIX) :]
        route = context.routes.at(topic)
        check_route(route, user, context.routes.inputs, topic)
        context.ingest.check_room()
        peer = scope["client"][0] if scope["client"] else ""
        client = user.name if user is not None else peer
        self._check_rate(client)
        request = _Request(
            route,
            Sender(PROTOCOL, scope["path"], client, _said(route, user, headers)),
            headers,
            user.name if user is not None else "",
            _tells_all(scope["query_string"]),
        )
        raw = await _read(receive, headers, context.max_body_bytes)
        body = await self._cut(raw, request)
        context.limiter.check_size(body.payloads)
        self._check_rate(client)  # others of the same client may have been read meanwhile
        account = context.limiter.account(client)
        context.limiter.charge(account, len(body.payloads), len(raw), context.clock())
        if body.names:
            return await self._events(request, body)
        if b"idempotency-key" in headers:
            return await self._once(request, body, raw)
        return _answer(_Outcome.of(await self._store(request, body.payloads, body)), request)

    def _check_rate(self, client: str) -> None:
        limiter = self._context.limiter
        wait = limiter.wait_ms(limiter.account(client), self._context.clock())
        if wait:
            raise BackpressureError(
                f"{client} sends more than it may", retry_after=wait / 1000, hint="see limits in qanat.yaml"
            )

    async def _cut(self, raw: bytes, request: _Request) -> Body:
        """The rows of a body; in a thread where that takes long."""
        stream, feed, limits = request.route.stream, request.route.feed, self._context.limits
        assert stream is not None
        if feed is not None and not feed.may_cut and not bodies.is_cut(request.headers):
            return bodies.whole_body(raw, request.headers, limits)
        reader = None if feed is None else feed.reader
        if len(raw) <= _INLINE and bodies.is_plain(request.headers):
            return bodies.read_body(raw, request.headers, stream, limits, reader)
        return await asyncio.to_thread(bodies.read_body, raw, request.headers, stream, limits, reader)

    # --- storing -----------------------------------------------------------------------------------------------------

    async def _store(
        self,
        request: _Request,
        payloads: Sequence[bytes],
        body: Body,
        claim: Claim | None = None,
        name: Callable[[Verdict], Sequence[Named]] | None = None,
    ) -> Verdict:
        """Put the rows, and what `name` makes of the verdict into the place of `claim`. Raises what the log says."""
        context = self._context
        done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        now = context.clock()

        def settle(verdict: Verdict) -> None:
            if claim is not None:
                claim.end(stored=verdict.error is None)
            if not done.done():  # the client may have gone
                done.set_result(verdict)

        def state(verdict: Verdict) -> State:
            assert claim is not None
            assert name is not None
            return claim.state(name(verdict), now)

        context.ingest.put(
            request.route.offer(
                payloads, request.sender, now, settle, None if claim is None else state, decode=body.decode
            )
        )
        verdict = await done
        if verdict.error is not None:
            raise verdict.error
        return verdict

    async def _store_state(self, state: State) -> bool:
        """Put state without rows; whether it is durable."""
        done: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        now = self._context.clock()
        self._context.ingest.put(Offer("", (), PROTOCOL, "", "", now, done.set_result, state=lambda _: state))
        return (await done).error is None

    # --- requests that may come again --------------------------------------------------------------------------------

    async def _once(self, request: _Request, body: Body, raw: bytes) -> Response:
        """As draft-ietf-httpapi-idempotency-key-header says: the answer of the first request is that of all."""
        context, answers = self._context, self._context.answers
        name = digest("key", request.who, request.route.name, _key(request.headers))
        mark = digest(request.headers.get(b"content-type", b""), request.headers.get(b"content-encoding", b""), raw)
        while (answer := answers.find(name, context.clock())) is None:
            running = answers.running((name,))
            if running is None:
                break
            _check_mark(running.mark, mark)
            await running.wait()
        if answer is not None:
            _check_mark(answer.mark, mark)
            return _answer(_restored(answer), request, replayed=True)

        def named(verdict: Verdict) -> Sequence[Named]:
            told = orjson.dumps(_Outcome.of(verdict).told())
            return ((name, Answer(context.clock(), mark, told)),)

        claim = await answers.begin((name,), mark)
        return _answer(_Outcome.of(await self._store(request, body.payloads, body, claim, named)), request)

    async def _events(self, request: _Request, body: Body) -> Response:
        """Events whose source and id have been here before are not stored again; the old answer counts for them."""
        context, answers = self._context, self._context.answers
        names = [digest("event", request.who, request.route.name, *name) for name in body.names]
        while (running := answers.running(names)) is not None:
            await running.wait()
        now = context.clock()
        known = {name: answer for name in names if (answer := answers.find(name, now)) is not None}
        fresh: dict[bytes, int] = {}
        for place, name in enumerate(names):
            if name not in known:
                fresh.setdefault(name, place)
        reasons = {name: answer.body.decode() for name, answer in known.items()}
        if fresh:
            reasons.update(await self._store_events(request, body, fresh))
        dead = tuple((place, reasons[name]) for place, name in enumerate(names) if reasons[name])
        repeated = len(names) - len(fresh)
        outcome = _Outcome(len(names) - len(dead), dead, repeated if fresh else 0)
        return _answer(outcome, request, replayed=not fresh)

    async def _store_events(self, request: _Request, body: Body, fresh: Mapping[bytes, int]) -> dict[bytes, str]:
        """Why each is dead, or ""."""
        clock, order = self._context.clock, list(fresh)

        def reasons(dead: Sequence[Dead]) -> dict[bytes, str]:
            return {**dict.fromkeys(order, ""), **{order[one.index]: one.reason for one in dead}}

        def named(verdict: Verdict) -> Sequence[Named]:
            now = clock()
            return [(name, Answer(now, b"", reason.encode())) for name, reason in reasons(verdict.dead).items()]

        claim = await self._context.answers.begin(order, b"")
        payloads = [body.payloads[place] for place in fresh.values()]
        return reasons((await self._store(request, payloads, body, claim, named)).dead)


def _said(route: Route, user: User | None, headers: Headers) -> dict[str, str]:
    """What a source may ask for; a stream's own name has columns from nowhere else, and its bodies are cut here."""
    if route.feed is None or route.feed.source is None:
        return {}
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    return {"content_type": content_type} if user is None else {"content_type": content_type, "user": user.name}


def check_route(route: Route, user: User | None, inputs: tuple[str, ...], topic: str) -> None:
    """Raises `RefusedError` where the stream takes no input, or none from this user, or does not exist."""
    if route.refusal is not None:
        raise RefusedError(403, route.refusal, hint=f"streams that take input: {', '.join(inputs)}")
    if not may_publish(user, route.name, topic):
        raise RefusedError(403, f"this user may not publish to {topic}", hint=_rights(user, route.name))
    if route.stream is None:
        raise RefusedError(
            404, f"no stream {route.name!r}", hint=f"streams that take input: {', '.join(inputs) or 'none'}"
        )


def _rights(user: User | None, stream: str) -> str:
    if user is not None and user.device is not None:
        return f"a device may feed the topics of its own, as {PREFIX}{stream}/{user.name}"
    return "see users in qanat.yaml"


async def _read(receive: Receive, headers: Headers, limit: int) -> bytes:
    """The whole body; what is too large is refused without being read to its end, what is too slow, too."""
    said = headers.get(b"content-length", b"")
    size = int(said) if said.isdigit() else 0
    if size > limit:
        raise _too_large(limit)
    size = 0
    parts: list[bytes] = []
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with asyncio.timeout_at(start + _PATIENCE) as patience:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the client has gone in the middle of the body")
                size += len(message.get("body", b""))
                if size > limit:
                    raise _too_large(limit)
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    break
                patience.reschedule(start + _PATIENCE + size / _SLOWEST)
    except TimeoutError as error:
        hint = f"send at least {_SLOWEST} bytes a second"
        raise RefusedError(408, f"the body has not come in {loop.time() - start:.0f} s", hint=hint) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"the body has more than {limit} bytes", hint="send it in several requests")


def _tells_all(query: bytes) -> bool:
    if not query:
        return False
    wanted = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("verdicts", ["some"])[-1]
    if wanted not in ("all", "some"):
        raise RefusedError(400, f"verdicts={wanted}", hint="verdicts=all tells the reason of every dead letter")
    return wanted == "all"


def _key(headers: Headers) -> bytes:
    """The key: a string of RFC 8941, or anything else as it stands."""
    key = headers[b"idempotency-key"].strip()
    if len(key) > 1 and key.startswith(b'"') and key.endswith(b'"'):
        key = key[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    if not 0 < len(key) <= _LONGEST_KEY:
        raise RefusedError(400, f"an Idempotency-Key of {len(key)} bytes", hint="send a UUID, another one per request")
    return key


def _check_mark(there: bytes, mark: bytes) -> None:
    if there != mark:
        raise RefusedError(
            422, "this Idempotency-Key was sent with another body", hint="a new request wants a new Idempotency-Key"
        )


def _restored(answer: Answer) -> _Outcome:
    told = orjson.loads(answer.body)
    errors = tuple((error["row"], error["reason"]) for error in told.get("errors", ()))
    return _Replayed(told["accepted"], errors, 0, told["dead_letters"])


@dataclass(frozen=True, slots=True)
class _Replayed(_Outcome):
    """An old outcome, of which the first errors are known."""

    count: int = 0

    @property
    def counts(self) -> dict[str, Any]:
        return {"accepted": self.accepted, "dead_letters": self.count}


def _answer(outcome: _Outcome, request: _Request, *, replayed: bool = False) -> Response:
    headers = {"idempotency-replayed": "true"} if replayed else None
    told = outcome.told(None if request.tell_all else TOLD)
    if not outcome.accepted:
        hint = "the rows are kept in dead_letters: qanat query 'SELECT reason, data FROM dead_letters'"
        return problem(422, outcome.dead[0][1], hint, headers, **told)
    return Response(orjson.dumps(told), headers=headers, media_type="application/json")

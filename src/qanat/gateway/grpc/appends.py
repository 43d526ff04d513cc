"""Batches of rows from one caller into `Ingest`, each with one answer after it is durable. Knows no calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import grpc

from qanat.codec.arrow_body import Limits
from qanat.errors import BackpressureError
from qanat.gateway.answers import Answer, Answers, Claim, State, digest
from qanat.gateway.grpc.qanat_pb2 import AppendReply, AppendRequest, RowError
from qanat.gateway.grpc.rows import read_rows
from qanat.gateway.grpc.status import RefusedError
from qanat.gateway.ingest import Ingest
from qanat.gateway.limits import Limiter
from qanat.gateway.offers import Dead, Verdict
from qanat.gateway.routes import Route, Routes, Sender
from qanat.secure.users import User, may_publish

PROTOCOL = "grpc"
#: So many reasons of dead letters are told in an answer.
TOLD = 1000
_LONGEST_KEY = 255
#: Arrow of more bytes is read in a thread.
_INLINE_BYTES = 65_536

Reply = asyncio.Future[AppendReply]


@dataclass(frozen=True, slots=True)
class AppendContext:
    """What all callers share."""

    ingest: Ingest
    routes: Routes
    answers: Answers
    clock: Callable[[], int]
    limits: Limits
    limiter: Limiter = field(default_factory=Limiter)


class Appender:
    """One caller. `user` None is anyone; `client` is what dead letters name."""

    def __init__(self, shared: AppendContext, user: User | None, client: str) -> None:
        self._shared, self._user, self._client = shared, user, client
        self._account = shared.limiter.account(client)
        self._allowed: set[str] = set()

    @property
    def wait_s(self) -> float:
        """How long this caller may send nothing more, because of what it has sent."""
        return self._shared.limiter.wait_ms(self._account, self._shared.clock()) / 1000

    def check_rate(self) -> None:
        """Raises `BackpressureError` for callers that can be told to come back."""
        if wait := self.wait_s:
            text = f"{self._client} sends more than it may"
            raise BackpressureError(text, retry_after=wait, hint="see limits in qanat.yaml")

    async def put(self, request: AppendRequest, topic: str) -> Reply:
        """Hand over a batch; the future has the answer, or the error. Batches keep the order of these calls.

        Raises `RefusedError`, `DataError`, `BackpressureError`: then nothing was handed over.
        """
        route = self._route(topic)
        if len(request.arrow) > _INLINE_BYTES:
            payloads, decode = await asyncio.to_thread(read_rows, request, self._shared.limits)
        else:
            payloads, decode = read_rows(request, self._shared.limits)
        self._shared.limiter.check_size(payloads)
        size = len(request.arrow) or sum(map(len, payloads))  # rows of Arrow have no bytes of their own
        self._shared.limiter.charge(self._account, len(payloads), size, self._shared.clock())
        reply: Reply = asyncio.get_running_loop().create_future()
        now, sender = self._shared.clock(), Sender(PROTOCOL, topic, self._client, self._attributes())
        if not request.idempotency_key:
            done = partial(_settle, reply, request.sequence)
            self._shared.ingest.put(route.offer(payloads, sender, now, done, decode=decode))
            return reply
        claim = await self._claim(request, topic)
        if isinstance(claim, Answer):
            reply.set_result(_replayed(claim, request.sequence))
            return reply
        state = partial(_state, claim, now)
        settle = partial(_settle_claim, claim, reply, request.sequence)
        self._shared.ingest.put(route.offer(payloads, sender, now, settle, state, decode))
        return reply

    def _route(self, topic: str) -> Route:
        routes = self._shared.routes
        route = routes.resolve(topic)
        if topic in self._allowed:
            return route
        inputs = ", ".join(routes.inputs) or "none"
        if route.refusal is not None:
            hint = f"streams that take input: {inputs}"
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, route.refusal, hint=hint)
        if not may_publish(self._user, route.name, topic):
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, f"this user may not publish to {topic}")
        if route.stream is None:
            hint = f"streams that take input: {inputs}"
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"no stream {topic!r}", hint=hint)
        self._allowed.add(topic)
        return route

    def _attributes(self) -> dict[str, str]:
        return {} if self._user is None else {"user": self._user.name}

    async def _claim(self, request: AppendRequest, topic: str) -> Claim | Answer:
        """The right to store this request, or the answer that it had. Raises `RefusedError` for a key used twice."""
        answers, key = self._shared.answers, request.idempotency_key
        if len(key) > _LONGEST_KEY:
            text = f"the idempotency key has more than {_LONGEST_KEY} characters"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text)
        name, mark = digest(self._user.name if self._user else "", topic, key), _mark(request)
        while True:
            running = answers.running([name])
            known = answers.find(name, self._shared.clock()) if running is None else running
            if known is None:
                break
            if known.mark != mark:
                text = f"the idempotency key {key!r} was used for other rows"
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text, hint="draw a new key for each request")
            if isinstance(known, Answer):
                return known
            await known.wait()
        return await answers.begin([name], mark)


def _mark(request: AppendRequest) -> bytes:
    bare = AppendRequest()
    bare.CopyFrom(request)
    bare.ClearField("sequence")
    bare.ClearField("stream")
    return digest(bare.SerializeToString(deterministic=True))


def _reply_of(verdict: Verdict) -> AppendReply:
    errors = [row_error(dead) for dead in verdict.dead[:TOLD]]
    return AppendReply(accepted=verdict.accepted, dead_letters=len(verdict.dead), errors=errors)


def row_error(dead: Dead) -> RowError:
    """A dead letter as the caller hears of it."""
    return RowError(row=dead.index, reason=dead.reason)


def _settle(reply: Reply, sequence: int, verdict: Verdict) -> None:
    if reply.done():  # the caller has gone
        return
    if verdict.error is not None:
        reply.set_exception(verdict.error)
        reply.exception()  # it may be that nobody asks any more
        return
    answer = _reply_of(verdict)
    answer.sequence = sequence
    reply.set_result(answer)


def _settle_claim(claim: Claim, reply: Reply, sequence: int, verdict: Verdict) -> None:
    claim.end(stored=verdict.error is None)
    _settle(reply, sequence, verdict)


def _state(claim: Claim, now: int, verdict: Verdict) -> State:
    answer = Answer(now, claim.mark, _reply_of(verdict).SerializeToString())
    return claim.state([(name, answer) for name in claim.names], now)


def _replayed(answer: Answer, sequence: int) -> AppendReply:
    reply = AppendReply.FromString(answer.body)
    reply.sequence, reply.replayed = sequence, True
    return reply

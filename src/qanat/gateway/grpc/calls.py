"""The calls of `qanat.proto`: who calls, what he may, and one answer or many. No sockets: `server.py` has them.

A call that reads rows reads no further while the ingest is full; one that writes them holds no more than a few
thousand, whatever lies between its place and the end of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from qanat.errors import AuthError, LogError, QanatError
from qanat.gateway.auth import Authenticator
from qanat.gateway.grpc import qanat_pb2_grpc as generated
from qanat.gateway.grpc.appends import PROTOCOL, TOLD, AppendContext, Appender, Reply
from qanat.gateway.grpc.identity import identify, peer_of
from qanat.gateway.grpc.qanat_pb2 import (
    START_EARLIEST,
    AppendReply,
    AppendRequest,
    AppendSummary,
    RowError,
    SubscribeRequest,
)
from qanat.gateway.grpc.rows import FORMATS, write_rows
from qanat.gateway.grpc.status import RefusedError, code_of, refusal_of, trailers_of
from qanat.gateway.outlets import Delivery, Outlets
from qanat.model.streams import Stream
from qanat.observe.metrics import Metrics
from qanat.secure.users import User, may_subscribe

#: Batches of one call that wait for their answers; rows that one subscriber may have waiting, and in one message.
_IN_FLIGHT = 256
_WAITING_ROWS = 4000
_MESSAGE_ROWS = 1000
#: So long a caller that is over its rate is left alone, before it is looked at again.
_PATIENCE_S = 1.0
_ENDED = "the rights of this user have ended or changed"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class CallContext:
    """What all calls share."""

    appends: AppendContext
    auth: Authenticator
    outlets: Outlets
    metrics: Metrics


@dataclass(slots=True, eq=False)
class _Call:
    """A call under way. `stop` makes it take nothing more, and end with `ends` when it has answered what it took.

    A call is never cancelled from here while it sends: gRPC could not say its status then.
    """

    user: User | None = None
    stop: Callable[[], object] = lambda: None
    ends: QanatError | None = None

    def end(self, why: QanatError) -> None:
        if self.ends is None:
            self.ends = why
            self.stop()


@dataclass(frozen=True, slots=True)
class _Put:
    """A batch that was handed over, or why it was not."""

    sequence: int
    reply: Reply | QanatError


class Calls(generated.GatewayServicer):
    """The service. It lives in one event loop."""

    def __init__(self, shared: CallContext) -> None:
        self._shared = shared
        self._open: set[_Call] = set()
        self._room = asyncio.Event()
        ingest = shared.appends.ingest
        self._on_full(ingest.is_full)
        ingest.watch(self._on_full)
        shared.auth.watch(self._on_rights)

    def quiesce(self) -> None:
        """Read nothing more; what was read is answered still."""
        for call in list(self._open):
            call.end(LogError("qanat stops", hint="call again, with what has no answer"))

    # --- rows in -----------------------------------------------------------------------------------------------------

    async def Append(self, request: AppendRequest, context: Context) -> AppendReply:  # noqa: N802  gRPC's names
        """See `qanat.proto`."""
        async with self._admitted(context) as call:
            self._shared.appends.ingest.check_room()
            appender = self._appender(call, context)
            appender.check_rate()
            return await (await appender.put(request, request.stream))
        raise AssertionError("the call was ended")  # _admitted has raised or ended it

    async def AppendStream(  # noqa: N802
        self, request_iterator: AsyncIterator[AppendRequest], context: Context
    ) -> AppendSummary:
        """See `qanat.proto`."""
        async with self._admitted(context) as call:
            summary = _Summary()
            async for put in self._puts(request_iterator, call, context):
                if isinstance(put.reply, QanatError):
                    raise put.reply
                summary.add(await put.reply)
            return summary.total
        raise AssertionError("the call was ended")

    async def Exchange(  # noqa: N802
        self, request_iterator: AsyncIterator[AppendRequest], context: Context
    ) -> None:
        """See `qanat.proto`."""
        async with self._admitted(context) as call:
            async for put in self._puts(request_iterator, call, context):
                await context.write(await _answer(put))

    async def _puts(self, requests: AsyncIterator[AppendRequest], call: _Call, context: Context) -> AsyncIterator[_Put]:
        """Batches that were handed over, in their order, while the next ones are read."""
        queue: asyncio.Queue[_Put | None] = asyncio.Queue(_IN_FLIGHT)
        reader = asyncio.create_task(self._read(requests, self._appender(call, context), queue))
        call.stop = reader.cancel
        try:
            while (put := await queue.get()) is not None:
                yield put
            if call.ends is not None:
                raise call.ends
            await reader
        finally:
            reader.cancel()

    async def _read(
        self, requests: AsyncIterator[AppendRequest], appender: Appender, queue: asyncio.Queue[_Put | None]
    ) -> None:
        """Batches as they come; the queue bounds how many wait for an answer."""
        try:
            async for put in self._put_all(requests, appender):
                await queue.put(put)
        finally:
            await queue.put(None)

    # --- rows out ----------------------------------------------------------------------------------------------------

    async def Subscribe(self, request: SubscribeRequest, context: Context) -> None:  # noqa: N802
        """See `qanat.proto`."""
        async with self._admitted(context) as call:
            stream = self._readable(request, call.user)
            waiting: deque[Delivery] = deque()
            news = asyncio.Event()
            call.stop = news.set

            def push(rows: Sequence[Delivery]) -> None:
                waiting.extend(rows)
                news.set()
                if len(waiting) >= _WAITING_ROWS:
                    outlet.pause()

            keys = frozenset(request.keys) if request.keys else None
            outlet = self._shared.outlets.open(stream.name, keys, _positions(request, stream), push)
            try:
                await context.send_initial_metadata(())  # now the caller knows that he misses nothing from here on
                while call.ends is None:
                    await news.wait()
                    news.clear()
                    while waiting and call.ends is None:
                        some = [waiting.popleft() for _ in range(min(_MESSAGE_ROWS, len(waiting)))]
                        await context.write(write_rows(some, stream, request.format))
                    outlet.resume()
                raise call.ends
            finally:
                outlet.close()

    def _readable(self, request: SubscribeRequest, user: User | None) -> Stream:
        """The stream, where the caller may read what he asks for. Raises `RefusedError`."""
        name = request.stream
        topics = [f"{name}/{key}" for key in request.keys] or [name]
        denied = [topic for topic in topics if not may_subscribe(user, topic)]
        if denied:
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, f"this user may not subscribe to {denied[0]}")
        stream = self._shared.appends.routes.find(name).stream
        if stream is None:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"no stream {name!r}")
        if request.keys and not stream.key:
            text = f"the stream {name} has no PRIMARY KEY, so no row has a key"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text)
        if request.format not in FORMATS:
            text = f"format {request.format} is not known"
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text)
        return stream

    # --- every call --------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _admitted(self, context: Context) -> AsyncIterator[_Call]:
        """Who calls; and whatever goes wrong ends the call with its status."""
        call = _Call()
        try:
            call.user = await identify(self._shared.auth, context)
            self._open.add(call)
            if call.user is not None and not self._shared.auth.still(call.user):
                raise AuthError(_ENDED)  # while he was being looked at
            yield call
        except QanatError as error:
            await self._end(context, error)
        finally:
            self._open.discard(call)

    async def _end(self, context: Context, error: QanatError) -> None:
        code = code_of(error)
        self._shared.metrics.gateway_refused(PROTOCOL, code.name.lower())
        await context.abort(code, error.message, trailers_of(error))

    async def _put_all(self, requests: AsyncIterator[AppendRequest], appender: Appender) -> AsyncIterator[_Put]:
        """Every batch handed over, or why not. While there is no room, or the caller owes time, no more is read."""
        topic = ""
        while True:
            await self._room.wait()
            while wait := appender.wait_s:
                await asyncio.sleep(min(wait, _PATIENCE_S))
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            topic = request.stream or topic
            try:
                put = _Put(request.sequence, await appender.put(request, topic))
            except QanatError as error:
                put = _Put(request.sequence, error)
            yield put

    def _appender(self, call: _Call, context: Context) -> Appender:
        client = peer_of(context) if call.user is None else call.user.name
        return Appender(self._shared.appends, call.user, client)

    def _on_full(self, full: bool) -> None:
        if full:
            self._room.clear()
        else:
            self._room.set()

    def _on_rights(self, name: str) -> None:
        for call in list(self._open):
            if call.user is not None and call.user.name == name and not self._shared.auth.still(call.user):
                call.end(AuthError(_ENDED))


async def _answer(put: _Put) -> AppendReply:
    """What the caller hears of one batch of many; an error ends nothing."""
    try:
        if isinstance(put.reply, QanatError):
            raise put.reply
        return await put.reply
    except QanatError as error:
        return AppendReply(sequence=put.sequence, refusal=refusal_of(error))


class _Summary:
    """One answer for many batches."""

    def __init__(self) -> None:
        self.total = AppendSummary()
        self._rows = 0

    def add(self, reply: AppendReply) -> None:
        total = self.total
        total.batches += 1
        total.accepted += reply.accepted
        total.dead_letters += reply.dead_letters
        room = TOLD - len(total.errors)
        total.errors.extend(RowError(row=one.row + self._rows, reason=one.reason) for one in reply.errors[:room])
        self._rows += reply.accepted + reply.dead_letters


def _positions(request: SubscribeRequest, stream: Stream) -> dict[int, int] | None:
    """Where to begin; None is the end. Raises `RefusedError`."""
    strange = [one for one in request.offsets if one >= stream.partitions]
    if strange:
        text = f"the stream {stream.name} has no partition {strange[0]}"
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, text, hint=f"0 to {stream.partitions - 1}")
    if request.offsets:
        return dict(request.offsets)
    return {} if request.start == START_EARLIEST else None

"""/graphql: the schema of a project, made of its streams, and what resolves it. Needs the extra `graphql`.

Every stream is a type whose fields are its columns. What is read and who may read it is decided where /v1 decides it.
"""

from __future__ import annotations

import asyncio
import re
import string
from collections.abc import AsyncIterator, Callable, Mapping
from enum import Enum
from typing import Any, NewType, Optional
from urllib.parse import quote

import orjson
import strawberry
from graphql import GraphQLError
from strawberry.extensions import AddValidationRules, MaskErrors, MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

from qanat.errors import QanatError
from qanat.gateway.filters import parse_filter
from qanat.gateway.http.problems import RefusedError, hint_of, status_of
from qanat.model.devices import describe as describe_device
from qanat.model.streams import Stream
from qanat.model.types import Kind
from qanat.secure.registry import Filter
from qanat.serve.context import ServeContext
from qanat.serve.cost import CostRule
from qanat.serve.formats import json_lines
from qanat.serve.live import Desk, start_of
from qanat.serve.paging import OPERATION, read_page
from qanat.serve.v1.pipelines import described as describe_pipeline
from qanat.serve.v1.rows import Asked, tokens_of, wanted_of
from qanat.serve.v1.streams import describe_all, places_of

MOST_ROWS = 1000
_DEPTH, _ALIASES, _TOKENS = 12, 30, 2000

Long = NewType("Long", int)
_LONG = strawberry.scalar(name="Long", description="A whole number of up to 64 bits", serialize=int, parse_value=int)
_TYPES: Mapping[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.TINYINT: int,
    Kind.SMALLINT: int,
    Kind.INT: int,
    Kind.BIGINT: Long,
    Kind.FLOAT: float,
    Kind.DOUBLE: float,
    Kind.ARRAY: JSON,
    Kind.MAP: JSON,
    Kind.ROW: JSON,
}


@strawberry.enum(description="Which rows come first")
class Order(Enum):
    """As in /v1."""

    OLDEST = "oldest"
    NEWEST = "newest"


@strawberry.type(name="Appended")
class Appended:
    """What became of rows; they are durable."""

    accepted: int
    dead_letters: int
    errors: Optional[JSON]  # noqa: UP045  strawberry reads it


class Names:
    """Names of columns and streams as GraphQL allows them, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, text: str) -> str:
        """`höhe` -> `h_he`; what does not fit becomes `_`, and a number is added to what is taken."""
        name = re.sub(r"[^_0-9A-Za-z]", "_", text)
        if not name or name[0].isdigit() or name.startswith("__"):
            name = f"c_{name}"
        plain, number = name, 1
        while name in self._taken:
            number += 1
            name = f"{plain}_{number}"
        self._taken.add(name)
        return name


class Typed:
    """One stream as GraphQL sees it: the types of its rows, and how they are made of JSON."""

    def __init__(self, stream: Stream, name: str) -> None:
        self.stream, self.name = stream, name
        names = Names()
        columns = [(column.name, column.type) for column in stream.columns]
        kinds = [(text, _TYPES.get(kind.kind, str), str(kind)) for text, kind in columns]
        if stream.upsert:
            kinds.append((OPERATION, str, "upsert or delete"))
        self.fields = [
            (f"c{number}", names.make(text), text, kind, about) for number, (text, kind, about) in enumerate(kinds)
        ]
        self.row = self._type(f"{name}_row", strawberry.type)
        self.input = self._type(f"{name}_input", strawberry.input)
        self.page = _page_type(name, self.row)
        self.event = _event_type(name, self.row)

    def _type(self, name: str, make: Any) -> Any:
        """Columns that may be left out of an input are UNSET there."""
        is_input = make is strawberry.input
        members: dict[str, Any] = {"__annotations__": {}, "__doc__": f"A row of {self.stream.name}"}
        for attribute, shown, text, kind, about in self.fields:
            if is_input and text == OPERATION:
                continue
            members["__annotations__"][attribute] = Optional[kind]  # noqa: UP045  a value, not an annotation
            default = {"default": strawberry.UNSET} if is_input else {}
            members[attribute] = strawberry.field(name=shown, description=f"{text} {about}", **default)
        return make(type(name, (), members), name=name)

    def made(self, row: Mapping[str, Any]) -> Any:
        """A row. NaN and infinity, which GraphQL has no number for, are null."""
        values = {}
        for attribute, _, text, kind, _ in self.fields:
            value = row.get(text)
            values[attribute] = None if kind is float and isinstance(value, str) else value
        return self.row(**values)

    def plain(self, given: Any) -> dict[str, Any]:
        """A row that came as input."""
        found = {text: getattr(given, attribute, strawberry.UNSET) for attribute, _, text, _, _ in self.fields}
        return {text: value for text, value in found.items() if value is not strawberry.UNSET}


def _page_type(name: str, row: Any) -> Any:
    annotations = {"rows": list[row], "next": Optional[str], "position": str}  # noqa: UP045  values
    return strawberry.type(type(f"{name}_page", (), {"__annotations__": annotations}), name=f"{name}_page")


def _event_type(name: str, row: Any) -> Any:
    kinds = {"position": str, "partition": int, "offset": Long, "key": Optional[str], "row": Optional[row]}  # noqa: UP045
    return strawberry.type(type(f"{name}_event", (), {"__annotations__": kinds}), name=f"{name}_event")


def make_schema(context: ServeContext, desk: Desk) -> strawberry.Schema:
    """The schema of the streams that there are now."""
    names = Names()
    streams = [one.stream for _, one in sorted(context.log.status().items())]
    typed = [Typed(stream, names.make(stream.name)) for stream in streams]
    rows = _members("Rows", {one.name: _rows_field(context, one) for one in typed})
    query = _members("Query", {"rows": _namespace(rows), **_others(context)})
    mutation = _members("Mutation", {f"append_{one.name}": _append_field(context, one) for one in typed})
    subscription = _members("Subscription", {one.name: _live_field(context, desk, one) for one in typed})
    extensions = [
        lambda: QueryDepthLimiter(max_depth=_DEPTH),
        lambda: MaxAliasesLimiter(max_alias_count=_ALIASES),
        lambda: MaxTokensLimiter(max_token_count=_TOKENS),
        lambda: AddValidationRules([CostRule]),
        lambda: MaskErrors(_is_fault),
    ]
    config = StrawberryConfig(auto_camel_case=False, scalar_map={Long: _LONG})
    return _Schema(query=query, mutation=mutation, subscription=subscription, extensions=extensions, config=config)


def _is_fault(error: GraphQLError) -> bool:
    """Whether nobody foresaw it."""
    return error.original_error is not None and not isinstance(error.original_error, GraphQLError)


class _Schema(strawberry.Schema):
    """Does not write into the log what a client did wrong."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Faults of ours only."""
        super().process_errors([one for one in errors if _is_fault(one)], execution_context)


def _members(name: str, fields: Mapping[str, Any]) -> Any:
    return strawberry.type(type(name, (), dict(fields)), name=name)


def _namespace(kind: Any) -> Any:
    def resolve() -> Any:
        return kind()

    return _field(resolve, kind, "Rows of streams")


def _field(resolve: Callable[..., Any], kind: Any, about: str) -> Any:
    resolve.__annotations__["return"] = kind
    return strawberry.field(resolver=resolve, description=about)


def _refused(error: QanatError) -> GraphQLError:
    return GraphQLError(error.message, extensions={"status": status_of(error), "hint": hint_of(error)})


# --- what resolves ---------------------------------------------------------------------------------------------------


def _rows_field(context: ServeContext, typed: Typed) -> Any:
    async def resolve(
        info: Info,
        where: Optional[list[str]] = None,  # noqa: UP045  strawberry reads these
        since: Optional[str] = None,  # noqa: UP045
        until: Optional[str] = None,  # noqa: UP045
        order: Order = Order.OLDEST,
        limit: int = 100,
        after: Optional[str] = None,  # noqa: UP045
    ) -> Any:
        try:
            if not 1 <= limit <= MOST_ROWS:
                raise RefusedError(400, f"limit is {limit}", hint=f"a number from 1 to {MOST_ROWS}; /v1 allows more")
            places = await asyncio.to_thread(places_of, context, info.context["caller"], typed.stream.name)
            asked = Asked(tuple(where or ()), since, until, order.value, limit, after)
            wanted, positions = wanted_of(places, asked)
            page = await asyncio.to_thread(read_page, places, positions, wanted)
        except QanatError as error:
            raise _refused(error) from None
        following, position = tokens_of(places, page, wanted)
        rows = [typed.made(orjson.loads(line)) for line in json_lines(page.rows).splitlines()]
        return typed.page(rows=rows, next=following, position=position)

    return _field(resolve, typed.page, f"Rows of {typed.stream.name} in the order in which they came")


def _append_field(context: ServeContext, typed: Typed) -> Any:
    async def resolve(info: Info, rows: Any, idempotency_key: Optional[str] = None) -> Any:  # noqa: UP045
        body = b"\n".join(orjson.dumps(typed.plain(row)) for row in rows)
        try:
            return await _append(context, info, typed.stream.name, body, idempotency_key)
        except QanatError as error:
            raise _refused(error) from None

    resolve.__annotations__["rows"] = list[typed.input]  # type: ignore[name-defined]  # a value of this moment
    return _field(resolve, Appended, f"Append rows to {typed.stream.name}; answered when they are durable")


async def _append(context: ServeContext, info: Info, stream: str, body: bytes, key: str | None) -> Appended:
    """As POST /v1/streams/NAME/rows of the same client. Raises `RefusedError`."""
    scope = info.context["scope"]
    headers = [(name, value) for name, value in scope["headers"] if name in (b"authorization", b"x-api-key")]
    headers += info.context.get("credentials", [])
    headers.append((b"content-type", b"application/x-ndjson"))
    if key is not None:
        headers.append((b"idempotency-key", orjson.dumps(key)))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    asked = {
        **scope,
        "type": "http",
        "method": "POST",
        "path": f"/streams/{stream}",
        "query_string": b"",
        "headers": headers,
    }
    response = await context.append(asked, receive)
    told = orjson.loads(response.body)
    if response.status_code != 200:
        raise RefusedError(response.status_code, told["detail"], hint=told.get("hint"))
    return Appended(accepted=told["accepted"], dead_letters=told["dead_letters"], errors=told.get("errors"))


def _live_field(context: ServeContext, desk: Desk, typed: Typed) -> Any:
    async def resolve(
        info: Info,
        start: str = "latest",
        key: Optional[list[str]] = None,  # noqa: UP045  strawberry reads these
        where: Optional[list[str]] = None,  # noqa: UP045
        since: Optional[str] = None,  # noqa: UP045
        until: Optional[str] = None,  # noqa: UP045
    ) -> Any:
        name, keys, caller = typed.stream.name, frozenset(key) if key else None, info.context["caller"]
        try:
            await asyncio.to_thread(places_of, context, caller, name, keys)
            wanted = parse_filter(typed.stream, where or (), since, until)
            positions = start_of(context, name, start, typed.stream.partitions)
            live, close = desk.open(caller, name, keys, positions, wanted)
        except QanatError as error:
            raise _refused(error) from None
        try:
            while True:
                for row in await live.take():
                    plain = orjson.loads(row.payload)
                    yield typed.event(
                        position=live.pass_over(row),
                        partition=row.partition,
                        offset=row.offset,
                        key=row.key,
                        row=None if plain is None else typed.made(plain),
                    )
        except QanatError as error:
            raise _refused(error) from None
        finally:
            close()

    resolve.__annotations__["return"] = AsyncIterator[typed.event]  # type: ignore[name-defined]  # a value
    about = f"Rows of {typed.stream.name} as they come; start: latest, earliest or a position"
    return strawberry.subscription(resolver=resolve, description=about)


def _others(context: ServeContext) -> dict[str, Any]:
    """What is no rows: the same JSON as under /v1."""

    async def streams(info: Info) -> JSON:
        found: Any = await asyncio.to_thread(describe_all, context, info.context["caller"])
        return found  # type: ignore[no-any-return]

    async def devices(info: Info, limit: int = 100, after: str = "") -> JSON:
        registry = context.auth.desk
        if not info.context["caller"].may_see_devices or registry is None:
            raise _refused(RefusedError(403, "this user may not see devices", hint="a key with --scope devices may"))
        found = await asyncio.to_thread(registry.select, Filter(), after, max(1, min(limit, MOST_ROWS)))
        return [describe_device(one) for one in found]  # type: ignore[return-value]

    async def pipelines(info: Info) -> JSON:
        try:
            info.context["caller"].demand_watch()
        except QanatError as error:
            raise _refused(error) from None
        return [describe_pipeline(one) for one in await asyncio.to_thread(context.pipelines)]  # type: ignore[return-value]

    async def aggregate(info: Info, name: str, query: str = "") -> JSON:
        try:
            return await _aggregate(context, info, name, query)  # type: ignore[no-any-return]
        except QanatError as error:
            raise _refused(error) from None

    return {
        "streams": strawberry.field(resolver=streams, description="Streams that you may read"),
        "devices": strawberry.field(resolver=devices, description="Devices in the order of their ids"),
        "pipelines": strawberry.field(resolver=pipelines, description="How the pipelines are"),
        "aggregate": strawberry.field(resolver=aggregate, description="As GET /v1/aggregate/NAME?QUERY"),
    }


async def _aggregate(context: ServeContext, info: Info, name: str, query: str) -> Any:
    """What the hot route answers to the same client. Raises `RefusedError`."""
    path = f"/v1/aggregate/{name}"
    hot = next((one for beginning, one in context.hot.items() if path.startswith(beginning)), None)
    if hot is None:
        raise RefusedError(404, "no aggregates are declared", hint="serve.aggregates in qanat.yaml")
    scope = info.context["scope"]
    headers = [(key, value) for key, value in scope["headers"] if key in (b"authorization", b"x-api-key")]
    headers += info.context.get("credentials", [])
    text = quote(query, safe=string.punctuation + " ", errors="replace").encode()  # `site=köln` may be written so
    asked = {**scope, "type": "http", "method": "GET", "path": path, "query_string": text, "headers": headers}
    status, body = 500, bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        body.extend(message.get("body", b""))

    await hot(asked, receive, send)
    told = orjson.loads(bytes(body) or b"{}")
    if status != 200:
        raise RefusedError(status, str(told.get("detail", "no answer")), hint=told.get("hint"))
    return told

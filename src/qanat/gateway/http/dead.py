"""Dead letters over HTTP, under /v1/dead-letters: a page of them, counts, one with what is wrong with it, and retry.

Who reads them needs the right to subscribe to `dead_letters`, or to manage; who tries them again, beside that, the
right to feed their stream. What is found and stored is the business of `letters` and `repair`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec
import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.errors import ConfigError
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.letters import GROUPS, Wanted, as_json, counts, newest, parse_id, parse_instant, read_data
from qanat.gateway.repair import AT_ONCE, Finding, Repair, Terms
from qanat.log.base import Log
from qanat.model.streams import DEAD_LETTERS
from qanat.secure.users import User, may_manage, may_publish, may_subscribe

_PATH = "/v1/dead-letters"
_PAGE = 100
_LARGEST_PAGE = 10_000
#: Bytes of a retry.
LARGEST_BODY = 32 << 20

#: Who sent a request, None where nobody is asked. Raises `AuthError`.
Identify = Callable[[Request], Awaitable[User | None]]


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A letter to be tried, with other bytes where one of the last two is given."""

    id: str
    data: str | None = None
    data_base64: str | None = None


class _Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a retry."""

    letters: Annotated[tuple[_Change, ...], msgspec.Meta(min_length=1, max_length=AT_ONCE)]
    to: str | None = None
    set: dict[str, str] = {}
    format: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetterContext:
    """What the requests share."""

    log: Log
    repair: Repair
    identify: Identify


def mount_dead_letters(app: FastAPI, context: DeadLetterContext) -> None:
    """Add the routes."""

    @app.get(_PATH, summary="Dead letters, the newest first")
    async def page(request: Request) -> Response:
        await _reader(context, request)
        return await _page(context.log, request.query_params)

    @app.get(f"{_PATH}/counts", summary="How many dead letters there are, by reason, stream, client or source")
    async def count(request: Request) -> Response:
        await _reader(context, request)
        return await _counts(context.log, request.query_params)

    @app.get(f"{_PATH}/{{letter}}", summary="One dead letter, and what would have to change")
    async def one(letter: str, request: Request) -> Response:
        await _reader(context, request)
        return await _one(context, letter, request.query_params.get("format"))

    @app.post(f"{_PATH}/retry", summary="Try dead letters again; answered when their rows are durable")
    async def retry(request: Request) -> Response:
        user = await _reader(context, request)
        return await _retry(context, await _body(request), user)


async def _reader(context: DeadLetterContext, request: Request) -> User | None:
    user = await context.identify(request)
    if not (may_manage(user) or may_subscribe(user, DEAD_LETTERS)):
        raise RefusedError(
            403, "this user may not read dead_letters", hint="subscribe: [dead_letters] in qanat.yaml allows it"
        )
    return user


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > LARGEST_BODY:
            raise RefusedError(413, f"the body has more than {LARGEST_BODY} bytes", hint="retry fewer letters at once")
    return bytes(found)


async def _page(log: Log, given: Mapping[str, str]) -> Response:
    wanted, limit, before = _asked(given)
    letters = await asyncio.to_thread(newest, log, wanted, limit, before)
    following = letters[-1].id if len(letters) == limit else None
    return _answer({"letters": [as_json(letter) for letter in letters], "next": following})


async def _counts(log: Log, given: Mapping[str, str]) -> Response:
    by = given.get("by", "reason")
    if by not in GROUPS:
        raise RefusedError(400, f"letters are not counted by {by!r}", hint=f"by={'|'.join(GROUPS)}")
    wanted, _, _ = _asked({name: text for name, text in given.items() if name != "by"})
    found = await asyncio.to_thread(counts, log, wanted, by)
    return _answer({"counts": [{by: text, "letters": count} for text, count in found]})


async def _one(context: DeadLetterContext, text: str, form: str | None) -> Response:
    terms = _checked(lambda name: Terms(format=name), form)
    wanted = Wanted(ids=frozenset({_checked(parse_id, text)}), repaired=True)
    letters = await asyncio.to_thread(newest, context.log, wanted, 1)
    if not letters:
        raise RefusedError(404, f"no dead letter {text}", hint="retention has deleted it, or it never was")
    finding = await asyncio.to_thread(context.repair.examine, letters[0], terms)
    return _answer({**as_json(letters[0]), **finding_json(finding)})


async def _retry(context: DeadLetterContext, body: bytes, user: User | None) -> Response:
    try:
        asked = msgspec.json.decode(body, type=_Retry)
    except msgspec.DecodeError as error:
        hint = 'for example {"letters": [{"id": "0:17"}], "set": {"temperature": "20.5"}}'
        raise RefusedError(400, f"the body is no retry: {error}", hint=hint) from error
    changed = {_checked(parse_id, one.id): _checked(read_data, msgspec.structs.asdict(one)) for one in asked.letters}
    terms = _checked(lambda one: Terms(one.to, tuple(one.set.items()), one.format, one.dry_run), asked)

    def allowed(stream: str, topic: str) -> bool:
        return may_publish(user, stream, topic)

    tried = await asyncio.to_thread(context.repair.run, changed, terms, allowed)
    return _answer({"letters": [one.as_json() for one in tried]})


def finding_json(finding: Finding) -> dict[str, Any]:
    """What would become of a letter, for programs."""
    columns = [{field.name: getattr(one, field.name) for field in fields(one)} for one in finding.columns]
    return {"fate": finding.tried.fate.value, "why": finding.tried.reason, "columns": columns}


def _asked(given: Mapping[str, str]) -> tuple[Wanted, int, int | None]:
    """The letters that are asked for, how many at most, and below which offset."""
    known = {"stream", "reason", "source", "client", "since", "until", "all", "limit", "before"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise RefusedError(400, f"there is no parameter {unknown[0]!r}", hint=f"known are {', '.join(sorted(known))}")
    since, until = (_checked(parse_instant, given[name]) if name in given else None for name in ("since", "until"))
    limit = given.get("limit", str(_PAGE))
    if not limit.isdigit() or not 1 <= int(limit) <= _LARGEST_PAGE:
        raise RefusedError(400, f"limit is {limit!r}", hint=f"a number from 1 to {_LARGEST_PAGE}")
    before = _checked(parse_id, given["before"]) if "before" in given else None
    wanted = Wanted(
        stream=given.get("stream"),
        reason=given.get("reason"),
        source=given.get("source"),
        client=given.get("client"),
        since=since,
        until=until,
        repaired=given.get("all") in ("1", "true"),
    )
    return wanted, int(limit), before


def _checked(parse: Callable[[Any], Any], given: Any) -> Any:
    try:
        return parse(given)
    except ConfigError as error:
        raise RefusedError(400, error.message, hint=error.hint) from error


def _answer(content: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")

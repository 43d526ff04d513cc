"""POST /v1/dead-letters/drop: dead letters that nobody will repair are put aside. The rest is `gateway.http.dead`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.errors import ConfigError
from qanat.gateway.http.problems import RefusedError
from qanat.gateway.letters import parse_id
from qanat.gateway.repair import AT_ONCE
from qanat.secure.users import User, may_manage, may_publish
from qanat.serve.access import caller_of
from qanat.serve.context import ServeContext
from qanat.serve.documented import Responses, problems
from qanat.serve.v1.models import DroppedModel

_LARGEST_BODY = 1 << 20
_EXAMPLE = {"dropped": 1, "letters": [{"id": "0:17", "fate": "dropped"}]}


class _Drop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body."""

    letters: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=AT_ONCE)]


def mount_dead_letters(app: FastAPI, context: ServeContext) -> None:
    """Add the route."""

    @app.post(
        "/v1/dead-letters/drop",
        summary="Put dead letters aside: they are listed no more, and their bytes stay until retention ends",
        responses=_responses(),
        openapi_extra={"requestBody": _body()},
        tags=["dead letters"],
    )
    async def drop(request: Request) -> Response:
        caller = await caller_of(context, request)
        caller.demand_letters()
        offsets = _asked(await _read(request))

        def allowed(stream: str, topic: str) -> bool:
            return may_drop(caller.user, stream, topic)

        fates = await asyncio.to_thread(context.repair.drop, offsets, allowed)
        letters = [{"id": f"0:{offset}", "fate": fate} for offset, fate in fates.items()]
        dropped = sum(fate == "dropped" for fate in fates.values())
        content = orjson.dumps({"dropped": dropped, "letters": letters})
        return Response(content, media_type="application/json")


def may_drop(user: User | None, stream: str, topic: str) -> bool:
    """Whether he may: a key with that scope, who manages, or who may feed the stream that the letter was meant for."""
    if user is not None and user.scopes is not None and "dead-letters" in user.scopes:
        return True
    return may_manage(user) or may_publish(user, stream, topic)


def _responses() -> Responses:
    done: Responses = {200: {"model": DroppedModel, "content": {"application/json": {"example": _EXAMPLE}}}}
    return done | problems(400, 403, 413, 507)


def _body() -> dict[str, Any]:
    letters = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": AT_ONCE}
    schema = {
        "type": "object",
        "required": ["letters"],
        "additionalProperties": False,
        "properties": {"letters": letters},
    }
    return {"required": True, "content": {"application/json": {"schema": schema, "example": {"letters": ["0:17"]}}}}


async def _read(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _LARGEST_BODY:
            raise RefusedError(413, f"the body has more than {_LARGEST_BODY} bytes", hint="drop fewer letters at once")
    return bytes(found)


def _asked(body: bytes) -> list[int]:
    hint = 'for example {"letters": ["0:17"]}'
    try:
        return [parse_id(text) for text in msgspec.json.decode(body, type=_Drop).letters]
    except msgspec.DecodeError as error:
        raise RefusedError(400, f"the body is no list of letters: {error}", hint=hint) from error
    except ConfigError as error:
        raise RefusedError(400, error.message, hint=error.hint or hint) from error

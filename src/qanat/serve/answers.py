"""Responses that may be asked for again: JSON with an ETag, 304 where nothing has changed. Reads nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

#: A browser or proxy of one user may keep it and has to ask whether it still holds.
REVALIDATE = "private, no-cache"
#: Nobody keeps it.
NO_STORE = "no-store"


def tag_of(*parts: object) -> str:
    """A weak ETag of what an answer was made of: the same parts give the same rows."""
    text = orjson.dumps([str(part) for part in parts])
    return f'W/"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'


def unchanged(request: Request, tag: str) -> Response | None:
    """304 where the client has this answer already."""
    known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=_headers(tag))
    return None


def answer(content: bytes, media_type: str, tag: str, more: Mapping[str, str] | None = None) -> Response:
    """200 with a body."""
    return Response(content, headers={**_headers(tag), **(more or {})}, media_type=media_type)


def answer_json(request: Request, content: Any) -> Response:
    """200 with JSON and the ETag of its text, or 304."""
    body = orjson.dumps(content)
    tag = tag_of(hashlib.blake2b(body, digest_size=16).hexdigest())
    return unchanged(request, tag) or answer(body, "application/json", tag)


def _headers(tag: str) -> dict[str, str]:
    return {"etag": tag, "cache-control": REVALIDATE, "vary": "Accept, Authorization, X-API-Key"}

"""Errors as application/problem+json (RFC 9457), each with a hint. One table says which error is which status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from qanat.errors import (
    AuthError,
    BackpressureError,
    DataError,
    LogFullError,
    QanatError,
    UnknownStreamError,
)
from qanat.gateway.limits import MessageSizeError

_TITLES = {
    400: "Bad request",
    401: "Credentials are demanded",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    413: "Body too large",
    415: "Unknown content type",
    422: "No row fits the stream",
    429: "Too many requests",
    500: "A fault of the server",
    503: "Not now",
    507: "The log is full",
}
_HINTS = {
    401: "curl -u NAME:PASSWORD ..., or -H 'Authorization: Bearer TOKEN'",
    429: "send it again after the time that Retry-After says",
    500: "nothing was acknowledged; what happened stands in the log of the server",
    503: "nothing was stored; send it again after the time that Retry-After says",
    507: "nothing was stored; make room on the disk or shorten retention in qanat.yaml, then send it again",
}
#: What a client should wait (s) where the error does not say.
_RETRY_AFTER = 5


class RefusedError(QanatError):
    """A request that is answered with `status`."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def problem(
    status: int, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """The response; `more` are members of the problem beyond those of the RFC."""
    content = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail, **more}
    if hint is not None:
        content["hint"] = hint
    return Response(orjson.dumps(content), status, headers, media_type="application/problem+json")


def problem_of(error: QanatError) -> Response:
    """The response for an error of ours."""
    status = status_of(error)
    return problem(status, error.message, hint_of(error), _headers(error, status))


def problem_of_fault(error: Exception) -> Response:
    """The response for an error that nobody foresaw. It tells the kind of the error and nothing that it carries."""
    return problem(500, f"{type(error).__name__}: this should not have happened", _HINTS[500])


def hint_of(error: QanatError) -> str | None:
    """What to do about it: what the error says, else what its status says."""
    return error.hint or _HINTS.get(status_of(error))


def status_of(error: QanatError) -> int:
    """The status that says what kind of error it is."""
    match error:
        case RefusedError(status=status):
            return status
        case MessageSizeError():
            return 413
        case AuthError():
            return 401
        case BackpressureError():
            return 429
        case LogFullError():
            return 507
        case UnknownStreamError():
            return 404
        case DataError():
            return 400
        case _:
            return 503


def retry_after(error: QanatError) -> int | None:
    """When (s) the same request may succeed, where that is a question of time."""
    if isinstance(error, BackpressureError):
        return max(1, math.ceil(error.retry_after))
    return _RETRY_AFTER if status_of(error) in (429, 503, 507) else None


def _headers(error: QanatError, status: int) -> dict[str, str] | None:
    if status == 401:
        return {"www-authenticate": 'Basic realm="qanat", charset="UTF-8", Bearer realm="qanat"'}
    if status == 408:
        return {"connection": "close"}
    seconds = retry_after(error)
    return None if seconds is None else {"retry-after": str(seconds)}

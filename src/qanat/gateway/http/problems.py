"""Errors as application/problem+json (RFC 9457), each with a hint. One table says which error is which status."""

from __future__ import annotations

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

_TITLES = {
    400: "Bad request",
    401: "Credentials are demanded",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    413: "Body too large",
    415: "Unknown content type",
    422: "No row fits the stream",
    429: "Too many requests",
    503: "Not now",
    507: "The log is full",
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
    match error:
        case RefusedError(status=status):
            return problem(status, error.message, error.hint)
        case AuthError():
            headers = {"www-authenticate": 'Basic realm="qanat", charset="UTF-8"'}
            return problem(401, error.message, error.hint, headers)
        case BackpressureError(retry_after=seconds):
            return problem(429, error.message, error.hint, {"retry-after": str(max(1, round(seconds)))})
        case LogFullError():
            return problem(507, error.message, error.hint, {"retry-after": str(_RETRY_AFTER)})
        case UnknownStreamError():
            return problem(404, error.message, error.hint)
        case DataError():
            return problem(400, error.message, error.hint)
        case _:
            return problem(503, error.message, error.hint, {"retry-after": str(_RETRY_AFTER)})

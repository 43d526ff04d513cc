"""What the OpenAPI document says about answers: problems by status, examples, forms of rows. Values only."""

from __future__ import annotations

from typing import Any

from qanat.serve.formats import Form
from qanat.serve.v1.models import Model, ProblemModel

#: (detail, hint) of an example.
_EXAMPLES = {
    400: ("where='x>1' is no condition on a column", "where=COLUMN=VALUE, ..."),
    401: ("this listener demands credentials", "curl -u NAME:PASSWORD ..., or -H 'Authorization: Bearer TOKEN'"),
    403: ("this user may not read readings", "qanat key add NAME --scope read:readings makes a key that may"),
    404: ("no stream 'redings'", "the streams are: readings"),
    406: ("no answer in image/png", "Accept: application/json, ..."),
    408: ("the body has not come in 30 s", "send at least 1024 bytes a second"),
    409: ("device 'meter-17' is already registered", "POST /v1/devices/ID/rotate makes a new secret"),
    410: ("rows were deleted behind this position", "begin again without Last-Event-ID"),
    413: ("the body has more than 16777216 bytes", "send it in several requests"),
    415: ("content type 'image/png'", "application/json, application/x-ndjson, text/csv, ..."),
    422: ("no row fits the stream", "see errors"),
    429: ("4 queries are running already", "send it again after the time that Retry-After says"),
    500: ("KeyError: this should not have happened", "nothing was acknowledged; see the log of the server"),
    503: ("the archive cannot be read", "send it again after the time that Retry-After says"),
    504: ("the query took longer than 30 s", "ask for less"),
    507: ("the log is full", "make room on the disk or shorten retention"),
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """Entries of `responses` for errors; who may be asked for credentials is always among them."""
    return {status: _problem(status) for status in sorted({401, 429, 500, 503, *statuses})}


def _problem(status: int) -> dict[str, Any]:
    detail, hint = _EXAMPLES[status]
    example = {"type": "about:blank", "title": "...", "status": status, "detail": detail, "hint": hint}
    content = {
        "application/problem+json": {
            "schema": {"$ref": f"#/components/schemas/{ProblemModel.__name__}"},
            "example": example,
        }
    }
    return {"description": detail, "content": content}


def found(model: type[Model], example: Any) -> Responses:
    """200 with JSON, and 304."""
    return {
        200: {"model": model, "description": "OK", "content": {"application/json": {"example": example}}},
        304: {"description": "nothing has changed since If-None-Match"},
    }


def rows_found(model: type[Model], example: Any) -> Responses:
    """As `found`, in all forms of rows."""
    responses = found(model, example)
    responses[200]["content"] |= {
        Form.NDJSON.value: {"schema": {"type": "string"}},
        Form.CSV.value: {"schema": {"type": "string"}},
        Form.ARROW.value: {"schema": {"type": "string", "format": "binary"}},
    }
    return responses

"""/v1/streams/NAME/rows: pages of rows, and rows to append. How pages are cut is `serve.paging`'s business."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import FastAPI, Header, Path, Query, Request
from starlette.responses import Response

from qanat.gateway.filters import parse_filter
from qanat.gateway.http.problems import RefusedError
from qanat.serve.access import caller_of
from qanat.serve.answers import answer, tag_of, unchanged
from qanat.serve.context import ServeContext
from qanat.serve.documented import Responses, problems, rows_found
from qanat.serve.formats import Form, choose_form, write_rows
from qanat.serve.paging import OPERATION, Page, Places, Wanted, read_page
from qanat.serve.positions import read_token, write_token
from qanat.serve.v1.models import AppendedModel, RowsModel
from qanat.serve.v1.streams import PATH, places_of

_ROWS = f"{PATH}/{{name}}/rows"
MOST = 10_000
_USUAL = 100
_EXAMPLE = {
    "rows": [{"at": "2026-11-21 10:00:00Z", "sensor": "s1", "temperature": 21.5}],
    "next": "WzEsMTIzLDAsWzFdXQ",
    "position": "WzEsMTIzLDAsWzFdXQ",
}
_ROW = {"at": "2026-11-21 10:00:00Z", "sensor": "s1", "temperature": 21.5}

Name = Annotated[str, Path(description="The stream", examples=["readings"])]
Where = Annotated[
    list[str] | None,
    Query(
        description="A condition: COLUMN=VALUE, with = != < <= > >=, or COLUMN is null, COLUMN is not null. Repeat it: "
        "all must hold.",
        examples=[["temperature>20"]],
    ),
]
Time = Annotated[
    str | None, Query(description="Event time, UTC unless it says otherwise", examples=["2026-11-21T10:00:00"])
]


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a page as they came."""

    where: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    order: str = "oldest"
    limit: int = _USUAL
    after: str | None = None
    columns: tuple[str, ...] = ()


def mount_rows(app: FastAPI, context: ServeContext) -> None:
    """Add the routes."""

    @app.get(_ROWS, summary="Rows in the order in which they came", responses=_found(), tags=["rows"])
    async def rows(
        name: Name,
        request: Request,
        where: Where = None,
        since: Time = None,
        until: Time = None,
        order: Annotated[Literal["oldest", "newest"], Query(description="which come first")] = "oldest",
        limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many rows")] = _USUAL,
        after: Annotated[str | None, Query(description="`next` of the page before")] = None,
        columns: Annotated[
            str | None, Query(description="Only these, with commas between", examples=["at,sensor"])
        ] = None,
        format: Annotated[  # noqa: A002  its name in the URL
            Literal["json", "ndjson", "csv", "arrow"] | None, Query(description="Goes before Accept")
        ] = None,
    ) -> Response:
        caller = await caller_of(context, request)
        form = choose_form(request.headers.get("accept", ""), format)
        _check_parameters(request)
        places = await asyncio.to_thread(places_of, context, caller, name)
        asked = Asked(
            tuple(where or ()), since, until, order, limit, after, tuple(columns.split(",")) if columns else ()
        )
        return await _page(request, places, asked, form)

    @app.post(
        _ROWS,
        summary="Append rows; answered when they are durable",
        responses=_appended(),
        openapi_extra={"requestBody": _body()},
        tags=["rows"],
    )
    async def append(
        name: Name,
        request: Request,
        idempotency_key: Annotated[  # noqa: ARG001  read by the gateway, too
            str | None, Header(description="The same key again gives the same answer and stores nothing")
        ] = None,
    ) -> Response:
        scope = {**request.scope, "path": f"/streams/{name}"}
        return await context.append(scope, request.receive)


def _found() -> Responses:
    responses = rows_found(RowsModel, _EXAMPLE) | problems(400, 403, 404, 406)
    link = {"description": "the next page, where there is one", "schema": {"type": "string"}}
    responses[200]["headers"] = {"Link": link, "Qanat-Position": {"schema": {"type": "string"}}}
    return responses


def _appended() -> Responses:
    example = {"accepted": 1, "dead_letters": 0}
    done = {"model": AppendedModel, "description": "durable", "content": {"application/json": {"example": example}}}
    return {200: done} | problems(400, 403, 404, 408, 413, 415, 422, 507)


def _body() -> dict[str, Any]:
    kinds = {
        "application/json": {"schema": {"type": "array", "items": {"type": "object"}}, "example": [_ROW]},
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/csv": {"schema": {"type": "string"}},
        "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
    }
    return {"required": True, "content": kinds}


_KNOWN = frozenset({"where", "since", "until", "order", "limit", "after", "columns", "format"})


def _check_parameters(request: Request) -> None:
    """What is misspelt must not be taken for a wish for everything."""
    unknown = sorted(set(request.query_params) - _KNOWN)
    if unknown:
        hint = f"known are {', '.join(sorted(_KNOWN))}; a condition on a column: where={unknown[0]}=..."
        raise RefusedError(400, f"there is no parameter {unknown[0]!r}", hint=hint)


async def _page(request: Request, places: Places, asked: Asked, form: Form) -> Response:
    wanted, positions = wanted_of(places, asked)
    tag = tag_of(places.name, places.starts, places.ends, asked, form)
    if (same := unchanged(request, tag)) is not None:
        return same
    page = await asyncio.to_thread(read_page, places, positions, wanted)
    following, position = tokens_of(places, page, wanted)
    around = {"next": following, "position": position}
    body = await asyncio.to_thread(write_rows, page.rows, form, around)
    headers = {"qanat-position": position}
    if following is not None:
        query = [(key, text) for key, text in request.query_params.multi_items() if key != "after"]
        headers["link"] = f'<?{urlencode([*query, ("after", following)])}>; rel="next"'
    return answer(body.content, body.media_type, tag, headers)


def tokens_of(places: Places, page: Page, wanted: Wanted) -> tuple[str | None, str]:
    """Where the next page begins, None where there is none, and where this one ends."""
    position = write_token(places.name, page.positions, backwards=wanted.backwards)
    return None if page.done else position, position


def wanted_of(places: Places, asked: Asked) -> tuple[Wanted, dict[int, int] | None]:
    """What is to be read, and from where. Raises `RefusedError` 400."""
    stream, backwards = places.status.stream, asked.order == "newest"
    columns = _columns(asked, places)
    wanted = Wanted(asked.limit, backwards, columns, parse_filter(stream, asked.where, asked.since, asked.until))
    if asked.after is None:
        return wanted, None
    return wanted, read_token(asked.after, stream.name, stream.partitions, backwards=backwards)


def _columns(asked: Asked, places: Places) -> tuple[str, ...] | None:
    if not asked.columns:
        return None
    stream = places.status.stream
    known = [column.name for column in stream.columns] + ([OPERATION] if stream.upsert else [])
    for name in asked.columns:
        if name not in known:
            raise RefusedError(400, f"{stream.name} has no column {name!r}", hint=f"its columns are {', '.join(known)}")
    return tuple(dict.fromkeys(asked.columns))

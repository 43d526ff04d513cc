"""The API on the gateway's app: routes, and what holds for all of them: HEAD, gzip, CORS, errors. Answers nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from qanat.gateway.http.problems import problem
from qanat.serve.asking import Asker
from qanat.serve.context import ServeContext
from qanat.serve.faults import Guarded
from qanat.serve.graphql_http import mount_graphql
from qanat.serve.head import Head
from qanat.serve.live import Desk
from qanat.serve.openapi import document
from qanat.serve.pages import mount_pages
from qanat.serve.v1.dead_letters import mount_dead_letters
from qanat.serve.v1.live import mount_live
from qanat.serve.v1.pipelines import mount_pipelines
from qanat.serve.v1.query import mount_query
from qanat.serve.v1.ready import mount_ready
from qanat.serve.v1.rows import mount_rows
from qanat.serve.v1.sites import mount_sites
from qanat.serve.v1.streams import mount_streams

#: Smaller answers are not worth it.
_GZIP_FROM = 1024
_HEAD_PATHS = ("/v1/", "/readyz", "/docs", "/openapi.json")
_EXPOSED = ("ETag", "Link", "Location", "Retry-After", "Idempotency-Replayed")


def mount(app: FastAPI, context: ServeContext) -> Callable[[], None]:
    """Add everything. Call it once, before the first request; call what it returns when the server has stopped."""
    desk, asker = Desk(context), Asker(context)
    mount_streams(app, context)
    mount_live(app, context, desk)
    mount_rows(app, context)
    mount_query(app, context, asker)
    mount_sites(app, context)
    mount_dead_letters(app, context)
    mount_pipelines(app, context)
    mount_ready(app, context)
    mount_graphql(app, context, desk)
    mount_pages(app)
    for one in context.also:
        one(app, context)
    for beginning, hot in tuple(context.hot.items()):  # FastAPI's handlers do not see these
        context.hot[beginning] = Guarded(hot)
    app.openapi = document(app, metadata.version("qanat"))  # type: ignore[method-assign]  # as FastAPI has it done

    @app.exception_handler(RequestValidationError)
    async def on_parameters(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        return problem(400, f"{where}: {first['msg']}", "GET /docs shows what each request takes")

    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM, compresslevel=5)
    app.add_middleware(Head, paths=_HEAD_PATHS)
    if context.settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=context.settings.cors,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            max_age=600,
        )
    return asker.close

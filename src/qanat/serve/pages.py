"""GET /docs: the OpenAPI document as a page that needs nothing from the net, and no script. Makes HTML of values."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin-top:2rem;border-bottom:1px solid #ddd}details{border:1px solid #ddd;border-radius:4px;margin:.4rem 0}
summary{cursor:pointer;padding:.4rem .6rem}summary code{font-weight:600}details>div{padding:0 .8rem .6rem}
.m{display:inline-block;width:4.5rem;font-weight:700}table{border-collapse:collapse;width:100%}
td,th{text-align:left;border-top:1px solid #eee;padding:.2rem .5rem;vertical-align:top}
pre{background:#f6f6f6;padding:.6rem;overflow:auto}
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#222}details,h2{border-color:#444}
td,th{border-color:#333}a{color:#8bf}}
"""
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


def mount_pages(app: FastAPI) -> None:
    """Add the page."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers=_HEADERS)


def page(document: dict[str, Any]) -> str:
    """The document as HTML."""
    groups: dict[str, list[str]] = {}
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["more"])[0], []).append(_operation(path, method, operation))
    parts = [f"<h2>{_text(name)}</h2>{''.join(found)}" for name, found in sorted(groups.items())]
    info = document["info"]
    about = "".join(f"<p>{_text(part)}</p>" for part in info.get("description", "").split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(info['title'])} API</title><style>{_STYLE}</style><h1>{_text(info['title'])} "
        f'{_text(info["version"])}</h1>{about}<p><a href="/openapi.json">openapi.json</a></p>{"".join(parts)}</html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = [_row(one["name"], one["in"], one.get("description", "")) for one in operation.get("parameters", ())]
    table = f"<table>{''.join(parameters)}</table>" if parameters else ""
    answers = [_row(status, one.get("description", "")) for status, one in sorted(operation["responses"].items())]
    return (
        f'<details><summary><span class="m">{method.upper()}</span><code>{_text(path)}</code> '
        f"{_text(operation.get('summary', ''))}</summary><div>{table}{_example(operation.get('requestBody'))}"
        f"<h4>Answers</h4><table>{''.join(answers)}</table>{_example(operation['responses'].get('200'))}</div></details>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"


def _example(said: dict[str, Any] | None) -> str:
    for kind, content in (said or {}).get("content", {}).items():
        if "example" in content:
            example = content["example"]
            text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            return f"<p>{_text(kind)}</p><pre>{_text(text)}</pre>"
    return ""


def _text(text: str) -> str:
    return html.escape(str(text))

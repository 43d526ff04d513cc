"""ClickHouse's HTTP interface in front of chdb, as far as clickhouse-connect uses it: `python -m ... FOLDER PORT`.

The engine is ClickHouse's own, and so is the client; this only carries statements, parameters, settings and rows
between them. Prints its port. No users, no sessions, no compression.
"""

from __future__ import annotations

import re
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

#: What of the settings in a URL is handed on.
_SETTINGS = ("output_format_arrow_string_as_string", "max_partitions_per_insert_block")
_FORMAT = re.compile(r"\s+FORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(rb"\s*(INSERT\s+INTO\s+.*?)\s+FORMAT\s+(\w+)\s*?\n", re.IGNORECASE | re.DOTALL)


class Handler(BaseHTTPRequestHandler):
    """One request after the other is given to the engine."""

    protocol_version = "HTTP/1.1"
    session: Session
    lock = Lock()

    def do_GET(self) -> None:
        """`/ping`, and queries in the URL."""
        self._answer(b"")

    def do_POST(self) -> None:
        """A statement in the URL or the body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunked()
        if self.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        self._answer(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def _chunked(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            with self.lock:
                found = b"Ok.\n" if self.path.startswith("/ping") else self._run(given, body)
        except RuntimeError as error:
            self._send(500, str(error).encode(), {"X-ClickHouse-Exception-Code": _code(str(error))})
        else:
            self._send(200, found, {"X-ClickHouse-Summary": "{}"})

    def _run(self, given: dict[str, str], body: bytes) -> bytes:
        whole = (given.get("query", "").encode() + b"\n" + body) if given.get("query") else body
        settings = [f"{name} = {given[name]}" for name in _SETTINGS if name in given]
        insert = _INSERT.match(whole)
        if insert is not None:
            sql = insert[1].decode() + (f" SETTINGS {', '.join(settings)}" if settings else "")
            with self.session.send_insert(sql, insert[2].decode()) as inserter:
                inserter.append(whole[insert.end() :])
                inserter.finish()
            return b""
        sql = whole.decode().strip()
        form = _FORMAT.search(sql)
        text = sql if form is None else sql[: form.start()]
        if settings:
            text += f" SETTINGS {', '.join(settings)}"
        values = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
        answer = self.session.query(text, form[1] if form else "TabSeparated", params=values)
        return bytes(answer.bytes() or b"")

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _code(text: str) -> str:
    found = re.search(r"Code: (\d+)", text)
    return found[1] if found else "1"


def main(folder: str, port: str) -> None:
    """Serve until killed."""
    Handler.session = Session(folder)
    Handler.session.query("CREATE DATABASE IF NOT EXISTS hot ENGINE = Atomic")
    Handler.session.query("USE hot")
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

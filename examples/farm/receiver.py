"""The office: prints what the sink posts to http://127.0.0.1:9000/alerts, each alert once, however often it comes."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SEEN: set[str] = set()


class Office(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        """Answer only after the alert is dealt with: what has no answer comes again."""
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if event["id"] not in SEEN:
            SEEN.add(event["id"])
            print(event["type"], event.get("subject"), event["data"], flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No line per request."""


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Office).serve_forever()

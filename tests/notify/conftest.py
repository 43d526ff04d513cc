"""Receivers on loopback that do as they are told, and a sink over a log, stepped in virtual time."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trustme

from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.arrow import schema_of
from qanat.model.sinks import Sink
from qanat.model.streams import Column, Stream, dead_letter_stream
from qanat.model.types import DOUBLE, INT, STRING
from qanat.notify.messages import Message
from qanat.notify.sender import Moment, Sender
from qanat.notify.target import Target
from qanat.notify.thread import open_sender
from qanat.observe.metrics import Metrics

ALERTS = Stream(
    "alerts",
    (Column("site", STRING), Column("state", STRING), Column("level", DOUBLE), Column("n", INT)),
    partitions=2,
)


def put(log: Log, *rows: tuple[Any, ...], partition: int = 0, at: int = 1000, stream: Stream = ALERTS) -> None:
    """Rows as a pipeline appends them."""
    schema = schema_of((column.name, column.type) for column in stream.columns)
    columns = [[row[place] if place < len(row) else None for row in rows] for place in range(len(schema))]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    log.submit(Transaction([Append(stream.name, partition, batch, at)])).result()


@pytest.fixture
def log() -> Iterator[Log]:
    """A log with the stream `alerts`."""
    one = open_log("memory://")
    for stream in (ALERTS, dead_letter_stream()):
        one.create(stream)
    yield one
    one.close()


class Playing:
    """A sink in virtual time: `run` steps until there is nothing to do now, moving the clock over its waits."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.seconds = 1000.0
        self.waits: list[float] = []
        sender.open()

    def run(self, seconds: float = 0.0) -> None:
        """As long as waits end within so many seconds from now."""
        end = self.seconds + seconds
        for _ in range(10_000):
            wait = self.sender.step(self.moment)
            if wait is None:  # as the thread does it
                due = self.sender.next_reminder(self.moment.now)
                assert due is None or due > 0, "what is due was left"
                if due is None or self.seconds + due > end:
                    self.seconds = end
                    return
                self.seconds += due
                continue
            if self.seconds + wait > end:
                self.seconds = end
                return
            if wait:
                self.waits.append(wait)
            self.seconds += wait
        raise AssertionError("it does not come to rest")

    @property
    def moment(self) -> Moment:
        """Now; draws are 1, so that waits are whole."""
        return Moment(1_700_000_000_000 + int(self.seconds * 1000), self.seconds, 1.0)


class Recorder:
    """A target that remembers, and fails as `plan` says: an exception per call, None where it takes them."""

    where = "a recorder"

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.calls: list[list[str]] = []
        self.plan: list[Exception | None] = []
        self.judge: Callable[[Message], Exception | None] = lambda _: None

    def send(self, messages: Sequence[Message]) -> None:
        self.calls.append([message.id for message in messages])
        fault = self.plan.pop(0) if self.plan else None
        for message in messages:
            fault = fault or self.judge(message)
        if fault is not None:
            raise fault
        self.taken += messages

    def abort(self) -> None:
        pass

    @property
    def said(self) -> list[tuple[str, str, int]]:
        """Status, key and `n` of what was taken."""
        return [(message.status, message.key, message.values["n"]) for message in self.taken]


@pytest.fixture
def play(log: Log) -> Callable[..., Playing]:
    """Open a sink of `alerts` on a recorder, or on the target that its declaration names."""

    def begin(target: Target | None = None, **declared: Any) -> Playing:
        sink = Sink(**{"stream": "alerts", "start": "oldest"} | declared)
        if target is None:
            return Playing(open_sender("ops", sink, {"alerts": ALERTS}, log, Metrics(), Path()))
        return Playing(Sender("ops", sink, ALERTS, log, target, Metrics()))

    return begin


# --- HTTP


class Receiver(http.server.ThreadingHTTPServer):
    """`answers`: what to do with the next requests, one each: a status, (status, headers, body), "close", "hang"."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if context is None else "https"
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[Any] = []
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/hook"

    @property
    def bodies(self) -> list[Any]:
        """The documents of all requests."""
        return [json.loads(body) for _, body in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is part of the play."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == "hang":
            self.server.released.wait(30)
            return
        if answer == "drip":
            self._drip()
            return
        if answer == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, "")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _drip(self) -> None:
        """A byte of a header now and then: no single read takes long."""
        while not self.server.released.wait(0.05):
            self.wfile.write(b"X")

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server that remembers what was posted."""
    one = Receiver()
    yield one
    one.released.set()
    one.shutdown()
    one.server_close()


# --- SMTP


class Mailbox(socketserver.ThreadingTCPServer):
    """A small SMTP server. `answers`: command -> replies to give instead, in turn. `mails`: (sender, to, text)."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext | None = None, users: dict[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Dialogue)
        self.context, self.users = context, users or {}
        self.answers: dict[str, list[str]] = {}
        self.mails: list[tuple[str, list[str], str]] = []
        self.seen: list[str] = []
        self.wrapped: list[ssl.SSLSocket] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def end(self) -> None:
        """Close everything."""
        self.shutdown()
        self.server_close()
        for one in self.wrapped:
            one.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that does not trust us is part of the play."""


class _Dialogue(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.say("220 here")
        sender, to, is_safe = "", list[str](), False
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            word, _, rest = line.partition(" ")
            self.server.seen.append(word.upper())
            if self.server.answers.get(word.upper()):
                self.say(self.server.answers[word.upper()].pop(0))
                continue
            match word.upper():
                case "EHLO":
                    more = [] if self.server.context is None or is_safe else ["STARTTLS"]
                    offers = ["here", *more, *(["AUTH PLAIN"] if self.server.users else [])]
                    for place, offer in enumerate(offers):
                        self.say(f"250{' ' if place == len(offers) - 1 else '-'}{offer}")
                case "STARTTLS":
                    self.say("220 go on")
                    self.request = self.server.context.wrap_socket(self.request, server_side=True)  # type: ignore[union-attr]
                    self.setup()
                    self.server.wrapped.append(self.request)
                    is_safe = True
                case "AUTH":
                    _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                    self.say("235 welcome" if self.server.users.get(user) == password else "535 who are you")
                case "MAIL":
                    sender = rest
                    self.say("250 ok")
                case "RCPT":
                    to.append(rest)
                    self.say("250 ok")
                case "DATA":
                    self.say("354 go on")
                    lines = []
                    while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(text.removeprefix("."))
                    self.server.mails.append((sender, to, "\n".join(lines)))
                    self.say("250 taken")
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of these servers."""
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """What a server behind TLS shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """The authority as a PEM file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def wait_for(done: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)

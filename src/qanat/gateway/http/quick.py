"""Answers that are at hand: given while a request is being read, without a task or an ASGI cycle of its own.

    headers of a GET are complete -> HttpFront.quick -> Quick -> an answer: one write, done
                                                             -> None: the ordinary way

A `Quick` does nothing that takes time, and tells nobody off: whatever is not a plain answer takes the ordinary way,
where it is refused or waited for as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]

_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
#: A request that has one of these is not a plain GET.
_NOT_PLAIN = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))


@dataclass(frozen=True, slots=True)
class QuickAnswer:
    """Headers must have the length of the body, where there may be one."""

    status: int
    headers: Headers
    body: bytes


#: Target (path and query as they were sent), headers and the connection's state -> the answer, or None.
Quick = Callable[[bytes, Headers, Mapping[str, Any]], QuickAnswer | None]


def is_plain(headers: Headers) -> bool:
    """Whether nothing follows the headers, and nothing is expected but an answer."""
    return not any(name in _NOT_PLAIN for name, _ in headers)


def written(answer: QuickAnswer, common: Headers) -> bytes:
    """The answer as HTTP/1.1; `common`: headers that every answer of the server has."""
    lines = [b"%s: %s\r\n" % header for header in (*common, *answer.headers)]
    return b"".join((_LINES[answer.status], *lines, b"\r\n", answer.body))

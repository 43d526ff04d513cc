"""Where a reader of a stream stands, as text that he gives back: the token of a page, the id of an event. Pure.

It is opaque to clients: base64url of JSON, with what tells a token of this stream and direction from another.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping

import orjson

from qanat.gateway.http.problems import RefusedError

_VERSION = 1
_LARGEST = 1 << 62


def write_token(stream: str, positions: Mapping[int, int], *, backwards: bool = False) -> str:
    """The token. `positions`: of each partition the next offset, or reading backwards the one after it."""
    offsets = [positions[number] for number in sorted(positions)]
    content = [_VERSION, _mark(stream), int(backwards), offsets]
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def read_token(text: str, stream: str, partitions: int, *, backwards: bool = False) -> dict[int, int]:
    """The positions. Raises `RefusedError` 400 for what is no token of this stream and direction."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        content = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        version, mark, way, offsets = content
        good = [version, mark, way] == [_VERSION, _mark(stream), int(backwards)]
    except (UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError, ValueError, TypeError) as error:
        raise _refused(text) from error
    if not good or not isinstance(offsets, list) or len(offsets) != partitions:
        raise _refused(text)
    if not all(type(one) is int and 0 <= one <= _LARGEST for one in offsets):
        raise _refused(text)
    return dict(enumerate(offsets))


def _mark(stream: str) -> int:
    return zlib.crc32(stream.encode(errors="surrogatepass"))


def _refused(text: str) -> RefusedError:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    hint = "give back `next` or `position` of an answer as it is, for the same stream and order; or leave it out"
    return RefusedError(400, f"{shown!r} is no position in this stream", hint=hint)

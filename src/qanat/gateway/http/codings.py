"""Content codings: compressed bodies -> bytes, never more than a limit, whatever the sender claims. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa

from qanat.gateway.http.problems import RefusedError

_PIECE = 1 << 20
#: A body may be coded so many times over.
_DEEPEST = 2


def decompress(data: bytes, content_encoding: str, limit: int) -> bytes:
    """The body without its codings: gzip, zstd, deflate, identity, or two of them one over the other.

    Raises `RefusedError`: 400 for what is not so coded or has no end, 413 for more than `limit` bytes, 415 for another
    coding.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    for name in reversed(names):
        if name not in _CODINGS or len(names) > _DEEPEST:
            raise RefusedError(415, f"content encoding {content_encoding!r}", hint=f"send one of: {ACCEPTED}")
        data = _bounded(_CODINGS[name](data), name, limit)
    return data


def _bounded(pieces: Iterator[bytes], name: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                hint = "send it in several requests"
                raise RefusedError(413, f"the body has more than {limit} bytes without its compression", hint=hint)
            parts.append(piece)
    except (zlib.error, OSError, EOFError) as error:
        raise RefusedError(400, f"the body is not {name}: {error}", hint="see the content-encoding header") from error
    return b"".join(parts)


def _inflate(data: bytes, windows: int) -> Iterator[bytes]:
    """One or more zlib or gzip members."""
    while data:
        member = zlib.decompressobj(windows)
        while not member.eof:
            piece = member.decompress(data, _PIECE)
            data = member.unconsumed_tail
            if not piece and not data and not member.eof:
                raise EOFError("it ends too soon")
            yield piece
        data = member.unused_data


def _gzip(data: bytes) -> Iterator[bytes]:
    return _inflate(data, zlib.MAX_WBITS | 16)


def _deflate(data: bytes) -> Iterator[bytes]:
    """With zlib's frame, as RFC 9110 says, or without, as many send it."""
    framed = len(data) > 1 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return _inflate(data, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)


def _zstd(data: bytes) -> Iterator[bytes]:
    if not data:
        return
    stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
    room = bytearray(_PIECE)  # `read` of Arrow 26 never frees the piece in which it meets a fault
    while size := stream.readinto(room):
        yield bytes(memoryview(room)[:size])


_CODINGS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
    "deflate": _deflate,
}
#: For the header accept-encoding of answers.
ACCEPTED = "gzip, zstd, deflate, identity"

"""Base 64, base 16, character sets, URLs, IPv4 addresses and digests."""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, unquote_plus, urlsplit

from qanat.errors import DataError
from qanat.sql.embedded.kernels.base import Kernel, row_by_row

_CHARSETS = {
    "US-ASCII": "ascii",
    "ASCII": "ascii",
    "ISO-8859-1": "latin-1",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UTF-16BE": "utf-16-be",
    "UTF-16LE": "utf-16-le",
    "UTF-16": "utf-16",
}


def _charset(name: str) -> str:
    known = _CHARSETS.get(name.upper())
    if known is None:
        raise DataError(f"no character set is called {name}", hint=", ".join(_CHARSETS))
    return known


def _encode(text: str, charset: str) -> bytes:
    name = _charset(charset)
    # Java's UTF-16 begins with a mark and is big-endian
    return codecs.BOM_UTF16_BE + text.encode("utf-16-be") if name == "utf-16" else text.encode(name, "replace")


def _decode(value: bytes, charset: str) -> str:
    name = _charset(charset)
    if name == "utf-16" and not value.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        name = "utf-16-be"
    return value.decode(name, "replace")


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-8", "replace")
    except binascii.Error:
        raise DataError(f"FROM_BASE64: `{text}` is not base 64") from None


def _unhex(text: str) -> bytes | None:
    try:
        return bytes.fromhex("0" * (len(text) % 2) + text) if text.isalnum() or not text else None
    except ValueError:
        return None


def _url_encode(text: str) -> str:
    return quote_plus(text, safe="*").replace("~", "%7E")


def _url_decode(text: str) -> str | None:
    return None if re.search(r"%(?![0-9A-Fa-f]{2})", text) else unquote_plus(text)


def _parse_url(url: str, part: str, key: str | None = None) -> str | None:
    try:
        found = urlsplit(url)
    except ValueError:
        return None
    if found.scheme not in ("http", "https", "ftp", "file", "jar", "mailto"):
        return None
    query = found.query if "?" in url.split("#", 1)[0] else None
    if key is not None:
        match = re.search(r"(?:&|^)" + re.escape(key) + r"=([^&]*)", query or "") if part == "QUERY" else None
        return match.group(1) if match else None
    user, separator, _ = found.netloc.rpartition("@")
    host = found.netloc.rpartition("@")[2]
    known = {
        "HOST": re.sub(r":\d*$", "", host),
        "PATH": found.path,
        "QUERY": query,
        "REF": found.fragment if "#" in url else None,
        "PROTOCOL": found.scheme,
        "FILE": found.path + ("" if query is None else "?" + query),
        "AUTHORITY": found.netloc,
        "USERINFO": user if separator else None,
    }
    return known.get(part)


def _to_number(text: str) -> int | None:
    """INET_ATON: `a.b.c.d`, and the short forms in which the last number fills the rest."""
    parts = text.split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"[0-9]{1,10}", one) for one in parts):
        return None
    *first, last = (int(one) for one in parts)
    if any(one > 255 for one in first) or last >= 256 ** (5 - len(parts)):
        return None
    return sum(one << (24 - 8 * i) for i, one in enumerate(first)) + last


def _to_address(number: int) -> str | None:
    if not 0 <= number < 2**32:
        return None
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _digest(name: str) -> Kernel:
    return row_by_row(lambda text: hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest())


def _sha2(text: str, bits: int) -> str:
    names: dict[int, Callable[[bytes], Any]] = {
        224: hashlib.sha224,
        256: hashlib.sha256,
        384: hashlib.sha384,
        512: hashlib.sha512,
    }
    if bits not in names:
        raise DataError(f"SHA2: the length of a digest is 224, 256, 384 or 512, found {bits}")
    return str(names[bits](text.encode()).hexdigest())


#: Kernels that may raise for a row.
RAISES = ("ENCODE", "DECODE", "FROM_BASE64", "SHA2")

KERNELS: dict[str, Kernel] = {
    "TO_BASE64": row_by_row(lambda text: base64.b64encode(text.encode()).decode()),
    "FROM_BASE64": row_by_row(_from_base64),
    "UNHEX": row_by_row(_unhex),
    "ENCODE": row_by_row(_encode),
    "DECODE": row_by_row(_decode),
    "URL_ENCODE": row_by_row(_url_encode),
    "URL_DECODE": row_by_row(_url_decode),
    "PARSE_URL": row_by_row(_parse_url),
    "INET_ATON": row_by_row(_to_number),
    "INET_NTOA": row_by_row(_to_address),
    "MD5": _digest("md5"),
    "SHA1": _digest("sha1"),
    "SHA224": _digest("sha224"),
    "SHA256": _digest("sha256"),
    "SHA384": _digest("sha384"),
    "SHA512": _digest("sha512"),
    "SHA2": row_by_row(_sha2),
}

"""Client certificates: their fingerprint and the common name of their subject. Verifies nothing: TLS has done that.

The reader walks just as much of X.509 (RFC 5280, 4.1) in DER as lies before the subject's name.
"""

from __future__ import annotations

import base64
import hashlib
import re

from qanat.errors import ConfigError

_SEQUENCE, _OID, _VERSION = 0x30, 0x06, 0xA0
#: id-at-commonName, 2.5.4.3
_COMMON_NAME = bytes((0x55, 0x04, 0x03))
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii", 0x14: "latin-1", 0x1E: "utf-16-be"}
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a certificate as 64 hexadecimal digits."""
    return hashlib.sha256(der).hexdigest()


def read_fingerprint(text: str) -> str:
    """The fingerprint of the first certificate in a PEM text, or one that is written out (with or without colons).

    Raises `ConfigError` for anything else.
    """
    plain = text.strip().replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", plain):
        return plain
    found = _PEM.search(text)
    if found is None:
        raise ConfigError(
            "there is no certificate: neither PEM nor 64 hexadecimal digits",
            hint="openssl x509 -in FILE -noout -fingerprint -sha256",
        )
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True)
        ((tag, _),) = _children(der)
    except (ValueError, IndexError) as error:
        raise ConfigError("the certificate is damaged", hint="openssl x509 -in FILE -noout -text") from error
    if tag != _SEQUENCE:
        raise ConfigError("this is PEM, but no certificate", hint="openssl x509 -in FILE -noout -text")
    return fingerprint(der)


def common_name(der: bytes) -> str | None:
    """The (last) common name of the subject; None where it has none or the bytes are no certificate."""
    try:
        fields = _children(_children(_children(der)[0][1])[0][1])
        subject = fields[5 if fields[0][0] == _VERSION else 4][1]
        names = [
            name for _, one in _children(subject) for _, pair in _children(one) if (name := _name(pair)) is not None
        ]
    except (IndexError, UnicodeDecodeError):
        return None
    return names[-1] if names else None


def _name(pair: bytes) -> str | None:
    (kind, oid), (tag, value) = _children(pair)[:2]
    return value.decode(_TEXTS[tag]) if kind == _OID and oid == _COMMON_NAME and tag in _TEXTS else None


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of what stands one after the other. Raises IndexError where it ends too early."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise IndexError("a length that DER does not allow")
            size, at = int.from_bytes(data[at : at + count]), at + count
        if at + size > len(data):
            raise IndexError("the bytes end too early")
        found.append((tag, data[at : at + size]))
        at += size
    return found

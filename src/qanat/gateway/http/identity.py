"""Who sent a request: Basic credentials, a bearer token or API key, the certificate of the TLS connection.

Decides nothing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.requests import HTTPConnection

from qanat.errors import AuthError
from qanat.gateway.auth import Authenticator
from qanat.secure.users import User

#: Where a connection's `state` has the client's certificate (DER).
CERTIFICATE = "client_certificate"

Scope = MutableMapping[str, Any]


async def identify(auth: Authenticator, scope: Scope, headers: Mapping[bytes, bytes]) -> User | None:
    """The sender, or None where nobody is asked. What the request says goes before the certificate.

    Raises `AuthError`.
    """
    if auth.demanded and is_basic(headers):
        name, password = _basic(headers[b"authorization"].decode("latin-1").partition(" ")[2])
        return _known(await auth.verify(name, password))
    return identify_at_once(auth, scope.get("state", {}), headers)


def is_basic(headers: Mapping[bytes, bytes]) -> bool:
    """Whether there is a password to be checked, which takes time."""
    return headers.get(b"authorization", b"").partition(b" ")[0].lower() == b"basic"


def identify_at_once(auth: Authenticator, state: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> User | None:
    """As `identify`, for everything but Basic credentials; `state` is that of the connection."""
    if not auth.demanded:
        return None
    header = headers.get(b"authorization", b"").decode("latin-1")
    if not header and b"x-api-key" in headers:
        header = f"Bearer {headers[b'x-api-key'].decode('latin-1')}"
    if not header:
        return _certified(auth, state)
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthError(f"credentials of an unknown kind: {scheme}", hint="curl -u NAME:PASSWORD ...")
    return _known(auth.token(value.strip()))


def _known(user: User | None) -> User:
    if user is None:
        raise AuthError("unknown user or wrong password, or a token or key that does not count")
    return user


async def authenticate(auth: Authenticator, request: HTTPConnection) -> User | None:
    """As `identify`, for the routes of the app."""
    return await identify(auth, request.scope, dict(request.scope["headers"]))


def _certified(auth: Authenticator, state: Mapping[str, Any]) -> User | None:
    certificate = state.get(CERTIFICATE)
    user = None if certificate is None else auth.certificate(certificate)
    if user is None:
        unknown = "the client certificate belongs to no device that may come in"
        raise AuthError(
            unknown if certificate is not None else "this listener demands credentials",
            hint="curl -u NAME:PASSWORD ..., or -H 'Authorization: Bearer TOKEN'",
        )
    return user


def _basic(value: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    name, colon, password = text.partition(":")
    if not colon:
        raise AuthError("these Basic credentials are not NAME:PASSWORD in base64", hint="curl -u NAME:PASSWORD ...")
    return name, password

"""Who calls: from the metadata `authorization` (Basic, Bearer) or the client certificate. Decides no rights."""

from __future__ import annotations

import base64
import binascii
import ssl
from typing import Any
from urllib.parse import unquote

import grpc.aio

from qanat.errors import AuthError
from qanat.gateway.auth import Authenticator
from qanat.secure.users import User

Context = grpc.aio.ServicerContext[Any, Any]

_HINT = "send the metadata authorization: Basic BASE64(NAME:PASSWORD), or Bearer TOKEN"


async def identify(auth: Authenticator, context: Context) -> User | None:
    """The user; None is anyone, where nobody is asked. Raises `AuthError`."""
    if not auth.demanded:
        return None
    scheme, _, secret = _header(context).partition(" ")
    match scheme.lower():
        case "basic":
            user = await auth.verify(*_basic(secret))
        case "bearer":
            user = auth.token(secret.strip())
        case "":
            user = _by_certificate(auth, context)
        case _:
            raise AuthError(f"the authorization scheme {scheme[:20]!r} is not known", hint=_HINT)
    if user is None:
        raise AuthError("unknown user, wrong password or token", hint=_HINT)
    return user


def peer_of(context: Context) -> str:
    """The address of the caller without its port."""
    kind, _, address = unquote(context.peer()).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else kind


def _header(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def _basic(secret: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(secret.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise AuthError("the credentials are not Base64 of UTF-8", hint=_HINT) from error
    name, colon, password = text.partition(":")
    if not colon:
        raise AuthError("the credentials have no password", hint=_HINT)
    return name, password


def _by_certificate(auth: Authenticator, context: Context) -> User | None:
    found = context.auth_context().get("x509_pem_cert", ())
    for pem in found:
        return auth.certificate(ssl.PEM_cert_to_DER_cert(pem.decode()))
    raise AuthError("this listener demands credentials", hint=_HINT)

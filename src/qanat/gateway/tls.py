"""TLS for listeners: PEM files -> an `ssl.SSLContext`. Who a client is, is `Authenticator.certificate`'s business."""

from __future__ import annotations

import ssl
from pathlib import Path

from qanat.errors import ConfigError
from qanat.gateway.config import TlsFiles


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with these files. Raises `ConfigError` for a file that is not there or does not fit."""
    for path in (files.cert, files.key, files.client_ca):
        if path is not None and not path.is_file():
            raise ConfigError(f"the TLS file {path} is not there", hint="correct its path in qanat.yaml")
    if files.demand_client and files.client_ca is None:
        raise ConfigError("client certificates are demanded, and no client_ca says who signs them")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, files.cert, files.key)
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise ConfigError(f"{files.client_ca} holds no certificates in PEM: {error.reason}") from error
        context.verify_mode = ssl.CERT_REQUIRED if files.demand_client else ssl.CERT_OPTIONAL
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigError(
            f"the certificate {cert} and the key {key} do not work together: {error.reason or error}",
            hint="give the PEM file of the certificate (with its chain) and that of its key, without a passphrase",
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {cert} or {key}: {error.strerror or error}") from error

"""The port of what carries messages away, and how a try may end. Drivers: webhook, email, mqtt; `open_target` opens."""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from qanat.errors import ConfigError, QanatError
from qanat.model.sinks import Sink
from qanat.notify.messages import Message


class DownError(QanatError):
    """Not now, whatever the alert: the target does not answer, is too busy or does not know us. Try again."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(QanatError):
    """The target answers, and does not want this alert, now or later."""


class Target(Protocol):
    """Carries messages of one partition, in their order. Blocks; one call at a time.

    Returning means that the target has all of them. Idempotency: none; a message comes again after a failure or a
    crash, with the same id. Errors: `DownError` and `RefusedError`; some of the messages may have arrived then.
    """

    #: Where to, without secrets.
    where: str

    def send(self, messages: Sequence[Message]) -> None:
        """Deliver them."""
        ...

    def abort(self) -> None:
        """End a call of `send` soon, with `DownError`. From any thread."""
        ...


def open_target(name: str, sink: Sink, columns: Collection[str], base: Path) -> Target:
    """The target that qanat.yaml declares; files are relative to `base`. Nothing is connected yet.

    Raises `ConfigError` for what cannot work: a URL, a template, a missing environment variable, TLS files.
    """
    match sink:
        case Sink(webhook=webhook) if webhook is not None:
            from qanat.notify.webhook import open_webhook

            return open_webhook(name, webhook, sink.timeout / 1000, base)
        case Sink(email=email) if email is not None:
            from qanat.notify.email import open_email

            return open_email(name, email, columns, sink.timeout / 1000, base)
        case Sink(mqtt=mqtt) if mqtt is not None:
            from qanat.notify.mqtt import open_mqtt

            return open_mqtt(name, mqtt, columns, sink.timeout / 1000, base)
        case _:
            raise ConfigError(f"sink {name}: no target", hint="one of webhook, email and mqtt")


def secret_of(name: str, key: str, variable: str | None) -> str | None:
    """What an environment variable holds. Raises `ConfigError` where it is not set."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(
            f"sink {name}: {key} is expected in the environment variable {variable}", hint=f"export {variable}=..."
        )
    return value


def client_context(name: str, ca: str | None, base: Path) -> ssl.SSLContext:
    """What TLS trusts. Raises `ConfigError` for a file that does not do."""
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(base / ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"sink {name}: the file of ca cannot be used: {error}", hint="a PEM file, relative to the project"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

"""Alerts by mail: one mail for what a request holds, over SMTP with STARTTLS or TLS (smtplib, so it blocks)."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path

from qanat.errors import ConfigError
from qanat.model.sinks import Email
from qanat.notify.messages import Message, Template, id_of
from qanat.notify.target import DownError, RefusedError, client_context, secret_of

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
#: SMTP codes that say that we are not known, which is nothing about the alert.
_NOT_KNOWN = frozenset({530, 534, 535, 538})
_LONGEST_SUBJECT = 300


@dataclass(frozen=True, slots=True)
class Account:
    """Where mails go out, and as whom. `tls`: starttls, tls or none."""

    host: str
    port: int
    tls: str
    context: ssl.SSLContext | None
    timeout: float
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """What a mail looks like."""

    sender: str
    to: tuple[str, ...]
    subject: Template
    text: Template | None
    domain: str

    def write(self, messages: Sequence[Message]) -> EmailMessage:
        """The mail for these alerts; the first one's subject stands for all."""
        mail = EmailMessage()
        more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
        subject = " ".join(self.subject.render(messages[0]).split())[:_LONGEST_SUBJECT] + more
        mail["Subject"] = ("[test] " if messages[0].test else "") + subject
        mail["From"], mail["To"] = self.sender, ", ".join(self.to)
        mail["Date"] = format_datetime(datetime.fromtimestamp(messages[-1].at / 1000, UTC))
        mail["Message-ID"] = f"<{messages[0].sink}.{id_of(messages).replace('/', '.')}@{self.domain}>"
        mail["Idempotency-Key"] = id_of(messages)
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n\n".join(map(self._text, messages)) + "\n", cte="quoted-printable")  # 7 bits: any server
        return mail

    def _text(self, message: Message) -> str:
        if self.text is not None:
            return self.text.render(message)
        values = self.subject.fill(message)
        lines = [f"{name}: {values[name]}" for name in message.values]
        return "\n".join([f"{message.status} {message.key}".strip(), *lines, f"({message.id})"])


def open_email(name: str, declared: Email, columns: Collection[str], timeout: float, base: Path) -> EmailTarget:
    """The target that qanat.yaml declares. Raises `ConfigError`."""
    for address in (declared.sender, *declared.to):
        if "@" not in parseaddr(address)[1] or not address.isprintable():
            raise ConfigError(f"sink {name}: {address!r} is no mail address", hint="someone@example.org")
    password = secret_of(name, "email.password_env", declared.password_env)
    if (declared.user is None) != (password is None):
        raise ConfigError(f"sink {name}: email needs user and password_env together")
    if password is not None and declared.tls == "none":
        raise ConfigError(f"sink {name}: a password and no TLS", hint="tls: starttls, or no user")
    context = None if declared.tls == "none" else client_context(name, declared.ca, base)
    text = None if declared.text is None else Template(declared.text, columns, f"sinks.{name}.email.text")
    subject = Template(declared.subject, columns, f"sinks.{name}.email.subject")
    domain = parseaddr(declared.sender)[1].rpartition("@")[2]
    port = declared.port or _PORTS[declared.tls]
    account = Account(declared.host, port, declared.tls, context, timeout, declared.user, password)
    return EmailTarget(account, Letter(declared.sender, declared.to, subject, text, domain))


class EmailTarget:
    """See `Target`. A connection per mail."""

    def __init__(self, account: Account, letter: Letter) -> None:
        self._account, self._letter = account, letter
        self.where = f"{', '.join(letter.to)} by {account.host}:{account.port}"
        self._smtp: smtplib.SMTP | None = None

    def send(self, messages: Sequence[Message]) -> None:
        """See `Target`."""
        try:
            mail = self._letter.write(messages)
        except ValueError as error:  # a text that no mail can hold
            raise RefusedError(f"no mail can be made of it: {error}") from error
        try:
            with self._connect() as smtp:
                self._smtp = smtp
                refused = smtp.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise _judged(code, said, "all recipients") from error
        except smtplib.SMTPResponseException as error:
            raise _judged(error.smtp_code, error.smtp_error, self._account.host) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DownError(f"{self._account.host}: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise DownError(f"cannot mail by {self._account.host}:{self._account.port}: {error}") from error
        finally:
            self._smtp = None
        if refused:
            who, (code, said) = next(iter(refused.items()))
            # The others have it; sending all of it again would not help this one.
            raise RefusedError(f"{who} was refused with {code}: {_text(said)}; the other recipients have the mail")

    def abort(self) -> None:
        """See `Target`."""
        smtp = self._smtp
        if smtp is not None and smtp.sock is not None:
            with contextlib.suppress(OSError):
                smtp.sock.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> smtplib.SMTP:
        one = self._account
        smtp: smtplib.SMTP
        if one.tls == "tls":
            smtp = smtplib.SMTP_SSL(one.host, one.port, timeout=one.timeout, context=one.context)
        else:
            smtp = smtplib.SMTP(one.host, one.port, timeout=one.timeout)
        try:
            if one.tls == "starttls":
                smtp.starttls(context=one.context)
            if one.user is not None and one.password is not None:
                smtp.login(one.user, one.password)
        except BaseException:
            smtp.close()
            raise
        return smtp


def _judged(code: int, said: bytes | str, whose: str) -> DownError | RefusedError:
    """SMTP's 5xx are for ever, but where they are about who we are; 4xx and what is no code are not."""
    text = f"{whose}: {code} {_text(said)}"
    return RefusedError(text) if 500 <= code < 600 and code not in _NOT_KNOWN else DownError(text)


def _text(said: bytes | str) -> str:
    return " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())

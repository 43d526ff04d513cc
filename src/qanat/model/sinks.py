"""Where the rows of a stream are carried to from the log: the `sinks` of qanat.yaml.

Declarations and what can be checked without a program; whether the stream and its columns exist is `qanat.notify`'s
affair, and so are the environment variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from qanat.model.sections import Duration, Section

#: What the consumers of the log that feed sinks are called: `sink:NAME`.
CONSUMER = "sink:"

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Webhook(Section, frozen=True):
    """HTTP POST of JSON. `secret_env`, `token_env`: environment variables with the key of the signature and a token.

    `ca`: a PEM file of who signs the server's certificate, relative to the project; None: whom the system trusts.
    """

    url: str
    format: Literal["json", "cloudevents"] = "json"
    secret_env: str | None = None
    token_env: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    ca: str | None = None


class Email(Section, frozen=True):
    """Mail by SMTP. `subject` and `text` are templates over the row's columns; without `text` it lists all columns.

    `port` None: 587 with starttls, 465 with tls, 25 without either.
    """

    host: str
    sender: str
    to: tuple[str, ...]
    port: _Port | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    subject: str = "[{$sink}] {$status}: {$key}"
    text: str | None = None
    ca: str | None = None


class MqttPublish(Section, frozen=True):
    """PUBLISH with QoS 1 to an outside broker, `mqtt[s]://[user@]host[:port]`. `topic` is a template."""

    url: str
    topic: str
    password_env: str | None = None
    client_id: str | None = None
    retain: bool = False
    ca: str | None = None


class Sink(Section, frozen=True):
    """One target of one stream. Exactly one of `webhook`, `email` and `mqtt`.

    `key`: columns that say which alert a row is about; `state`: the column that says whether it is raised, which it is
    not where it is FALSE, NULL or one of `cleared`. `repeat_after`: an alert that is still raised is sent again then;
    None: never. `recovery`: say when it clears. `batch`: alerts in a request at most. `per_minute`: alerts at most.
    `attempts`: so often one alert may be refused. `give_up`: after so long a try an alert becomes a dead letter, even
    where the target is down; None: it is tried for ever. `start`: where a new sink begins.
    """

    stream: str
    webhook: Webhook | None = None
    email: Email | None = None
    mqtt: MqttPublish | None = None
    key: tuple[str, ...] = ()
    state: str | None = None
    cleared: tuple[str, ...] = ("cleared", "ok", "resolved")
    repeat_after: Duration | None = None
    recovery: bool = True
    batch: _Positive = 1
    per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    attempts: _Positive = 3
    give_up: Duration | None = None
    timeout: Duration = Duration(10_000)
    start: Literal["newest", "oldest"] = "newest"

    @property
    def ways(self) -> tuple[str, ...]:
        """Which of `webhook`, `email` and `mqtt` are given; one, in a checked project."""
        given: Mapping[str, object] = {"webhook": self.webhook, "email": self.email, "mqtt": self.mqtt}
        return tuple(name for name, one in given.items() if one is not None)


def problem_of(sink: Sink) -> str | None:
    """What cannot be about a sink, in words; None where all is well."""
    if len(sink.ways) != 1:
        return f"needs one of webhook, email and mqtt; found {' and '.join(sink.ways) or 'none of them'}"
    if sink.timeout < 1:
        return f"has a timeout of {int(sink.timeout)} ms"
    if sink.key and sink.state is None and sink.repeat_after is None:
        return "has key and neither state nor repeat_after: nothing would end its first alert"
    if sink.repeat_after is not None and not sink.key and sink.state is None:
        return "has repeat_after and no key: say which columns tell one alert from another"
    if sink.email is not None and not sink.email.to:
        return "has nobody in email.to"
    return None

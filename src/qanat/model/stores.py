"""Hot stores: the section `stores` of qanat.yaml. Declarations only."""

from __future__ import annotations

from qanat.model.sections import Duration, Section

#: What the consumers of the log that feed stores are called: `store:STORE:STREAM`.
CONSUMER = "store:"


class Store(Section, frozen=True):
    """A hot store, and what is kept there.

    `url`: duckdb:///file (relative to the project), clickhouse://, chdb:///folder, cassandra://. `key`: the columns by
    which rows are looked up, of every one of `streams`; None is each one's PRIMARY KEY. `retention`: rows with an older
    event time go; None keeps them. `password_env`: the environment variable that holds the password. `max_lag`: rows
    that wait longer than that for the store are told as a fault.
    """

    url: str
    streams: tuple[str, ...]
    key: tuple[str, ...] = ()
    retention: Duration | None = None
    password_env: str | None = None
    max_lag: Duration = Duration(10 * 60_000)


def consumer_of(store: str, stream: str) -> str:
    """Under which name a store's positions on a stream are stored in the log."""
    return f"{CONSUMER}{store}:{stream}"

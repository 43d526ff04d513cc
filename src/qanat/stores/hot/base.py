"""The port of hot stores: a stream's newest rows where applications look them up by key and time.

Drivers are named by URL in `open_store` (`qanat.stores.hot`): `duckdb:///file`, `clickhouse://host:port/database`,
`chdb:///folder`, `cassandra://host:port/keyspace`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import pyarrow as pa

from qanat.stores.hot.rows import Batch
from qanat.stores.hot.table import Table

#: By time, and where times are equal by partition and offset.
Order = Literal["newest", "oldest"]


class HotStore(Protocol):
    """Rows of streams, fed by one writer. Ordering: batches of one partition are written in the order of their offsets;
    `read` goes by event time (time of arrival where there is none), partition, offset.

    Idempotency: a row is known by the partition and offset it has in the log, so the same rows written again, whole or
    in part, cut alike or not, change nothing; of an upsert stream the row with the higher offset stays, whichever comes
    last. Durability: when `write` returns, the rows survive a crash of this process, and what else the server promises.
    A `write` that fails may have stored any part of the batch; repeat it.

    `write`, `prepare` and `expire` are for one thread; `read`, `latest` and `position` for any.

    Errors: `StoreError` for a store that is down, slow, or refuses; `ConfigError` from `prepare` for a table that the
    store cannot hold as declared, which names the column, and from `read` and `latest` for a key that does not fit.
    """

    def prepare(self, table: Table) -> None:
        """Make the table, or add the nullable columns that are new; nothing where it is there already. Anything else
        that differs from what is there raises `StoreError` that says what. Before anything else of that stream."""
        ...

    def position(self, stream: str) -> Mapping[int, int]:
        """By partition, the offset after the last row that was written; a partition of which none was is not there."""
        ...

    def write(self, stream: str, batch: Batch) -> None:
        """Store a batch and its number."""
        ...

    def read(
        self,
        stream: str,
        key: Sequence[object],
        *,
        since: int | None = None,
        until: int | None = None,
        limit: int = 1000,
        order: Order = "newest",
    ) -> pa.Table:
        """At most `limit` rows of one key, with the declared columns and types, those of `order` first.

        `key`: a value for each column of the table's key. `since` and `until`: ms since 1970, both inclusive.
        """
        ...

    def latest(self, stream: str, key: Sequence[object]) -> pa.Table:
        """The newest row of one key; no row where there is none."""
        ...

    def expire(self, now_ms: int) -> None:
        """Delete what is older than its table's retention: no row that is younger, every one that is a month older.
        Upsert streams keep their rows. Call it now and then."""
        ...

    def close(self) -> None:
        """Let go of connections and files. Further calls raise `StoreError`."""
        ...

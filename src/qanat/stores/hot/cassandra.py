"""A hot store in Cassandra or ScyllaDB: `cassandra://user:password@host,host:9042/keyspace`.

One table per stream. Rows of one key and one UTC day lie together, newest first, and vanish by themselves (TTL) when
the retention is over. Of an upsert stream there is one row per key, written with the offset as its timestamp, so that
the server keeps the one with the highest. `cassandra_columns` says what becomes of the columns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, ExponentialReconnectionPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, PreparedStatement, tuple_factory

from cassandra import ConsistencyLevel, DriverException
from qanat.clock import now_ms
from qanat.errors import ConfigError, StoreError
from qanat.stores.hot import cassandra_columns as columns
from qanat.stores.hot import cassandra_tables as cql
from qanat.stores.hot import table as names
from qanat.stores.hot.address import Address, parse_address
from qanat.stores.hot.base import Order
from qanat.stores.hot.rows import Batch, declared_schema
from qanat.stores.hot.table import Table, added, describe
from qanat.stores.hot.texts import key_text

_PORT = 9042
_CONNECT_S, _ANSWER_S = 5.0, 30.0
_RECONNECT_S = 15.0
_AT_ONCE = 128
_DAY_MS = 86_400_000
#: Cassandra takes no longer TTL: twenty years.
_LONGEST_S = 20 * 365 * 86_400
_DAYS_KNOWN = 100_000
#: Rows of one key and day go together, as many as this; a server refuses more than 50 kB by default.
_TOGETHER, _TOGETHER_BYTES = 50, 8_000
_OPTIONS = frozenset({"consistency", "replication", "datacenter"})


def cassandra_at(rest: str, password: str | None) -> Callable[[], CassandraStore]:
    """The store in a keyspace, which is made where it is not there, with `?replication=N` (1)."""
    address = parse_address("cassandra", rest, _PORT, password, _OPTIONS)
    profile = _profile(address)
    return lambda: CassandraStore(address, profile)


#: A statement and its values; those of a batch are inside.
_Statement = tuple[PreparedStatement | BatchStatement, Sequence[object] | None]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A table and its statements."""

    table: Table
    insert: PreparedStatement
    delete: PreparedStatement | None
    select: Mapping[Order, PreparedStatement]


class CassandraStore:
    """See `HotStore`."""

    def __init__(self, address: Address, profile: ExecutionProfile, clock: Callable[[], int] = now_ms) -> None:
        self._address, self._clock, self._space = address, clock, cql.quoted(address.name)
        self._tables: dict[str, _Prepared] = {}
        self._days: OrderedDict[tuple[str, str, int], None] = OrderedDict()  # those known to be in qanat_days
        auth = None if address.user is None else PlainTextAuthProvider(address.user, address.password or "")
        self._cluster = Cluster(
            list(address.hosts),
            port=address.port,
            auth_provider=auth,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            connect_timeout=_CONNECT_S,
            control_connection_timeout=_CONNECT_S,
            reconnection_policy=ExponentialReconnectionPolicy(0.5, _RECONNECT_S, max_attempts=None),
        )
        try:
            self._session = self._connect()
        except BaseException:
            self._cluster.shutdown()
            raise

    def prepare(self, table: Table) -> None:
        """See `HotStore`."""
        cql.check_table(table)
        types = {column.name: columns.cql_type(table, column) for column in table.columns}
        with self._translated():
            found = self._session.execute(self._told, (table.name,)).one()
            new = added(table, found[0]) if found is not None else ()
            self._session.execute(cql.create(self._space, table, types))
            there = {row[0] for row in self._session.execute(cql.COLUMNS, (self._address.name, table.name))}
            for column in new:
                if column.name not in there:
                    self._session.execute(cql.add_column(self._space, table, column.name, types[column.name]))
            self._session.execute(self._tell, (table.name, describe(table)))
            self._tables[table.name] = self._statements(table)

    def position(self, stream: str) -> Mapping[int, int]:
        """See `HotStore`."""
        with self._translated():
            return {row[0]: row[1] for row in self._session.execute(self._positions, (stream,))}

    def write(self, stream: str, batch: Batch) -> None:
        """See `HotStore`. The number is stored after the rows: a crash in between repeats rows that are there."""
        prepared = self._table(stream)
        with self._translated():
            if batch.rows.num_rows:
                if prepared.table.stream.upsert:
                    self._run(self._upserts(prepared, batch.rows))
                else:
                    self._append(prepared, batch.rows)
            self._session.execute(self._advance, (stream, batch.partition, batch.end, batch.end))

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
        """See `HotStore`."""
        prepared = self._table(stream)
        text = key_text(prepared.table, key)
        low, high = _between(since), _between(until, high=True)
        with self._translated():
            if prepared.table.stream.upsert:
                found = [row for row in self._session.execute(prepared.select[order], (text,)) if low <= row[0] <= high]
                rows = [row[1:] for row in found[:limit]]
            else:
                rows = self._read_days(prepared, text, low, high, limit, order)
        return columns.to_arrow(rows, prepared.table.columns, declared_schema(prepared.table))

    def latest(self, stream: str, key: Sequence[object]) -> pa.Table:
        """See `HotStore`."""
        return self.read(stream, key, limit=1)

    def expire(self, now_ms: int) -> None:
        """See `HotStore`. Nothing: every row was written with the time that it has left."""

    def close(self) -> None:
        """See `HotStore`."""
        self._cluster.shutdown()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _connect(self) -> Session:
        keyspace = self._address.name
        with self._translated():
            session = self._cluster.connect()
            if keyspace not in self._cluster.metadata.keyspaces:
                session.execute(cql.create_keyspace(keyspace, self._address.options.get("replication", "1")))
            for statement in cql.OWN_TABLES:
                session.execute(statement.format(space=self._space))

            def prepared(text: str) -> PreparedStatement:
                return session.prepare(text.format(space=self._space))

            self._told, self._tell = prepared(cql.TOLD), prepared(cql.TELL)
            self._positions, self._advance = prepared(cql.POSITIONS), prepared(cql.ADVANCE)
            self._add_day = prepared(cql.ADD_DAY)
            self._list_days = {order: prepared(text) for order, text in cql.DAYS.items()}
            return session

    def _statements(self, table: Table) -> _Prepared:
        prepare, space, listed = self._session.prepare, self._space, columns.selected(table)
        delete = prepare(cql.delete(space, table)) if table.stream.upsert else None
        select = {order: prepare(cql.select(space, table, listed, order)) for order in cql.ORDERS}
        return _Prepared(table, prepare(cql.insert(space, table)), delete, select)

    def _table(self, stream: str) -> _Prepared:
        prepared = self._tables.get(stream)
        if prepared is None:
            raise StoreError(f"stream {stream} was not prepared in this store")
        return prepared

    def _run(self, statements: Iterable[_Statement]) -> None:
        execute_concurrent(self._session, statements, concurrency=_AT_ONCE, raise_on_first_error=True)

    def _append(self, prepared: _Prepared, rows: pa.Table) -> None:
        table = prepared.table
        times = rows[names.TIME].to_numpy()
        days = times // _DAY_MS
        left = self._seconds_left(table, times)
        keys = rows[names.KEY].to_pylist()
        places = zip(keys, days.tolist(), times.tolist(), *_places(rows), strict=True)
        values = columns.to_cells(rows, table.columns, empty_is_unset=True)
        lines = [
            (*place, *cells, ttl) for place, cells, ttl in zip(places, values, left.tolist(), strict=True) if ttl >= 0
        ]
        # a row must be found by its day as soon as it is there
        self._note_days(table, {(line[0], line[1]) for line in lines})
        self._run(_together(prepared.insert, lines))

    def _seconds_left(self, table: Table, times: np.ndarray) -> np.ndarray:
        """The TTL of each row: 0 is for ever, less than 0 that its time is over."""
        if table.retention_ms is None:
            return np.zeros(len(times), np.int64)
        left = -((self._clock() - table.retention_ms - times) // 1000)
        return np.where(left <= 0, -1, np.minimum(left, _LONGEST_S))

    def _note_days(self, table: Table, days: set[tuple[str, int]]) -> None:
        new = [(table.name, key, day) for key, day in days if (table.name, key, day) not in self._days]
        ends = np.array([(day + 1) * _DAY_MS for _, _, day in new], np.int64)
        left = self._seconds_left(table, ends).tolist()
        self._run((self._add_day, (*day, max(ttl, 1) if ttl else 0)) for day, ttl in zip(new, left, strict=True))
        self._days.update(dict.fromkeys(new))
        while len(self._days) > _DAYS_KNOWN:
            self._days.popitem(last=False)

    def _upserts(self, prepared: _Prepared, rows: pa.Table) -> Iterator[_Statement]:
        table = prepared.table
        gone = rows[names.DELETED].to_pylist()
        keys, times, places = rows[names.KEY].to_pylist(), rows[names.TIME].to_pylist(), _places(rows)
        values = columns.to_cells(rows, table.columns, empty_is_unset=False)
        for key, time, partition, offset, cells, deleted in zip(keys, times, *places, values, gone, strict=True):
            if deleted:
                yield prepared.delete, (offset + 1, key)
            else:
                yield prepared.insert, (key, time, partition, offset, *cells, offset + 1)

    def _read_days(
        self, prepared: _Prepared, text: str, low: int, high: int, limit: int, order: Order
    ) -> list[tuple[Any, ...]]:
        name = prepared.table.name
        span = (name, text, low // _DAY_MS, high // _DAY_MS)
        rows: list[tuple[Any, ...]] = []
        for (day,) in self._session.execute(self._list_days[order], span):
            if len(rows) >= limit:
                break
            rows += self._session.execute(prepared.select[order], (text, day, low, high, limit - len(rows)))
        return rows

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DriverException, NoHostAvailable, ConnectionException, OSError) as error:
            raise StoreError(f"Cassandra at {self._address}: {error}") from error


def _profile(address: Address) -> ExecutionProfile:
    wanted = address.options.get("consistency", "LOCAL_QUORUM").upper()
    level = ConsistencyLevel.name_to_value.get(wanted)
    if level is None:
        known = ", ".join(sorted(ConsistencyLevel.name_to_value))
        raise ConfigError(f"cassandra:// has no consistency {wanted}", hint=f"known are: {known}")
    cql.check_replication(address.options.get("replication", "1"))
    nearest = TokenAwarePolicy(DCAwareRoundRobinPolicy(address.options.get("datacenter") or ""))
    return ExecutionProfile(
        load_balancing_policy=nearest,
        consistency_level=level,
        request_timeout=_ANSWER_S,
        row_factory=tuple_factory,
    )


def _together(insert: PreparedStatement, lines: Iterable[tuple[Any, ...]]) -> Iterator[_Statement]:
    """Rows of one key and day in few statements: they lie on the same node, which takes such a batch at once."""
    groups: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for line in lines:
        groups.setdefault((line[0], line[1]), []).append(line)
    for group in groups.values():
        batch, size = BatchStatement(BatchType.UNLOGGED), 0
        for line in group:
            more = sum(8 if not isinstance(cell, str | bytes) else 4 * len(cell) for cell in line)
            if len(batch) and (len(batch) >= _TOGETHER or size + more > _TOGETHER_BYTES):
                yield batch, None
                batch, size = BatchStatement(BatchType.UNLOGGED), 0
            if more > _TOGETHER_BYTES:
                yield insert, line
            else:
                batch.add(insert, line)
                size += more
        if len(batch):
            yield batch, None


def _places(rows: pa.Table) -> tuple[list[int], list[int]]:
    return rows[names.PARTITION].to_pylist(), rows[names.OFFSET].to_pylist()


def _between(bound: int | None, *, high: bool = False) -> int:
    widest = 2**63 - 1
    return bound if bound is not None else widest if high else -widest

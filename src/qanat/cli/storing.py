"""The hot stores of a project, out of qanat.yaml and the environment that it names, and what feeds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from qanat.errors import ConfigError
from qanat.log.base import Chunk, Log, Place, Transaction

if TYPE_CHECKING:
    from qanat.cli.project import Folder
    from qanat.model.stores import Store
    from qanat.model.streams import Stream
    from qanat.observe.metrics import Metrics
    from qanat.stores.hot.base import HotStore
    from qanat.stores.hot.service import StoreService
    from qanat.stores.hot.table import Table

#: State of the log: which log it is, so that a store does not take the rows of another for those that it has.
ORIGIN = "stores/origin"


class LogSource:
    """A stream of the log, as `Source`."""

    def __init__(self, log: Log, stream: str, consumer: str) -> None:
        self._log, self._stream, self._consumer = log, stream, consumer

    def starts(self) -> Mapping[int, int]:
        """See `Source`."""
        return self._log.status()[self._stream].starts

    def ends(self) -> Mapping[int, int]:
        """See `Source`."""
        return self._log.status()[self._stream].ends

    def position(self) -> Mapping[int, int]:
        """See `Source`."""
        return {place[1]: end for place, end in self._log.positions(self._consumer).items()}

    def read(self, partition: int, offset: int, rows: int) -> Sequence[Chunk]:
        """See `Source`."""
        return self._log.read((self._stream, partition), offset, rows)

    def advance(self, position: Mapping[int, int]) -> None:
        """See `Source`."""
        places = {(self._stream, partition): end for partition, end in position.items()}
        self._log.submit(Transaction(positions={self._consumer: places})).result()


class Stores:
    """The stores of a running project."""

    def __init__(self, log: Log, services: Sequence[StoreService]) -> None:
        self._log, self._services = log, services
        self._unwatch: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to feed them."""
        for service in self._services:
            service.start()
        if self._services:
            self._unwatch = self._log.watch(self._wake)

    def stop(self) -> None:
        """Feed them what is there, and let go of them."""
        if self._unwatch is not None:
            self._unwatch()
        for service in self._services:
            service.stop()

    def faults(self) -> Mapping[str, str | None]:
        """What is wrong, by check, as /healthz shows it."""
        return {check: fault for service in self._services for check, fault in service.faults().items()}

    def _wake(self) -> None:
        for service in self._services:
            service.wake()


def open_stores(folder: Folder, log: Log, streams: Mapping[str, Stream], metrics: Metrics) -> Stores:
    """What feeds the stores of a project, ready to start. No store is asked anything yet.

    From now on the log deletes nothing that a store has not got; stores that are gone from qanat.yaml hold it back no
    longer. Raises `ConfigError`.
    """
    declared = folder.project.stores
    _check(declared, streams)
    for name in {stream for store in declared.values() for stream in store.streams} - set(log.status()):
        log.create(folder.project.retained(streams[name]))  # dead letters and late rows are declared by their first use
    _hold_back(log, declared, streams)
    if not declared:
        return Stores(log, ())
    origin = (log.state(ORIGIN) or b"").decode()
    return Stores(log, [_service(folder, log, name, one, streams, origin, metrics) for name, one in declared.items()])


def _check(declared: Mapping[str, Store], streams: Mapping[str, Stream]) -> None:
    for name, store in declared.items():
        for stream in store.streams:
            if stream not in streams:
                known = ", ".join(sorted(streams)) or "none"
                raise ConfigError(f"stores.{name}: no stream {stream!r}", hint=f"the streams are: {known}")


def _hold_back(log: Log, declared: Mapping[str, Store], streams: Mapping[str, Stream]) -> None:
    from qanat.model.stores import CONSUMER, consumer_of

    places: dict[str, dict[Place, int]] = {
        consumer_of(name, stream): {(stream, number): 0 for number in range(streams[stream].partitions)}
        for name, store in declared.items()
        for stream in store.streams
    }
    listed: list[str] = getattr(log, "consumers", list)()
    over = tuple(one for one in listed if one.startswith(CONSUMER) and one not in places)
    new = {consumer: ends for consumer, ends in places.items() if not log.positions(consumer)}
    state = {ORIGIN: os.urandom(16).hex().encode()} if declared and log.state(ORIGIN) is None else {}
    if new or over or state:
        log.submit(Transaction(positions=new, forget=over, state=state)).result()


def _service(
    folder: Folder,
    log: Log,
    name: str,
    store: Store,
    streams: Mapping[str, Stream],
    origin: str,
    metrics: Metrics,
) -> StoreService:
    from qanat.model.stores import consumer_of
    from qanat.stores.hot.service import StoreService
    from qanat.stores.hot.table import open_table

    retention = None if store.retention is None else int(store.retention)
    fed: list[tuple[Table, LogSource]] = []
    try:
        open_it = store_opener(folder, store)
        for stream in store.streams:
            key = () if streams[stream].upsert else store.key  # it has only one to be kept by
            table = open_table(streams[stream], key, retention, origin)
            fed.append((table, LogSource(log, stream, consumer_of(name, stream))))
    except ConfigError as error:
        raise ConfigError(f"stores.{name}: {error.message}", hint=error.hint) from error
    return StoreService(name, open_it, fed, metrics, int(store.max_lag))


def store_opener(folder: Folder, store: Store) -> Callable[[], HotStore]:
    """What opens a store of the project; paths are relative to it. Raises `ConfigError`."""
    from qanat.stores.hot import opener_of

    url, password = store.url, None
    for scheme in ("duckdb:///", "chdb:///"):
        rest = url.removeprefix(scheme)
        if url.startswith(scheme) and rest not in ("", ":memory:"):
            url = f"{scheme}{(folder.path / rest).absolute()}"
    if store.password_env is not None:
        password = os.environ.get(store.password_env)
        if password is None:
            raise ConfigError(
                f"the environment variable {store.password_env} is not set", hint=f"export {store.password_env}=..."
            )
    return opener_of(url, password)

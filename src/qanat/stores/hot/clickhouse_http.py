"""ClickHouse over HTTP: `clickhouse://user:password@host:8123/database?secure=true`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from qanat.errors import StoreError
from qanat.stores.hot.address import Address, parse_address
from qanat.stores.hot.clickhouse import ClickHouseStore

_PORT = 8123
_CONNECT_S, _ANSWER_S = 5, 30


def clickhouse_at(rest: str, password: str | None) -> Callable[[], ClickHouseStore]:
    """The store in a database of a server."""
    address = parse_address("clickhouse", rest, _PORT, password, frozenset({"secure"}))
    return lambda: ClickHouseStore(Http(address))


class Http:
    """See `Transport`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        try:
            self._client = clickhouse_connect.get_client(
                host=address.hosts[0],
                port=address.port,
                username=address.user,
                password=address.password or "",
                database=address.name,
                secure=address.options.get("secure", "false") == "true",
                connect_timeout=_CONNECT_S,
                send_receive_timeout=_ANSWER_S,
                autogenerate_session_id=False,  # one session answers one request at a time
                query_retries=0,
            )
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from error

    def run(self, sql: str) -> None:
        """See `Transport`."""
        try:
            self._client.command(sql)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from error

    def select(self, sql: str, parameters: Mapping[str, str]) -> pa.Table:
        """See `Transport`."""
        try:
            return self._client.query_arrow(sql, parameters=dict(parameters), use_strings=False)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from error

    def insert(self, name: str, rows: pa.Table) -> None:
        """See `Transport`."""
        try:
            self._client.insert_arrow(name, rows, settings={"max_partitions_per_insert_block": 0})
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """See `Transport`."""
        self._client.close()

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(f"ClickHouse at {self._address}: {error}")

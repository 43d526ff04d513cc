"""What DuckDB reads while it answers: rows that are made when they are asked for, by Arrow's C stream protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pyarrow as pa


class LazyRows(ABC):
    """Rows of one schema, made anew for each reader.

    DuckDB would make text of what is raised while it reads, so that is kept in `failures`.
    """

    __slots__ = ()
    failures: list[Exception]

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns of every batch."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, from the first one."""

    def __arrow_c_schema__(self) -> Any:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        reader = pa.RecordBatchReader.from_batches(self.schema, self._guarded())
        return reader.__arrow_c_stream__(requested_schema)

    def _guarded(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.batches()
        except Exception as error:
            self.failures.append(error)
            raise

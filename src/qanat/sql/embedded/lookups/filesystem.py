"""Lookups in files: all of them are read when the pipeline starts, and never again."""

from __future__ import annotations

import polars as pl

from qanat.errors import DataError
from qanat.model.streams import Column
from qanat.sql.embedded.connectors.filesystem_source import FileSource
from qanat.sql.embedded.flow import empty_frame
from qanat.sql.embedded.lookups.base import Asked


class FileLookup:
    """A table of the filesystem connector in memory."""

    def __init__(self, asked: Asked) -> None:
        self._keys = asked.keys
        names = [one.name for one in asked.schema]
        physical = asked.table.physical
        source = FileSource(asked.table, [Column(one.name, one.type) for one in physical])
        frames = [empty_frame(physical)]
        for block in source.blocks(None):
            if block is None:
                continue
            for row, where in block.bad:
                raise DataError(f"table {asked.table.name}: {where}: {row.reason}", hint="repair the file")
            frames.append(block.frame)
        self._rows = pl.concat(frames).select(names)

    def rows(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows with these keys, in the order of the files."""
        return self._rows.join(keys, on=list(self._keys), how="semi", maintain_order="left")

    def close(self) -> None:
        """Nothing is open."""

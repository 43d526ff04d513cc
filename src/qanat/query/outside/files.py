"""CSV and Parquet files, which DuckDB reads itself. Opens nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qanat.query.connections import text_literal


@dataclass(frozen=True, slots=True)
class FileTable:
    """One file, or those that a pattern with `*` names: as one table, columns by name."""

    name: str
    path: str

    @property
    def is_pattern(self) -> bool:
        """Whether it names several files."""
        return any(sign in self.path for sign in "*?[")

    @property
    def folder(self) -> str:
        """The folder around all of them."""
        path = Path(self.path)
        while any(sign in str(path) for sign in "*?["):
            path = path.parent
        return str(path)

    @property
    def select(self) -> str:
        """The SELECT that gives the rows."""
        function = "read_parquet" if self.path.lower().endswith(".parquet") else "read_csv"
        return f"SELECT * FROM {function}({text_literal(self.path)}, union_by_name = true)"  # noqa: S608 - a literal

"""What every window aggregate shares: evaluating keys and arguments, and putting output rows together."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from qanat.sql.embedded.flow import Ints, empty_column, empty_frame, timestamps
from qanat.sql.embedded.groups import argument_names
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.expressions import Expression
from qanat.sql.plan import WindowAggregate


class Grouping:
    """Keys, arguments and output of one `WindowAggregate`."""

    def __init__(self, node: WindowAggregate) -> None:
        self._node = node
        width = len(node.keys)
        self._key_names = [field.name for field in node.schema[:width]]
        key_fields = zip(node.keys, self._key_names, strict=True)
        self._keys = [to_polars(e).alias(name) for e, name in key_fields]
        self.empty_keys = empty_frame(node.schema[:width])
        named: dict[str, Expression] = {}
        for number, call in enumerate(node.aggregates):
            names, keep = argument_names(number, call)
            named.update(zip(names, call.args, strict=True))
            if keep is not None and call.filter is not None:
                named[keep] = call.filter
        self._arguments = [to_polars(e).alias(name) for name, e in named.items()]
        self.empty_arguments = pl.DataFrame({name: empty_column(e.type) for name, e in named.items()})
        self.empty_output = empty_frame(node.schema)

    def keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The key columns of input rows."""
        return _select(frame, self._keys)

    def arguments(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Arguments and filters of all aggregates, evaluated; named by `groups.argument_names`."""
        return _select(frame, self._arguments)

    def output(self, keys: pl.DataFrame, columns: Mapping[int, pl.Series], starts: Ints, ends: Ints) -> pl.DataFrame:
        """Output rows: keys, aggregates by number, window start and end (ms), window time."""
        width = len(self._node.keys)
        fields = self._node.schema[width:]
        made = [columns[i].alias(fields[i].name) for i in range(len(self._node.aggregates))]
        times = zip(fields[len(made) :], (starts, ends, ends - 1), strict=True)
        made += [timestamps(values, field.type).alias(field.name) for field, values in times]
        return keys.with_columns(made) if width else pl.DataFrame(made)


def _select(frame: pl.DataFrame, expressions: list[pl.Expr]) -> pl.DataFrame:
    """Evaluate; a constant comes back once per row."""
    if not expressions:
        return pl.DataFrame(height=frame.height)
    return frame.with_columns(expressions).select([e.meta.output_name() for e in expressions])

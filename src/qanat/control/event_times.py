"""Event times of rows that a pipeline writes into a stream of the log: which column, and its values in milliseconds."""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.model.streams import Stream
from qanat.sql.embedded.flow import Ints, instants
from qanat.sql.expressions import Cast, Column
from qanat.sql.plan import Node, Pipeline, Project, WindowAggregate, WindowAssign
from qanat.sql.tree import inputs_of


def times_of(stream: Stream, frame: pl.DataFrame) -> Ints:
    """The event time (ms) of every row; NULL is before everything. The stream must have event times."""
    source = stream.event_time
    if source is None:
        raise TypeError(f"{stream.name} has no event times")
    column = frame[source.name]
    if source.per_second is None:
        return instants(column)
    return np.asarray(column.fill_null(0).cast(pl.Int64).to_numpy() * 1000 // source.per_second, dtype=np.int64)


def follows_event_time(pipeline: Pipeline) -> bool:
    """Whether the event time that a pipeline writes is that of its input, or a border of its windows: then results of
    a time are made of rows from that time on, less the windows' length."""
    sink = pipeline.sink
    stream = sink.stream if sink is not None else None
    if stream is None or stream.event_time is None:
        return False
    names = [column.name for column in stream.columns]
    return _is_time(pipeline.root, pipeline.root.schema[names.index(stream.event_time.name)].name)


def _is_time(node: Node, name: str) -> bool:
    fields = {field.name: field for field in node.schema}
    if fields[name].time_attribute:
        return True
    match node:
        case Project():
            place = [field.name for field in node.schema].index(name)
            expression = node.expressions[place]
            while isinstance(expression, Cast):
                expression = expression.arg
            return isinstance(expression, Column) and _is_time(node.input, expression.name)
        case WindowAggregate():
            return name in [field.name for field in node.schema[-3:]]
        case WindowAssign():
            return name in node.names or _is_time(node.input, name)
    inputs = inputs_of(node)
    return len(inputs) == 1 and any(f.name == name for f in inputs[0].schema) and _is_time(inputs[0], name)

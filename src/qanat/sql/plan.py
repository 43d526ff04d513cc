"""The logical plan: what the binder makes of a script and what the engines run. Frozen values, no behaviour.

    Program
    ├── tables    every CREATE TABLE, by name
    └── pipelines one per INSERT INTO (or bare SELECT): a tree of nodes that ends in a table

Column names of one node's schema are unique; expressions refer to the input's columns by name. A *time attribute* is a
column that carries event time along with its watermark (Flink's rowtime); it is TIMESTAMP(3) or TIMESTAMP_LTZ(3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.model.streams import Stream
from qanat.model.types import Type
from qanat.sql.expressions import Expression


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a node's output. `time_attribute`: carries event time (Flink's *ROWTIME*)."""

    name: str
    type: Type
    time_attribute: bool = False


Schema = tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Watermark:
    """WATERMARK FOR column AS column - delay."""

    column: str
    delay_ms: int
    idle_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A declared table. `connector` None = a stream in the log (then `stream` is its declaration).

    `physical`: stored columns in declared order; `computed`: (name, expression over physical columns) in order;
    `schema`: all columns in declared order, the watermark's column marked as time attribute.
    """

    name: str
    schema: Schema
    physical: Schema
    computed: tuple[tuple[str, Expression], ...] = ()
    watermark: Watermark | None = None
    key: tuple[str, ...] = ()
    connector: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    stream: Stream | None = None
    partition_by: tuple[str, ...] = ()


# --- windows -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tumble:
    """Windows of `size` ms that start at multiples of it plus `offset`."""

    size: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """Windows of `size` ms, one every `slide` ms."""

    size: int
    slide: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Cumulate:
    """Windows that grow by `step` ms up to `size` ms, then start anew."""

    size: int
    step: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """Windows that end after `gap` ms without a row; per value of `partition` columns."""

    gap: int
    partition: tuple[str, ...] = ()


Window = Tumble | Hop | Cumulate | Session


# --- nodes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of a table: physical columns, then computed ones; `schema` is the table's."""

    table: Table
    schema: Schema


@dataclass(frozen=True, slots=True)
class Project:
    """One expression per output column. A time attribute passes only as the bare column."""

    input: Node
    expressions: tuple[Expression, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which the predicate is TRUE."""

    input: Node
    predicate: Expression
    schema: Schema


@dataclass(frozen=True, slots=True)
class Union:
    """UNION ALL: inputs have the same number of columns and types; names are the first input's."""

    inputs: tuple[Node, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class WindowAssign:
    """A window table function whose rows are used as they are: input columns plus window_start, window_end,
    window_time (named by `names`); a row of HOP and CUMULATE comes once per window. SESSION never appears here."""

    input: Node
    window: Window
    time: str
    names: tuple[str, str, str]
    schema: Schema


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One aggregate. `function`: COUNT, SUM, AVG, MIN, MAX, FIRST_VALUE, LAST_VALUE, ARRAY_AGG, COLLECT, LISTAGG,
    STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP. `args` empty = COUNT(*). `filter`: BOOLEAN expression or None."""

    function: str
    args: tuple[Expression, ...]
    type: Type
    distinct: bool = False
    filter: Expression | None = None


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """Window function and GROUP BY in one: one row per key and window, when the watermark passes window end - 1 ms.

    `time`: the time attribute of the input. Output schema, always in this order: the keys, one column per aggregate,
    window start, window end (both plain TIMESTAMP(3)), window time (a time attribute of the type of `time`).
    `attached`: where the input rows already carry their window (windows over windows that group by the inherited
    window_start and window_end) the names of those two columns; then `window` is None.
    """

    input: Node
    window: Window | None
    time: str
    keys: tuple[Expression, ...]
    aggregates: tuple[AggregateCall, ...]
    schema: Schema
    attached: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class IntervalJoin:
    """Inner join of two streams on equal keys and  left.time BETWEEN right.time + lower AND right.time + upper  (ms,
    inclusive). `residual`: further condition over both sides' columns, or None. Output: left columns, then right ones
    (renamed where names collide: `schema` has the names in order)."""

    left: Node
    right: Node
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]
    left_time: str
    right_time: str
    lower: int
    upper: int
    residual: Expression | None
    schema: Schema


@dataclass(frozen=True, slots=True)
class WindowJoin:
    """Inner join of two inputs that carry windows, on equal window start and end and equal keys; emitted when the
    window closes. `left_window`/`right_window`: names of (window_start, window_end, window_time). As IntervalJoin."""

    left: Node
    right: Node
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]
    left_window: tuple[str, str, str]
    right_window: tuple[str, str, str]
    residual: Expression | None
    schema: Schema


Node = Scan | Project | Filter | Union | WindowAssign | WindowAggregate | IntervalJoin | WindowJoin


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One INSERT INTO. `name` is stable across restarts (the sink's name, `_2`, `_3` ... for further INSERTs into the
    same sink). `sink` None: a bare SELECT whose rows go to the caller; its name is `result`, `result_2`, ...
    `text`: the statement as written."""

    name: str
    root: Node
    sink: Table | None
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """A whole script (or all *.sql of a project): tables by name, pipelines in order, SET settings, view names."""

    tables: Mapping[str, Table]
    pipelines: tuple[Pipeline, ...]
    settings: Mapping[str, str]
    views: tuple[str, ...] = ()

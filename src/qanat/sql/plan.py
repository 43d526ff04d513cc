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
from typing import Literal

from qanat.model.functions import UserFunction
from qanat.model.streams import Stream
from qanat.model.types import Type
from qanat.sql.expressions import Expression
from qanat.sql.source import Source


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a node's output. `time_attribute`: carries event time (Flink's *ROWTIME*); `processing_time`:
    stands for the time of processing (Flink's *PROCTIME*) and has no value."""

    name: str
    type: Type
    time_attribute: bool = False
    processing_time: bool = False


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
    `schema`: all columns in declared order, the watermark's column marked as time attribute. `processing_time`:
    columns AS PROCTIME(); they stand in FOR SYSTEM_TIME AS OF and ORDER BY and have no value.
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
    processing_time: tuple[str, ...] = ()

    @property
    def changes(self) -> Literal["insert", "upsert", "retract"]:
        """What reading it gives: inserts; the latest row per key (and tombstones); a whole changelog."""
        if self.connector is None and self.key:
            return "upsert"
        return "retract" if self.options.get("format") == "debezium-json" else "insert"


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

#: LEFT, RIGHT and FULL are outer joins. SEMI: left rows that have a partner; ANTI: those that have none.
JoinKind = Literal["INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"]


# --- nodes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of a table: physical columns, then computed ones; `schema` is the table's. `reads`: for columns of ROW type
    of which not all is needed, the fields that are; a source may leave out the others."""

    table: Table
    schema: Schema
    reads: tuple[tuple[str, tuple[str, ...]], ...] = ()


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
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One aggregate. `function`: a name of `scalars.AGGREGATES`; in OVER also ROW_NUMBER, RANK, DENSE_RANK, LAG.
    `args` empty = COUNT(*). `filter`: BOOLEAN expression or None. `user`: the user's aggregate function that this calls
    (then `function` is its name)."""

    function: str
    args: tuple[Expression, ...]
    type: Type
    distinct: bool = False
    filter: Expression | None = None
    user: UserFunction | None = None


@dataclass(frozen=True, slots=True)
class WindowAggregate:
    """Window function and GROUP BY in one: one row per key and window, when the watermark passes window end - 1 ms.

    `time`: the time attribute of the input. Output schema, always in this order: the keys, one column per aggregate,
    window start, window end (both plain TIMESTAMP(3)), window time (a time attribute of the type of `time`).
    `attached`: where the input rows already carry their window (windows over windows that group by the inherited
    window_start and window_end) the names of those two columns; then `window` is None.
    `zone` (here and in all nodes with windows): where `time` is an instant, the time zone whose local days and hours
    the windows are of; None: UTC.
    """

    input: Node
    window: Window | None
    time: str
    keys: tuple[Expression, ...]
    aggregates: tuple[AggregateCall, ...]
    schema: Schema
    attached: tuple[str, str] | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class IntervalJoin:
    """Join of two streams on equal keys and  left.time BETWEEN right.time + lower AND right.time + upper  (ms,
    inclusive). `residual`: further condition over both sides' columns, or None. Output: left columns, then right ones
    (renamed where names collide: `schema` has the names in order). `kind`: INNER, LEFT, RIGHT or FULL."""

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
    kind: JoinKind = "INNER"


@dataclass(frozen=True, slots=True)
class WindowJoin:
    """Join of two inputs that carry windows, on equal window start and end and equal keys; emitted when the window
    closes. `left_window`/`right_window`: names of (window_start, window_end, window_time). As IntervalJoin, but any
    `kind`; SEMI and ANTI give the left columns only (`residual` reads the right ones by the names `side_by_side` gave:
    `joined` has all columns of both sides)."""

    left: Node
    right: Node
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]
    left_window: tuple[str, str, str]
    right_window: tuple[str, str, str]
    residual: Expression | None
    schema: Schema
    kind: JoinKind = "INNER"
    joined: Schema = ()
    zone: str | None = None


# --- nodes that keep and change results (changelogs) ---------------------------------------------------------
#
# A row of these has a kind: +I, -U, +U, -D (`embedded.flow.Batch.kinds`). Which nodes give what is in `changelog.py`.


@dataclass(frozen=True, slots=True)
class Ordering:
    """One column of an ORDER BY."""

    column: str
    descending: bool = False
    nulls_last: bool = False


@dataclass(frozen=True, slots=True)
class Expand:
    """GROUPING SETS: every input row once per set, with those of `keys` that are not in the set NULL. `id`: name of the
    added BIGINT column that numbers the set (0, 1, ...). Output: input columns, then `id`."""

    input: Node
    keys: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    id: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class WindowRank:
    """Per window and `partition` the rows with ROW_NUMBER from `first` to `last` (1 = the first) in order of `order`,
    when the watermark passes window end - 1 ms. `window`: names of (window_start, window_end, window_time) of the
    input. Window deduplication is rank 1 by the time attribute. Output: input columns, then `number` (BIGINT) if not
    None."""

    input: Node
    window: tuple[str, str, str]
    partition: tuple[str, ...]
    order: tuple[Ordering, ...]
    first: int
    last: int
    number: str | None
    schema: Schema
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class RegularJoin:
    """Join without bounds on time. Both inputs may be changelogs; the output is one unless both are insert-only and
    the kind is INNER (or SEMI on an insert-only right). `left_ttl`, `right_ttl`: ms of arrival time after which a row
    that was not touched is forgotten; None: never. Columns and `joined` as WindowJoin."""

    left: Node
    right: Node
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]
    residual: Expression | None
    schema: Schema
    kind: JoinKind = "INNER"
    joined: Schema = ()
    left_ttl: int | None = None
    right_ttl: int | None = None


@dataclass(frozen=True, slots=True)
class TemporalJoin:
    """FOR SYSTEM_TIME AS OF: each left row with the version of the right row of its key that was valid at the left
    row's time. Event time: `left_time` and `right_time` name time attributes; left rows wait for the watermark.
    Processing time: both None; the version that has arrived so far, at once. The right input is a changelog whose key
    is `right_keys`; the left one is insert-only. `kind`: INNER or LEFT."""

    left: Node
    right: Node
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]
    left_time: str | None
    right_time: str | None
    residual: Expression | None
    schema: Schema
    kind: JoinKind = "INNER"


@dataclass(frozen=True, slots=True)
class LookupJoin:
    """Each left row with the rows of a table outside the log (a database, a file) that have its keys now.
    `columns`: the table's columns that are read, `keys`: names of the table's columns that `left_keys` equal. Output:
    left columns, then `columns`, renamed in `schema` where names collide. `kind`: INNER or LEFT."""

    left: Node
    table: Table
    columns: tuple[str, ...]
    left_keys: tuple[Expression, ...]
    keys: tuple[str, ...]
    residual: Expression | None
    schema: Schema
    kind: JoinKind = "INNER"


@dataclass(frozen=True, slots=True)
class GroupAggregate:
    """GROUP BY without a window: a changelog of one row per key. Output: the keys, then one column per aggregate.
    `aggregates` empty: DISTINCT. `ttl`: ms of arrival time after which an untouched key is forgotten; None: never."""

    input: Node
    keys: tuple[Expression, ...]
    aggregates: tuple[AggregateCall, ...]
    schema: Schema
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Deduplicate:
    """The first or last row per `partition`, by the time attribute `time` or, where None, by arrival (PROCTIME).
    Output: the input's columns."""

    input: Node
    partition: tuple[str, ...]
    time: str | None
    keep: Literal["FIRST", "LAST"]
    schema: Schema
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Rank:
    """Top-N: per `partition` the rows with ROW_NUMBER from `first` to `last`, kept up to date. Output: input columns,
    then `number` (BIGINT) if not None. Input may be a changelog."""

    input: Node
    partition: tuple[str, ...]
    order: tuple[Ordering, ...]
    first: int
    last: int
    number: str | None
    schema: Schema
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class RowNumber:
    """ROW_NUMBER() in any order: stands in a plan only while a query is bound. A condition on `number` makes a `Rank`,
    `Deduplicate` or `WindowRank` of it (`ranking.py`). `source`, `at`: its place in the text. Output: input columns,
    then `number`."""

    input: Node
    partition: tuple[str, ...]
    order: tuple[Ordering, ...]
    number: str
    window: tuple[str, str, str] | None
    source: Source
    at: int | None
    schema: Schema


@dataclass(frozen=True, slots=True)
class Over:
    """Aggregates over the rows before each row: every input row once, with one column per call behind its own.
    `time`: the time attribute that orders, rows come out when the watermark passes them, in order of time, then
    arrival; None: by arrival (PROCTIME), at once. The frame ends with the current row (RANGE: with all rows of its
    time) and begins `preceding` rows (`rows`) or ms (RANGE) before it; None: UNBOUNDED."""

    input: Node
    partition: tuple[str, ...]
    time: str | None
    rows: bool
    preceding: int | None
    calls: tuple[AggregateCall, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Correlate:
    """UNNEST or a user's table function: each input row with every row that comes of it. `function` None: UNNEST of
    args[0] (ARRAY, MAP, or ARRAY of ROW whose fields become columns; `ordinality`: with a last column that counts from
    1). Output: input columns, then those of the function. `kind`: INNER, or LEFT (NULLs where nothing comes)."""

    input: Node
    function: UserFunction | None
    args: tuple[Expression, ...]
    ordinality: bool
    schema: Schema
    kind: JoinKind = "INNER"


@dataclass(frozen=True, slots=True)
class Normalize:
    """Upserts (the latest row per key, deletes as tombstones) -> a whole changelog: +I, -U and +U, -D. A row equal to
    the one before it changes nothing."""

    input: Node
    key: tuple[str, ...]
    schema: Schema
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Materialize:
    """A changelog whose own key is not `key` (a sink's PRIMARY KEY) -> one by `key`: of several rows with one key the
    last one added counts."""

    input: Node
    key: tuple[str, ...]
    schema: Schema
    ttl: int | None = None


Node = (
    Scan
    | Project
    | Filter
    | Union
    | WindowAssign
    | WindowAggregate
    | IntervalJoin
    | WindowJoin
    | Expand
    | WindowRank
    | RegularJoin
    | TemporalJoin
    | LookupJoin
    | GroupAggregate
    | Deduplicate
    | Rank
    | RowNumber
    | Over
    | Correlate
    | Normalize
    | Materialize
)


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

"""What a file of cases says, as values: texts, lines and places, before any type is known. Reads and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: Columns of given rows that say how a row comes, not what is in it.
ARRIVED, PARTITION = "@arrived", "@partition"
#: The column of a changelog, and what it may hold.
OP = "op"
OPS = ("+I", "-U", "+U", "-D")
#: Watermarks that are no time: before the first row, and after the end of the inputs.
NO_WATERMARK, END = "none", "end"


class Written(str):
    """A cell of a table: text whose type depends on its column."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row as written. `cells`: by column, a `Written` text or a value of YAML."""

    line: int
    cells: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as written, and the columns that they name."""

    line: int
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in the file something stands that `--update` may replace: offsets of characters, and the indentation of
    the key. `form`: table (lines of a block), list (items, which begin at the lines `items`), or scalar (one value).
    `flow`: it stands inside braces, where no block can."""

    start: int
    end: int
    indent: int
    form: Literal["table", "list", "scalar"]
    items: tuple[int, ...] = ()
    flow: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Rows for streams and tables, interleaved by event time. `arrived`, `partition`: of rows that do not say."""

    line: int
    streams: tuple[tuple[str, Rows], ...]
    arrived: str | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Payloads:
    """Messages as a device sends them: bytes, and the line of each."""

    line: int
    stream: str
    payloads: tuple[tuple[int, bytes], ...]
    arrived: str | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Crash:
    """The process is killed while it works on what was given last."""

    line: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The process ends in order and starts again."""

    line: int


@dataclass(frozen=True, slots=True)
class Idle:
    """A stream, or one partition of it, has been silent for its idle timeout."""

    line: int
    stream: str
    partition: int | None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a stream holds at a point. `rows` None: only how many (`count`); both None: nothing is said yet.

    `changes`: `rows` has the column `op`. `unordered` None: as is right for the stream.
    """

    line: int
    stream: str
    rows: Rows | None
    count: int | None
    spot: Spot
    changes: bool = False
    unordered: bool | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class WatermarkExpectation:
    """The watermark of a pipeline at a point: a time, `none` or `end`."""

    line: int
    pipeline: str
    text: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Check:
    """Everything that is expected at one point."""

    line: int
    streams: tuple[Expectation, ...]
    watermarks: tuple[WatermarkExpectation, ...] = ()


Step = Given | Payloads | Crash | Restart | Idle | Check


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `ends`: after the last step the inputs end; `final` is judged then. `date`: of times without one."""

    name: str
    line: int
    steps: tuple[Step, ...]
    final: Check | None
    ends: bool = True
    date: str | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of cases. `name`: as shown; `parameters`: of the SQL, for the cases of this file."""

    name: str
    text: str
    cases: tuple[Case, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)

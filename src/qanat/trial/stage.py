"""What the cases of a program stand on: every table as a stream of a log in memory, pipelines in the order of work.

Declares only; `drive` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qanat.errors import ConfigError
from qanat.model.streams import Column, Stream, dead_letter_stream, late_stream
from qanat.model.types import Type
from qanat.sql.plan import Pipeline, Program, Scan, Table
from qanat.sql.tree import walk


@dataclass(frozen=True, slots=True)
class Target:
    """Rows that a case can look at. `captured`: they are not in the log but in the hands of a sink;
    `retracts`: an update of them is stored as a delete and an insert."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    captured: bool = False
    retracts: bool = False

    @property
    def types(self) -> dict[str, Type]:
        """The type of each column."""
        return {column.name: column.type for column in self.columns}


@dataclass(frozen=True, slots=True)
class Stage:
    """`pipelines`: writers before readers. `streams`: all of the log, by name. `reads`: table names per pipeline."""

    tables: Mapping[str, Table]
    pipelines: tuple[Pipeline, ...]
    streams: Mapping[str, Stream]
    targets: Mapping[str, Target]
    reads: Mapping[str, frozenset[str]]

    def sink_of(self, pipeline: Pipeline) -> Target:
        """Where the rows of a pipeline can be looked at."""
        return self.targets[pipeline.name if pipeline.sink is None else pipeline.sink.name]

    def writers(self, name: str) -> list[Pipeline]:
        """The pipelines that write a table."""
        return [one for one in self.pipelines if one.sink is not None and one.sink.name == name]

    def is_read(self, name: str) -> bool:
        """Whether a pipeline reads the table."""
        return any(name in read for read in self.reads.values())


def build_stage(program: Program) -> Stage:
    """Streams for all tables, files and other connectors included. Raises `ConfigError` where there is no pipeline."""
    if not program.pipelines:
        raise ConfigError("the project has no pipelines to test", hint="add an INSERT INTO ... SELECT to a *.sql file")
    reads = {pipeline.name: _reads(pipeline) for pipeline in program.pipelines}
    read = frozenset().union(*reads.values())
    streams: dict[str, Stream] = {}
    targets: dict[str, Target] = {}
    for table in program.tables.values():
        stream = _stream_of(table)
        captured = table.stream is None and table.name not in read
        targets[table.name] = Target(table.name, stream.columns, table.key, captured, table.changes == "retract")
        if not captured:
            streams[table.name] = stream
    for pipeline in program.pipelines:
        if pipeline.sink is None:
            columns = tuple(Column(field.name, field.type) for field in pipeline.root.schema)
            targets[pipeline.name] = Target(pipeline.name, columns, captured=True)
    for own in (late_stream(), dead_letter_stream()):
        streams[own.name] = own
        targets[own.name] = Target(own.name, own.columns)
    return Stage(program.tables, _in_order(program, reads), streams, targets, reads)


def _reads(pipeline: Pipeline) -> frozenset[str]:
    return frozenset(node.table.name for node in walk(pipeline.root) if isinstance(node, Scan))


def _stream_of(table: Table) -> Stream:
    """The stream in the log that holds the table's rows; nothing is deleted while a case runs."""
    if table.stream is not None:
        return replace(table.stream, retention_ms=None, retention_bytes=None, compact=False)
    columns = tuple(Column(field.name, field.type) for field in table.physical)
    return Stream(table.name, columns, upsert=table.changes != "insert")


def _in_order(program: Program, reads: Mapping[str, frozenset[str]]) -> tuple[Pipeline, ...]:
    """Pipelines so that who writes a table comes before who reads it; as declared where that is open, or a circle."""
    left = list(program.pipelines)
    ordered: list[Pipeline] = []
    while left:
        unwritten = {one.sink.name for one in left if one.sink is not None}
        ready = next((one for one in left if not reads[one.name] & unwritten), left[0])
        ordered.append(ready)
        left.remove(ready)
    return tuple(ordered)

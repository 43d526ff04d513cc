"""Which streams a program reads and writes, and how far its pipelines are behind. Creates and changes nothing."""

from __future__ import annotations

from dataclasses import replace

from qanat.log.base import Log
from qanat.model.project import Project
from qanat.model.streams import Stream, dead_letter_stream, late_stream
from qanat.sql.plan import Pipeline, Program, Scan
from qanat.sql.tree import walk


def read_by(pipeline: Pipeline) -> set[str]:
    """The streams of the log that a pipeline reads."""
    tables = [node.table for node in walk(pipeline.root) if isinstance(node, Scan)]
    return {table.stream.name for table in tables if table.stream is not None}


def scanned(program: Program) -> set[str]:
    """The tables that pipelines read, whatever their connector."""
    nodes = [node for pipeline in program.pipelines for node in walk(pipeline.root)]
    return {node.table.name for node in nodes if isinstance(node, Scan)}


def unfilled(program: Program) -> set[str]:
    """The streams that pipelines read and none writes: their rows must come from outside."""
    return set().union(*map(read_by, program.pipelines)) - written_by(program)


def written_by(program: Program) -> set[str]:
    """The streams of the log that pipelines write."""
    sinks = [pipeline.sink.stream for pipeline in program.pipelines if pipeline.sink is not None]
    return {stream.name for stream in sinks if stream is not None}


def declared_by(program: Program) -> dict[str, Stream]:
    """The streams of the log that the program declares, by name."""
    streams = [table.stream for table in program.tables.values()]
    return {stream.name: stream for stream in streams if stream is not None}


def all_streams(program: Program) -> dict[str, Stream]:
    """Declared streams and those that every project has."""
    own = (dead_letter_stream(), late_stream())
    return declared_by(program) | {stream.name: stream for stream in own}


def with_retention(program: Program, project: Project) -> Program:
    """The program, its streams with the project's retention where they have none of their own."""
    tables = {
        name: table if table.stream is None else replace(table, stream=project.retained(table.stream))
        for name, table in program.tables.items()
    }
    return replace(program, tables=tables)


def lags(log: Log, program: Program) -> dict[str, int]:
    """Per pipeline: rows of its streams that it has not read yet."""
    status = log.status()
    found = {}
    for pipeline in program.pipelines:
        positions = log.positions(pipeline.name)
        found[pipeline.name] = sum(
            max(0, end - max(positions.get((name, partition), 0), status[name].starts.get(partition, 0)))
            for name in read_by(pipeline) & set(status)
            for partition, end in status[name].ends.items()
        )
    return found

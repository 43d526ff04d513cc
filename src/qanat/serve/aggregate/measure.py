"""Declared aggregates, checked against their streams. No I/O."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qanat.errors import ConfigError
from qanat.model.serve import Aggregate
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import Kind

WHOLE = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT})
_NUMBERS = WHOLE | {Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL}
_DIMENSIONS = WHOLE | {Kind.STRING, Kind.BOOLEAN}
_TIMES = frozenset({Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ})
#: What a question may say beside dimensions.
PARAMETERS = ("by", "window", "from", "to", "tz", "align", "functions", "empty")

#: The value of a dimension; None where a row has none.
Value = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Measure:
    """One aggregate: `value` over `time`, chosen and grouped by `dimensions`.

    Upsert streams count the latest row of a key only, and are answered by SQL.
    """

    name: str
    stream: Stream
    value: Column
    time: ArrivalColumn
    dimensions: tuple[Column, ...]
    ttl_ms: int

    @property
    def follows_log(self) -> bool:
        """Whether rows taken from the log as they come are what SQL would find, and `time` is what the log knows."""
        return not self.stream.upsert and not self.stream.compact and self.time == self.stream.event_time


def measures_of(declared: Mapping[str, Aggregate], streams: Mapping[str, Stream]) -> dict[str, Measure]:
    """What is declared under `serve.aggregates`. Raises `ConfigError` that names the key and what is possible."""
    return {name: _measure(name, one, streams) for name, one in declared.items()}


def _measure(name: str, declared: Aggregate, streams: Mapping[str, Stream]) -> Measure:
    place = f"serve.aggregates.{name}"
    if declared.stream not in streams:
        raise _unknown(f"{place}.stream", declared.stream, streams)
    stream = streams[declared.stream]
    columns = {column.name: column for column in stream.columns}
    value = _column(f"{place}.value", declared.value, columns)
    if value.type.kind not in _NUMBERS:
        raise ConfigError(f"{place}.value: {value.name} is {value.type}", hint="an aggregate is made of numbers")
    return Measure(
        name,
        stream,
        value,
        _time(f"{place}.time", declared.time, stream, columns),
        tuple(_dimension(f"{place}.dimensions", one, columns) for one in dict.fromkeys(declared.dimensions)),
        int(declared.ttl),
    )


def _time(place: str, wanted: str | None, stream: Stream, columns: Mapping[str, Column]) -> ArrivalColumn:
    if wanted is None or (stream.event_time is not None and wanted == stream.event_time.name):
        if stream.event_time is None:
            raise ConfigError(f"{place}: {stream.name} has no event time", hint="name a column of type TIMESTAMP_LTZ")
        found = columns[stream.event_time.name]
        if found.type.kind not in WHOLE | _TIMES:
            raise ConfigError(f"{place}: {found.name} is {found.type}", hint="declare it as BIGINT or TIMESTAMP_LTZ")
        return stream.event_time
    column = _column(place, wanted, columns)
    if column.type.kind not in _TIMES:
        raise ConfigError(f"{place}: {column.name} is {column.type}", hint="name a column of type TIMESTAMP_LTZ")
    return ArrivalColumn(column.name, None)


def _dimension(place: str, name: str, columns: Mapping[str, Column]) -> Column:
    column = _column(place, name, columns)
    if column.type.kind not in _DIMENSIONS:
        raise ConfigError(
            f"{place}: {name} is {column.type}", hint="text, whole numbers and booleans can be dimensions"
        )
    if name in PARAMETERS:
        raise ConfigError(f"{place}: {name} is a parameter of the request", hint="give the column another name")
    return column


def _column(place: str, name: str, columns: Mapping[str, Column]) -> Column:
    if name not in columns:
        raise _unknown(place, name, columns)
    return columns[name]


def _unknown(place: str, name: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return ConfigError(
        f"{place}: there is no {name}" + (f"; did you mean {near[0]}?" if near else ""),
        hint=f"there are: {', '.join(known) or 'none'}",
    )

"""What answers look like, for the OpenAPI document: nothing is checked with these when the server runs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of all."""

    model_config = ConfigDict(extra="allow")


class ColumnModel(Model):
    """One column of a stream."""

    name: str = Field(examples=["temperature"])
    type: str = Field(description="as in SQL", examples=["DOUBLE"])
    nullable: bool


class PartitionModel(Model):
    """One partition."""

    partition: int
    start: int = Field(description="first offset that can be read")
    end: int = Field(description="offset after the newest row")


class StreamModel(Model):
    """One stream as it is now."""

    name: str = Field(examples=["readings"])
    columns: list[ColumnModel]
    key: list[str] = Field(description="columns of the PRIMARY KEY")
    event_time: str | None = Field(description="the column that has the event time")
    upsert: bool = Field(description="whether it holds the latest row of each key")
    partitions: list[PartitionModel]
    rows: int = Field(description="in the log")
    bytes: int = Field(description="in the log")
    newest: str | None = Field(description="newest event time", examples=["2026-11-21T10:00:00.000Z"])
    lag_ms: int | None = Field(description="how far that lies behind the clock of the server; below 0: ahead of it")
    archived: bool


class StreamsModel(Model):
    """All streams that may be read."""

    streams: list[StreamModel]


class RowsModel(Model):
    """A page of rows."""

    rows: list[dict[str, Any]]
    next: str | None = Field(description="give it back as `after` for the next page; null where there is none now")
    position: str = Field(description="where the page ends, also where it is the last one")


class AppendedModel(Model):
    """What became of rows."""

    accepted: int
    dead_letters: int
    errors: list[dict[str, Any]] | None = None


class QueryModel(Model):
    """The answer of a query."""

    rows: list[dict[str, Any]]
    columns: list[dict[str, Any]] = Field(description="names and Arrow types")
    row_count: int
    truncated: bool = Field(description="whether there would have been more rows than the limit allows")


class SensorModel(Model):
    """What measures at a site."""

    name: str
    streams: list[str]
    kind: str | None = None
    last: str | None = Field(description="event time of the last reading")
    reading: dict[str, Any] | None = Field(description="the last reading")


class SiteModel(Model):
    """One site."""

    site: str
    kinds: list[str]
    devices: list[str]
    sensors: list[SensorModel]
    last: str | None = Field(description="event time of the last reading")


class SitesModel(Model):
    """All sites."""

    sites: list[SiteModel]
    complete: bool = Field(description="false where there are more sensors than are remembered")


class PipelineModel(Model):
    """One pipeline."""

    name: str
    state: str = Field(description="waiting, running, finished, stopped or failed")
    rows_in: int
    rows_out: int
    lag: int = Field(description="rows that it has not read yet")
    late: int = Field(description="rows that came after all of their windows were closed")
    partly_late: int
    dead_letters: int
    watermark: str | None
    state_bytes: int
    error: str | None


class PipelinesModel(Model):
    """All pipelines."""

    pipelines: list[PipelineModel]


class FaultModel(Model):
    """What is not well."""

    part: str
    fault: str


class ReadyModel(Model):
    """Whether all is well."""

    ready: bool
    faults: list[FaultModel]


class DroppedModel(Model):
    """Dead letters that were put aside."""

    dropped: int
    letters: list[dict[str, Any]]


class ProblemModel(Model):
    """RFC 9457, with a hint."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None

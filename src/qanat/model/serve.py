"""The section `serve:` of qanat.yaml: what is asked so often that it has a name, and how much is kept in memory."""

from __future__ import annotations

import msgspec

from qanat.model.sections import Duration, Section, Size


class Aggregate(Section, frozen=True):
    """Windows over one column of a stream, as `GET /v1/aggregate/NAME` answers them.

    `time`: the column that windows go by, the stream's event time where it is not given. `dimensions`: the columns that
    rows are chosen and grouped by. `ttl`: how long an answer may be given again.
    """

    stream: str
    value: str
    time: str | None = None
    dimensions: tuple[str, ...] = ()
    ttl: Duration = Duration(120_000)


class RecentRows(Section, frozen=True):
    """How far back rows of aggregates are kept in memory, and how much of it they may take, all together."""

    horizon: Duration = Duration(86_400_000)
    memory: Size = Size(256 << 20)


class Serve(Section, frozen=True):
    """What is answered over HTTP beside the streams themselves."""

    aggregates: dict[str, Aggregate] = msgspec.field(default_factory=dict)
    recent: RecentRows = RecentRows()

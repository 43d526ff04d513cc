"""Which sites there are, what measures at them, and the last reading of each: followed in the log, row by row once.

Made of the rows that the log still has, and of the labels of devices; sensors that were removed as devices are left
out. Used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from qanat.clock import instant_text
from qanat.gateway.filters import event_millis
from qanat.log.base import Chunk, StreamStatus
from qanat.model.streams import CHANGE, DELETED, Stream
from qanat.secure.registry import Filter
from qanat.serve.access import Caller
from qanat.serve.context import ServeContext
from qanat.serve.formats import json_lines
from qanat.serve.paging import Places, shown

#: Series (stream, site, sensor) that are remembered; more are left out, and it is said.
MOST = 100_000
_FOLDED_AT_ONCE = 1 << 16
_KIND = "kind"
_PAGE = 10_000


@dataclass(slots=True)
class _Last:
    """The reading of one series with the latest event time. `row`: JSON."""

    time: int | None
    row: bytes
    kind: str | None


@dataclass(slots=True)
class _Followed:
    """One stream, as far as it was read."""

    positions: dict[int, int]
    last: dict[tuple[str, str], _Last] = field(default_factory=dict)


class Sites:
    """What is known of all streams that have the column of sites."""

    def __init__(self, context: ServeContext) -> None:
        self._context = context
        self._site, self._sensor = context.settings.site, context.settings.sensor
        self._streams: dict[str, _Followed] = {}
        self._count = 0

    def find(self, caller: Caller, only: str | None = None) -> dict[str, Any]:
        """The sites of what the caller may read, by name. Raises what the log raises."""
        found: dict[str, _Site] = {}
        registry = self._context.auth.desk
        retired = {} if registry is None else registry.retired()
        for name, status in sorted(self._context.log.status().items()):
            if self._site in {column.name for column in status.stream.columns} and caller.may_read(name):
                for (site, sensor), last in self._follow(name, status).last.items():
                    if not _is_over(last, retired.get(sensor)):
                        found.setdefault(site, _Site()).add(sensor, name, last)
        if caller.user is None or caller.may_see_devices:
            for device in self._devices():
                found.setdefault(device.labels[self._site], _Site()).devices[device.id] = device.kind
        sites = [site.described(name) for name, site in sorted(found.items()) if only in (None, name)]
        return {"sites": sites, "complete": self._count < MOST}

    def _devices(self) -> Iterable[Any]:
        registry = self._context.auth.desk
        after = ""
        while registry is not None:
            page = registry.select(Filter(), after, _PAGE)
            yield from (device for device in page if self._site in device.labels)
            if len(page) < _PAGE:
                return
            after = page[-1].id

    # --- following ---------------------------------------------------------------------------------------------------

    def _follow(self, name: str, status: StreamStatus) -> _Followed:
        followed = self._streams.setdefault(name, _Followed(dict(status.starts)))
        places = Places(self._context.log, None, status)
        waiting: list[Chunk] = []
        for number, end in status.ends.items():
            begin = max(followed.positions.get(number, 0), status.starts.get(number, 0))
            for chunk in places.onwards(number, begin, end):
                waiting.append(chunk)
                if sum(one.rows.num_rows for one in waiting) >= _FOLDED_AT_ONCE:
                    self._fold(followed, waiting, status)
                    waiting = []
            followed.positions[number] = end
        self._fold(followed, waiting, status)
        return followed

    def _fold(self, followed: _Followed, chunks: list[Chunk], status: StreamStatus) -> None:
        if not chunks:
            return
        rows = shown([_kept(one.rows) for one in chunks], status, None)
        newest = _newest(rows, status.stream, self._site, _sensor_of(status.stream, self._site, self._sensor))
        lines = json_lines(newest.rows).splitlines()
        kinds = newest.rows[_KIND].to_pylist() if _KIND in newest.rows.column_names else [None] * len(lines)
        for key, time, line, kind in zip(newest.keys, newest.times, lines, kinds, strict=True):
            known = followed.last.get(key)
            if known is None:
                if self._count >= MOST:
                    continue
                self._count += 1
            elif known.time is not None and (time is None or time < known.time):
                continue
            followed.last[key] = _Last(time, line, None if kind is None else str(kind))


def _is_over(last: _Last, retired: int | None) -> bool:
    """Whether the device of a series was removed (ms) and nothing has come since that is younger."""
    return retired is not None and (last.time is None or last.time <= retired)


@dataclass(frozen=True, slots=True)
class _Newest:
    """One row per series: site and sensor, event time (ms)."""

    keys: list[tuple[str, str]]
    times: list[int | None]
    rows: pa.Table


def _kept(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Without rows that delete."""
    if CHANGE not in rows.schema.names:
        return rows
    return rows.filter(pc.invert(pc.fill_null(pc.equal(rows.column(CHANGE), DELETED), False)))


def _sensor_of(stream: Stream, site: str, sensor: str) -> str | None:
    """The column that says what measured; else the key's; else there is one for the whole stream."""
    if sensor in {column.name for column in stream.columns}:
        return sensor
    others = [name for name in stream.key if name != site]
    return others[0] if others else None


def _newest(rows: pa.Table, stream: Stream, site: str, sensor: str | None) -> _Newest:
    rows = rows.filter(pc.is_valid(rows[site]))
    sensors = pa.array([stream.name] * rows.num_rows, pa.string()) if sensor is None else _texts(rows[sensor])
    times = pa.nulls(rows.num_rows, pa.int64()) if stream.event_time is None else event_millis(rows, stream.event_time)
    places = pa.array(range(rows.num_rows), pa.int64())
    table = pa.table([_texts(rows[site]), sensors, times, places], names=["site", "sensor", "time", "place"])
    table = table.sort_by([("time", "ascending"), ("place", "ascending")])
    grouped = table.group_by(["site", "sensor"], use_threads=False).aggregate([("time", "last"), ("place", "last")])
    keys = list(zip(grouped["site"].to_pylist(), grouped["sensor"].to_pylist(), strict=True))
    return _Newest(keys, grouped["time_last"].to_pylist(), rows.take(grouped["place_last"]))


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column.cast(pa.string()), "")


class _Site:
    """One site while it is put together."""

    def __init__(self) -> None:
        self.devices: dict[str, str] = {}
        self._sensors: dict[str, dict[str, _Last]] = {}

    def add(self, sensor: str, stream: str, last: _Last) -> None:
        """A series of it."""
        self._sensors.setdefault(sensor, {})[stream] = last

    def described(self, name: str) -> dict[str, Any]:
        """For programs."""
        sensors = [_sensor(sensor, streams, self.devices) for sensor, streams in sorted(self._sensors.items())]
        kinds = {one["kind"] for one in sensors} | set(self.devices.values())
        return {
            "site": name,
            "kinds": sorted(kind for kind in kinds if kind),
            "devices": sorted(self.devices),
            "sensors": sensors,
            "last": max((one["last"] for one in sensors if one["last"]), default=None),
        }


def _sensor(name: str, streams: Mapping[str, _Last], devices: Mapping[str, str]) -> dict[str, Any]:
    newest = max(streams.values(), key=lambda one: -1 if one.time is None else one.time)
    return {
        "name": name,
        "streams": sorted(streams),
        "kind": newest.kind or devices.get(name) or None,
        "last": None if newest.time is None else instant_text(newest.time),
        "reading": orjson.loads(newest.row),
    }

"""Event times of rows and of bounds as UTC dates, by which files are kept apart. Pure.

Dates before the year 1 and after 9999 are put at those ends, for rows and bounds alike, so that no bound loses a row.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.streams import ArrivalColumn

Days = npt.NDArray[np.int32]

_DAY_S = 86_400
_EPOCH = dt.date(1970, 1, 1).toordinal()
_FIRST, _LAST = dt.date.min.toordinal() - _EPOCH, dt.date.max.toordinal() - _EPOCH
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def dates_of(rows: pa.Table, source: ArrivalColumn | None, arrived: npt.NDArray[np.int64]) -> Days:
    """The date of every row, as days since 1970: of its event time; of its arrival (ms) where it has none.

    `rows` have the declared types.
    """
    by_arrival = _days(arrived, 1_000)
    if source is None:
        return by_arrival
    column = rows.column(source.name)
    per_second = source.per_second or _PER_SECOND[column.type.unit]
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        column = pc.floor(column)
    times = pc.fill_null(column.cast(pa.int64(), safe=False), 0).to_numpy()
    found = _days(times, per_second)
    return np.where(column.is_null().to_numpy(), by_arrival, found) if column.null_count else found


def day_of(time_ms: int) -> int:
    """The date of an instant, as days since 1970."""
    return int(min(max(time_ms // (_DAY_S * 1_000), _FIRST), _LAST))


def date_text(day: int) -> str:
    """Days since 1970 as `2026-11-21`."""
    return dt.date.fromordinal(day + _EPOCH).isoformat()


def date(day: int) -> dt.date:
    """Days since 1970 as a date."""
    return dt.date.fromordinal(day + _EPOCH)


def _days(times: npt.NDArray[np.int64], per_second: int) -> Days:
    return np.clip(times // (per_second * _DAY_S), _FIRST, _LAST).astype(np.int32)

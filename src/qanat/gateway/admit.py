"""Offers -> one transaction's appends and one verdict per offer.

Payloads are decoded in bulk, a missing arrival time is filled in, rows of broken clocks and what does not fit go to the
dead letters, the rest is spread over partitions.

Pure and safe to run in a thread: no clock, no log, no event loop. Law 5 (future skew) and law 7 (dead letters) are
kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.base import BadRow, Decode, Decoded, RelativeTimes, join_payloads
from qanat.codec.csv import CsvOptions
from qanat.codec.csv_fields import parse_columns
from qanat.errors import ConfigError
from qanat.gateway.offers import Dead, DeadKind, Offer, Verdict
from qanat.log.base import Append
from qanat.log.partitions import partition_of, partition_rows
from qanat.model.arrow import schema_of
from qanat.model.streams import DEAD_LETTERS, ArrivalColumn, Column, Stream, dead_letter_stream

Times = npt.NDArray[np.int64]

_DEAD_COLUMNS = dead_letter_stream().columns
_DEAD_SCHEMA = schema_of((column.name, column.type) for column in _DEAD_COLUMNS)
_FARTHEST = (2**63 - 1) // 1000
#: How texts of topics are read: as the fields of a CSV file.
_TEXTS = CsvOptions()


@dataclass(frozen=True, slots=True)
class Inlet:
    """A stream as its input is decoded: the columns, with NULL allowed where the arrival time is filled in.

    `decode` is for offers that bring no decoder of their own. `schema_version`: the version of the stream's contract
    that is in force; dead letters carry it.
    """

    stream: Stream
    columns: tuple[Column, ...]
    decode: Decode
    schema_version: int | None = None


@dataclass(slots=True)
class Batch:
    """`verdicts` in the order of the offers; `accepted` and `dead` count rows for the metrics.

    `rows` has the rows of each offer; `state` what the offers want to be kept with them.
    """

    appends: list[Append] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    state: dict[str, bytes | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Letters:
    """Dead letters of one flush, by offer."""

    inlets: Mapping[str, Inlet]
    by_offer: dict[int, list[Dead]] = field(default_factory=dict)
    rows: list[tuple[int, str, str, bytes, str, str, str, int | None]] = field(default_factory=list)

    def add(self, number: int, offer: Offer, dead: Dead) -> None:
        self.by_offer.setdefault(number, []).append(dead)
        data = offer.payloads[dead.index]
        version = self.inlets[offer.stream].schema_version if offer.known else None
        origin = offer.origin if offer.place is None else offer.origin + offer.place(dead.index)
        place = (offer.source, origin, offer.client, version)
        self.rows.append((offer.arrived, offer.stream, dead.reason, data, *place))


def open_inlet(stream: Stream, decode: Decode, schema_version: int | None = None) -> Inlet:
    """Raises `ConfigError` where the arrival column is not a column, or holds no times."""
    arrival = stream.arrival
    if arrival is None:
        return Inlet(stream, stream.columns, decode, schema_version)
    by_name = {column.name: column for column in stream.columns}
    if arrival.name not in by_name:
        raise ConfigError(f"the event time column {arrival.name} is not a column of the stream {stream.name}")
    kind = schema_of([(arrival.name, by_name[arrival.name].type)]).field(0).type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (pa.types.is_timestamp(kind) if arrival.per_second is None else numeric):
        raise ConfigError(f"the column {arrival.name} of the stream {stream.name} holds no times: {kind}")
    columns = tuple(
        replace(column, type=column.type.with_nullable(True)) if column.name == arrival.name else column
        for column in stream.columns
    )
    return Inlet(stream, columns, decode, schema_version)


def admit(offers: Sequence[Offer], inlets: Mapping[str, Inlet], max_future_skew_ms: int) -> Batch:
    """Everything that one flush puts into the log."""
    batch, letters = Batch(rows=[0] * len(offers)), _Letters(inlets)
    alike: dict[tuple[str, Decode | None, tuple[str, ...]], list[int]] = {}
    for number, offer in enumerate(offers):
        if not offer.payloads:
            continue
        if offer.known:
            form = offer.stream, offer.decode, tuple(name for name, _ in offer.fill) if offer.fill else ()
            numbers = alike.get(form)
            if numbers is None:
                alike[form] = [number]
            else:
                numbers.append(number)
        else:
            reason = f"no stream {offer.stream!r}; declare it with CREATE TABLE, or correct the topic"
            for index in range(len(offer.payloads)):
                letters.add(number, offer, Dead(index, DeadKind.UNKNOWN_STREAM, reason))
    for (name, decode, filled), numbers in alike.items():
        inlet = _inlet_for(inlets[name], decode, filled)
        _admit_stream(inlet, offers, numbers, max_future_skew_ms, batch, letters)
    _close(batch, letters, offers)
    return batch


def _admit_stream(
    inlet: Inlet, offers: Sequence[Offer], numbers: Sequence[int], skew: int, batch: Batch, letters: _Letters
) -> None:
    """One stream's payloads of all offers of one form, decoded at once."""
    mine = [offers[number] for number in numbers]
    payloads = join_payloads([offer.payloads for offer in mine])
    counts = np.array([offer.count for offer in mine], dtype=np.int64)
    owner = np.repeat(np.arange(len(mine)), counts)
    starts = np.cumsum(counts) - counts

    def bury(place: int, kind: DeadKind, reason: str) -> None:
        which = int(owner[place])
        letters.add(numbers[which], mine[which], Dead(place - int(starts[which]), kind, reason))

    decoded = _decode_all(inlet, payloads)
    for bad in decoded.bad:
        bury(bad.index, DeadKind.DECODE, bad.reason)
    rows, index, times = decoded.rows, decoded.index, None
    if mine[0].fill:
        rows, misfits = _fill(inlet.stream, rows, mine, owner[index])
        gone = {bad.index for bad in decoded.bad}
        for which, reason in misfits.items():
            for place in np.flatnonzero(owner == which).tolist():
                if place not in gone:
                    bury(place, DeadKind.CAPTURE, reason)
        if misfits:
            good = ~np.isin(owner[index], list(misfits))
            rows, index = rows.filter(pa.array(good)), index[good]
    arrivals = np.array([offer.arrived for offer in mine], dtype=np.int64)[owner]
    if inlet.stream.arrival is not None and rows.num_rows:
        here = arrivals[index]
        relative = _relative_below(inlet.decode, inlet.stream.arrival, mine[0])
        rows, times = _fill_arrival(rows, inlet.stream.arrival, here, relative)
        early = times > here + skew  # so, since the difference can leave 64 bits
        if early.any():
            places, firsts = np.unique(index[early], return_index=True)
            for place, row in zip(places.tolist(), np.flatnonzero(early)[firsts].tolist(), strict=True):
                bury(place, DeadKind.FUTURE, _future(int(times[row]), int(here[row]), skew))
            good = ~np.isin(index, places)  # a payload is taken whole or not at all
            rows, index, times = rows.filter(pa.array(good)), index[good], times[good]
    if rows.num_rows:
        batch.accepted[inlet.stream.name] += rows.num_rows
        for number, count in zip(numbers, np.bincount(owner[index], minlength=len(mine)).tolist(), strict=True):
            batch.rows[number] = count
        batch.appends.extend(_spread(inlet.stream, rows, times, int(arrivals.min()), mine, owner[index]))


def _inlet_for(inlet: Inlet, decode: Decode | None, filled: tuple[str, ...]) -> Inlet:
    """The inlet for offers that bring a decoder of their own, or columns that are not in the payload."""
    if decode is None and not filled:
        return inlet
    columns = tuple(column for column in inlet.columns if column.name not in filled)
    return replace(inlet, decode=decode or inlet.decode, columns=columns)


def _fill(
    stream: Stream, rows: pa.RecordBatch, offers: Sequence[Offer], owner: Times
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """The rows with the columns that their offers fill, in the stream's order; and why an offer's texts do not fit."""
    columns = {column.name: column for column in stream.columns}
    filled = [columns[name] for name, _ in offers[0].fill]
    if stream.arrival is not None:  # where nobody says it, it is the arrival time
        name = stream.arrival.name
        filled = [replace(one, type=one.type.with_nullable(True)) if one.name == name else one for one in filled]
    texts, misfits = parse_columns([[text for _, text in offer.fill] for offer in offers], filled, _TEXTS)
    made = dict(zip(rows.schema.names, rows.columns, strict=True))
    for column, values in zip(filled, texts.columns, strict=True):
        made[column.name] = values.take(pa.array(owner))
    schema = schema_of((column.name, column.type) for column in stream.columns)
    reasons = {which: f"{offers[which].origin}: {reason}" for which, reason in misfits.items()}
    return pa.RecordBatch.from_arrays([made[name] for name in columns], schema=schema), reasons


def _decode_all(inlet: Inlet, payloads: Sequence[bytes]) -> Decoded:
    """Decode; should the decoder itself fail, halve until only the payload that it fails on is left, and bury that."""
    try:
        return inlet.decode(payloads, inlet.columns)
    except Exception as error:  # noqa: BLE001  any fault of a decoder must cost its payload, not the stream
        if len(payloads) == 1:
            rows = pa.RecordBatch.from_pylist([], schema=schema_of((one.name, one.type) for one in inlet.columns))
            reason = f"the decoder failed: {type(error).__name__}: {error}".splitlines()[0]
            return Decoded(rows, np.empty(0, dtype=np.int64), (BadRow(0, bytes(payloads[0]), reason),))
    half = len(payloads) // 2
    left, right = _decode_all(inlet, payloads[:half]), _decode_all(inlet, payloads[half:])
    rows = pa.Table.from_batches([left.rows, right.rows]).combine_chunks().to_batches()
    bad = (*left.bad, *(replace(row, index=row.index + half) for row in right.bad))
    return Decoded(rows[0] if rows else left.rows, np.concatenate([left.index, right.index + half]), bad)


def _fill_arrival(
    rows: pa.RecordBatch, arrival: ArrivalColumn, arrived: Times, relative_below: int
) -> tuple[pa.RecordBatch, Times]:
    """The rows with every event time given, and those times in ms. Less than `relative_below` counts from arrival."""
    place = rows.schema.get_field_index(arrival.name)
    column = rows.column(place)
    if column.null_count:
        column = pc.coalesce(column, _from_ms(arrived, arrival.per_second, column.type))
        rows = rows.set_column(place, rows.schema.field(place), column)
    times = _to_ms(column, arrival.per_second)
    near = np.abs(times) < relative_below if relative_below else np.zeros(0, dtype=bool)
    if near.any():
        times = np.where(near, arrived + times, times)
        column = pc.if_else(pa.array(near), _from_ms(times, arrival.per_second, column.type), column)
        rows = rows.set_column(place, rows.schema.field(place), column)
    return rows, times


def _relative_below(decode: Decode, arrival: ArrivalColumn, offer: Offer) -> int:
    """In ms; 0 where all times count from 1970, and where the topic says them."""
    if not isinstance(decode, RelativeTimes) or any(name == arrival.name for name, _ in offer.fill):
        return 0
    return decode.relative_below


def _from_ms(times: Times, per_second: int | None, kind: pa.DataType) -> pa.Array:
    if per_second is None:
        return pa.array(times).cast(pa.timestamp("ms", tz=kind.tz)).cast(kind)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.array(times * per_second / 1000).cast(kind, safe=False)
    return pa.array(times * per_second // 1000).cast(kind)


def _to_ms(column: pa.Array, per_second: int | None) -> Times:
    """Times in ms; what lies beyond 64 bits is clipped, far beyond every guard."""
    if per_second is None:
        return _numpy(column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64()))
    if pa.types.is_integer(column.type):
        whole: Times = np.clip(_numpy(column.cast(pa.int64())), -_FARTHEST, _FARTHEST) * 1000 // per_second
        return whole
    real = np.nan_to_num(column.cast(pa.float64()).to_numpy(zero_copy_only=False) * (1000 / per_second))
    clipped: Times = np.clip(real, -_FARTHEST, _FARTHEST).astype(np.int64)
    return clipped


def _numpy(column: pa.Array) -> Times:
    values: Times = column.to_numpy(zero_copy_only=False)
    return values


def _future(time: int, arrived: int, skew: int) -> str:
    ahead = (time - arrived) // 1000
    return f"the event time is {ahead} s after the arrival; up to {skew // 1000} s is allowed (max_future_skew)"


def _spread(
    stream: Stream, rows: pa.RecordBatch, times: Times | None, at: int, offers: Sequence[Offer], owner: Times
) -> list[Append]:
    """One append per partition that gets rows; each keeps the order of its rows."""
    if stream.partitions == 1:
        return [_append(stream, 0, rows, times, at)]
    if stream.key:
        targets = partition_rows(rows, stream.key, stream.partitions)
    else:
        homes = [partition_of(offer.client, stream.partitions) for offer in offers]
        targets = np.array(homes, dtype=np.int64)[owner]
    appends: list[Append] = []
    for partition in np.unique(targets).tolist():
        mask = targets == partition
        part = rows.filter(pa.array(mask))
        appends.append(_append(stream, partition, part, None if times is None else times[mask], at))
    return appends


def _append(stream: Stream, partition: int, rows: pa.RecordBatch, times: Times | None, at: int) -> Append:
    if times is None:
        return Append(stream.name, partition, rows, at)
    return Append(stream.name, partition, rows, at, int(times.min()), int(times.max()))


def _close(batch: Batch, letters: _Letters, offers: Sequence[Offer]) -> None:
    plain: dict[tuple[int, int], Verdict] = {}  # thousands of offers may have one and the same verdict
    for number, (offer, rows) in enumerate(zip(offers, batch.rows, strict=True)):
        dead = letters.by_offer.get(number) if letters.by_offer else None
        if dead:
            verdict = _verdict_with(dead, offer, rows)
            for one in dead:
                batch.dead[offer.stream if offer.known else "", one.kind.value] += 1
        else:
            counts = len(offer.payloads), rows
            verdict = plain.get(counts) or plain.setdefault(counts, Verdict(counts[0], rows=rows))
        batch.verdicts.append(verdict)
        if offer.state is not None:
            batch.state.update(offer.state(verdict))
    if letters.rows:
        times = [row[0] for row in letters.rows]
        batch.appends.append(Append(DEAD_LETTERS, 0, _dead_rows(letters.rows), min(times), min(times), max(times)))


def _verdict_with(dead: Sequence[Dead], offer: Offer, rows: int) -> Verdict:
    accepted = len(offer.payloads) - len({one.index for one in dead})
    return Verdict(accepted, tuple(sorted(dead, key=lambda one: one.index)), rows=rows)


def _dead_rows(rows: Sequence[tuple[int, str, str, bytes, str, str, str, int | None]]) -> pa.RecordBatch:
    """Dead letters as rows; partition and offset are NULL for what never was in a stream."""
    names = ("arrived", "stream", "reason", "data", "source", "origin", "client", "schema_version")
    given = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns = []
    for name in _DEAD_SCHEMA.names:
        kind = _DEAD_SCHEMA.field(name).type
        if name not in given:
            columns.append(pa.nulls(len(rows), kind))
        elif name == "arrived":
            columns.append(pa.array(given[name], pa.int64()).cast(kind))
        else:
            columns.append(pa.array(given[name], kind))
    return pa.RecordBatch.from_arrays(columns, schema=_DEAD_SCHEMA)

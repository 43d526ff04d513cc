"""Dead letters as they lie in the log: found by what is known of them, counted, and which of them have been repaired.

It reads the streams `dead_letters` and `late` and the log's state, and writes nothing; `repair` does. See
docs/design/dead_letters.md.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from qanat.errors import ConfigError
from qanat.log.base import Chunk, Log
from qanat.model.streams import DEAD_LETTERS, LATE

#: All dead letters lie in one partition.
_PARTITION = 0
#: Letters whose bits share one key of the log's state.
_PAGE = 1 << 16
_ROWS = 1 << 14
#: What differs between letters that have the same fault: quoted values and numbers.
_PARTICULARS = re.compile(r'"(?:[^"\\]|\\.)*"?|(?<![\w.])[-+]?\d[\d.,:eE+-]*(?!\w)')

Bools = npt.NDArray[np.bool_]

#: What letters can be counted by.
GROUPS = ("reason", "stream", "client", "source")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `arrived` in ms; `repaired`: its rows have been stored since."""

    offset: int
    arrived: int
    stream: str | None
    reason: str
    data: bytes
    source: str
    origin: str
    client: str
    schema_version: int | None = None
    repaired: bool = False

    @property
    def id(self) -> str:
        """`partition:offset`, which never changes."""
        return f"{_PARTITION}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters. None and empty mean any; `reason` is a part of it, in capitals or not; times in ms, `until`
    excluded. `repaired`: also those that have been repaired."""

    ids: frozenset[int] = frozenset()
    stream: str | None = None
    reason: str | None = None
    source: str | None = None
    client: str | None = None
    since: int | None = None
    until: int | None = None
    repaired: bool = False


class Repaired:
    """One bit a letter, 65,536 of them under one key of the log's state. Remembers pages: make one for each use."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._pages: dict[int, Bools] = {}

    def flags(self, offset: int, count: int) -> Bools:
        """Whether they have been repaired: `count` letters from `offset` on."""
        first, last = offset // _PAGE, (offset + max(count, 1) - 1) // _PAGE
        bits = np.concatenate([self._page(number) for number in range(first, last + 1)])
        start = offset - first * _PAGE
        return bits[start : start + count]

    def marked(self, offsets: Iterable[int]) -> dict[str, bytes]:
        """The state that says that these have been repaired, too; for the transaction that stores their rows."""
        pages: dict[int, Bools] = {}
        for offset in offsets:
            number, place = divmod(offset, _PAGE)
            pages.setdefault(number, self._page(number).copy())[place] = True
        return {_key(number): np.packbits(page).tobytes().rstrip(b"\0") for number, page in pages.items()}

    def _page(self, number: int) -> Bools:
        page = self._pages.get(number)
        if page is None:
            stored = np.frombuffer(self._log.state(_key(number)) or b"", dtype=np.uint8)
            page = np.zeros(_PAGE, dtype=np.bool_)
            page[: len(stored) * 8] = np.unpackbits(stored)
            self._pages[number] = page
        return page


def _key(page: int) -> str:
    return f"dead_letters/repaired/{_PARTITION}/{page}"


def parse_id(text: str) -> int:
    """The offset in `partition:offset`, or of a bare offset. Raises `ConfigError`."""
    found = re.fullmatch(r"(?:0:)?(\d{1,18})", text)
    if found is None:
        raise ConfigError(f"{text!r} is no dead letter", hint="its id stands in `qanat dead list`, for example 0:17")
    return int(found[1])


def parse_instant(text: str) -> int:
    """`2026-11-21T10:00:00` (UTC unless it says otherwise) as ms. Raises `ConfigError`."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no time", hint="2026-11-21T10:00:00, in UTC unless it says otherwise") from None
    return round((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def newest(log: Log, wanted: Wanted, limit: int, before: int | None = None) -> list[Letter]:
    """At most `limit` letters, the newest first; only those with an offset below `before`, where one is given."""
    found: list[Letter] = []
    for chunk in _backwards(log, DEAD_LETTERS, before):
        found += reversed(_matching(chunk, wanted, Repaired(log)))
        if len(found) >= limit:
            break
    return found[:limit]


def oldest(log: Log, wanted: Wanted) -> Iterator[Letter]:
    """All letters in the order in which they came, up to the newest one of now."""
    repaired = Repaired(log)
    for chunk in _forwards(log, DEAD_LETTERS, wanted.ids):
        yield from _matching(chunk, wanted, repaired)


def counts(log: Log, wanted: Wanted, by: str) -> list[tuple[str, int]]:
    """How many letters there are for each `by` (one of `GROUPS`), the most first. Reasons lose their particulars."""
    found: Counter[str] = Counter()
    repaired = Repaired(log)
    for chunk in _forwards(log, DEAD_LETTERS):
        rows = chunk.rows.filter(_mask(chunk, wanted, repaired))
        for pair in rows.column(by).value_counts().to_pylist():
            text = pair["values"] or ""
            found[general(text) if by == "reason" else text] += pair["counts"]
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))


def general(reason: str) -> str:
    """A reason without the values in it, so that the same fault has the same text.

    >>> general('column temperature: expected DOUBLE, found "warm"')
    'column temperature: expected DOUBLE, found …'
    """
    return _PARTICULARS.sub("…", reason)


def late_rows(log: Log, wanted: Wanted, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest rows of the stream `late`, each with its `id`; times and reason are looked at, the rest is not."""
    found: list[dict[str, Any]] = []
    for chunk in _backwards(log, LATE, before):
        mask = _all_of(_between(chunk.rows, "event_time", wanted), _says(chunk.rows, wanted.reason))
        places = np.arange(chunk.rows.num_rows)[mask]
        rows = chunk.rows.take(pa.array(places)).to_pylist()
        found += [{"id": f"{_PARTITION}:{chunk.offset + at}", **row} for at, row in zip(places, rows, strict=True)][
            ::-1
        ]
        if len(found) >= limit:
            break
    return found[:limit]


def as_json(letter: Letter) -> dict[str, Any]:
    """As an object for programs: `data` is the text of the bytes, or `data_base64` the bytes where they are no text."""
    found: dict[str, Any] = {"id": letter.id, "arrived": instant(letter.arrived), "stream": letter.stream}
    found |= {"reason": letter.reason, **data_fields(letter.data)}
    found |= {"source": letter.source, "origin": letter.origin, "client": letter.client}
    return found | {"schema_version": letter.schema_version, "repaired": letter.repaired}


def data_fields(data: bytes) -> dict[str, str]:
    """`data` where the bytes are UTF-8 text, else `data_base64`."""
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(data).decode()}


def read_data(fields: Mapping[str, Any]) -> bytes | None:
    """The bytes that `data_fields` wrote; None where there are none. Raises `ConfigError`."""
    text, coded = fields.get("data"), fields.get("data_base64")
    if isinstance(text, str):
        return text.encode()
    if text is not None or not isinstance(coded, str | None):
        raise ConfigError("data is the text of the payload, or data_base64 its bytes", hint="quote JSON as a text")
    try:
        return None if coded is None else base64.b64decode(coded, validate=True)
    except ValueError as error:
        raise ConfigError(f"data_base64: {error}", hint="the bytes in base64, as they were exported") from error


def instant(ms: int) -> str:
    """`2026-11-21T10:00:00.000Z`."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- reading


def _ends(log: Log, stream: str) -> tuple[int, int]:
    status = log.status().get(stream)
    if status is None:
        return 0, 0
    return status.starts.get(_PARTITION, 0), status.ends.get(_PARTITION, 0)


def _forwards(log: Log, stream: str, ids: frozenset[int] = frozenset()) -> Iterator[Chunk]:
    """Chunks to the end of now; of chosen letters only those that may hold some."""
    offset, end = _ends(log, stream)
    if ids:
        offset, end = max(offset, min(ids)), min(end, max(ids) + 1)
    while offset < end:
        chunks = log.read((stream, _PARTITION), offset, 1 if ids else _ROWS)
        for chunk in chunks:
            yield _until(chunk, end)
        if not chunks:
            return
        offset = chunks[-1].end
        if ids:
            offset = min((one for one in ids if one >= offset), default=end)


def _backwards(log: Log, stream: str, before: int | None) -> Iterator[Chunk]:
    """Chunks from the end to the start, cut so that none overlaps with another."""
    start, end = _ends(log, stream)
    end = end if before is None else min(end, before)
    while end > start:
        offset = max(start, end - _ROWS)
        parts = [chunk for chunk in log.read((stream, _PARTITION), offset, end - offset) if chunk.offset < end]
        for chunk in reversed(parts):
            yield _until(chunk, end)
        end = offset


def _until(chunk: Chunk, end: int) -> Chunk:
    if chunk.end <= end:
        return chunk
    rows = chunk.rows.slice(0, max(0, end - chunk.offset))
    return Chunk(chunk.stream, chunk.partition, chunk.offset, chunk.seq, chunk.row, chunk.at, rows)


def _matching(chunk: Chunk, wanted: Wanted, repaired: Repaired) -> list[Letter]:
    rows = chunk.rows
    places = np.flatnonzero(_mask(chunk, wanted, repaired))
    done = repaired.flags(chunk.offset, rows.num_rows)[places].tolist()
    rows = rows.take(pa.array(places))
    arrived = rows.column("arrived").cast(pa.int64())
    rows = rows.set_column(rows.schema.get_field_index("arrived"), "arrived", arrived)
    pairs = zip(places.tolist(), rows.to_pylist(), done, strict=True)
    return [_letter(chunk.offset + place, row, flag) for place, row, flag in pairs]


def _letter(offset: int, row: Mapping[str, Any], repaired: bool) -> Letter:
    texts = {name: row[name] or "" for name in ("reason", "source", "origin", "client")}
    version, data = row.get("schema_version"), row["data"] or b""
    return Letter(offset, row["arrived"], row["stream"], data=data, schema_version=version, repaired=repaired, **texts)


def _mask(chunk: Chunk, wanted: Wanted, repaired: Repaired) -> Bools:
    rows = chunk.rows
    parts = [_between(rows, "arrived", wanted), _says(rows, wanted.reason)]
    for name in ("stream", "source", "client"):
        text = getattr(wanted, name)
        if text is not None:
            parts.append(_bools(pc.equal(rows.column(name), text)))
    if wanted.ids:
        parts.append(np.isin(np.arange(chunk.offset, chunk.end), list(wanted.ids)))
    if not wanted.repaired:
        parts.append(~repaired.flags(chunk.offset, rows.num_rows))
    return _all_of(*parts)


def _between(rows: pa.RecordBatch, name: str, wanted: Wanted) -> Bools:
    times = rows.column(name).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    mask = np.ones(rows.num_rows, dtype=np.bool_)
    if wanted.since is not None:
        mask &= times >= wanted.since
    if wanted.until is not None:
        mask &= times < wanted.until
    return mask


def _says(rows: pa.RecordBatch, text: str | None) -> Bools:
    if not text:
        return np.ones(rows.num_rows, dtype=np.bool_)
    return _bools(pc.match_substring(rows.column("reason"), text, ignore_case=True))


def _bools(mask: pa.Array) -> Bools:
    found: Bools = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _all_of(*masks: Bools) -> Bools:
    found: Bools = np.logical_and.reduce(masks)
    return found

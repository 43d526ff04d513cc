"""Dead letters as a file: NDJSON, CSV or Parquet, by the name's end. The bytes come out as they came in."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from qanat.errors import ConfigError
from qanat.gateway.letters import Letter, as_json

_AT_ONCE = 10_000
_NAMES = ("id", "arrived", "stream", "reason", "data", "data_base64", "source", "origin", "client")


def write_letters(letters: Iterable[Letter], file: Path) -> int:
    """Write them in their order; how many there were. Raises `ConfigError` for a name that says no format."""
    write = _WRITERS.get(file.suffix)
    if write is None:
        raise ConfigError(f"{file} says no format", hint="a name that ends in .ndjson, .csv or .parquet")
    return sum(write(_parts(letters), file))


def _parts(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    rest = iter(letters)
    while part := list(islice(rest, _AT_ONCE)):
        yield part


def _write_ndjson(parts: Iterable[list[Letter]], file: Path) -> Iterator[int]:
    with file.open("wb") as out:
        for part in parts:
            out.writelines(orjson.dumps(as_json(letter)) + b"\n" for letter in part)
            yield len(part)


def _write_csv(parts: Iterable[list[Letter]], file: Path) -> Iterator[int]:
    """Bytes that are text and would survive a CSV file stand in `data`, all others in `data_base64`."""
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, _NAMES, extrasaction="ignore")
        writer.writeheader()
        for part in parts:
            writer.writerows(map(_cells, part))
            yield len(part)


def _cells(letter: Letter) -> dict[str, Any]:
    found = as_json(letter)
    if "\r" in found.get("data", "") or "\0" in found.get("data", ""):
        del found["data"]
        found["data_base64"] = base64.b64encode(letter.data).decode()
    return found


def _write_parquet(parts: Iterable[list[Letter]], file: Path) -> Iterator[int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [(name, pa.string()) for name in ("stream", "reason", "source", "origin", "client")]
    schema = pa.schema([("id", pa.string()), ("arrived", pa.timestamp("ms", "UTC")), ("data", pa.binary()), *texts])
    with pq.ParquetWriter(file, schema) as writer:
        for part in parts:
            columns = [pa.array([getattr(letter, name) for letter in part]) for name in schema.names]
            arrays = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            yield len(part)


_WRITERS: dict[str, Callable[[Iterable[list[Letter]], Path], Iterator[int]]] = {
    ".ndjson": _write_ndjson,
    ".jsonl": _write_ndjson,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}

"""JSON documents one by one: every rule exactly, every refusal with its reason. Cheap for a few, slow for millions."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from qanat.codec.base import BadRow, Decoded
from qanat.codec.values import batch_of, found
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_exact_numbers = msgspec.json.Decoder(float_hook=decimal.Decimal).decode


def decode_documents(
    documents: Sequence[bytes], places: Sequence[int], columns: Sequence[Column], arrays: bool
) -> Decoded:
    """Rows of `documents`, whose indexes are `places`. `arrays`: whether a document may be an array of objects.

    A document is taken whole or not at all: one bad element refuses its array.
    """
    loads = _loads_exact if any(_has_decimal(column.type) for column in columns) else orjson.loads
    objects, owners, bad = _parse(documents, loads, arrays)
    batch, reasons = batch_of(columns, [[one.get(column.name) for one in objects] for column in columns], len(objects))
    for row in sorted(reasons):
        bad.setdefault(owners[row], reasons[row])
    owner = np.array(owners, dtype=np.int64)
    if reasons:
        keep = ~np.isin(owner, np.array(list(bad), dtype=np.int64))
        batch, owner = batch.filter(pa.array(keep)), owner[keep]
    index = np.asarray(places, dtype=np.int64)[owner]
    return Decoded(
        batch, index, tuple(BadRow(int(places[one]), bytes(documents[one]), bad[one]) for one in sorted(bad))
    )


def _parse(
    documents: Sequence[bytes], loads: Callable[[bytes], Any], arrays: bool
) -> tuple[list[dict[str, Any]], list[int], dict[int, str]]:
    """The objects, the document that each came from, and why documents were refused."""
    objects: list[dict[str, Any]] = []
    owners: list[int] = []
    bad: dict[int, str] = {}
    for number, document in enumerate(documents):
        try:
            value = loads(document)
        except (ValueError, RecursionError) as error:
            bad[number] = _reason(error, document)
            continue
        if type(value) is dict:
            objects.append(value)
            owners.append(number)
        elif arrays and type(value) is list and all(type(one) is dict for one in value):
            objects.extend(value)
            owners.extend([number] * len(value))
        else:
            bad[number] = _not_rows(value, arrays)
    return objects, owners, bad


def _loads_exact(document: bytes) -> Any:
    """With `decimal.Decimal` for numbers with a fraction, so that DECIMAL loses nothing; orjson says what is JSON."""
    orjson.loads(document)
    return _exact_numbers(document)


def _has_decimal(sql_type: Type) -> bool:
    inside = [one for one in (sql_type.element, sql_type.key) if one is not None]
    inside += [field for _, field in sql_type.fields]
    return sql_type.kind is Kind.DECIMAL or any(map(_has_decimal, inside))


def _reason(error: Exception, document: bytes) -> str:
    if not bytes(document).strip():
        return "not JSON: empty"
    if isinstance(error, orjson.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos}".replace("\n", " ")
    return f"not JSON: {error}".splitlines()[0]


def _not_rows(value: Any, arrays: bool) -> str:
    if arrays and type(value) is list:
        place, other = next((place, one) for place, one in enumerate(value) if type(one) is not dict)
        return f"expected an array of JSON objects, found {found(other)} at [{place}]"
    return f"expected a JSON object{' or an array of them' if arrays else ''}, found {found(value)}"

"""Payloads that were right once, cut, spliced and bent, for every format: python -m tests.fuzz.payloads --minutes 10

What must hold: no decoder raises; each payload is taken or refused, never both and never neither where it has rows; a
refusal has the payload's own bytes; and a payload gives the same rows, or the same refusal, alone and among others.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cbor2
import orjson
import pyarrow as pa

from qanat.codec.base import Decode, Decoded
from qanat.codec.json import decode_payloads as decode_json
from qanat.gateway.formats import Layout, open_format
from qanat.model.arrow import schema_of
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DATE, DOUBLE, FLOAT, STRING, TIMESTAMP_LTZ, Kind, Type, array
from qanat.model.types import decimal as decimal_type

STREAM = Stream(
    "readings",
    (
        Column("name", STRING),
        Column("value", DOUBLE),
        Column("small", FLOAT),
        Column("count", BIGINT),
        Column("ok", BOOLEAN),
        Column("raw", BYTES),
        Column("price", decimal_type(10, 2)),
        Column("day", DATE),
        Column("list", array(BIGINT)),
        Column("map", Type(Kind.MAP, key=STRING, element=DOUBLE)),
        Column("time", TIMESTAMP_LTZ),
    ),
    event_time=ArrivalColumn("time", None),
)
_ROW = {
    "name": "größe",
    "value": 21.5,
    "small": 1.5,
    "count": 7,
    "ok": True,
    "price": 1.25,
    "day": "2026-11-21",
    "list": [1, 2],
    "map": {"a": 1.5},
    "time": "2026-11-21 10:00:00.25Z",
}
_PACK = [
    {"bn": "dev:", "bt": 1.7e9, "bu": "Cel", "n": "a", "v": 21.5},
    {"n": "b", "t": -5, "vb": True},
    {"n": "c", "vd": "aGkgCg"},
    {"bv": 2, "n": "d", "s": 5},
]
_LABELS = {"bn": -2, "bt": -3, "bu": -4, "bv": -5, "n": 0, "v": 2, "vb": 4, "vd": 8, "s": 5, "t": 6}
_NUMBERS = (b"21.5", b" 7\n", b"-0", b"1e400", b"NaN", b"+.5", b"9223372036854775808")
#: Pieces that are worth putting anywhere.
_TOKENS = (
    b"null",
    b"NaN",
    b"1e999",
    b"-0.0",
    b"\\ud800",
    b'"',
    b"\n",
    b"\r\n",
    b",",
    b"{}",
    b"[]",
    b"\xff",
    b"\x00",
    b"\x9f",
    b"\xff\xff\xff\xff",
    b"\xd8\x1c",
    b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xf9\x7c\x00",
    b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"99999999999999999999",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A format with the columns that it is asked for, and payloads that are right."""

    decode: Decode
    columns: tuple[Column, ...]
    seeds: tuple[bytes, ...]


def _case(name: str, seeds: Sequence[bytes], columns: Sequence[str] = (), **settings: object) -> Case:
    decode = open_format(name, Layout(STREAM, "fuzz", **settings)) or decode_json  # type: ignore[arg-type]
    wanted = tuple(one for one in STREAM.columns if not columns or one.name in columns)
    return Case(decode, wanted, tuple(seeds))


def cases() -> Mapping[str, Case]:
    """Every format of the gateway that needs no schema."""
    row, rows = orjson.dumps(_ROW), orjson.dumps([_ROW, {"name": "b"}])
    flat = ("name", "value", "count", "ok", "time")
    csv = b"a,21.5,7,true,2026-11-21 10:00:00Z\nb,,,,\n"
    cbor = [cbor2.dumps(one) for one in (_ROW, [_ROW, {"raw": b"\xff", "value": 3}], {"count": 2**70})]
    packs = [
        orjson.dumps(_PACK),
        cbor2.dumps([{_LABELS[name]: value for name, value in one.items() if name != "vd"} for one in _PACK[:2]]),
    ]
    senml = {"fields": {"boolean_value": "ok", "data_value": "raw", "sum": "small"}}
    return {
        "json": _case("json", [row, rows]),
        "flat json": _case("json", [row, rows], flat),
        "path": _case("json", [b'{"d":{"r":' + rows + b"}}"], flat, path="d.r", rename={"name": "name"}),
        "ndjson": _case("ndjson", [row + b"\n" + row, row], flat),
        "csv": _case("csv", [csv, b'"a\n""b",1,2,true,\n'], flat, header=flat),
        "csv by name": _case("csv", [b"value,name\n1,a\n2,b\n", ",".join(flat).encode() + b"\n" + csv], flat),
        "number": _case("number", _NUMBERS, ("value", "name"), value="value"),
        "float": _case("number", _NUMBERS, ("small",), value="small"),
        "integer": _case("number", _NUMBERS, ("count",), value="count"),
        "decimal": _case("number", _NUMBERS, ("price",), value="price"),
        "boolean": _case("boolean", (b"true", b"OFF", b" 1\n"), ("ok",), value="ok"),
        "text": _case("text", ("größe".encode(), b""), ("name",), value="name"),
        "date": _case("text", (b"2026-11-21",), ("day",), value="day"),
        "cbor": _case("cbor", cbor),
        "senml": _case("senml", packs, **senml),
    }


def bend(draw: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One payload, changed in up to four places, or not at all."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(7):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + draw.randrange(1, 6)]
            case 2 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 3:
                data[at:at] = draw.choice(_TOKENS)
            case 4:
                data[at:at] = draw.randbytes(draw.randrange(1, 5))
            case 5:
                other = draw.choice(seeds)
                data[at:] = other[draw.randrange(len(other) + 1) :]
            case _:
                end = at + draw.randrange(1, 20)
                data[at:at] = data[at:end]
    return bytes(data)


def check(case: Case, payloads: Sequence[bytes]) -> None:
    """Raises `AssertionError` where a law is broken, and whatever the decoder raises."""
    together = case.decode(payloads, case.columns)
    _check_form(case, payloads, together)
    reasons = {bad.index: bad.reason for bad in together.bad}
    for place, payload in enumerate(payloads):
        alone = case.decode([payload], case.columns)
        rows = together.rows.filter(pa.array(together.index == place)).to_pylist()
        assert repr(alone.rows.to_pylist()) == repr(rows), f"alone: {alone.rows.to_pylist()}, together: {rows}"
        assert bool(alone.bad) == (place in reasons), f"alone: {alone.bad}, together: {reasons.get(place)}"


def _check_form(case: Case, payloads: Sequence[bytes], decoded: Decoded) -> None:
    decoded.rows.validate(full=True)
    assert decoded.rows.schema.equals(schema_of((one.name, one.type) for one in case.columns))
    index, bad = decoded.index.tolist(), [one.index for one in decoded.bad]
    assert len(index) == decoded.rows.num_rows
    assert index == sorted(index)
    assert bad == sorted(set(bad))
    assert not set(index) & set(bad)
    assert set(index) | set(bad) <= set(range(len(payloads)))
    assert all(one.data == payloads[one.index] and one.reason and "\n" not in one.reason for one in decoded.bad)


def run(seconds: float, seed: int, say: Callable[[str], object]) -> int:
    """Rounds until the time is over; how many payloads there were. Raises for the first that breaks a law."""
    found, draw, count = cases(), random.Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, case in found.items():
            payloads = [bend(draw, case.seeds) for _ in range(draw.choice((1, 3, 20)))]
            if draw.random() < 0.02:
                payloads += [draw.choice(case.seeds)] * 400  # enough for what is done in bulk
                draw.shuffle(payloads)
                payloads = payloads[:420]
            try:
                check(case, payloads)
            except Exception:
                say(f"{name}, seed {seed}, after {count} payloads: {payloads!r}")
                raise
            count += len(payloads)
    return count


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}")
    count = run(wanted.minutes * 60, wanted.seed, lambda text: print(text, file=sys.stderr))
    print(f"{count} payloads, and every law held")


if __name__ == "__main__":
    main()

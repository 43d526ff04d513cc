"""HTTP bodies that were right once, cut, spliced and bent, in every form and coding.

python -m tests.fuzz.http --minutes 10

What must hold: a body is refused with a status and a hint, or cut into payloads; nothing else is raised. Each payload
is then taken or refused by its decoder, never both and never neither, and nothing grows beyond the limits.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable

import pyarrow as pa

from qanat.codec.arrow_body import Limits
from qanat.codec.json import decode_payloads
from qanat.gateway.http.bodies import read_body
from qanat.gateway.http.problems import RefusedError
from qanat.model.streams import ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, DOUBLE, STRING, TIMESTAMP_LTZ

STREAM = Stream(
    "readings",
    (
        Column("name", STRING),
        Column("value", DOUBLE),
        Column("count", BIGINT),
        Column("ok", BOOLEAN),
        Column("ce_id", STRING),
        Column("time", TIMESTAMP_LTZ),
    ),
    event_time=ArrivalColumn("time", None),
)
LIMITS = Limits(rows=5_000, bytes=1 << 20)
_ROWS = [
    {"name": 'a "b", c', "value": 1.5, "count": number, "ok": True, "time": "2026-11-21 10:00:00Z"}
    for number in range(5)
]
_EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "time": "2026-11-21T10:00:00Z",
    "data": _ROWS[0],
}


def _arrow(file: bool, compression: str | None) -> bytes:
    table = pa.Table.from_pylist(_ROWS)
    table = table.append_column("kind", pa.array(["x", "y", "x", None, "x"]).dictionary_encode())
    table = table.append_column("view", pa.array(["longer than twelve bytes"] * 5, pa.string_view()))
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


_CSV = b'name,value,count,ok,time\r\n"a ""b"", c",1.5,7,true,2026-11-21 10:00:00Z\n"over\ntwo",,,,\n' * 1
_HEADERS: dict[bytes, bytes] = {b"ce-specversion": b"1.0", b"ce-id": b"1", b"ce-source": b"s", b"ce-type": b"t"}
#: content type, headers, bodies that are right
FORMS: list[tuple[bytes, dict[bytes, bytes], list[bytes]]] = [
    (b"application/json", {}, [json.dumps(_ROWS).encode(), json.dumps(_ROWS[0], indent=1).encode()]),
    (b"application/x-ndjson", {}, [b"\n".join(json.dumps(row).encode() for row in _ROWS), b"{}\r\n\n [1]\n"]),
    (b"", {}, [b"\n".join(json.dumps(row).encode() for row in _ROWS)]),
    (b"text/csv", {}, [_CSV, _CSV * 40]),
    (b"text/csv; header=absent", {}, [b"a,1,2,true,i,2026-11-21 10:00:00Z\n"]),
    (b"application/vnd.apache.arrow.stream", {}, [_arrow(False, one) for one in (None, "lz4", "zstd")]),
    (b"application/vnd.apache.arrow.file", {}, [_arrow(True, one) for one in (None, "lz4", "zstd")]),
    (b"application/cloudevents+json", {}, [json.dumps(_EVENT).encode()]),
    (b"application/cloudevents-batch+json", {}, [json.dumps([_EVENT, {**_EVENT, "id": "2"}]).encode()]),
    (b"application/json", _HEADERS, [json.dumps(_ROWS[0]).encode()]),
]
CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}
_ODD = [
    b"\0",
    b"\xff",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"{",
    b"}",
    b"[",
    b"]",
    b"9" * 20,
    b"\xef\xbb\xbf",
    b"\x7f\xff\xff\xff",
]


def bend(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The bytes with a few changes."""
    for _ in range(chance.randint(0, 3)):
        first, last = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        match chance.randint(0, 5):
            case 0:
                data = data[:first]
            case 1:
                data = data[:first] + data[last:]
            case 2:
                data = data[:last] + data[first:]
            case 3:
                data = data[:first] + chance.choice(_ODD) + data[first:]
            case 4:
                other = chance.choice(others)
                data = data[:first] + other[chance.randint(0, len(other)) :]
            case _:
                data = data[:first] + bytes([chance.randint(0, 255)]) + data[first + 1 :]
    return data


def check(body: bytes, headers: dict[bytes, bytes]) -> str:
    """What became of a body. Raises whatever must not be."""
    try:
        read = read_body(body, headers, STREAM, LIMITS)
    except RefusedError as refused:
        return _refused(refused)
    count = len(read.payloads)
    assert 0 < count <= LIMITS.rows, count
    assert not read.names or len(read.names) == count
    decoded = (read.decode or decode_payloads)(read.payloads, STREAM.columns)
    bad = {one.index for one in decoded.bad}
    good = set(decoded.index.tolist())
    assert not bad & good, "both good and bad"
    assert bad | good <= set(range(count)), "a payload that is none"
    if read.decode is not None:  # a JSON payload may be an empty array
        assert len(bad) + len(good) == count, "neither good nor bad"
    for one in decoded.bad:
        assert one.reason, "no reason"
        assert "\n" not in one.reason, one.reason
        assert read.payloads[one.index] == one.data, "other bytes"
    decoded.rows.validate(full=True)
    return "taken" if not bad else "taken in part" if good else "all bad"


def _refused(error: RefusedError) -> str:
    assert error.status in (400, 413, 415), error.status
    assert error.message, "a refusal without a reason"
    assert error.hint, f"a refusal without a hint: {error.message}"
    return f"refused {error.status}"


def one_round(chance: random.Random) -> str:
    """A body, what it said it is, and what became of it."""
    kind, more, bodies = chance.choice(FORMS)
    every = [body for _, _, some in FORMS for body in some]
    coding = chance.choice(list(CODINGS))
    body = bend(chance.choice(bodies), every, chance)
    packed = CODINGS[coding](body)
    if coding and chance.random() < 0.3:
        packed = bend(packed, every, chance)
    headers = {b"content-type": kind, **more}
    if coding:
        headers[b"content-encoding"] = coding
    try:
        return check(packed, headers)
    except BaseException:
        print(f"\n{headers!r}\n{packed!r}", file=sys.stderr)
        raise


def main() -> None:
    """Until the minutes are over, or something that must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randint(0, 2**32) if asked.seed is None else asked.seed
    print(f"seed {seed}")
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    end = time.monotonic() + asked.minutes * 60
    while time.monotonic() < end:
        counts[one_round(chance)] += 1
    print(f"{sum(counts.values()):,} bodies: " + ", ".join(f"{what} {count:,}" for what, count in counts.most_common()))


if __name__ == "__main__":
    main()

"""Bodies into rows: nothing is lost, nothing is made up."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from qanat.gateway.http.bodies import split_body

LINE = st.sampled_from([b'{"a":1}', b" {}", b"bad", b"", b" ", b"\t", b"\r", b"\v \f", b'{"b":"x"}\r', b" bad "])


@given(st.lists(LINE, max_size=12))
def test_lines_are_the_lines_that_are_not_blank(lines: list[bytes]) -> None:
    wanted = [line.removesuffix(b"\r") for line in lines if line.strip()]
    assert list(split_body(b"\n".join(lines), "application/x-ndjson")) == wanted


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5)), min_size=1, max_size=5))
def test_an_array_gives_its_elements_as_they_were_written(rows: list[dict[str, object]]) -> None:
    body = json.dumps(rows, indent=1).encode()
    for kind in ("application/json", ""):
        parts = split_body(body, kind)
        assert [json.loads(part) for part in parts] == rows
        assert all(part in body for part in parts)


@given(st.binary(max_size=80), st.sampled_from(["application/json", "application/x-ndjson", "", "text/plain"]))
def test_any_bytes_become_rows(body: bytes, kind: str) -> None:
    rows = split_body(body, kind)
    assert len(rows) or not body.strip(b" \r\n\t\v\f[]")
    assert all(row in body for row in rows)

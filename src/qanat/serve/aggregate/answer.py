"""A `Tally` as the JSON that a client gets, and its entity tag. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from qanat.clock import instant_text
from qanat.serve.aggregate.measure import Value
from qanat.serve.aggregate.question import Question, QuestionError
from qanat.serve.aggregate.tally import Ints, Tally


def render(question: Question, tally: Tally, edges: Sequence[int], start: int, end: int, most: int) -> bytes:
    """The body. What JSON has no number for (infinite sums) is null. Raises `QuestionError` for more than `most` lines
    of groups and windows."""
    windows = len(edges) - 1
    lines = len(tally.groups) * windows if question.empty else len(tally.group)
    if lines > most:
        hint = "a larger window, a shorter range, fewer dimensions in by, or empty=false"
        raise QuestionError(f"the answer has {lines:,} lines; the most are {most:,}", hint=hint)
    content: dict[str, Any] = {
        "aggregate": question.measure,
        "from": instant_text(start),
        "to": instant_text(end),
        "window_ms": question.window_ms,
        "tz": question.zone,
        "newest": None if tally.newest is None else instant_text(tally.newest),
        "rows": int(tally.count.sum()),
        "left_out": tally.left_out,
        "source": tally.source,
        "as_of": {str(partition): offset for partition, offset in sorted(tally.as_of.items())},
        "groups": _groups(question, tally, edges),
    }
    return orjson.dumps(content)


def entity_tag(key: str, start: int, end: int, as_of: Mapping[int, int]) -> str:
    """The same for the same question over the same range of the same rows."""
    positions = sorted(as_of.items())
    return hashlib.blake2b(orjson.dumps([key, start, end, positions]), digest_size=9).hexdigest()


def _groups(question: Question, tally: Tally, edges: Sequence[int]) -> list[dict[str, Any]]:
    firsts = np.searchsorted(tally.group, np.arange(len(tally.groups) + 1))
    texts = [instant_text(edge) for edge in edges]
    columns = {name: tally.count.tolist() if name == "count" else _numbers(tally, name) for name in question.functions}
    found = []
    for number, values in enumerate(tally.groups):
        low, high = int(firsts[number]), int(firsts[number + 1])
        lines = _lines(question, columns, tally.bucket[low:high], low, texts)
        found.append({"by": _named(question, values), "windows": lines})
    return found


def _named(question: Question, values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(question.by, values, strict=True))


def _numbers(tally: Tally, name: str) -> list[float | None]:
    numbers: list[float | None] = tally.found[name].tolist()
    return numbers


def _lines(
    question: Question, columns: Mapping[str, Sequence[Any]], buckets: Ints, low: int, texts: Sequence[str]
) -> list[dict[str, Any]]:
    """One per window; those without a row count 0 and say null for all else."""
    lines: list[dict[str, Any]] = []
    nothing = {name: 0 if name == "count" else None for name in columns}
    after = 0
    for place, bucket in enumerate(buckets.tolist(), low):
        if question.empty:
            lines += [{"start": texts[one], "end": texts[one + 1], **nothing} for one in range(after, bucket)]
        values = {name: column[place] for name, column in columns.items()}
        lines.append({"start": texts[bucket], "end": texts[bucket + 1], **values})
        after = bucket + 1
    if question.empty:
        lines += [{"start": texts[one], "end": texts[one + 1], **nothing} for one in range(after, len(texts) - 1)]
    return lines

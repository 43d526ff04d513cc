"""Questions to answers: from rows in memory where these are enough, else by SQL. Knows neither HTTP nor the cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from qanat.log.base import Log
from qanat.observe.aggregates import Aggregates
from qanat.serve.aggregate.answer import entity_tag, render
from qanat.serve.aggregate.buckets import edges
from qanat.serve.aggregate.measure import Measure
from qanat.serve.aggregate.question import Question, percent_of, settle
from qanat.serve.aggregate.recent import RecentRows
from qanat.serve.aggregate.sql import query_of, tally_of
from qanat.serve.aggregate.tally import Tally

#: Windows of one group, and lines of one answer.
MOST_WINDOWS = 10_000
MOST_LINES = 50_000
#: Up to so many rows are looked at in the event loop; it stands still for about a millisecond then.
_INLINE_ROWS = 150_000
#: Beyond it SQL is asked, which uses all cores and can be stopped.
_MOST_ROWS, _MOST_SORTED = 20_000_000, 2_000_000


class Rows(Protocol):
    """What SQL is asked of; `qanat.query.Query` is one. Called in threads."""

    def table(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        """The whole answer."""
        ...


class Kept(Protocol):
    """Where rows in memory are to be had; `Follower` is one."""

    def recent(self, name: str) -> RecentRows | None:
        """Those of a measure."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """A question's time, settled: from, to and the borders of its windows (ms)."""

    start: int
    end: int
    edges: Sequence[int]


class Answers:
    """Makes bodies. Raises what `QuestionError` is for, and what the query or the log raises."""

    def __init__(
        self,
        measures: Mapping[str, Measure],
        kept: Kept,
        rows: Rows,
        log: Log,
        meter: Aggregates,
        clock: Callable[[], int],
    ) -> None:
        self.measures, self._kept, self._rows, self._log = measures, kept, rows, log
        self._meter, self._clock = meter, clock

    async def make(self, question: Question) -> bytes:
        """The entity tag in 18 hex digits, and the body."""
        began = time.perf_counter()
        span = self._settled(question)
        tally = self._at_once(question, span)
        if tally is None:
            tally = await asyncio.to_thread(self._in_time, question, span)
        return self._written(question, span, tally, began)

    def make_at_once(self, question: Question) -> bytes | None:
        """The same where it takes about a millisecond at most, else None."""
        began = time.perf_counter()
        span = self._settled(question)
        tally = self._at_once(question, span)
        return None if tally is None else self._written(question, span, tally, began)

    def _settled(self, question: Question) -> Range:
        start, end = settle(question, self._clock())
        return Range(start, end, edges(question, start, end, MOST_WINDOWS))

    def _written(self, question: Question, span: Range, tally: Tally, began: float) -> bytes:
        body = render(question, tally, span.edges, span.start, span.end, MOST_LINES)
        self._meter.made[tally.source](time.perf_counter() - began)
        return entity_tag(question.key, span.start, span.end, tally.as_of).encode() + body

    def _at_once(self, question: Question, span: Range) -> Tally | None:
        """From few rows in memory."""
        return self._from_memory(question, span, _INLINE_ROWS // 8 if _sorts(question) else _INLINE_ROWS)

    def _in_time(self, question: Question, span: Range) -> Tally:
        """From many rows in memory, or by SQL."""
        tally = self._from_memory(question, span, _MOST_SORTED if _sorts(question) else _MOST_ROWS)
        return self._by_sql(question, span) if tally is None else tally

    def _from_memory(self, question: Question, span: Range, most: int) -> Tally | None:
        """Where the rows are all there, and not more than `most` have to be looked at."""
        recent = self._kept.recent(question.measure)
        if recent is None or not recent.covers(span.start, span.end):
            return None
        if recent.cost(question, span.start, span.end) > most:
            return None
        return recent.tally(question, span.edges, span.start, span.end)

    def _by_sql(self, question: Question, span: Range) -> Tally:
        measure = self.measures[question.measure]
        ends = self._log.status()[measure.stream.name].ends  # before the query: it sees at least so much
        sql, parameters = query_of(question, measure, span.edges, span.start, span.end)
        return tally_of(question, self._rows.table(sql, parameters), span.edges, ends)


def _sorts(question: Question) -> bool:
    """Percentiles have to."""
    return any(percent_of(name) is not None for name in question.functions)

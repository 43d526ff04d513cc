"""Which kept answers end when rows come in: those to questions that look at one of the rows' series.

An answer has one tag, made of the aggregate and the values that its question has chosen; questions that differ in their
windows only share it. Called from the thread that takes rows in, and from the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import numpy as np

from qanat.serve.aggregate.question import Question
from qanat.serve.aggregate.recent import RecentRows
from qanat.serve.aggregate.tally import Ints
from qanat.stores.cache.tags import EVERYTHING, tag_of

#: So many choices are watched; where there are more, all answers end and it begins anew.
_MOST_CHOICES = 20_000


class Endings:
    """`invalidate` ends the answers with these tags. Made in the event loop that `invalidate` runs in."""

    def __init__(self, invalidate: Callable[[Collection[str]], Awaitable[None]]) -> None:
        self._invalidate = invalidate
        self._loop = asyncio.get_running_loop()
        self._choices: dict[str, dict[str, Question]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def tags(self, question: Question) -> Sequence[str]:
        """What an answer depends on."""
        tag = tag_of(
            question.measure, *(part for name, values in question.chosen for part in (name, len(values), *values))
        )
        choices = self._choices.setdefault(question.measure, {})
        if tag not in choices:
            if len(choices) >= _MOST_CHOICES:
                self._choices[question.measure] = choices = {}
                self._end([EVERYTHING])
            choices[tag] = question
        return (tag,)

    def on_rows(self, recent: RecentRows, touched: Sequence[Ints]) -> None:
        """Rows of these series can be read. Any thread."""
        choices = self._choices.get(recent.measure.name, {})
        hit = np.zeros(max(int(series.max()) for series in touched) + 1, dtype=bool)
        for series in touched:
            hit[series] = True
        ended = [tag for tag, question in list(choices.items()) if _any(hit, recent.series_of(question))]
        if ended:
            self._loop.call_soon_threadsafe(self._end, ended)

    def on_anew(self, measure: str) -> None:
        """Other rows stand where those of a measure stood: no answer to a question about it counts. Any thread."""
        ended = list(self._choices.get(measure, {}))
        if ended:
            self._loop.call_soon_threadsafe(self._end, ended)

    def _end(self, tags: Collection[str]) -> None:
        task = self._loop.create_task(self._ending(tags))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ending(self, tags: Collection[str]) -> None:
        await self._invalidate(tags)


class Unending:
    """Answers end by time only."""

    def tags(self, question: Question) -> Sequence[str]:  # noqa: ARG002  the same for all
        """Nothing that could change."""
        return ()


def _any(hit: np.ndarray[tuple[int], np.dtype[np.bool_]], series: Ints) -> bool:
    return bool(hit[series[series < len(hit)]].any())

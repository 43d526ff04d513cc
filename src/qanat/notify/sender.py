"""One sink: takes what is news from the log, has it carried away, and tells the log. No clock, thread or sleep.

`step` does one thing and says how long to wait before the next one. What a step has not committed, the next one does
anew from the log, whether after an error or after a crash; that is all there is to recovery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from qanat.log.base import Append, Chunk, Log, Place, Transaction
from qanat.model.arrow import schema_of
from qanat.model.sinks import CONSUMER, Sink
from qanat.model.streams import DEAD_LETTERS, Stream, dead_letter_stream
from qanat.notify.messages import CLEARED, RAISED, ROW, Message
from qanat.notify.pace import Limits, Pace
from qanat.notify.raised import Draft, Entry, Raised, Row
from qanat.notify.reader import read_alerts
from qanat.notify.target import DownError, RefusedError, Target
from qanat.observe.metrics import Metrics

#: Rows that are looked at before something is committed, though nothing of them be news.
_MOST_ROWS = 2000


@dataclass(slots=True)
class _Batch:
    """What goes out together, all of one partition. `begin` to `end`: the rows that are done with then.

    `place` None: reminders, which no row has caused.
    """

    place: Place | None
    begin: int = 0
    end: int = 0
    messages: list[Message] = field(default_factory=list)
    draft: Draft = field(default_factory=Draft)
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a step: wall clock (ms), a clock that never goes back (s), and a draw from [0, 1)."""

    now: int
    seconds: float
    draw: float = 0.5


class Sender:
    """See the module. Raises `LogError` from `open` and `step` where the log does; nothing is lost by it."""

    def __init__(self, name: str, sink: Sink, stream: Stream, log: Log, target: Target, metrics: Metrics) -> None:
        self.name, self.target = name, target
        self.fault: str | None = None
        self._sink, self._stream, self._log, self._metrics = sink, stream, log, metrics
        self._raised = Raised(name, sink)
        self._pace = Pace(Limits(per_minute=sink.per_minute))
        self._consumer = consumer_of(name)
        self._positions: dict[Place, int] = {}
        self._turn = 0
        #: So many reminders go out one by one, since a batch of them was refused.
        self._lonely = 0
        #: Alerts of a batch that was refused go out one by one up to this offset.
        self._alone: dict[Place, int] = {}
        self._tries, self._since = 0, 0.0
        metrics.sink_lag(name, lambda: waiting(log, name, sink))
        self._trying: str | None = None

    def open(self) -> None:
        """Take over what the log keeps. A new sink's position is committed here, before anything is read."""
        places = [(self._stream.name, partition) for partition in range(self._stream.partitions)]
        stored = self._log.positions(self._consumer)
        if set(stored) != set(places):  # a new one, or one that has read another stream until now
            status = self._log.status()[self._stream.name]
            begin = status.ends if self._sink.start == "newest" else status.starts
            stored = {place: stored.get(place, begin.get(place[1], 0)) for place in places}
            self._commit(Transaction(positions={self._consumer: stored}, forget=[self._consumer]))
        self._positions = dict(stored)
        self._raised.load([self._log.state(key) for key in self._raised.state_keys])

    def step(self, moment: Moment) -> float | None:
        """Do what there is to do; seconds until there is more, None: when the log has more, or at `next_reminder`."""
        wait = self._pace.wait(moment.seconds)
        self._tell(moment)
        if wait > 0:
            return wait
        batch = self._next(moment) or self._reminders(moment)
        if batch is None:
            return None
        if not batch.messages:
            self._take_over(batch, moment)
            return 0.0
        wait = self._send(batch, moment)
        self._tell(moment)
        return wait

    def next_reminder(self, now: int) -> float | None:
        """Seconds until an alert is repeated even if no row comes; None: never. `now`: wall clock (ms)."""
        due = self._raised.next_due()
        return None if due is None else max(0.0, (due - now) / 1000)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def _next(self, moment: Moment) -> _Batch | None:
        """The next batch of a partition that has rows, each in turn; None where there are none."""
        places = list(self._positions)
        for number in range(len(places)):
            place = places[(self._turn + number) % len(places)]
            chunks = self._log.read(place, self._positions[place], _MOST_ROWS)
            if chunks:
                self._turn = (self._turn + number + 1) % len(places)
                return self._gather(place, chunks, moment)
        return None

    def _reminders(self, moment: Moment) -> _Batch | None:
        """What is due again. Only asked once all rows are read: one of them may say that it has cleared."""
        most = self._pace.room(moment.seconds, 1 if self._lonely else self._sink.batch)
        batch = _Batch(None)
        for key, one in self._raised.due(moment.now, most):
            if one.row is not None:
                told = self._stream.name, one.row.partition, one.row.offset, RAISED, key, one.row.at, one.row.row
                batch.messages.append(Message(self.name, *told, since=one.sent))
                batch.draft.changes[key] = Entry(one.state, moment.now, one.row)
        return batch if batch.messages else None

    def _gather(self, place: Place, chunks: Sequence[Chunk], moment: Moment) -> _Batch:
        batch = _Batch(place, self._positions[place], self._positions[place])
        most = 1 if self._alone.get(place, 0) > batch.begin else self._sink.batch
        most = self._pace.room(moment.seconds, most)
        for chunk in chunks:
            for alert in read_alerts(chunk, self._sink):
                row = Row(place[1], alert.offset, alert.at, alert.row)
                says = self._raised.decide(alert.key, alert.state, moment.now, batch.draft, row)
                batch.end, batch.looked_at = alert.offset + 1, batch.looked_at + 1
                if says == ROW and alert.state is None:
                    continue  # a deleted row of a stream of which every row is news
                if says is not None:
                    told = self._stream.name, place[1], alert.offset, says, alert.key, alert.at, alert.row
                    batch.messages.append(Message(self.name, *told))
                if len(batch.messages) >= most:
                    return batch
        return batch

    def _send(self, batch: _Batch, moment: Moment) -> float:
        first = batch.messages[0]
        if self._trying != first.id:
            self._trying, self._tries, self._since = first.id, 0, moment.seconds
        try:
            self.target.send(batch.messages)
        except DownError as error:
            self.fault = error.message
            self._metrics.sink_failed(self.name, "down")
            return self._on_down(batch, error, moment)
        except RefusedError as error:
            self.fault = error.message
            self._metrics.sink_failed(self.name, "refused")
            return self._on_refused(batch, error, moment)
        self._take_over(batch, moment)
        self._pace.took(len(batch.messages), moment.seconds)
        self._metrics.sink_sent(self.name, len(batch.messages))
        self.fault = None
        return 0.0

    def _on_down(self, batch: _Batch, error: DownError, moment: Moment) -> float:
        limit = self._sink.give_up
        if limit is not None and (moment.seconds - self._since) * 1000 >= limit:
            self._bury(batch, f"given up after {int(limit) // 1000} s: {error.message}", moment)
        return self._pace.failed(moment.seconds, moment.draw, error.retry_after)

    def _on_refused(self, batch: _Batch, error: RefusedError, moment: Moment) -> float:
        if len(batch.messages) > 1:
            if batch.place is None:
                self._lonely = len(batch.messages)
            else:
                self._alone[batch.place] = batch.end
            return 0.0
        self._tries += 1
        if self._tries < self._sink.attempts:
            return self._pace.refused(moment.seconds, moment.draw, self._tries)
        self._bury(batch, error.message, moment)
        self._pace.took(1, moment.seconds)
        return 0.0

    # --- what the log is told ----------------------------------------------------------------------------------------

    def _take_over(self, batch: _Batch, moment: Moment) -> None:
        """The batch is done with: position and what is raised, in one transaction."""
        draft = batch.draft
        self._raised.forget_stale(moment.now, draft)
        self._commit(self._moved(batch, draft, ()))
        self._accept(batch, draft)
        if batch.place is not None:
            self._metrics.sink_quiet(self.name, batch.looked_at - len(batch.messages))

    def _bury(self, batch: _Batch, reason: str, moment: Moment) -> None:
        """Its first alert becomes a dead letter. What is raised stays as it was before it: nobody has heard of it."""
        first = batch.messages[0]
        if batch.place is None:  # not tried again before its next time
            draft = Draft({first.key: batch.draft.changes[first.key]})
        else:
            draft = self._before(batch, batch.place, first.offset, moment)
            batch.end = first.offset + 1
        self._commit(self._moved(batch, draft, (dead_letter(first, reason, moment.now),)))
        self._accept(batch, draft)
        self._metrics.sink_dead(self.name, 1)

    def _accept(self, batch: _Batch, draft: Draft) -> None:
        """It is in the log."""
        self._raised.accept(draft)
        if batch.place is not None:
            self._positions[batch.place] = batch.end
        elif self._lonely:
            self._lonely -= 1

    def _before(self, batch: _Batch, place: Place, offset: int, moment: Moment) -> Draft:
        """What the rows before this one change; and where it was to say that something cleared, that it is."""
        draft = Draft()
        for chunk in self._log.read(place, batch.begin, max(1, offset + 1 - batch.begin)):
            for alert in read_alerts(chunk, self._sink):
                if alert.offset > offset or (alert.offset == offset and batch.messages[0].status != CLEARED):
                    return draft
                row = Row(place[1], alert.offset, alert.at, alert.row)
                self._raised.decide(alert.key, alert.state, moment.now, draft, row)
        return draft

    def _moved(self, batch: _Batch, draft: Draft, appends: Sequence[Append]) -> Transaction:
        place, state = batch.place, self._raised.stored(draft)
        if place is None:
            return Transaction(appends, state=state, expect={self._consumer: dict(self._positions)})
        return Transaction(
            appends=appends,
            positions={self._consumer: {place: batch.end}},
            state=state,
            expect={self._consumer: {place: self._positions[place]}},
        )

    def _commit(self, transaction: Transaction) -> None:
        self._log.submit(transaction).result()

    def _tell(self, moment: Moment) -> None:
        self._metrics.sink_state(self.name, self._pace.breaker(moment.seconds).value, len(self._raised))


def consumer_of(name: str) -> str:
    """Under which name the log keeps a sink's position."""
    return f"{CONSUMER}{name}"


def waiting(log: Log, name: str, sink: Sink) -> int:
    """How many rows of its stream a sink has not dealt with; 0 where the log does not know it yet."""
    status, stored = log.status().get(sink.stream), log.positions(consumer_of(name))
    if status is None:
        return 0
    return sum(max(0, status.ends.get(place[1], 0) - at) for place, at in stored.items() if place[0] == sink.stream)


def dead_letter(message: Message, reason: str, now: int) -> Append:
    """An alert that is not sent any more, as a row of `dead_letters`. `data`: the row as JSON."""
    values: Mapping[str, object] = {
        "arrived": now,
        "stream": message.stream,
        "reason": f"sink {message.sink}: {reason}",
        "data": message.row,
        "source": "sink",
        "origin": consumer_of(message.sink),
        "partition": message.partition,
        "offset": message.offset,
    }
    schema = schema_of((column.name, column.type) for column in dead_letter_stream().columns)
    arrays = [pa.array([values.get(one.name)]).cast(one.type) for one in schema]
    return Append(DEAD_LETTERS, 0, pa.RecordBatch.from_arrays(arrays, schema=schema), now, now, now)

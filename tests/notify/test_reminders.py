"""Alerts that are said again because time has passed, though no row comes: in virtual time, and by the thread."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.notify.conftest import ALERTS, Recorder, put, wait_for

from qanat.errors import LogError
from qanat.log.base import Log, Transaction
from qanat.model.sinks import Sink, Webhook
from qanat.notify.target import DownError, RefusedError
from qanat.notify.thread import open_sinks
from qanat.observe.metrics import Metrics

HOUR = 3600
KEYED = {"key": ("site",), "state": "state", "repeat_after": HOUR * 1000}


def raise_at(log: Log, *sites: str, n: int = 0, state: str = "raised") -> None:
    put(log, *((site, state, 1.0, n) for site in sites))


def dead(log: Log) -> list[dict[str, Any]]:
    return [row for chunk in log.read(("dead_letters", 0), 0, 1000) for row in chunk.rows.to_pylist()]


def test_what_is_raised_is_said_again_each_hour_without_a_row_until_it_clears(log, play):
    target = Recorder()
    playing = play(target, **KEYED)
    raise_at(log, "a")
    playing.run(3 * HOUR + 10)
    assert target.said == [("raised", "a", 0)] * 4
    ids = [message.id for message in target.taken]
    assert ids[0] == "alerts/0/0"
    assert all(one.startswith("alerts/0/0/again/") for one in ids[1:])
    assert len(set(ids)) == 4  # who remembers ids takes a reminder for what it is
    raise_at(log, "a", n=1, state="ok")
    playing.run(10 * HOUR)
    assert target.said[4:] == [("cleared", "a", 1)]
    assert playing.sender.next_reminder(playing.moment.now) is None


def test_a_reminder_has_the_newest_row_and_counts_from_the_last_message(log, play):
    target = Recorder()
    playing = play(target, **KEYED)
    raise_at(log, "a")
    playing.run(HOUR / 2)
    raise_at(log, "a", n=1)  # still raised: no news
    playing.run(HOUR / 4)
    assert target.said == [("raised", "a", 0)]
    playing.run(HOUR / 2)
    assert target.said == [("raised", "a", 0), ("raised", "a", 1)]
    raise_at(log, "a", n=2, state="critical")  # another state is told at once
    playing.run(HOUR - 1)
    assert target.said[2:] == [("raised", "a", 2)]
    playing.run(2)
    assert target.said[2:] == [("raised", "a", 2)] * 2


def test_rows_that_wait_are_read_first_since_one_may_clear_it(log, play):
    target = Recorder()
    playing = play(target, **KEYED)
    raise_at(log, "a", "b")
    playing.run(HOUR - 1)
    raise_at(log, "a", n=1, state="ok")
    playing.seconds += 100  # both are late
    playing.run()
    assert target.said[2:] == [("cleared", "a", 1), ("raised", "b", 0)]


def test_a_restart_forgets_no_reminder_and_says_none_twice(log, play):
    target = Recorder()
    first = play(target, **KEYED)
    raise_at(log, "a")
    first.run(HOUR + 1)
    again = play(target, **KEYED)
    again.seconds = first.seconds
    again.run(HOUR - 2)
    assert len(target.taken) == 2
    again.run(2)
    assert [message.values["n"] for message in target.taken] == [0, 0, 0]


def test_killed_before_the_commit_it_is_said_again_under_the_same_id(log, play, monkeypatch):
    target = Recorder()
    first = play(target, **KEYED)
    raise_at(log, "a")
    first.run()
    submit = log.submit
    monkeypatch.setattr(log, "submit", lambda _: (_ for _ in ()).throw(LogError("killed")))
    with pytest.raises(LogError, match="killed"):
        first.run(HOUR + 1)
    monkeypatch.setattr(log, "submit", submit)
    again = play(target, **KEYED)
    again.seconds = first.seconds + 60
    again.run()
    ids = [message.id for message in target.taken]
    assert len(ids) == 3
    assert ids[1] == ids[2]
    again.run(HOUR - 1)
    assert len(target.taken) == 3


def test_a_target_that_is_down_gets_one_reminder_when_it_is_back(log, play):
    target = Recorder()
    playing = play(target, **KEYED)
    raise_at(log, "a")
    playing.run()
    target.plan = [DownError("down")] * 60
    playing.run(1.9 * HOUR)
    assert len({call[0] for call in target.calls}) == 2
    playing.run(HOUR)
    assert [message.id for message in target.taken].count(target.calls[1][0]) == 1


def test_a_key_without_a_state_is_not_repeated_by_time(log, play):
    target = Recorder()
    playing = play(target, key=("site",), repeat_after=1000)
    raise_at(log, "a")
    playing.run(HOUR)
    assert target.said == [("raised", "a", 0)]


def test_many_go_together_and_one_that_is_refused_stops_no_other(log, play):
    target = Recorder()
    playing = play(target, batch=10, attempts=2, **KEYED)
    raise_at(log, "a", "b", "c", "d")
    playing.run()
    target.judge = lambda message: RefusedError("no b") if message.since is not None and message.key == "b" else None
    playing.run(HOUR + 60)
    assert [len(call) for call in target.calls] == [4, 4, 1, 1, 1, 1, 1]
    assert [message.key for message in target.taken] == ["a", "b", "c", "d", "a", "c", "d"]
    assert [(one["offset"], one["reason"]) for one in dead(log)] == [(1, "sink ops: no b")]
    target.judge = lambda _: None
    playing.run(HOUR)
    assert sorted(message.key for message in target.taken[7:]) == ["a", "b", "c", "d"]


def test_reminders_keep_to_the_rate(log, play):
    first = play(Recorder(), batch=10, **KEYED)
    raise_at(log, "a", "b", "c", "d")
    first.run()
    target = Recorder()
    playing = play(target, per_minute=2, batch=10, **KEYED)
    playing.seconds = first.seconds
    playing.run(HOUR + 1)
    assert [len(call) for call in target.calls] == [2]
    playing.run(60)
    assert len(target.taken) == 4


def test_what_an_older_version_kept_is_repeated_from_the_next_row_on(log, play):
    target = Recorder()
    playing = play(target, **KEYED)
    raise_at(log, "a")
    playing.run()
    for key in playing.sender._raised.state_keys:
        data = log.state(key)
        if data is not None:
            made_for, raised = msgspec.msgpack.decode(data)
            old = msgspec.msgpack.encode([made_for, {name: entry[:2] for name, entry in raised.items()}])
            log.submit(Transaction(state={key: old})).result()
    again = play(target, **KEYED)
    again.seconds = playing.seconds
    again.run(2 * HOUR)
    assert len(target.taken) == 1
    raise_at(log, "a", n=1)
    again.run(1)
    again.run(HOUR)
    assert target.said == [("raised", "a", 0), ("raised", "a", 1), ("raised", "a", 1)]


def test_two_processes_do_not_both_remind(log, play):
    target = Recorder()
    one = play(target, **KEYED)
    other = play(Recorder(), **KEYED)
    raise_at(log, "a")
    one.run(1)
    with pytest.raises(LogError, match="expected position"):
        other.run(2 * HOUR)


def test_the_thread_reminds_while_nothing_else_happens(log, receiver, tmp_path):
    sink = Sink(
        stream="alerts", key=("site",), state="state", repeat_after=300, start="oldest", webhook=Webhook(receiver.url)
    )
    raise_at(log, "a")
    (thread,) = open_sinks({"ops": sink}, {"alerts": ALERTS}, log, Metrics(), tmp_path)
    thread.start()
    try:
        wait_for(lambda: len(receiver.requests) >= 3, "two reminders")
        put(log, ("a", "ok", 1.0, 1))
        wait_for(lambda: receiver.bodies[-1]["status"] == "cleared", "its end")
    finally:
        thread.stop()
    ids = [body["id"] for body in receiver.bodies]
    assert len(set(ids)) == len(ids)
    assert [headers["idempotency-key"] for headers, _ in receiver.requests] == ids

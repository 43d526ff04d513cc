"""A sink over a log in virtual time: order, back-off, breaker, rate, batches, dead letters, crashes at every step."""

from __future__ import annotations

from typing import Any

import pytest
from tests.notify.conftest import ALERTS, Playing, Recorder, put

from qanat.errors import ConfigError, LogError
from qanat.log.base import Log, Transaction
from qanat.model.sinks import Sink, problem_of
from qanat.model.streams import CHANGE, Column, Stream
from qanat.model.types import STRING
from qanat.notify.pace import Breaker
from qanat.notify.reader import check_columns, read_alerts
from qanat.notify.sender import waiting
from qanat.notify.target import DownError, RefusedError

KEYED = {"key": ("site",), "state": "state"}


def dead(log: Log) -> list[dict[str, Any]]:
    return [row for chunk in log.read(("dead_letters", 0), 0, 1000) for row in chunk.rows.to_pylist()]


def rows(log: Log, count: int, site: str = "a") -> None:
    put(log, *((site, "raised", 1.5, n) for n in range(count)))


def test_every_row_in_its_order_and_the_position_follows(log, play):
    rows(log, 5)
    put(log, ("b", "raised", 0.0, 77), partition=1)
    target = Recorder()
    playing = play(target)
    playing.run()
    assert [message.id for message in target.taken if message.partition == 0] == [f"alerts/0/{n}" for n in range(5)]
    assert [message.id for message in target.taken if message.partition == 1] == ["alerts/1/0"]
    assert {message.status for message in target.taken} == {"row"}
    assert log.positions("sink:ops") == {("alerts", 0): 5, ("alerts", 1): 1}
    assert target.taken[0].values == {"site": "a", "state": "raised", "level": 1.5, "n": 0}


def test_raised_suppressed_repeated_and_cleared_in_virtual_time(log, play):
    target = Recorder()
    playing = play(target, repeat_after=3_600_000, **KEYED)
    for n in range(9):  # every ten minutes
        put(log, ("a", "raised", 1.0, n))
        playing.run(600)
    put(log, ("a", "ok", 1.0, 9), ("a", "ok", 1.0, 10), ("b", None, 1.0, 11))
    playing.run()
    assert target.said == [("raised", "a", 0), ("raised", "a", 5), ("cleared", "a", 9)]  # told at the hour, not later
    assert log.positions("sink:ops")["alerts", 0] == 12


def test_hours_of_rows_behind_a_target_that_was_down_make_one_message(log, play):
    target = Recorder()
    target.plan = [DownError("down")] * 20
    playing = play(target, repeat_after=600_000, **KEYED)
    for n in range(12):
        put(log, ("a", "raised", 1.0, n), ("b", "raised", 1.0, n))
        playing.run(100)
    assert target.said == [("raised", "a", 0), ("raised", "b", 0)]
    playing.run(300)
    assert target.said[2:] == [("raised", "a", 11), ("raised", "b", 11)]


def test_backoff_doubles_to_a_minute_and_the_breaker_shows_it(log, play):
    target = Recorder()
    target.plan = [DownError("the line is cut")] * 9
    playing = play(target)
    rows(log, 1)
    playing.run(300)
    assert playing.waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert target.said == [("row", "", 0)]
    assert playing.sender.fault is None
    target.plan = [DownError("again")] * 5
    put(log, ("a",))
    states = []
    for _ in range(5):
        playing.sender.step(playing.moment)
        states.append(playing.sender._pace.breaker(playing.seconds))
        playing.seconds += 30
    assert states == [Breaker.CLOSED] * 4 + [Breaker.OPEN]
    assert playing.sender._pace.breaker(playing.seconds) is Breaker.HALF_OPEN
    assert playing.sender.fault == "again"


def test_jitter_takes_up_to_half_away(log, play):
    from dataclasses import replace

    target = Recorder()
    target.plan = [DownError("down")]
    playing = play(target)
    rows(log, 1)
    assert playing.sender.step(replace(playing.moment, draw=0.0)) == 0.25


def test_a_target_that_says_when_is_believed(log, play):
    target = Recorder()
    target.plan = [DownError("busy", retry_after=120)]
    playing = play(target)
    rows(log, 1)
    playing.run(119)
    assert target.taken == []
    playing.run(2)
    assert len(target.taken) == 1


def test_a_poison_alert_is_buried_with_its_reason_and_the_others_go_on(log, play):
    target = Recorder()
    target.judge = lambda message: RefusedError("400: level?") if message.values["n"] == 2 else None
    playing = play(target, attempts=3)
    rows(log, 5)
    playing.run(10)
    assert [n for _, _, n in target.said] == [0, 1, 3, 4]
    assert target.calls.count(["alerts/0/2"]) == 3
    [letter] = dead(log)
    assert (letter["stream"], letter["partition"], letter["offset"]) == ("alerts", 0, 2)
    assert (letter["source"], letter["origin"], letter["reason"]) == ("sink", "sink:ops", "sink ops: 400: level?")
    assert b'"n":2' in letter["data"]
    assert playing.sender._pace.breaker(playing.seconds) is Breaker.CLOSED


def test_a_refused_batch_goes_out_one_by_one(log, play):
    target = Recorder()
    target.judge = lambda message: RefusedError("no") if message.values["n"] == 5 else None
    playing = play(target, batch=4, attempts=2)
    rows(log, 12)
    playing.run(10)
    assert [n for _, _, n in target.said] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert target.calls[:2] == [[f"alerts/0/{n}" for n in range(4)], [f"alerts/0/{n}" for n in range(4, 8)]]
    assert target.calls[-1] == [f"alerts/0/{n}" for n in range(8, 12)]
    assert len(dead(log)) == 1


def test_of_a_buried_alert_nobody_has_heard(log, play):
    target = Recorder()
    target.plan = [RefusedError("no")] * 3
    playing = play(target, **KEYED)
    put(log, ("b", "ok", 0.0, 0), ("a", "raised", 0.0, 1), ("a", "ok", 0.0, 2), ("a", "raised", 0.0, 3))
    playing.run(10)
    assert target.said == [("raised", "a", 3)]
    assert [letter["offset"] for letter in dead(log)] == [1]


def test_a_recovery_that_is_refused_ends_the_alert_all_the_same(log, play):
    target = Recorder()
    target.plan = [None, RefusedError("no"), RefusedError("no"), RefusedError("no")]
    playing = play(target, **KEYED)
    put(log, ("a", "raised", 0.0, 0), ("a", "ok", 0.0, 1), ("a", "raised", 0.0, 2))
    playing.run(10)
    assert target.said == [("raised", "a", 0), ("raised", "a", 2)]


def test_given_up_after_the_time_that_was_set(log, play):
    target = Recorder()
    target.judge = lambda message: DownError("500") if message.values["n"] == 0 else None
    playing = play(target, give_up=60_000)
    rows(log, 3)
    playing.run(59)
    assert dead(log) == []
    playing.run(300)
    assert [n for _, _, n in target.said] == [1, 2]
    assert [letter["reason"] for letter in dead(log)] == ["sink ops: given up after 60 s: 500"]


def test_so_many_a_minute(log, play):
    target = Recorder()
    playing = play(target, per_minute=6)
    rows(log, 20)
    playing.run()
    assert len(target.taken) == 6
    playing.run(59)
    assert len(target.taken) == 11
    playing.run(60 * 2)
    assert len(target.taken) == 20


def test_the_rate_cuts_batches(log, play):
    target = Recorder()
    playing = play(target, per_minute=6, batch=4)
    rows(log, 20)
    playing.run()
    assert [len(call) for call in target.calls] == [4, 2]


class KilledError(Exception):
    """The process ends here."""


class Breaking:
    """A log that fails at the n-th submit, before or after it is durable."""

    def __init__(self, log: Log, at: int, after: bool) -> None:
        self._log, self._left, self._after = log, at, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, transaction: Transaction) -> Any:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise KilledError
        done = self._log.submit(transaction)
        if self._left < 0:
            done.result()
            raise KilledError
        return done


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_killed_at_every_commit_nothing_is_lost_and_no_flood_comes(log, batch, after):
    """At most the batch under way is said twice, with the same ids; what was committed never."""
    told = [
        ("a", "raised"),
        ("b", "raised"),
        ("a", "raised"),
        ("a", "ok"),
        ("b", "raised"),
        ("c", "raised"),
        ("b", "ok"),
    ]
    put(log, *((site, state, 0.0, n) for n, (site, state) in enumerate(told)))
    expected = [0, 1, 3, 5, 6]
    sink = Sink(stream="alerts", start="oldest", batch=batch, **KEYED)
    from qanat.notify.sender import Sender
    from qanat.observe.metrics import Metrics

    for at in range(1, 7):
        log.submit(Transaction(forget=["sink:ops"], state={f"sink/ops/{n}": None for n in range(64)})).result()
        target, killed = Recorder(), False
        broken = Playing(Sender("ops", sink, ALERTS, Breaking(log, at, after), target, Metrics()))
        try:
            broken.run()
        except KilledError:
            killed = True
        before = len(target.taken)
        Playing(Sender("ops", sink, ALERTS, log, target, Metrics())).run()
        offsets = [message.offset for message in target.taken]
        assert sorted(set(offsets)) == expected
        repeated = len(offsets) - len(expected)
        assert repeated <= (batch if killed and not after else 0)
        assert offsets[before:] == expected[before - repeated :]


def test_two_processes_cannot_both_move_it(log, play):
    target = Recorder()
    rows(log, 2)
    one, other = play(target), play(target)
    one.run()
    with pytest.raises(LogError, match="expected position"):
        other.run()
    other.sender.open()
    other.run()
    assert [n for _, _, n in target.said] == [0, 1, 0]


def test_a_new_sink_begins_at_the_end_and_its_position_is_there_at_once(log, play):
    rows(log, 3)
    target = Recorder()
    playing = play(target, start="newest")
    assert log.positions("sink:ops") == {("alerts", 0): 3, ("alerts", 1): 0}
    put(log, ("a", "raised", 1.0, 9))
    assert waiting(log, "ops", Sink(stream="alerts")) == 1
    playing.run()
    assert target.said == [("row", "", 9)]
    assert waiting(log, "ops", Sink(stream="alerts")) == 0


def test_a_sink_that_is_gone_holds_nothing_back(log, play):
    from pathlib import Path

    from qanat.notify import open_sinks
    from qanat.observe.metrics import Metrics

    play(Recorder())
    assert "sink:ops" in log.consumers()
    open_sinks({}, {}, log, Metrics(), Path())
    assert "sink:ops" not in log.consumers()


def test_a_deleted_row_clears_its_key(log):
    import pyarrow as pa

    from qanat.log.base import Chunk

    batch = pa.record_batch({"site": ["a", "b/c"], "state": ["x", "x"], CHANGE: pa.array([None, 3], pa.int8())})
    found = list(read_alerts(Chunk("alerts", 0, 7, 1, 0, 1000, batch), Sink(stream="alerts", **KEYED)))
    assert [(one.offset, one.key, one.state) for one in found] == [(7, "a", "x"), (8, "b%2Fc", None)]
    assert found[0].row == b'{"site":"a","state":"x"}'


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "needs one of webhook, email and mqtt"),
        ({"key": ("site",), "mqtt": {"url": "mqtt://x", "topic": "t"}}, "neither state nor repeat_after"),
        ({"repeat_after": "1 h", "mqtt": {"url": "mqtt://x", "topic": "t"}}, "no key"),
        ({"email": {"host": "x", "sender": "a@b", "to": []}}, "nobody in email.to"),
    ],
)
def test_what_cannot_be_is_refused(declared, said):
    from qanat.model.project import validate

    with pytest.raises(ConfigError, match=said):
        validate({"sinks": {"ops": {"stream": "alerts", **declared}}}, "qanat.yaml", lambda _: 3)
    assert problem_of(Sink(stream="x")) is not None


def test_columns_must_be_there():
    stream = Stream("alerts", (Column("site", STRING),))
    with pytest.raises(ConfigError, match="has no column 'sites'"):
        check_columns("ops", Sink(stream="alerts", key=("sites",)), stream)


def test_the_documented_example_is_right(tmp_path, monkeypatch):
    import re
    from pathlib import Path

    from qanat.cli.project import read_config
    from qanat.notify.target import open_target

    document = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    for name in ("FARM_HOOK_SECRET", "SMTP_PASSWORD", "BROKER_PASSWORD"):
        monkeypatch.setenv(name, "x")
    (tmp_path / "qanat.yaml").write_text(re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)[0])
    sinks = read_config(tmp_path / "qanat.yaml").sinks
    columns = ["site", "sensor", "kind", "state", "reading", "at_"]
    for name, sink in sinks.items():
        open_target(name, sink, columns, tmp_path)
    assert sorted(sinks) == ["farmer", "office", "panel"]


def test_every_key_of_a_sink_is_documented():
    from pathlib import Path

    import msgspec

    from qanat.model.sinks import Email, MqttPublish, Webhook

    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    keys = [field.name for kind in (Sink, Webhook, Email, MqttPublish) for field in msgspec.structs.fields(kind)]
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_new_rows_do_not_shorten_a_wait(log, play):
    target = Recorder()
    target.plan = [DownError("down")]
    playing = play(target)
    for n in range(5):
        put(log, ("a", "raised", 1.0, n))
        playing.run(0.05)
    assert len(target.calls) == 1
    playing.run(1)
    assert [n for _, _, n in target.said] == [0, 1, 2, 3, 4]

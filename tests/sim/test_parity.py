"""The parity report finds every kind of fault that is planted, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from qanat.sim.fleet import Account
from qanat.sim.households import Neighbourhood, batches, messages
from qanat.sim.oracle import LIVE, expected_sessions, expected_windows, final_watermark, fused_pairs, timed
from qanat.sim.parity import Report, Stored, judge, match, summary, text

HOOD = Neighbourhood(households=12, seconds=240, growth=0, swap=0.03)


def acknowledged(hood: Neighbourhood) -> Account:
    account = Account()
    for message in messages(hood):
        index = account.add(message)
        account.sends[index] = account.acked[index] = 1
        account.sent += 1
        account.acknowledged += 1
    return account


def inputs(hood: Neighbourhood) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: dict[str, list[pl.DataFrame]] = {"power": [], "device_state": []}
    for stream, batch, _ in batches(hood):
        rows[stream].append(pl.DataFrame(batch).drop("username"))
    return pl.concat(rows["power"]), pl.concat(rows["device_state"])


def right(hood: Neighbourhood) -> Stored:
    """What a log would hold after everything went well, made by the oracle itself."""
    power, states = inputs(hood)
    dead = tuple(m.payload for m in messages(hood) if not m.payload.endswith(b"}"))
    p, s = timed(power, LIVE), timed(states, LIVE)
    windows = expected_windows(p, LIVE, final_watermark(p, LIVE))
    sessions = expected_sessions(fused_pairs(p, s), LIVE)
    due = sessions.filter(pl.col("window_end") - 1 <= min(final_watermark(p, LIVE), final_watermark(s, LIVE)))
    bitmaps = [[[bit == "1" for bit in label] for label in labels] for labels in due["bits"]]
    training = due.drop("bits").with_columns(state_bitmap=pl.Series(bitmaps, dtype=pl.List(pl.List(pl.Boolean))))
    return Stored(power, states, windows.sort("window_end", "client_id"), training.sort("window_end"), dead)


@pytest.fixture(scope="module")
def account() -> Account:
    return acknowledged(HOOD)


@pytest.fixture(scope="module")
def stored() -> Stored:
    return right(HOOD)


def test_nothing_is_found_where_nothing_is_wrong(stored, account):
    report = judge(stored, LIVE, account)
    assert report.ok, text(report)
    assert report.delivery.sent == report.delivery.stored == account.sent
    assert report.windows.expected == report.windows.produced > 2000
    assert report.sets.expected > 10
    assert report.fused == report.fusable > 300
    assert report.rows == report.in_order
    assert (report.late, report.dead, report.unjudged) == (0, 0, 0)


def without(rows: pl.DataFrame, place: int) -> pl.DataFrame:
    return pl.concat([rows[:place], rows[place + 1 :]])


def test_an_acknowledged_message_that_is_not_stored_is_lost(stored, account):
    for change in (
        replace(stored, power=without(stored.power, 100)),
        replace(stored, device_state=without(stored.device_state, 100)),
    ):
        report = judge(change, LIVE, account)
        assert report.delivery.lost == 1
        assert not report.ok


def test_what_was_sent_and_not_acknowledged_may_be_missing(stored):
    account = acknowledged(HOOD)
    account.acked[0] = 0
    assert account.messages[0].topic.startswith("power")
    delivery = match(account, replace(stored, power=without(stored.power, 0)))
    assert (delivery.lost, delivery.unstored, delivery.foreign) == (0, 1, 0)


def test_a_message_that_was_sent_again_may_be_stored_again(stored):
    account = acknowledged(HOOD)
    account.sends[0] = 2
    twice = replace(stored, power=pl.concat([stored.power[:1], stored.power]))
    delivery = match(account, twice)
    assert (delivery.repeated, delivery.foreign, delivery.lost) == (1, 0, 0)
    account.sends[0] = 1
    assert match(account, twice).foreign == 1


def test_a_changed_reading_is_lost_and_foreign(stored, account):
    other = stored.power.with_columns(
        consumption=pl.when(pl.int_range(pl.len()) == 7).then(-1.0).otherwise("consumption")
    )
    delivery = match(account, replace(stored, power=other))
    assert (delivery.lost, delivery.foreign) == (1, 1)


def test_cut_messages_have_to_be_among_the_dead_letters():
    hood = replace(HOOD, malformed=0.05)
    stored, account = right(hood), acknowledged(hood)
    assert len(stored.dead) > 20
    assert match(account, stored).lost == 0
    assert match(account, replace(stored, dead=stored.dead[1:])).lost == 1


def test_meters_without_a_clock_are_matched_by_their_contents():
    hood = replace(HOOD, no_clock=0.5)
    stored, account = right(hood), acknowledged(hood)
    report = judge(stored, LIVE, account)
    assert report.ok, text(report)
    assert match(account, replace(stored, power=stored.power[1:])).lost == 1


def faulty(stored: Stored, name: str, **faults: int) -> None:
    report = judge(stored)
    outcome = getattr(report, name)
    found = {fault: getattr(outcome, fault) for fault in ("missing", "wrong", "extra", "repeated")}
    assert found == {"missing": 0, "wrong": 0, "extra": 0, "repeated": 0} | faults
    assert not report.ok


@pytest.mark.parametrize(("column", "name"), [("predictions", "windows"), ("training", "sets")])
def test_faults_in_an_output_are_told_apart(stored, column, name):
    rows = getattr(stored, column)
    ending = pl.col("window_end")
    faulty(replace(stored, **{column: rows[1:]}), name, missing=1)
    faulty(replace(stored, **{column: pl.concat([rows[:1], rows])}), name, repeated=1)
    faulty(replace(stored, **{column: rows[:1].with_columns(ending + 500).vstack(rows)}), name, extra=1)
    shifted = rows.with_columns(window_start=pl.col("window_start") + (pl.int_range(pl.len()) < 3))
    faulty(replace(stored, **{column: shifted}), name, wrong=3)


def test_contents_in_another_order_are_wrong(stored):
    values = pl.col("values")
    unequal = stored.predictions.with_columns(values=values.list.reverse())
    expected = stored.predictions.filter(values != values.list.reverse()).height
    faulty(replace(stored, predictions=unequal), "windows", wrong=expected)
    turned = stored.training.with_columns(pl.col("state_bitmap").list.reverse())
    report = judge(replace(stored, training=turned))
    assert report.sets.wrong > 0
    assert report.fused == report.fusable


def test_seconds_missing_in_a_training_set_are_not_fused(stored):
    short = stored.training.with_columns(pl.col("consumption").list.head(5))
    report = judge(replace(stored, training=short))
    assert report.fused == 5 * report.sets.expected
    assert not report.ok


def test_output_rows_out_of_order_are_counted(stored):
    turned = stored.predictions.reverse()
    report = judge(replace(stored, predictions=turned))
    assert report.windows.ok
    assert report.rows - report.in_order == stored.predictions.height - 12  # only each client's newest is in order
    assert not report.ok


def test_clients_with_late_rows_keep_their_windows_compared_and_their_sets_not():
    hood = replace(HOOD, late=0.002)
    report = judge(right(hood), LIVE, acknowledged(hood))
    assert 0 < report.unjudged < 12
    assert report.ok, text(report)


def test_the_report_is_read_by_people(stored, account):
    report = judge(replace(stored, power=stored.power[1:]), LIVE, account)
    told = text(report)
    assert "FAIL  acknowledged, not stored                   1" in told
    assert told.endswith("parity: FAILED")
    labels = [what for what, _, _ in summary(report)]
    for what in ("messages sent", "acknowledged", "stored", "prediction windows", "training sets", "late rows"):
        assert what in labels
    assert isinstance(report, Report)
    assert text(judge(stored)).endswith("parity: everything that was acknowledged is there")

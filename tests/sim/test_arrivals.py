"""The comparison finds every kind of fault that is planted, and none where there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from qanat.sim import farm as farms
from qanat.sim.arrivals import Arrivals, Found, Ledger, compare, summary, text
from qanat.sim.faults import DEADLY, Fault, Faults, disturb
from qanat.sim.fleet import Account

FARM = farms.Farm(sites=2, sensors=60, seconds=300)
FAULTS = Faults(late=0.02, swapped=0.02, duplicates=0.02, clock_faults=0.05, malformed=0.03)


@pytest.fixture
def play() -> tuple[Account, Ledger]:
    """Everything was sent once and acknowledged."""
    account, ledger = Account(), Ledger()
    for message in ledger.messages(disturb(farms.readings(FARM), FAULTS, 1)):
        number = account.add(message)
        account.sends[number] = account.acked[number] = 1
        account.sent += 1
        account.acknowledged += 1
    return account, ledger


@pytest.fixture
def right(play: tuple[Account, Ledger]) -> Found:
    """What the log holds if all went well."""
    account, ledger = play
    pairs = list(zip(account.messages, ledger.notes, strict=True))
    return Found(
        Counter((note.key, note.value) for _, note in pairs if not note.fault & DEADLY),
        Counter((message.payload, Fault.CUT not in note.fault) for message, note in pairs if note.fault & DEADLY),
    )


def faults_of(found: Arrivals) -> dict[str, int]:
    names = ("lost", "foreign", "repeated", "unstored", "wrong", "misjudged")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def test_nothing_is_found_where_nothing_is_wrong(play: tuple[Account, Ledger], right: Found) -> None:
    account, ledger = play
    found = compare(account, ledger.notes, right)
    assert (found.ok, faults_of(found)) == (True, {})
    assert found.sent == found.stored + found.dead == len(account.messages)
    assert set(found.faults) == {"again", "ahead", "behind", "cut", "late", "swapped"}
    assert text(found).endswith("parity: everything is where it belongs")


def test_a_row_that_is_missing_is_lost(play: tuple[Account, Ledger], right: Found) -> None:
    key = next(iter(right.rows))
    del right.rows[key]
    found = compare(play[0], play[1].notes, right)
    assert (found.ok, faults_of(found)) == (False, {"lost": 1})


def test_a_row_without_acknowledgement_may_be_missing(play: tuple[Account, Ledger], right: Found) -> None:
    account, ledger = play
    place = next(i for i, note in enumerate(ledger.notes) if not note.fault)
    account.acked[place] = 0
    del right.rows[ledger.notes[place].key, ledger.notes[place].value]
    found = compare(account, ledger.notes, right)
    assert (found.ok, faults_of(found)) == (True, {"unstored": 1})


def test_a_row_more_than_sent_is_foreign_and_one_that_was_sent_again_is_not(
    play: tuple[Account, Ledger], right: Found
) -> None:
    account, ledger = play
    place = next(i for i, note in enumerate(ledger.notes) if not note.fault)
    right.rows[ledger.notes[place].key, ledger.notes[place].value] += 1
    found = compare(account, ledger.notes, right)
    assert (found.ok, faults_of(found)) == (False, {"foreign": 1})
    account.sends[place] = 2
    found = compare(account, ledger.notes, right)
    assert (found.ok, faults_of(found)) == (True, {"repeated": 1})


def test_a_row_of_nobody_and_a_row_with_another_value_are_found(play: tuple[Account, Ledger], right: Found) -> None:
    right.rows["nobody/1", 5] += 1
    key, value = next(iter(right.rows))
    right.rows[key, value + 1] = right.rows.pop((key, value))
    found = compare(play[0], play[1].notes, right)
    assert faults_of(found) == {"foreign": 1, "wrong": 1}
    assert found.checksum != found.found_checksum


def test_a_faulty_message_that_was_taken_and_a_sound_one_that_was_buried_are_found(
    play: tuple[Account, Ledger], right: Found
) -> None:
    account, ledger = play
    sound = next(i for i, note in enumerate(ledger.notes) if not note.fault)
    ahead = next(i for i, note in enumerate(ledger.notes) if note.fault == Fault.AHEAD)
    del right.rows[ledger.notes[sound].key, ledger.notes[sound].value]
    right.dead[account.messages[sound].payload, False] += 1
    right.dead[account.messages[ahead].payload, True] -= 1
    right.rows[ledger.notes[ahead].key, ledger.notes[ahead].value] += 1
    found = compare(account, ledger.notes, right)
    assert not found.ok
    assert faults_of(found) == {"lost": 2, "foreign": 2, "misjudged": 1}


def test_a_letter_that_was_buried_for_another_reason_is_found(play: tuple[Account, Ledger], right: Found) -> None:
    payload, future = next(one for one in right.dead if one[1])
    right.dead[payload, not future] = right.dead.pop((payload, future))
    assert faults_of(compare(play[0], play[1].notes, right)) == {"lost": 1, "foreign": 1}


def test_the_summary_marks_what_is_wrong() -> None:
    rows = {what: ok for what, _, ok in summary(replace(Arrivals(), lost=2, checksum=1))}
    assert rows["acknowledged and nowhere"] is False
    assert rows["checksum of values"] is False
    assert rows["in the log and never sent"] is True

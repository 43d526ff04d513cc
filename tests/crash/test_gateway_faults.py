"""About a minute of `python -m tests.crash.gateway`: kills, cuts, pauses and a full disk under mixed load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.crash.gateway import Plan, Report, _judge_one, run, small_disk
from tests.crash.senders import Account


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_law_6_what_was_acknowledged_survives_kills_cuts_and_pauses(tmp_path: Path) -> None:
    report = run(Plan(30, seed=7, faults=("kill", "cut", "hold", "freeze", "restart")), tmp_path / "run")
    assert report.wrong == [], "\n".join(report.figures)
    assert not [one for one in report.figures if one.startswith("left out")]
    assert report.rows > 1_000
    assert sum(report.done.values()) > 5


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_law_6_what_was_acknowledged_survives_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "try") as why:
        if why is not None:
            pytest.skip(f"no small file system can be mounted here: {why}")
    report = run(Plan(20, seed=8, faults=("disk", "cut")), tmp_path / "run")
    assert report.wrong == [], "\n".join(report.figures)
    assert report.done["disk"] > 0
    assert report.rows > 500


@pytest.mark.parametrize(
    ("stored", "wrong"),
    [
        ([0, 1, 2, 2], []),
        ([0, 2, 2], ["c: 1 acknowledged and not stored"]),
        ([0, 1, 1, 2], ["c: 1 stored more often than allowed"]),
        ([0, 1, 2, 2, 9], ["c: 1 stored and never sent"]),
    ],
)
def test_the_judge_sees_what_is_lost_and_what_is_there_too_often(stored: list[int], wrong: list[str]) -> None:
    account = Account("c")
    for sends in (1, 1, 2):
        number = account.new()
        account.sends[number], account.acked[number] = sends, 1
    report = Report()
    numbers = np.array(stored)
    _judge_one(account, numbers, numbers % 97 + 0.5, report)
    assert report.wrong == wrong
    report = Report()
    account.once = True
    _judge_one(account, numbers, numbers % 97 + 1.5, report)
    assert f"c: {sum(one < 3 for one in stored)} stored with another value" in report.wrong
    assert any("more often" in one for one in report.wrong)

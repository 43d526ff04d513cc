"""A few hundred bent HTTP bodies with every test run; more with python -m tests.fuzz.http."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.http import one_round


@pytest.mark.parametrize("seed", range(4))
def test_bent_bodies_are_taken_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    became = {one_round(chance) for _ in range(150)}
    assert {"taken", "all bad", "refused 400"} <= became

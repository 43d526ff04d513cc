"""Random streams through random windows, aggregates, rankings, OVER and joins: however the input is cut, and wherever
it crashes, the rows are the same (law 1). That they are Flink's is tested in test_flink.py, which needs one.

Seeds are fixed, so that a failure comes again; QANAT_SEED and QANAT_SCRIPTS look further.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.sql.checks import ALL, cut_differently
from tests.conformance.sql.embedded import compiled, run
from tests.conformance.sql.generate import scripts

SEED = int(os.environ.get("QANAT_SEED", "2026"))
COUNT = int(os.environ.get("QANAT_SCRIPTS", "40"))


@pytest.mark.timeout(600)
def test_law_1_random_scripts_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    wrong = {}
    for script in scripts(SEED, COUNT, tmp_path):
        pipeline = compiled(script.sql)
        text = cut_differently(pipeline, run(pipeline, ALL), script.key)
        if text:
            wrong[script.name] = f"{script.sql}\n{text}"
    assert wrong == {}, "\n".join(wrong.values())

"""Every Nexmark query that fits the language gives the rows that Flink gives, however the input is cut.

bench/nexmark/expected.json holds Flink's answers; `python -m bench.nexmark.expected` asks for them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.nexmark.answers import CHANGELOG_FILES, ROW_FILES, Answer, answer
from bench.nexmark.expected import expected, parameters
from bench.nexmark.queries import LEFT_OUT, QUERIES, script

from qanat.log import open_log
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions

#: Queries whose result changes.
SINKS = dict.fromkeys(("q4", "q9", "q15", "q16", "q17", "q18", "q19"), CHANGELOG_FILES)


def run_embedded(name: str, output: Path, batch_rows: int) -> Answer:
    """The query over the events of the conformance test, in micro-batches of at most so many rows."""
    program = compile_script(script(QUERIES[name]), parameters(output, SINKS.get(name, ROW_FILES)), f"{name}.sql")
    log = open_log("memory://")
    try:
        Engine(program, log, EngineOptions(batch_rows=batch_rows)).run()
    finally:
        log.close()
    return answer(output)


@pytest.mark.parametrize("batch_rows", [100_000, 3_001])
@pytest.mark.parametrize("name", QUERIES)
def test_query_gives_the_rows_of_flink(name: str, batch_rows: int, tmp_path: Path) -> None:
    wanted = expected()[name]
    found = run_embedded(name, tmp_path / "out", batch_rows)
    assert found.rows == wanted.rows
    assert found.digest == wanted.digest


def test_every_query_is_accounted_for() -> None:
    assert set(QUERIES) | set(LEFT_OUT) == {f"q{number}" for number in range(23)}
    assert set(expected()) == set(QUERIES)

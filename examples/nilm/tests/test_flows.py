"""Both flows in this process: the simulated street through the engine, beside the oracle. No sockets, no files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.sim.households import Neighbourhood, batches
from qanat.sim.oracle import LIVE, RECORDED
from qanat.sim.parity import Report, judge, read_stored, text
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from qanat.sql.plan import Hop


def through_the_engine(script: Path, hood: Neighbourhood, batch_rows: int = 10_000) -> Report:
    log = open_log("memory://")
    try:
        program = compile_script(script.read_text(), source=str(script))
        engine = Engine(program, log, EngineOptions(live=False, batch_rows=batch_rows))
        for stream, rows, at in batches(hood):
            log.submit(Transaction([Append(stream, 0, rows, at)])).result()
        engine.run()
        return judge(replace(read_stored(log), ended=True))
    finally:
        log.close()


@pytest.mark.parametrize("batch_rows", [700, 100_000])
def test_a_street_for_ten_minutes(example, batch_rows):
    report = through_the_engine(example / "nilm.sql", Neighbourhood(households=60, seconds=600, growth=0), batch_rows)
    assert report.ok, text(report)
    assert report.windows.expected == pytest.approx(60 * 613, rel=0.01)
    assert report.sets.expected == pytest.approx(60 * 4.5, rel=0.15)
    assert report.fusable == report.fused > 60 * 100
    assert report.late == 0


def test_late_and_doubled_messages(example):
    hood = Neighbourhood(households=80, seconds=300, growth=0, late=0.001, duplicate=0.02, no_clock=0.1)
    report = through_the_engine(example / "nilm.sql", hood)
    assert report.ok, text(report)
    assert report.late > 0
    assert 0 < report.unjudged < 60


def test_the_times_in_the_sql_are_those_of_the_oracle(example):
    """`Flow` says in Python what the scripts say in SQL."""
    for script, flow in ((example / "nilm.sql", LIVE), (example / "refit" / "refit.sql", RECORDED)):
        sql = script.read_text()
        program = compile_script(sql, source=str(script))
        watermarks = {t.watermark.delay_ms for t in program.tables.values() if t.watermark is not None}
        assert watermarks == {flow.delay_ms}
        root = repr(program.pipelines[0].root)
        assert repr(Hop(flow.size_ms, flow.step_ms)) in root
        assert f"Session(gap={flow.gap_ms}," in repr(program.pipelines[1].root)
        assert re.search(rf"> {flow.shortest_s};", sql)


def test_the_three_scripts_differ_in_times_and_connectors_only(example):
    def bare(path: Path) -> str:
        sql = re.sub(r"--.*", "", path.read_text())
        sql = re.sub(r"\) WITH \([^)]*\)", ")", sql)
        sql = re.sub(r"INTERVAL '[^']*' (MINUTE TO SECOND|SECOND|MINUTE)", "INTERVAL", sql)
        return " ".join(re.sub(r"> (\d+|\$\{SHORTEST\});", "> n;", sql).split())

    live = bare(example / "nilm.sql")
    assert bare(example / "refit" / "refit.sql") == live
    assert bare(example / "batch" / "nilm.sql") == live

"""History into a new version of a stream: what is replaced, what readers see, and a kill at any point."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.control.conftest import TOTALS, Project, readings
from tests.control.test_apply import BASE, expire, windows

from qanat.control import Replay, Window
from qanat.errors import ChangedPipelineError, ConfigError, LogError
from qanat.log import open_log
from qanat.log.base import Transaction
from qanat.model.stores import consumer_of
from qanat.query import Query
from qanat.query.scan import StreamScan
from qanat.sql import compile_script

MORE = """
CREATE TABLE more (k STRING, n BIGINT, at_ TIMESTAMP(3));
CREATE VIEW found AS SELECT k, n, window_start AS began FROM totals;
INSERT INTO more SELECT k, SUM(n), window_start
  FROM TABLE(TUMBLE(TABLE found, DESCRIPTOR(began), INTERVAL '20' SECOND)) GROUP BY k, window_start, window_end;"""
SHIFTED = BASE.replace("k, window_start, COUNT", "k, window_start + INTERVAL '1' DAY, COUNT")


def replay(
    project: Project, sql: str, begin: int | None = None, end: int | None = None, name: str = "totals"
) -> Replay:
    window = Window(begin and begin * 1000, end and end * 1000)
    return Replay(compile_script(sql), project.log, name, window, live=True, rows=7)


def test_the_whole_output_is_computed_anew(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    changed = BASE.replace("SUM(v)", "SUM(v * 2)")
    plan = replay(project, changed).plan()
    assert (plan.history.rows, plan.stored, plan.version, plan.missing) == (36, 6, 2, "")
    assert replay(project, changed).run() == 6
    assert project.rows() == windows(0, 30, value=lambda i: 2 * i)
    assert project.stages(changed)["totals"].action == "unchanged"
    project.feed(readings(36, 53))
    project.run(changed)
    assert project.rows() == windows(0, 50, value=lambda i: 2 * i)
    assert replay(project, changed).plan().version == 3


@pytest.mark.parametrize(("begin", "end"), [(10, None), (None, 20), (10, 20), (15, None), (500, None), (None, 0)])
def test_results_outside_of_the_bounds_stay(project: Project, begin: int | None, end: int | None) -> None:
    project.feed(readings(0, 46))
    project.run(BASE)
    changed = BASE.replace("SUM(v)", "SUM(v * 2)")
    end = -1 if end == 0 else end
    replay(project, changed, begin, end).run()
    new = windows(0, 40, value=lambda i: 2 * i)
    old = windows(0, 40)
    inside = [(begin is None or row[1] >= begin) and (end is None or row[1] < end) for row in old]
    assert project.rows() == [n if mine else o for n, o, mine in zip(new, old, inside, strict=True)]
    project.feed(readings(46, 63))
    project.run(changed)
    assert project.rows()[8:] == windows(40, 60, value=lambda i: 2 * i)


def test_a_replay_of_a_part_reads_a_part(project: Project) -> None:
    project.feed(readings(0, 96))
    project.run(BASE)
    # results from second 70 on: rows from 70 - 10 (window) - 2 (delay) = 58 on; the append that holds it begins at 55
    assert replay(project, BASE, 70).plan().history.rows == 96 - 55


def test_rows_that_are_gone_would_take_results_with_them(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE, snapshot_interval_ms=0)
    expire(project, 8)
    whole = replay(project, BASE)
    assert "would be gone" in whole.plan().missing
    with pytest.raises(ChangedPipelineError, match="--allow-loss"):
        whole.run()
    assert project.rows() == windows(0, 30)
    assert "results from then on" in replay(project, BASE, 10).plan().missing
    assert replay(project, BASE, 25).plan().missing == ""
    replay(project, BASE, 25).run()
    assert project.rows() == windows(0, 30)


def test_pipelines_behind_go_on_at_the_new_end(project: Project) -> None:
    sql = BASE + MORE
    project.feed(readings(0, 36))
    project.run(sql)
    assert project.rows("more", ("k", "at_", "n")) == [("a", 0, 10), ("b", 0, 10)]
    changed = sql.replace("COUNT(*)", "COUNT(*) + 1")
    run = replay(project, changed)
    assert run.plan().readers == ("more",)
    run.run()
    assert [n for _, _, n, _ in project.rows()] == [6] * 6
    project.feed(readings(36, 63))
    project.run(changed)
    # the window of 20 holds what was read of it before the switch (5 rows a window) and after (6)
    assert project.rows("more", ("k", "at_", "n")) == [("a", 0, 10), ("b", 0, 10), ("a", 20, 11), ("b", 20, 11)]
    replay(project, changed, name="more").run()
    assert {n for _, _, n in project.rows("more", ("k", "at_", "n"))} == {12}


def test_a_reader_with_unread_rows_is_waited_for(project: Project) -> None:
    sql = BASE + MORE
    project.feed(readings(0, 26))
    project.run(sql)
    project.feed(readings(26, 46))
    project.run(BASE)
    with pytest.raises(LogError, match="more has not read 4 rows of totals"):
        replay(project, sql)


@pytest.mark.parametrize(("consumer", "stands"), [("outside", 12), (consumer_of("hot", "totals"), 6)])
def test_where_a_consumer_that_is_no_pipeline_goes_on(project: Project, consumer: str, stands: int) -> None:
    """At the new end; a hot store, which wants the rows of the new version and holds them back, where that begins."""
    project.feed(readings(0, 36))
    project.run(BASE)
    project.log.submit(Transaction(positions={consumer: {("totals", 0): 6}})).result()
    replay(project, BASE).run()
    end = project.log.status()["totals"].ends[0]
    assert (end, project.log.positions(consumer)) == (12, {("totals", 0): stands})


@pytest.mark.parametrize(
    ("sql", "window", "name", "said"),
    [
        (BASE, Window(), "nothing", "no pipeline nothing"),
        (BASE + TOTALS, Window(), "totals", "writes into totals, too"),
        (BASE + "\nSELECT k FROM readings;", Window(), "result", "writes to the caller"),
        (BASE, Window(20, 10), "totals", "--to must be later"),
        (SHIFTED, Window(1), "totals", "event time"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed(project: Project, sql: str, window: Window, name: str, said: str) -> None:
    project.feed(readings(0, 6))
    project.run(BASE)
    with pytest.raises(ConfigError, match=said):
        Replay(compile_script(sql), project.log, name, window, live=True, rows=7)


def test_a_stop_leaves_the_old_version(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    run = replay(project, BASE.replace("SUM(v)", "SUM(v * 2)"))
    with pytest.raises(LogError, match="the old version stays"):
        run.run(tell=lambda _rows: run.stopped.set())
    assert project.rows() == windows(0, 30)
    assert project.stages(BASE)["totals"].action == "unchanged"


def test_a_query_that_was_reading_says_so(project: Project, tmp_path: Path) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    query = Query(f"sqlite:///{tmp_path}/log.db")
    assert query.table("SELECT count(*) AS n FROM totals").to_pylist() == [{"n": 6}]
    replay(project, BASE.replace("SUM(v)", "SUM(v * 2)")).run()
    found = query.table("SELECT sum(s) AS total FROM totals").to_pylist()
    assert found == [{"total": sum(row[3] for row in windows(0, 30, value=lambda i: 2 * i))}]
    scan = StreamScan(project.log, project.log.status()["totals"])
    replay(project, BASE).run()
    with pytest.raises(LogError, match="ask again"):
        list(scan.batches())
    query.close()


CHILD = """
import sys
from qanat.control import Replay, Window
from qanat.log import open_log
from qanat.sql import compile_script
log = open_log(sys.argv[1])
run = Replay(compile_script(sys.argv[2]), log, "totals", Window(), live=True, rows=50)
print("ready", flush=True)
run.run()
print("done", flush=True)
log.close()
"""


def test_a_kill_at_any_point_leaves_the_old_or_the_new_version(project: Project, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    project.feed(readings(0, 1503))
    project.run(BASE, batch_rows=1000)
    project.log.close()
    old, new = windows(0, 1500), windows(0, 1500, value=lambda i: 2 * i)
    changed = BASE.replace("SUM(v)", "SUM(v * 2)")
    moments = random.Random(11)
    seen = set()
    for _ in range(12):
        command = [sys.executable, "-c", textwrap.dedent(CHILD), url, changed]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.12))
        os.kill(process.pid, signal.SIGKILL)
        done = process.stdout.read()
        process.stdout.close()
        process.wait()
        project.log = open_log(url)
        rows = project.rows()
        assert rows in (old, new)
        assert rows == new or not done
        same = project.stages(changed)["totals"].action == "unchanged"
        assert same == (rows == new)
        seen.add(rows == new)
        project.log.close()
    project.log = open_log(url)
    project.feed(readings(1503, 1523))
    replay(project, changed).run()
    project.run(changed)
    assert project.rows() == windows(0, 1520, value=lambda i: 2 * i)

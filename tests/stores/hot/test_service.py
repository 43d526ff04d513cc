"""A store's thread: what it does when the store or the log fails, in virtual time; and a whole project with a store."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from tests.cli.conftest import Server
from tests.conformance.store.places import ClickHouseServer
from tests.conformance.store.streams import Rows, reading, readings, rows_of

from qanat.cli.storing import LogSource
from qanat.errors import ConfigError, StoreError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.stores import consumer_of
from qanat.observe.metrics import Metrics
from qanat.stores.hot import open_store
from qanat.stores.hot.feeder import Feeder
from qanat.stores.hot.service import StoreService

TABLE = readings("readings")


class Hand:
    """A clock to move."""

    def __init__(self):
        self.now = 1000.0

    def now_ms(self):
        return int(self.now * 1000)

    def seconds(self):
        return self.now


class Broken:
    """A store that is down until it is mended."""

    def __init__(self):
        self.down, self.tries, self.rows, self.expired, self.at = True, 0, [], [], {}

    def prepare(self, table):
        self.tries += 1
        if self.down:
            raise StoreError("nobody answers")

    def position(self, stream):
        return dict(self.at)

    def write(self, stream, batch):
        if self.down:
            raise StoreError("it went away")
        self.rows += batch.rows.column("id").to_pylist()
        self.at[batch.partition] = batch.end

    def expire(self, now_ms):
        self.expired.append(now_ms)

    def close(self):
        """Nothing."""


@pytest.fixture
def log(tmp_path):
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    log.create(TABLE.stream)
    yield log
    log.close()


def append(log, first, count, at=1_000_000, partition=0):
    rows = rows_of(TABLE, [reading(n, "a", n) for n in range(first, first + count)])
    log.submit(Transaction([Append("readings", partition, rows, at)])).result()


def source(log):
    return LogSource(log, "readings", consumer_of("hot", "readings"))


def service(log, store, clock, max_lag_ms=60_000):
    metrics = Metrics()
    found = StoreService("hot", lambda: store, [(TABLE, source(log))], metrics, max_lag_ms, clock)
    return found, metrics


def value(metrics, name):
    found = re.search(rf'^{name}{{store="hot",stream="readings"}} (\S+)$', metrics.render().decode(), re.MULTILINE)
    return None if found is None else float(found[1])


def test_it_waits_longer_each_time_and_goes_on_when_the_store_is_back(log):
    clock, store = Hand(), Broken()
    fed, metrics = service(log, store, clock)
    append(log, 0, 3)
    tried = []
    for _ in range(2000):
        before = store.tries
        fed.turn()
        if store.tries > before:
            tried.append(clock.now)
        clock.now += 0.1
    gaps = [round(b - a, 1) for a, b in itertools.pairwise(tried)]
    assert gaps[:6] == pytest.approx([0.5, 1, 2, 4, 8, 16], abs=0.11)
    assert set(gaps[6:]) <= {30.0, 30.1}
    assert fed.faults() == {"store hot: readings": "nobody answers"}
    assert value(metrics, "qanat_store_errors_total") == len(tried)
    assert value(metrics, "qanat_store_lag_rows") == 3
    store.down = False
    clock.now += 31
    assert fed.turn()
    assert (store.rows, fed.faults()) == ([0, 1, 2], {"store hot: readings": None})
    assert value(metrics, "qanat_store_lag_rows") == 0
    assert value(metrics, "qanat_store_rows_total") == 3
    store.down = True
    append(log, 3, 2)
    fed.turn()
    assert fed.faults() == {"store hot: readings": "it went away"}
    clock.now += 0.4
    fed.turn()
    store.down = False
    clock.now += 0.2
    fed.turn()
    assert store.rows == [0, 1, 2, 3, 4]


def test_rows_that_wait_for_too_long_are_told(log):
    clock, store = Hand(), Broken()
    store.down = False
    fed, _ = service(log, store, clock, max_lag_ms=60_000)
    append(log, 0, 1, at=clock.now_ms())
    fed.turn()
    append(log, 1, 5, at=clock.now_ms())
    fed._streams[0].again_at = 1e9  # it does not get round to it
    clock.now += 59
    fed.turn()
    assert fed.faults() == {"store hot: readings": None}
    clock.now += 2
    fed.turn()
    assert "5 rows have waited for up to 61 s" in fed.faults()["store hot: readings"]


def test_old_rows_are_expired_now_and_then(log):
    clock, store = Hand(), Broken()
    store.down = False
    fed, _ = service(log, store, clock)
    append(log, 0, 1)
    for _ in range(30):
        fed.turn()
        clock.now += 60
    assert len(store.expired) == 2


def test_the_log_keeps_what_the_store_has_not_got(tmp_path):
    from dataclasses import replace

    log = open_log(f"sqlite:///{tmp_path}/log.db")
    log.create(replace(TABLE.stream, retention_ms=1))
    places = {("readings", partition): 0 for partition in (0, 1)}
    log.submit(Transaction(positions={consumer_of("hot", "readings"): places})).result()
    append(log, 0, 10)
    log.maintain(10_000_000)
    assert log.status()["readings"].rows == 10
    store = Broken()
    store.down = False
    Feeder(store, TABLE, source(log)).step()
    log.maintain(10_000_000)
    assert (log.status()["readings"].rows, store.rows) == (0, list(range(10)))
    log.close()


def test_a_store_that_is_ahead_of_the_log_is_refused(log):
    append(log, 0, 3)
    store = Broken()
    store.down, store.at = False, {0: 7}
    with pytest.raises(StoreError, match="up to row 7, the log up to 3"):
        Feeder(store, TABLE, source(log)).step()


def test_an_emptied_store_is_filled_again(log, tmp_path):
    append(log, 0, 5)
    for path in ("one.duckdb", "two.duckdb"):
        store = open_store(f"duckdb:///{tmp_path}/{path}")
        assert Feeder(store, TABLE, source(log)).step() == 5
        assert store.read("readings", ["a"], order="oldest").column("id").to_pylist() == list(range(5))
        store.close()


def test_a_row_that_the_store_cannot_take_stops_its_stream_and_says_so(tmp_path):
    """A timestamp beyond the year 9999 does not fit into microseconds."""
    store = open_store(f"duckdb:///{tmp_path}/hot.duckdb")
    store.prepare(TABLE)
    rows = rows_of(TABLE, [reading(1, "a", 0)])
    far = rows.set_column(2, "ts", pa.array([2**62], pa.int64()).cast(pa.timestamp("ms")))
    from qanat.stores.hot.rows import make_batch

    store.write("readings", make_batch(TABLE, 0, [Rows(0, 5, rows)]))
    try:
        store.write("readings", make_batch(TABLE, 0, [Rows(1, 5, far)]))
    except StoreError:
        assert store.position("readings") == {0: 1}
    else:
        assert store.read("readings", ["a"]).num_rows == 2
    store.close()


def test_clickhouse_goes_away_and_comes_back(log, tmp_path):
    clock = Hand()
    with ClickHouseServer(tmp_path / "server") as server:
        fed = StoreService("hot", lambda: open_store(server.url), [(TABLE, source(log))], Metrics(), 60_000, clock)
        append(log, 0, 4)
        assert fed.turn()
        server.kill()
        append(log, 4, 4)
        fed.turn()
        assert "ClickHouse at 127.0.0.1" in fed.faults()["store hot: readings"]
        server.start()
        clock.now += 31
        assert fed.turn()
        store = open_store(server.url)
        store.prepare(TABLE)
        assert store.read("readings", ["a"], order="oldest").column("id").to_pylist() == list(range(8))
        store.close()
        fed._last()


def test_the_thread_follows_the_log_and_ends_with_everything_written(log, tmp_path):
    url = f"duckdb:///{tmp_path}/hot.duckdb"
    fed = StoreService("hot", lambda: open_store(url), [(TABLE, source(log))], Metrics(), 60_000)
    fed.start()
    unwatch = log.watch(fed.wake)
    for first in range(0, 100, 10):
        append(log, first, 10, partition=first // 10 % 2)
    fed.stop()
    unwatch()
    store = open_store(url)
    store.prepare(TABLE)
    assert store.read("readings", ["a"], order="oldest").column("id").to_pylist() == list(range(100))
    store.close()
    assert not [one for one in threading.enumerate() if one.name == "qanat-store-hot"]


# --- a project -------------------------------------------------------------------------------------------------------

SQL = """
CREATE TABLE readings (sensor STRING, ts TIMESTAMP_LTZ(3), v DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
CREATE TABLE newest (sensor STRING, n BIGINT, PRIMARY KEY (sensor) NOT ENFORCED);
INSERT INTO newest SELECT sensor, COUNT(*) FROM readings GROUP BY sensor;
"""
STORES = """
stores:
  hot:
    url: duckdb:///hot.duckdb
    streams: [readings, newest]
    key: [sensor]
"""


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "farm.sql").write_text(SQL)
    (folder / "qanat.yaml").write_text(STORES)
    return folder


def post(server: Server, *rows) -> None:
    assert httpx.post(f"{server.url}/streams/readings", json=list(rows)).status_code == 200


def until(done, what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def lag(server: Server, stream: str) -> float | None:
    found = re.search(rf'^qanat_store_lag_rows{{store="hot",stream="{stream}"}} (\S+)$', metrics(server), re.MULTILINE)
    return None if found is None else float(found[1])


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text


def row(sensor: str, second: int) -> dict[str, object]:
    return {"sensor": sensor, "ts": f"2026-01-01T10:00:{second:02d}Z", "v": second / 2}


def stored(folder: Path, stream: str, sensor: str) -> list[dict[str, object]]:
    import duckdb

    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True) as connection:
        names = "v" if stream == "readings" else "n"
        sql = f"SELECT {names} FROM {stream} WHERE sensor = ? ORDER BY __time"
        return [value for (value,) in connection.execute(sql, [sensor]).fetchall()]


def test_a_project_with_a_store(farm: Path) -> None:
    server = Server(farm)
    try:
        post(server, row("a", 1), row("b", 2), row("a", 3))
        until(lambda: 'qanat_store_rows_total{store="hot",stream="newest"}' in metrics(server), "results are stored")
        until(lambda: (lag(server, "readings"), lag(server, "newest")) == (0, 0), "all is stored")
        checks = httpx.get(f"{server.url}/healthz").json()["checks"]
        assert {name: fault for name, fault in checks.items() if name.startswith("store")} == {
            "store hot: readings": "ok",
            "store hot: newest": "ok",
        }
        post(server, row("a", 4))
    finally:
        assert server.stop()[0] == 0
    assert stored(farm, "readings", "a") == [0.5, 1.5, 2.0]
    assert stored(farm, "newest", "b") == [1]


def test_dead_letters_can_be_stored_and_an_upsert_stream_keeps_its_key(farm: Path) -> None:
    text = STORES.replace("[readings, newest]", "[dead_letters, newest]").replace("[sensor]", "[reason]")
    (farm / "qanat.yaml").write_text(text)
    server = Server(farm)
    try:
        post(server, row("a", 1), row("b", 2) | {"v": "warm"})
        until(lambda: 'rows_total{store="hot",stream="dead_letters"} 1.0' in metrics(server), "the letter is stored")
        until(lambda: 'rows_total{store="hot",stream="newest"}' in metrics(server), "the result is stored")
    finally:
        assert server.stop()[0] == 0
    import duckdb

    with duckdb.connect(str(farm / "hot.duckdb"), read_only=True) as connection:
        ((key, stream),) = connection.execute("SELECT __key, stream FROM dead_letters").fetchall()
    assert (stream, "v" in key) == ("readings", True)
    assert stored(farm, "newest", "a") == [1]


def test_a_project_that_is_killed_stores_every_row_once(farm: Path) -> None:
    for second in range(4):
        server = Server(farm)
        post(server, *(row("a", 10 * second + n) for n in range(10)))
        if second == 2:
            until(lambda: lag(server, "readings") == 0, "all is stored")  # noqa: B023 - called at once
        server.process.kill()
        server.process.communicate()
    server = Server(farm)
    until(lambda: lag(server, "readings") == 0, "all is stored")
    assert server.stop()[0] == 0
    assert stored(farm, "readings", "a") == [n / 2 for n in range(40)]


def test_a_store_that_is_down_holds_up_nothing_but_retention(farm: Path) -> None:
    (farm / "qanat.yaml").write_text(STORES.replace("duckdb:///hot.duckdb", "clickhouse://127.0.0.1:1/hot"))
    server = Server(farm)
    try:
        post(server, row("a", 1))
        until(lambda: lag(server, "readings") == 1, "the lag is known")
        until(lambda: httpx.get(f"{server.url}/healthz").status_code == 503, "it is told")
        assert "ClickHouse at 127.0.0.1:1" in httpx.get(f"{server.url}/healthz").json()["checks"]["store hot: readings"]
        post(server, row("a", 2))
        taken = 'qanat_pipeline_rows_in_total{pipeline="newest"} 2.0'
        until(lambda: taken in metrics(server), "the pipeline goes on")
    finally:
        assert server.stop()[0] == 0
    (farm / "qanat.yaml").write_text("")
    server = Server(farm)  # a store that is gone from the file holds nothing back
    assert server.stop()[0] == 0
    log = open_log(f"sqlite:///{farm}/.qanat/log.db", read_only=True)
    assert [one for one in log.consumers() if one.startswith("store:")] == []
    log.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url: mysql://x\n    streams: [readings]", "no store is named by"),
        ("url: duckdb:///x\n    streams: [nothing]", "no stream 'nothing'"),
        ("url: duckdb:///x\n    streams: [readings]\n    key: [v]", "column v is DOUBLE"),
        ("url: cassandra://host\n    streams: [readings]", "needs a host and a name"),
        ("url: clickhouse://h/d\n    streams: [readings]\n    password_env: NO_SUCH", "NO_SUCH is not set"),
        ("url: duckdb:///x\n    stream: [readings]", "did you mean streams"),
    ],
)
def test_a_wrong_setting_is_said_at_the_start(farm: Path, text: str, said: str) -> None:
    (farm / "qanat.yaml").write_text(f"stores:\n  hot:\n    {text}\n")
    command = [sys.executable, "-m", "qanat", "up", ".", "--mqtt-port", "0", "--http-port", "0"]
    done = subprocess.run(command, cwd=farm, capture_output=True, text=True, timeout=60)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("clickhouse://h/d", "clickhouse_connect", "clickhouse"),
        ("chdb:///x", "chdb.session", "chdb"),
        ("cassandra://h/k", "cassandra", "cassandra"),
    ],
)
def test_what_is_not_installed_is_named(url: str, module: str, extra: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
from qanat.stores.hot import open_store
open_store({url!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"pip install 'qanat[{extra}]'" in done.stderr


def test_opening_a_store_loads_no_other_driver() -> None:
    code = "import sys; from qanat.stores.hot import open_store; open_store('duckdb:///:memory:'); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert {"chdb", "cassandra", "clickhouse_connect"} & set(found.split()) == set()


def test_a_password_is_shown_nowhere() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("mysql://me:hunter2@host/db")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreError) as failed:
        open_store("clickhouse://me:hunter2@127.0.0.1:1/db")
    assert "hunter2" not in str(failed.value)


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "stores.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)

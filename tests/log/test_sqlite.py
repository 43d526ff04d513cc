"""What only the SQLite log does: queue, group commit, cache, damaged files, the bound of the write-ahead log."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from qanat.errors import BackpressureError, ConfigError, LogCorruptError, LogError
from qanat.log import open_log
from qanat.log.base import Append, Receipt, Transaction
from qanat.log.layout import Settings
from qanat.log.sqlite import open_sqlite
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE

NUMBERS = Stream("numbers", (Column("id", BIGINT), Column("v", DOUBLE)), partitions=2)
PLACE = ("numbers", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def opened(path):
    logs = []

    def make(**changes):
        log = open_sqlite(f"/{path}", settings=replace(Settings(), **changes))
        log.create(NUMBERS)
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.close()


def append(first, count, partition=0, at=1):
    ids = np.arange(first, first + count)
    return Append("numbers", partition, pa.record_batch({"id": ids, "v": ids * 0.5}), at)


def ids(log, place=PLACE, offset=0, max_rows=10**9):
    return [i for chunk in log.read(place, offset, max_rows) for i in chunk.rows.column("id").to_pylist()]


@pytest.fixture
def hold():
    """`hold(log)` blocks the log's thread until the returned call."""
    releases = []

    def make(log):
        release, entered = threading.Event(), threading.Event()
        end = log.watch(lambda: (entered.set(), release.wait(30)))
        log.submit(Transaction(state={"held": b""}))
        assert entered.wait(10)
        end()
        releases.append(release.set)
        return release.set

    yield make
    for release in releases:
        release()


@pytest.mark.parametrize("url", ["sqlite://file", "sqlite:///", "kafka://x", "nothing", "memory://name"])
def test_urls_that_name_no_log(url):
    with pytest.raises((LogError, ConfigError)) as failure:
        open_log(url)
    assert failure.value.hint


def test_a_value_that_sqlite_refuses_fails_alone(opened, hold):
    log = opened()
    release = hold(log)
    futures = [log.submit(Transaction([append(n, 1)])) for n in range(100)]
    broken = log.submit(Transaction([append(0, 1)], state={"\ud800": b"no text"}))
    futures += [log.submit(Transaction([append(n, 1)])) for n in range(100, 103)]
    release()
    assert [future.result().offsets for future in futures] == [(n,) for n in range(103)]
    assert isinstance(broken.exception(), LogError)
    assert ids(log) == list(range(103))


def test_one_fsync_for_all_that_waits(opened, hold):
    log = opened()
    release = hold(log)
    futures = [log.submit(Transaction([append(n, 1)])) for n in range(100)]
    bad = log.submit(Transaction(expect={"c": {PLACE: 5}}))
    commits = []
    log.watch(lambda: commits.append(log.seq()))
    release()
    assert futures[-1].result().offsets == (99,)
    assert isinstance(bad.exception(), LogError)
    log.close()
    assert commits == [100]


@pytest.mark.parametrize("limits", [{"queue_count": 3}, {"queue_bytes": 3000}])
def test_a_full_queue_says_when_to_come_back(opened, hold, limits):
    log = opened(**limits)
    release = hold(log)
    taken: list = []

    def fill():
        while len(taken) < 10:
            taken.append(log.submit(Transaction([append(0, 50)])))

    with pytest.raises(BackpressureError) as failure:
        fill()
    assert 0 < failure.value.retry_after <= 5
    assert 0 < len(taken) < 5
    release()
    for future in taken:
        future.result(10)
    log.submit(Transaction([append(0, 1000)])).result(10)  # more than the whole queue may hold, but it is empty
    assert log.status()["numbers"].rows == 50 * len(taken) + 1000


def test_a_future_cannot_be_cancelled_since_its_rows_are_stored(opened, hold):
    log = opened()
    release = hold(log)
    future = log.submit(Transaction([append(0, 1)]))
    assert not future.cancel()
    release()
    assert future.result().offsets == (0,)


def test_what_was_stored_is_there_again(opened, path):
    log = opened()
    log.submit(Transaction([append(0, 5)], positions={"c": {PLACE: 2}}, state={"k": b"v"})).result()
    log.close()
    again = open_log(f"sqlite:///{path}")
    assert again.submit(Transaction([append(5, 1)], expect={"c": {PLACE: 2}})).result() == Receipt((5,), 2)
    assert ids(again) == [0, 1, 2, 3, 4, 5]
    assert again.state("k") == b"v"
    again.close()


def test_offsets_and_seq_go_on_after_all_was_deleted_and_the_log_opened_again(opened, path):
    log = opened()
    log.create(replace(NUMBERS, retention_ms=10))
    last = log.submit(Transaction([append(0, 5), append(0, 1, partition=1)])).result()
    assert log.maintain(1000) == {"numbers": 6}
    log.close()
    again = open_log(f"sqlite:///{path}")
    assert again.seq() == last.seq
    assert again.submit(Transaction([append(5, 1)])).result() == Receipt((5,), last.seq + 1)
    again.close()


def test_large_retention_goes_in_steps_between_which_others_write(opened):
    log = opened()
    log.create(replace(NUMBERS, retention_ms=10))
    futures = [log.submit(Transaction([append(n, 1, at=n)])) for n in range(900)]
    futures[-1].result()
    commits = []
    end = log.watch(lambda: commits.append(1))
    assert log.maintain(10**6) == {"numbers": 900}
    end()
    assert len(commits) > 4
    assert log.status()["numbers"].starts == {0: 900, 1: 0}


@pytest.mark.parametrize("cache_bytes", [0, 600, 5000, 10**6])
def test_reads_do_not_depend_on_the_cache(opened, cache_bytes):
    log = opened(cache_bytes=cache_bytes)
    for n in range(40):
        log.submit(Transaction([append(n * 5, 5, partition=0), append(n, 1, partition=1)])).result()
    for offset in range(0, 201, 7):
        assert ids(log, PLACE, offset) == list(range(offset, 200))
        assert len(ids(log, PLACE, offset, 10)) in range(min(10, 200 - offset), 15)
    assert ids(log, ("numbers", 1), 3) == list(range(3, 40))


def test_the_cache_forgets_what_retention_deletes(opened):
    log = opened()
    log.create(replace(NUMBERS, retention_ms=10))
    for n in range(10):
        log.submit(Transaction([append(n, 1, at=n)])).result()
    assert ids(log) == list(range(10))
    assert log.maintain(15) == {"numbers": 5}
    assert ids(log) == list(range(5, 10))
    log.submit(Transaction([append(10, 1)])).result()
    assert ids(log) == list(range(5, 11))


def test_close_moves_all_into_the_one_file(opened, path):
    log = opened()
    log.submit(Transaction([append(0, 1)])).result()
    log.close()
    assert not path.with_name("log.db-wal").exists()


def test_a_callback_may_close_the_log(opened, path, hold):
    log = opened()
    release = hold(log)
    future = log.submit(Transaction([append(0, 1)]))
    future.add_done_callback(lambda _: log.close())
    release()
    future.result()
    log._writer._thread.join(10)
    again = open_log(f"sqlite:///{path}")
    assert ids(again) == [0]
    again.close()


def test_the_same_file_after_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = open_log("sqlite:///data/log.db")
    log.create(NUMBERS)
    monkeypatch.chdir("/")
    log._reader._idle.clear()
    assert list(log.status()) == ["numbers"]
    log.close()
    assert (tmp_path / "data" / "log.db").exists()


def test_commits_are_full_syncs(opened):
    log = opened()
    connection = log._writer._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_write_ahead_log_stays_bounded_under_load_and_readers(opened, path):
    log = opened(wal_bytes=1 << 20, cache_bytes=0)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            log.read(PLACE, 0, 20_000)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    largest = 0
    for n in range(200):
        log.submit(Transaction([append(n * 10_000, 10_000)])).result()
        largest = max(largest, path.with_name("log.db-wal").stat().st_size)
    stop.set()
    for reader in readers:
        reader.join()
    assert log.status()["numbers"].bytes > 30 << 20
    assert largest < 8 << 20


def test_a_log_opened_to_read_sees_commits_and_can_watch(opened, path):
    log = opened()
    reader = open_log(f"sqlite:///{path}", read_only=True)
    noticed = threading.Event()
    end = reader.watch(noticed.set)
    assert reader.seq() == 0
    receipt = log.submit(Transaction([append(0, 3)], positions={"c": {PLACE: 1}}, state={"k": b"v"})).result()
    assert noticed.wait(5)
    assert (reader.seq(), ids(reader), reader.state("k")) == (receipt.seq, [0, 1, 2], b"v")
    assert reader.positions("c") == {PLACE: 1}
    log.create(Stream("later", NUMBERS.columns))
    assert reader.read(("later", 0), 0, 1) == []
    end()
    for refused in (lambda: reader.create(NUMBERS), lambda: reader.submit(Transaction())):
        with pytest.raises(LogError, match="opened to read"):
            refused()
    reader.close()
    with pytest.raises(LogError, match="closed"):
        reader.seq()


def test_a_log_can_be_read_after_its_writer_has_gone(opened, path):
    log = opened()
    log.submit(Transaction([append(0, 3)])).result()
    log.close()
    reader = open_log(f"sqlite:///{path}", read_only=True)
    assert ids(reader) == [0, 1, 2]
    reader.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_header(opened, path, read_only):
    opened().close()
    data = path.read_bytes()
    path.write_bytes(b"\0" * 100 + data[100:])
    with pytest.raises(LogCorruptError) as failure:
        open_log(f"sqlite:///{path}", read_only=read_only)
    assert ".recover" in failure.value.hint
    path.write_bytes(data)
    open_log(f"sqlite:///{path}").close()  # the lock was let go


def test_a_damaged_page(opened, path):
    log = opened()
    for n in range(20):
        log.submit(Transaction([append(n * 1000, 1000)])).result()
    log.close()
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 32768):
        data[page * 32768 : page * 32768 + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(LogCorruptError):
        log = open_log(f"sqlite:///{path}")


@pytest.mark.parametrize("change", ["data = x'0102'", "base_offset = base_offset + 1", "at = at + 1"])
def test_a_damaged_batch(opened, path, change):
    log = opened()
    log.submit(Transaction([append(0, 10)])).result()
    log.close()
    alter(path, f"UPDATE batches SET {change}")
    with pytest.raises(LogCorruptError, match=r"checksum of rows|is missing"):
        open_log(f"sqlite:///{path}").read(PLACE, 0, 1)


def test_a_batch_whose_bytes_were_never_whole(opened, path):
    """As it lies in logs from before there were checksums."""
    log = opened()
    log.submit(Transaction([append(0, 10)])).result()
    log.close()
    alter(path, "UPDATE batches SET data = x'0102', checksum = NULL")
    again = open_log(f"sqlite:///{path}")
    with pytest.raises(LogCorruptError, match="not readable"):
        again.read(PLACE, 0, 1)
    again.close()


def test_damaged_state_and_positions(opened, path):
    log = opened()
    log.submit(Transaction([append(0, 10)], {"reader": {PLACE: 4}}, {"key": b"value"})).result()
    log.close()
    alter(path, "UPDATE state SET value = x'00'")
    again = open_log(f"sqlite:///{path}")
    with pytest.raises(LogCorruptError, match="checksum of the state 'key'"):
        again.state("key")
    again.close()
    alter(path, "UPDATE positions SET next_offset = 5")
    with pytest.raises(LogCorruptError, match="checksum of the position of reader"):
        open_log(f"sqlite:///{path}")


@pytest.mark.parametrize("where", ["base_offset = 10", "base_offset >= 0"])
def test_missing_batches(opened, path, where):
    log = opened()
    for first in (0, 10, 20):
        log.submit(Transaction([append(first, 10)])).result()
    log.close()
    alter(path, f"DELETE FROM batches WHERE {where}")
    with pytest.raises(LogCorruptError, match="is missing from the log"):
        open_log(f"sqlite:///{path}").read(PLACE, 0, 100)


def test_a_log_from_before_checksums_goes_on(opened, path):
    log = opened()
    log.submit(Transaction([append(0, 10)], {"reader": {PLACE: 4}}, {"key": b"value"})).result()
    log.close()
    for table in ("batches", "positions", "state"):
        alter(path, f"ALTER TABLE {table} DROP COLUMN checksum")
    alter(path, "PRAGMA user_version = 1")
    with pytest.raises(LogError, match="older qanat"):
        open_log(f"sqlite:///{path}", read_only=True)
    again = open_log(f"sqlite:///{path}")
    assert again.state("key") == b"value"
    assert again.positions("reader") == {PLACE: 4}
    again.submit(Transaction([append(10, 10)])).result()
    assert sum(chunk.rows.num_rows for chunk in again.read(PLACE, 0, 100)) == 20
    again.close()


def alter(path, statement):
    """Change the file behind the log's back."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_files_of_others_are_left_alone(path, read_only):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LogError, match="not a log of qanat"):
        open_log(f"sqlite:///{path}", read_only=read_only)
    assert path.read_bytes() == before


def test_a_layout_of_the_future(opened, path):
    opened().close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogError, match="layout 99"):
        open_log(f"sqlite:///{path}")


def test_a_path_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogError):
        open_log(f"sqlite:///{tmp_path}/file/log.db")


def test_what_the_cache_forgets_is_freed(opened):
    log = opened(cache_bytes=1 << 20)
    before = pa.total_allocated_bytes()
    for first in range(60):
        log.submit(Transaction([append(first, 50_000)])).result()
    assert pa.total_allocated_bytes() - before < 10 << 20
    assert sum(chunk.rows.num_rows for chunk in log.read(PLACE, 0, 10**9)) == 3_000_000

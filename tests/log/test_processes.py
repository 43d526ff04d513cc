"""Several processes on one file, and a disk that is full."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qanat.errors import LogError, LogLockedError
from qanat.log import open_log

CHILDREN = Path(__file__).with_name("children.py")
_spec = importlib.util.spec_from_file_location("log_children", CHILDREN)
children = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(children)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def start(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(CHILDREN), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_another_process_reads_while_this_one_writes(path):
    log = open_log(f"sqlite:///{path}")
    log.create(children.PAIRS)
    until, end = 200_000, 0
    reader = start("read_while_written", f"sqlite:///{path}", until)
    while end < until:
        log.submit(children.step(end, 500)).result()
        end += 500
    out, err = reader.communicate(timeout=60)
    log.close()
    assert reader.returncode == 0, err
    assert int(out) > 1


def test_a_second_writer_is_told_who_the_first_is(path):
    with start("hold", f"sqlite:///{path}") as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(LogLockedError, match=f"process {holder.pid} writes") as failure:
            open_log(f"sqlite:///{path}")
        assert "read_only=True" in failure.value.hint
        open_log(f"sqlite:///{path}", read_only=True).close()
        holder.kill()
    open_log(f"sqlite:///{path}").close()


def test_a_second_writer_in_the_same_process_is_refused(path):
    log = open_log(f"sqlite:///{path}")
    with pytest.raises(LogLockedError, match=f"process {os.getpid()} "):
        open_log(f"sqlite:///{path}")
    log.close()
    open_log(f"sqlite:///{path}").close()


def test_a_file_that_may_not_grow(path):
    child = start("fill_limited", f"sqlite:///{path}", 3_000_000)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    kind, rows = out.split()
    assert kind == "LogError"  # SQLite reports an I/O error: there is no room for it to know of
    assert "SQLITE_IOERR" in err
    assert "ulimit" in err
    check_stored(path, int(rows))


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        (disk / "ballast").write_bytes(b"x" * 4_000_000)
        child = start("fill_disk", f"sqlite:///{disk}/log.db", disk / "ballast")
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        kind, rows = out.split()
        assert kind == "LogFullError"
        check_stored(disk / "log.db", int(rows))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def check_stored(path: Path, rows: int) -> None:
    log = open_log(f"sqlite:///{path}")
    assert children.check(log) == rows
    log.close()


def test_a_reader_needs_a_log(path):
    with pytest.raises(LogError, match="there is no log"):
        open_log(f"sqlite:///{path}", read_only=True)
    path.touch()
    with pytest.raises(LogError, match="is empty"):
        open_log(f"sqlite:///{path}", read_only=True)

"""Watched folders: files become rows, each exactly once, in their order, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import InLoop

from qanat.errors import ConfigError, LogFullError
from qanat.gateway import GatewayConfig
from qanat.gateway.folder import pieces
from qanat.gateway.folder.config import FolderSource, open_source
from qanat.gateway.folder.ledger import Ledger, Place, Taken
from qanat.gateway.folder.pieces import Piece, head_of, read_pieces
from qanat.gateway.folder.watch import Seen, Watch, list_files
from qanat.log import open_log
from qanat.log.base import Log, Transaction
from qanat.model.sections import Duration
from qanat.model.sources import Source, WatchedFolder
from qanat.model.streams import Column, Stream, dead_letter_stream
from qanat.model.types import BIGINT, DOUBLE, STRING
from qanat.observe.metrics import Metrics

READINGS = Stream("readings", (Column("id", BIGINT), Column("value", DOUBLE), Column("file", STRING)))


def wait_for(done: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


# --- without a gateway -----------------------------------------------------------------------------------------------


def test_a_file_is_taken_when_it_has_not_changed_for_long_enough() -> None:
    watch = Watch(2000)
    small, grown, other = Seen(5, "b", 10), Seen(6, "b", 20), Seen(9, "a", 1)
    assert watch.look([small], 0) == []
    assert watch.look([grown], 1999) == []
    assert watch.look([grown, other], 3998) == []
    assert watch.look([grown, other], 3999) == [grown]
    assert watch.look([grown, other], 5998) == [grown, other]
    assert watch.look([other], 6000) == [other]
    assert watch.look([grown, other], 6001) == [other]


def test_files_are_taken_by_time_and_then_by_name() -> None:
    watch = Watch(0)
    files = [Seen(2, "a", 1), Seen(1, "c", 1), Seen(1, "b", 1)]
    assert [one.name for one in watch.look(files, 0)] == ["b", "c", "a"]


def test_only_files_that_fit_are_seen(tmp_path: Path) -> None:
    for name in ("a.csv", ".a.csv.part", "b.txt", "in/c.csv", "in/.d/e.csv", "done/f.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = tmp_path / "done"
    assert [one.name for one in list_files(tmp_path, "*.csv", done)] == ["a.csv"]
    assert {one.name for one in list_files(tmp_path, "**/*.csv", done)} == {"a.csv", "in/c.csv"}
    for pattern in ("*", "**/*"):
        with pytest.raises(FileNotFoundError):
            list_files(tmp_path / "nowhere", pattern, None)


def cut(path: Path, place: Place | None = None, **settings: Any) -> list[Piece]:
    source = FolderSource("s", path.parent, **settings)
    place = place or Place(path.name, path.stat().st_size, head_of(path))
    return list(read_pieces(path, source, place, ["id", "value", "file"]))


@given(st.lists(st.text('ab,é"\n', max_size=30), max_size=30), st.integers(16, 200), st.booleans())
def test_pieces_are_the_whole_file_from_every_place_on(lines: list[str], size: int, quoted: bool) -> None:
    """However large pieces are, and wherever one begins: together they are all rows, and every line has its number."""
    import tempfile

    name = "x.csv" if quoted else "x.json"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_PIECE", size)
        path = Path(folder) / name
        head = b"id,value\n" if quoted else b""
        fields = ['"' + line.replace('"', '""') + '",1' for line in lines] if quoted else lines
        path.write_bytes(head + "".join(f"{one}\n" for one in fields).encode())
        found = cut(path)
        rows = [bytes(row) for piece in found for row in piece.payloads]
        if quoted:
            assert rows == [
                head.strip().replace(b"id", b'"id"').replace(b"value", b'"value"') + b"\n" + one.encode()
                for one in fields
            ]
        else:
            assert rows == [one.encode() for text in fields for one in text.split("\n") if one.strip()]
        assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True]
        for number, piece in enumerate(found[:-1]):
            rest = [bytes(row) for later in cut(path, piece.end) for row in later.payloads]
            assert rest == [bytes(row) for later in found[number + 1 :] for row in later.payloads]
        if not quoted:
            whole = path.read_bytes().split(b"\n")
            for piece in found:
                for place, row in enumerate(piece.payloads):
                    assert whole[int(piece.where(place)[1:]) - 1].strip() == bytes(row).strip()


def test_a_line_without_an_end_is_bad_rows_and_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", 100)
    monkeypatch.setattr(pieces, "_LONGEST", 1000)
    path = tmp_path / "x.json"
    path.write_bytes(b"x" * 3500 + b'\n{"id": 1}\n')
    rows = [bytes(row) for piece in cut(path) for row in piece.payloads]
    assert max(map(len, rows)) == 1000
    assert rows[-1] == b'{"id": 1}'


def test_the_ledger_remembers_what_is_there_and_for_a_while_what_is_not() -> None:
    stored: dict[str, bytes | None] = {}
    ledger = Ledger("s", stored.get)
    day = 86_400_000
    for number in range(300):
        state = ledger.end(Taken(f"f{number}", number, number, b"d", number * day), lambda name: name < "f2")
        stored.update(state)
        ledger.accept(state)
    again = Ledger("s", stored.get)
    assert sorted(again.names) == sorted(ledger.names)
    assert {f"f{number}" for number in (0, 1, 150, 293, 299)} <= set(again.names)
    assert len(stored) <= 65
    assert len(again.names) < 300
    state = again.gone("f1")
    again.accept(state)
    assert again.find("f1") is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"after": "move"}, "belong together"),
        ({"done": "taken"}, "belong together"),
        ({"after": "move", "done": "in"}, "the folder itself"),
        ({"pattern": "../*"}, "pattern is"),
        ({"poll": Duration(0)}, "poll is 0 ms"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    declared = Source(stream="readings", folder=WatchedFolder(path="in", **settings))
    with pytest.raises(ConfigError, match=text):
        open_source("s", declared, tmp_path)


# --- with one --------------------------------------------------------------------------------------------------------


class Refusing:
    """A log that can be full."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.refuses = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, transaction: Transaction) -> Any:
        if self.refuses:
            raise LogFullError("the disk is full")
        return self._log.submit(transaction)


class Here(InLoop):
    """A gateway in this process that watches `folder`; the log outlives it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        (folder / "in").mkdir()
        log: Log = open_log("memory://")
        for stream in (READINGS, dead_letter_stream()):
            log.create(stream)
        self.log = Refusing(log)

    def start(self, format: str | None = None, columns: dict[str, Any] | None = None, **settings: Any) -> None:  # noqa: A002
        settings = {"settle": Duration(20), "poll": Duration(10), **settings}
        more = {name: settings.pop(name) for name in ("header", "delimiter", "rename") if name in settings}
        folder = WatchedFolder(path="in", **settings)
        source = Source(stream="readings", folder=folder, format=format, columns=columns or {}, **more)

        streams = {"readings": READINGS, "dead_letters": dead_letter_stream()}
        config = GatewayConfig(mqtt_port=None, http_port=0, sources={"files": source}, base=self.folder)
        self.open(config, streams, self.log, Metrics())

    def close(self) -> None:
        self.log.refuses = False
        super().close()

    def write(self, name: str, content: str | bytes) -> Path:
        """As a careful program does it: under another name first."""
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.rename(path)
        return path

    def fault(self) -> str:
        assert self.gateway is not None
        checks = httpx.get(f"http://127.0.0.1:{self.gateway.http_port}/healthz").json()["checks"]
        return str(checks["source files"])

    def rows(self, stream: str = "readings") -> list[dict[str, Any]]:
        return [row for chunk in self.log.read((stream, 0), 0, 10**9) for row in chunk.rows.to_pylist()]

    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows()]

    def letters(self) -> list[tuple[str, str]]:
        """(origin below the folder, reason)"""
        top = f"{self.folder}/in/"
        return [(row["origin"].removeprefix(top), row["reason"]) for row in self.rows("dead_letters")]

    def wait(self, rows: int = 0, letters: int = 0) -> None:
        wait_for(lambda: len(self.ids()) >= rows and len(self.letters()) >= letters, f"{rows} rows, {letters} letters")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A place for a gateway."""
    one = Here(tmp_path)
    yield one
    one.close()


def lines(first: int, last: int) -> str:
    return "".join(f'{{"id": {number}, "value": {number}.5}}\n' for number in range(first, last))


def test_lines_of_json_are_rows_and_bad_ones_have_their_line(here: Here) -> None:
    here.write("a.json", lines(0, 3) + "\n{\n" + lines(3, 5) + '{"id": "x"}')
    here.start()
    here.wait(5, 2)
    assert here.ids() == [0, 1, 2, 3, 4]
    assert [origin for origin, _ in here.letters()] == ["a.json:5", "a.json:8"]
    (letter, _) = here.rows("dead_letters")
    assert (letter["source"], letter["client"], letter["data"]) == ("folder", "files", b"{")


def test_csv_goes_by_its_header_line_and_bad_rows_have_their_line(here: Here) -> None:
    here.write("a.csv", 'value,id,more\n1.5,1,x\n"2.5",2,"two\nlines"\nmuch,3,x\n,4,\n')
    here.start(pattern="*.csv")
    here.wait(3, 1)
    assert [(row["id"], row["value"]) for row in here.rows()] == [(1, 1.5), (2, 2.5), (4, None)]
    ((origin, reason),) = here.letters()
    assert origin == "a.csv:5"
    assert "value" in reason


def test_csv_with_another_delimiter_or_without_a_header_line(here: Here) -> None:
    here.write("a.csv", "theirs;value\n1;1.5\n2;x\n3;3.5\n")
    here.start("csv", delimiter=";", rename={"theirs": "id"})
    here.wait(2, 1)
    assert here.ids() == [1, 3]
    assert here.letters()[0][0] == "a.csv:3"
    here.stop()
    here.write("b.csv", "7,70\n8,80\n")
    (here.folder / "in" / "a.csv").unlink()
    here.start("csv", header=("id", "value"))
    here.wait(4)
    assert here.ids() == [1, 3, 7, 8]


def test_parquet_is_read_in_pieces_and_misfits_have_their_row(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_PIECE_ROWS", 100)
    count = 1050
    texts = [str(number) for number in range(count)]
    table = pa.table({"id": list(range(count)), "value": [0.5] * count, "file": pa.array(texts).dictionary_encode()})
    pq.write_table(table, here.folder / "in" / ".t", row_group_size=333)
    (here.folder / "in" / ".t").rename(here.folder / "in" / "t.parquet")
    here.start()
    here.wait(count)
    assert here.ids() == list(range(count))
    assert [row["file"] for row in here.rows()] == texts
    here.write("bad.parquet", b"PAR1 no PAR1")
    wrong = pa.table({"id": [2**40, None, 3], "value": ["x", "1", None]})
    pq.write_table(wrong, here.folder / "in" / "wrong.parquet")
    here.wait(count + 1, 3)
    origins = sorted(origin for origin, _ in here.letters())
    assert origins == ["bad.parquet", "wrong.parquet:1", "wrong.parquet:2"]


@pytest.mark.parametrize(
    "text", ['[{"id": 1},\n {"id": 2}]', '{\n  "id": 1\n}', '\ufeff{"id": 1}\n{"id": 2}', "", "[]", "\n\n"]
)
def test_json_documents(here: Here, text: str) -> None:
    path = here.write("a.json", text)
    here.start(after="move", done="done")
    wait_for(lambda: not path.exists(), "the file is done")
    assert here.ids() == [1, 2][: text.count("id")]
    assert here.letters() == []


def test_an_array_with_a_bad_element_and_one_that_is_broken(here: Here) -> None:
    here.write("a.json", '[{"id": 1}, {"id": "x"}, {"id": 3}]')
    here.write("b.json", '[{"id": 1}, {"id"')
    here.start()
    here.wait(2, 2)
    assert here.ids() == [1, 3]
    assert sorted(origin for origin, _ in here.letters()) == ["a.json[1]", "b.json"]


def test_files_are_taken_in_their_order_each_once_and_new_ones_as_they_come(here: Here) -> None:
    for number, name in enumerate(("c", "b", "a")):
        path = here.write(f"{name}.json", lines(10 * number, 10 * number + 10))
        os.utime(path, (1000 + number, 1000 + number))
    here.start(columns={"file": "$topic"})
    here.wait(30)
    assert here.ids() == list(range(30))
    assert [row["file"] for row in here.rows()][::10] == ["c.json", "b.json", "a.json"]
    here.write("d.json", lines(30, 40))
    here.wait(40)
    here.stop()
    here.write("e.json", lines(40, 50))
    here.start()
    here.wait(50)
    assert here.ids() == list(range(50))


def test_a_file_that_is_still_written_is_not_taken(here: Here) -> None:
    path = here.folder / "in" / "slow.json"
    here.start(settle=Duration(300))
    with path.open("w") as file:
        for number in range(10):
            file.write(lines(number, number + 1))
            file.flush()
            time.sleep(0.05)
            assert here.ids() == []
    here.wait(10)
    assert here.ids() == list(range(10))
    assert here.letters() == []


@pytest.mark.parametrize("name", ["x.json", "in2/x.json"])
def test_files_are_moved_without_writing_over_others(here: Here, name: str) -> None:
    done = here.folder / "done"
    here.start(after="move", done="done", pattern="**/*.json")
    for number in range(3):
        path = here.write(name, lines(number, number + 1))
        wait_for(lambda path=path: not path.exists(), "it is moved")
        here.wait(number + 1)
    moved = sorted(path.name for path in (done / name).parent.iterdir())
    assert moved == ["x-1.json", "x-2.json", "x.json"]
    assert here.ids() == [0, 1, 2]


def test_a_file_that_comes_again_after_it_was_deleted_is_a_new_one(here: Here) -> None:
    here.start(after="delete")
    for number in range(3):
        path = here.write("x.json", lines(7, 8))
        wait_for(lambda path=path: not path.exists(), "it is deleted")
        here.wait(number + 1)
    assert here.ids() == [7, 7, 7]


def test_a_file_that_changed_after_it_was_taken_is_reported_once(here: Here) -> None:
    path = here.write("x.json", lines(0, 2))
    here.start()
    here.wait(2)
    os.utime(path, (1, 1))
    here.write("y.json", lines(2, 3))
    here.wait(3)
    assert here.letters() == []
    with path.open("a") as file:
        file.write(lines(7, 9))
    here.wait(3, 1)
    here.stop()
    here.start()
    here.write("z.json", lines(3, 4))
    here.wait(4, 1)
    assert here.ids() == [0, 1, 2, 3]
    ((origin, reason),) = here.letters()
    assert origin == "x.json"
    assert "changed after it was taken" in reason


def test_a_csv_that_is_none_is_one_dead_letter(here: Here) -> None:
    here.write("a.csv", "a,b\n1,2\n")
    here.write("b.csv", "")
    here.write("c.csv", 'id,"value\n')
    here.start()
    here.wait(0, 3)
    assert sorted(origin for origin, _ in here.letters()) == ["a.csv", "b.csv", "c.csv"]
    assert here.ids() == []


def test_what_the_log_refuses_is_offered_again(here: Here) -> None:
    here.start()
    here.log.refuses = True
    here.write("x.json", lines(0, 5))
    wait_for(lambda: "the log did not take" in here.fault(), "the fault shows")
    here.log.refuses = False
    here.wait(5)
    wait_for(lambda: here.fault() == "ok", "well again")
    assert here.ids() == list(range(5))


def test_a_folder_that_is_not_there_is_a_fault_until_it_is(here: Here) -> None:
    (here.folder / "in").rmdir()
    here.start()
    wait_for(lambda: "cannot read the folder" in here.fault(), "the fault shows")
    here.write("x.json", lines(0, 1))
    here.wait(1)
    wait_for(lambda: here.fault() == "ok", "well again")


# --- qanat up in a process of its own, killed ------------------------------------------------------------------------

#: Of one file: a few pieces.
ROWS = 50_000
#: So many of that size, so that a busy machine, which sees late what was stored, kills often enough, too.
FILES = 4
PAD = 60 * "x"


class Project:
    """A project folder with a source, and the process that runs it."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        (folder / "in").mkdir(parents=True)
        (folder / "streams.sql").write_text("CREATE TABLE readings (id BIGINT, `value` DOUBLE);\n")
        (folder / "qanat.yaml").write_text(
            "listeners: {mqtt: {port: null}, http: {port: 0}}\n"
            f"sources: {{files: {{stream: readings, folder: {{path: in, settle: 10 ms, poll: 10 ms{settings}}}}}}}\n"
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "qanat", "up", ".", "--json"]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if json.loads(line)["event"] == "ready":
                return
        raise AssertionError("qanat up did not start")

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.communicate(timeout=20)
            self.process = None

    def count(self) -> int:
        log = open_log(f"sqlite:///{self.folder}/.qanat/log.db", read_only=True)
        try:
            return log.status()["readings"].rows
        finally:
            log.close()

    def ids(self) -> list[int]:
        log = open_log(f"sqlite:///{self.folder}/.qanat/log.db", read_only=True)
        try:
            return [one for chunk in log.read(("readings", 0), 0, 10**9) for one in chunk.rows.column("id").to_pylist()]
        finally:
            log.close()


@pytest.mark.crash
@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_killed_in_the_middle_it_loses_and_repeats_nothing(tmp_path: Path, form: str) -> None:
    project = Project(tmp_path / "farm", ", after: move, done: done")
    try:
        for number in range(FILES):
            table = pa.table({"id": range(number * ROWS, (number + 1) * ROWS), "value": [0.5] * ROWS})
            path = project.folder / "in" / f"{number}.{form}"
            match form:
                case "parquet":
                    pq.write_table(table, path, row_group_size=50_000)
                case "csv":
                    path.write_text("id,value,pad\n" + "".join(f"{one},0.5,{PAD}\n" for one in table["id"].to_pylist()))
                case _:
                    path.write_text(lines(number * ROWS, (number + 1) * ROWS).replace("}", f', "pad": "{PAD}"}}'))
            os.utime(path, (number, number))
        kills = 0
        while True:
            project.start()
            before = project.count()
            if before == FILES * ROWS:
                break
            wait_for(lambda before=before: project.count() > before, "more rows")
            project.kill()
            kills += 1
        wait_for(lambda: not any((project.folder / "in").iterdir()), "all are moved")
        project.kill(signal.SIGTERM)
    finally:
        project.kill()
    assert project.ids() == list(range(FILES * ROWS))
    assert kills >= 4
    assert sorted(one.name for one in (project.folder / "done").iterdir()) == [f"{n}.{form}" for n in range(FILES)]


@pytest.mark.crash
@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_a_million_rows_do_not_fill_the_memory(tmp_path: Path, form: str) -> None:
    peaks = []
    for rows in (100_000, 1_000_000):
        project = Project(tmp_path / str(rows), "")
        path = project.folder / "in" / f"x.{form}"
        table = pa.table({"id": range(rows), "value": [0.5] * rows})
        match form:
            case "parquet":
                pq.write_table(table, path)
            case "csv":
                path.write_text("id,value\n" + "".join(f"{one},0.5\n" for one in range(rows)))
            case _:
                path.write_text(lines(0, rows))
        try:
            project.start()
            wait_for(lambda rows=rows, project=project: project.count() == rows, "all rows", 120)
            assert project.process is not None
            status = Path(f"/proc/{project.process.pid}/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
        finally:
            project.kill()
    assert peaks[1] - peaks[0] < 100, f"MiB at most: {peaks}"

"""Dead letters are found by what is known of them, counted by their fault, and repaired exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from qanat.codec.json import decode_payloads
from qanat.errors import ConfigError, LogFullError
from qanat.gateway.admit import admit, open_inlet
from qanat.gateway.letters import (
    Repaired,
    Wanted,
    as_json,
    counts,
    general,
    late_rows,
    newest,
    oldest,
    parse_id,
    read_data,
)
from qanat.gateway.repair import AT_ONCE, Fate, Repair, Terms, Tried
from qanat.gateway.routes import Routes, Sender
from qanat.log import open_log
from qanat.log.base import Append, Log, Receipt, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import Stream, late_stream

NOW = 1_700_000_000_000
SKEW = 300_000
FAULTS = (
    b'{"client_id":"a","timestamp":1700000000,"consumption":"warm"}',
    b'{"client_id":"b","timestamp":1700000001',
    b'{"client_id":"c","timestamp":1700000900,"consumption":3}',
)


@dataclass
class Mill:
    """A log in memory, what feeds it, and the repair of what did not fit. `now` is the clock."""

    streams: Mapping[str, Stream]
    log: Log = field(default_factory=lambda: open_log("memory://"))
    now: int = NOW

    def __post_init__(self) -> None:
        for stream in self.streams.values():
            self.log.create(stream)
        self.routes = Routes(self.streams, frozenset({"power", "plain", "spread"}))
        self.repair = Repair(self.log, self.streams, self.routes, SKEW, lambda: self.now)

    def feed(self, topic: str, *payloads: bytes, client: str = "d1") -> None:
        route = self.routes.resolve(topic)
        inlets = {name: open_inlet(self.streams[name], decode_payloads) for name in self.routes.inputs}
        offer = route.offer(payloads, Sender("mqtt", topic, client), self.now, lambda _: None)
        self.log.submit(Transaction(admit([offer], inlets, SKEW).appends)).result()

    def rows(self, stream: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for partition in self.log.status()[stream].ends:
            offset = 0
            while chunks := self.log.read((stream, partition), offset, 10_000):
                found += [row for chunk in chunks for row in chunk.rows.to_pylist()]
                offset = chunks[-1].end
        return found

    def open(self) -> list[int]:
        return [letter.offset for letter in oldest(self.log, Wanted())]


@pytest.fixture
def mill(streams: Mapping[str, Stream]) -> Iterator[Mill]:
    made = Mill(streams)
    yield made
    made.log.close()


def fates(tried: list[Tried]) -> dict[int, Fate]:
    return {one.offset: one.fate for one in tried}


# --- finding


@pytest.mark.parametrize(
    ("wanted", "offsets"),
    [
        (Wanted(), [0, 1, 2, 3, 4]),
        (Wanted(stream="powr"), [3]),
        (Wanted(reason="NOT JSON"), [1, 4]),
        (Wanted(client="other"), [4]),
        (Wanted(source="http"), []),
        (Wanted(since=NOW + 10), [3, 4]),
        (Wanted(until=NOW + 10), [0, 1, 2]),
        (Wanted(ids=frozenset({1, 3, 99})), [1, 3]),
        (Wanted(stream="power", reason="json", client="d1"), [1]),
    ],
)
def test_letters_are_found_by_what_is_known_of_them(mill: Mill, wanted: Wanted, offsets: list[int]) -> None:
    mill.feed("power/h1", *FAULTS)
    mill.now += 10
    mill.feed("powr/h1", b"{}")
    mill.feed("power", b"\xff", client="other")
    assert [letter.offset for letter in oldest(mill.log, wanted)] == offsets
    assert [letter.offset for letter in newest(mill.log, wanted, 100)] == offsets[::-1]


def test_pages_from_the_newest_to_the_oldest_have_every_letter_once(mill: Mill) -> None:
    for number in range(70):
        mill.feed("power", *[b"x" * (number + 1)] * (1 + number % 3))
    seen: list[int] = []
    before = None
    while page := newest(mill.log, Wanted(), 13, before):
        assert len(page) <= 13
        seen += [letter.offset for letter in page]
        before = page[-1].offset
    assert seen == sorted(mill.open(), reverse=True)
    assert len(seen) == 139


def test_the_same_fault_is_counted_as_one_whatever_the_values_in_it(mill: Mill) -> None:
    mill.feed("power", *(b'{"consumption":"%d"}' % n for n in range(20)), b"{", b"[")
    found = counts(mill.log, Wanted(), "reason")
    assert found[0] == ("column consumption: expected DOUBLE, found string …", 20)
    assert sum(count for _, count in found) == 22
    mill.feed("powr", b"{}")
    assert counts(mill.log, Wanted(), "stream") == [("power", 22), ("powr", 1)]
    assert general('column h2o_1: expected INT, found string "a \\" 7" at 12') == (
        "column h2o_1: expected INT, found string … at …"
    )


def test_bytes_that_are_no_text_come_out_as_they_were(mill: Mill) -> None:
    mill.feed("power", b"\xff\x00{", "ü".encode())
    binary, text = (as_json(letter) for letter in oldest(mill.log, Wanted()))
    assert (read_data(binary), read_data(text)) == (b"\xff\x00{", "ü".encode())
    assert (binary["data_base64"], text["data"]) == ("/wB7", "ü")
    assert text["id"] == "0:1"
    assert text["arrived"] == "2023-11-14T22:13:20.000Z"


def test_late_rows_are_listed_with_what_condemned_them(mill: Mill) -> None:
    row = {"event_time": NOW, "watermark": NOW + 5, "pipeline": "p", "operator": "w", "reason": "closed", "row": "{}"}
    schema = schema_of((column.name, column.type) for column in late_stream().columns)
    batch = pa.RecordBatch.from_pylist([row, {**row, "reason": "gone"}], schema=schema)
    mill.log.submit(Transaction([Append("late", 0, batch, NOW)])).result()
    assert [(one["id"], one["reason"]) for one in late_rows(mill.log, Wanted(), 9)] == [
        ("0:1", "gone"),
        ("0:0", "closed"),
    ]
    assert [one["id"] for one in late_rows(mill.log, Wanted(reason="CLOSED"), 9)] == ["0:0"]


@pytest.mark.parametrize("text", ["", "1:3", "-1", "0:", "0:x", "12 "])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no dead letter"):
        parse_id(text)
    assert (parse_id("0:12"), parse_id("7")) == (12, 7)


# --- repairing


def test_what_fits_is_stored_and_what_does_not_stays_and_says_why(mill: Mill) -> None:
    mill.feed("power/h1", *FAULTS)
    tried = mill.repair.run({0: b'{"client_id":"a","consumption":21.5}', 1: None, 2: None, 9: None})
    assert fates(tried) == {0: Fate.REPAIRED, 1: Fate.UNFIT, 2: Fate.UNFIT, 9: Fate.GONE}
    assert "unexpected end" in (tried[1].reason or "")
    assert "300 s ahead of now" in (tried[2].reason or "")
    assert mill.rows("power") == [{"client_id": "a", "timestamp": NOW // 1000, "consumption": 21.5}]
    assert mill.open() == [1, 2]
    assert len(mill.rows("dead_letters")) == 3


def test_a_repaired_letter_is_never_stored_again(mill: Mill) -> None:
    mill.feed("power", FAULTS[0])
    terms = Terms(set=(("consumption", "1"),))
    assert fates(mill.repair.run({0: None}, terms)) == {0: Fate.REPAIRED}
    another = Repair(mill.log, mill.streams, mill.routes, SKEW, lambda: mill.now)
    for repair in (mill.repair, another):
        assert fates(repair.run({0: None}, terms)) == {0: Fate.ALREADY}
    assert len(mill.rows("power")) == 1


def test_a_column_that_is_set_goes_before_the_payload(mill: Mill) -> None:
    mill.feed("power", FAULTS[0])
    assert mill.repair.run({0: None}, Terms(set=(("consumption", "20.5"),)))[0].rows == 1
    assert mill.rows("power")[0]["consumption"] == 20.5


def test_a_column_that_does_not_exist_or_a_text_that_does_not_fit_is_said(mill: Mill) -> None:
    mill.feed("power", FAULTS[0])
    (tried,) = mill.repair.run({0: None}, Terms(set=(("consumtion", "1"),)))
    assert (tried.fate, tried.reason) == (
        Fate.REFUSED, "the stream power has no column consumtion; did you mean consumption?"
    )  # fmt: skip
    (tried,) = mill.repair.run({0: None}, Terms(set=(("consumption", "hot"),)))
    assert tried.fate is Fate.UNFIT
    assert "expected DOUBLE" in (tried.reason or "")


def test_a_mistyped_topic_is_sent_to_the_stream_that_was_meant(mill: Mill) -> None:
    mill.feed("powr/h1", b'{"client_id":"b","consumption":3}')
    (tried,) = mill.repair.run({0: None})
    assert tried.fate is Fate.REFUSED
    assert "--to STREAM" in (tried.reason or "")
    (tried,) = mill.repair.run({0: None}, Terms(to="predictions"))
    assert "written by a pipeline" in (tried.reason or "")
    assert fates(mill.repair.run({0: None}, Terms(to="power"))) == {0: Fate.REPAIRED}


def test_a_missing_event_time_is_the_first_arrival_and_the_append_has_arrived_now(mill: Mill) -> None:
    mill.feed("power", b'{"client_id":"a","consumption":"x"}')
    mill.now += 3_600_000
    mill.repair.run({0: b'{"client_id":"a","consumption":1}'})
    assert mill.rows("power")[0]["timestamp"] == NOW // 1000
    (chunk,) = mill.log.read(("power", 0), 0, 10)
    assert chunk.at == mill.now


def test_an_event_time_ahead_of_its_arrival_fits_once_that_time_has_come(mill: Mill) -> None:
    mill.feed("power", FAULTS[0])
    mill.feed("power", FAULTS[2], b'{"client_id":"z","timestamp":1700009000,"consumption":3}')
    mill.now += 900_000
    tried = mill.repair.run({0: b'{"client_id":"a","consumption":1}', 1: None, 2: None})
    assert fates(tried) == {0: Fate.REPAIRED, 1: Fate.REPAIRED, 2: Fate.UNFIT}
    assert {row["client_id"] for row in mill.rows("power")} == {"c", "a"}


def test_a_dry_run_says_what_would_be_and_stores_nothing(mill: Mill) -> None:
    mill.feed("power", *FAULTS)
    before = mill.log.seq()
    tried = mill.repair.run({0: None, 1: None}, Terms(set=(("consumption", "1"),), dry_run=True))
    assert fates(tried) == {0: Fate.WOULD_FIT, 1: Fate.UNFIT}
    assert mill.log.seq() == before
    assert mill.open() == [0, 1, 2]


def test_who_may_not_feed_the_stream_may_not_repair_for_it(mill: Mill) -> None:
    mill.feed("power/h1", FAULTS[0])
    asked: list[tuple[str, str]] = []
    tried = mill.repair.run({0: b"{}"}, allowed=lambda *what: asked.append(what) or False)
    assert (tried[0].fate, tried[0].reason) == (Fate.REFUSED, "this user may not publish to power")
    assert asked == [("power", "power/h1")]
    assert not mill.rows("power")


def test_a_log_that_fails_keeps_the_letter_open(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    mill.feed("power", FAULTS[0])

    def full(_: Transaction) -> Future[Receipt]:
        failed: Future[Receipt] = Future()
        failed.set_exception(LogFullError("no room"))
        return failed

    with monkeypatch.context() as patched:
        patched.setattr(mill.log, "submit", full)
        with pytest.raises(LogFullError):
            mill.repair.run({0: b'{"client_id":"a"}'})
    assert mill.open() == [0]
    assert fates(mill.repair.run({0: b'{"client_id":"a"}'})) == {0: Fate.REPAIRED}


def test_rows_and_the_mark_are_one_transaction(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Transaction] = []
    submit: Callable[[Transaction], Future[Receipt]] = mill.log.submit
    mill.feed("power", *[FAULTS[0]] * (AT_ONCE + 5))
    monkeypatch.setattr(mill.log, "submit", lambda one: (seen.append(one), submit(one))[1])
    mill.repair.run(dict.fromkeys(range(AT_ONCE + 5)), Terms(set=(("consumption", "1"),)))
    assert [sum(one.rows.num_rows for one in part.appends) for part in seen] == [AT_ONCE, 5]
    assert all(part.state for part in seen)
    assert mill.open() == []


def test_marks_are_kept_across_pages(mill: Mill) -> None:
    for offsets in ([3, 65_535], [65_536, 200_000], [4]):
        mill.log.submit(Transaction(state=Repaired(mill.log).marked(offsets))).result()
    flags = Repaired(mill.log).flags(0, 200_001)
    assert flags.nonzero()[0].tolist() == [3, 4, 65_535, 65_536, 200_000]
    assert Repaired(mill.log).flags(65_535, 2).tolist() == [True, True]


def test_what_would_have_to_change_is_told_column_by_column(mill: Mill) -> None:
    mill.feed("power", b'{"client_id":7,"timestamp":1700000000,"consumption":"warm"}', b'{"client_id":"a"}x')
    first, second = (mill.repair.examine(letter) for letter in oldest(mill.log, Wanted()))
    assert first.tried.fate is Fate.UNFIT
    assert {one.name: (one.value, one.fault) for one in first.columns} == {
        "client_id": (None, "expected STRING, found number 7"),
        "timestamp": ("1700000000", None),
        "consumption": (None, 'expected DOUBLE, found string "warm"'),
    }
    assert {one.value for one in second.columns} == {None}
    assert not mill.rows("power")


def test_letters_of_another_format_are_read_when_it_is_said(mill: Mill) -> None:
    mill.feed("power", b"client_id,timestamp,consumption\na,5,warm", b"client_id,timestamp,consumption\nb,6,7.5")
    assert set(fates(mill.repair.run({0: None, 1: None})).values()) == {Fate.UNFIT}
    told = mill.repair.examine(next(oldest(mill.log, Wanted())), Terms(format="csv"))
    assert {one.name: one.fault for one in told.columns}["timestamp"] is None
    tried = mill.repair.run({0: None, 1: None}, Terms(format="csv"))
    assert fates(tried) == {0: Fate.UNFIT, 1: Fate.REPAIRED}
    assert fates(mill.repair.run({0: None}, Terms(format="csv", set=(("consumption", "1"),)))) == {0: Fate.REPAIRED}
    assert [row["consumption"] for row in mill.rows("power")] == [7.5, 1.0]
    with pytest.raises(ConfigError, match="no format 'xml'"):
        Terms(format="xml")

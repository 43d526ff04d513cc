"""Parity for fleets that know what they did: every message held against the rows and dead letters that came of it.

    faults.disturb ─ Ledger ─► messages ─► fleet.Account, posting.Account
                       │                          │ sends, acked
                       └──────── compare ◄────────┘
                                   ▲
              Found(rows, dead) ── read_found(log, places)

`parity` does the same for households, whose outputs are judged, too. It reads the log only in `read_found`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from qanat.errors import ConfigError
from qanat.log.base import Log, Place
from qanat.model.streams import DEAD_LETTERS
from qanat.sim.faults import DEADLY, Fault, Note
from qanat.sim.fleet import Account
from qanat.sim.households import Message

#: Rows as they are stored -> their keys and values, as in the notes.
Keyed = Callable[[pa.RecordBatch], Iterable[tuple[str, int]]]

_FUTURE = "max_future_skew"


class Ledger:
    """The notes of all messages, in the order in which they are sent: note i is of message i of the account."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def messages(self, disturbed: Iterable[tuple[Message, Note]]) -> Iterator[Message]:
        """The messages, noted as they are taken."""
        for message, note in disturbed:
            self.notes.append(note)
            yield message


@dataclass(frozen=True, slots=True)
class Found:
    """What the log holds: (key, value) of rows, and (bytes, whether the reason is a time in the future) of letters."""

    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    dead: Counter[tuple[bytes, bool]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What was sent and what came of it, in messages.

    `lost`: acknowledged, and neither stored nor a dead letter. `foreign`: in the log and never sent, or more often than
    sent. `repeated`: stored again because it was sent again. `wrong`: stored with another value. `misjudged`: sound and
    buried, faulty and taken, or buried for another reason. `checksum`: of the values of all rows that had to be stored,
    and `found_checksum` of those that are, each row once.
    """

    sent: int = 0
    acknowledged: int = 0
    again: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    stored: int = 0
    dead: int = 0
    future: int = 0
    lost: int = 0
    foreign: int = 0
    repeated: int = 0
    unstored: int = 0
    wrong: int = 0
    misjudged: int = 0
    checksum: int = 0
    found_checksum: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything acknowledged is where it belongs, and nothing else is there."""
        same = self.checksum == self.found_checksum
        return same and not (self.lost or self.foreign or self.wrong or self.misjudged)


@dataclass(slots=True)
class _Sum:
    """Messages of one key or of the same bytes: how many, sent how often, acknowledged how many."""

    messages: int = 0
    sends: int = 0
    acked: int = 0

    def add(self, sends: int, acked: int) -> None:
        self.messages += 1
        self.sends += sends
        self.acked += acked


def compare(account: Account, notes: list[Note], found: Found) -> Arrivals:
    """Hold them against each other."""
    rows: dict[str, _Sum] = {}
    letters: dict[tuple[bytes, bool], _Sum] = {}
    values: dict[str, int] = {}
    faults: Counter[str] = Counter()
    for message, note, sends, acked in zip(account.messages, notes, account.sends, account.acked, strict=True):
        if not sends:
            continue
        faults.update(one.name.lower() for one in note.fault if one.name)
        if note.fault & DEADLY:
            letters.setdefault((message.payload, Fault.CUT not in note.fault), _Sum()).add(sends, acked)
        else:
            rows.setdefault(note.key, _Sum()).add(sends, acked)
            values[note.key] = note.value
    return _totals(account, rows, values, letters, found, dict(sorted(faults.items())))


def _totals(
    account: Account,
    rows: Mapping[str, _Sum],
    values: Mapping[str, int],
    letters: Mapping[tuple[bytes, bool], _Sum],
    found: Found,
    faults: Mapping[str, int],
) -> Arrivals:
    stored: Counter[str] = Counter()
    wrong = 0
    for (key, value), count in found.rows.items():
        stored[key] += count
        wrong += count if key in values and values[key] != value else 0
    pairs = [(rows.get(key, _Sum()), stored.get(key, 0)) for key in rows.keys() | stored.keys()]
    pairs += [(letters.get(key, _Sum()), found.dead.get(key, 0)) for key in letters.keys() | found.dead.keys()]
    payloads = {data for data, _ in letters}
    return Arrivals(
        sent=account.sent,
        acknowledged=account.acknowledged,
        again=account.again,
        faults=faults,
        stored=sum(found.rows.values()),
        dead=sum(found.dead.values()),
        future=sum(count for (_, future), count in found.dead.items() if future),
        lost=sum(max(0, one.acked - count) for one, count in pairs),
        foreign=sum(max(0, count - one.sends) for one, count in pairs),
        repeated=sum(max(0, min(count, one.sends) - one.messages) for one, count in pairs),
        unstored=sum(max(0, one.messages - max(count, one.acked)) for one, count in pairs),
        wrong=wrong,
        misjudged=sum(count for (data, _), count in found.dead.items() if data not in payloads),
        checksum=sum(values[key] for key, one in rows.items() if one.acked or stored[key]),
        found_checksum=sum(dict(found.rows.keys()).values()),
    )


# --- the log


def places(log: Log, stream: str) -> dict[Place, int]:
    """Where the stream and the dead letters end now: what is read later begins here. Raises `ConfigError`."""
    status = log.status()
    if stream not in status:
        raise ConfigError(f"the log has no stream {stream}", hint="--dir with the project that has it, once started")
    found = {(stream, partition): end for partition, end in status[stream].ends.items()}
    dead = status[DEAD_LETTERS].ends if DEAD_LETTERS in status else {0: 0}
    return found | {(DEAD_LETTERS, partition): end for partition, end in dead.items()}


def read_found(log: Log, begin: Mapping[Place, int], stream: str, keyed: Keyed) -> Found:
    """What has been stored since. Of the dead letters only those that were addressed to the stream."""
    found = Found()
    for place, offset in begin.items():
        for rows in _rows_from(log, place, offset):
            if place[0] == DEAD_LETTERS:
                named = (rows.column(name).to_pylist() for name in ("stream", "data", "reason"))
                found.dead.update((data, _FUTURE in why) for to, data, why in zip(*named, strict=True) if to == stream)
            else:
                found.rows.update(keyed(rows))
    return found


def _rows_from(log: Log, place: Place, offset: int) -> Iterator[pa.RecordBatch]:
    while chunks := log.read(place, offset, 100_000):
        for chunk in chunks:
            yield chunk.rows
        offset = chunks[-1].end


# --- showing it


def summary(found: Arrivals) -> list[tuple[str, str, bool | None]]:
    """What was looked at, what was found, and whether that is as it should be (None: nothing to judge)."""
    again = f", {found.again:,} of them again" if found.again else ""
    faults = ", ".join(f"{count:,} {name}" for name, count in found.faults.items()) or "none"
    repeated = f", {found.repeated:,} because they were sent again" if found.repeated else ""
    rows: list[tuple[str, str, bool | None]] = [
        ("messages sent", f"{found.sent:,}{again}", None),
        ("faults among them", faults, None),
        ("acknowledged", f"{found.acknowledged:,}", None),
        ("rows stored", f"{found.stored:,}{repeated}", None),
        ("dead letters", f"{found.dead:,}, {found.future:,} for a time in the future", None),
        ("acknowledged and nowhere", f"{found.lost:,}", not found.lost),
        ("in the log and never sent", f"{found.foreign:,}", not found.foreign),
        ("stored with another value", f"{found.wrong:,}", not found.wrong),
        ("dead letters that were sound", f"{found.misjudged:,}", not found.misjudged),
        ("checksum of values", f"{found.found_checksum:,}", found.checksum == found.found_checksum),
    ]
    if found.unstored:
        rows.append(("sent, not acknowledged, not stored", f"{found.unstored:,}", None))
    return rows


def text(found: Arrivals) -> str:
    """The summary as plain lines."""
    mark = {True: "ok  ", False: "FAIL", None: "    "}
    lines = [f"{mark[ok]}  {what:<36} {said}" for what, said, ok in summary(found)]
    return "\n".join([*lines, "parity: everything is where it belongs" if found.ok else "parity: FAILED"])


def farm_rows(rows: pa.RecordBatch) -> Iterator[tuple[str, int]]:
    """Keys and values of the stream `farm` of examples/farm."""
    for row in rows.to_pylist():
        yield f"{row['site']}-{row['sensor']}/{row['seq']}", _hundredths(row)


def _hundredths(row: Mapping[str, Any]) -> int:
    if row["raw"] is not None:
        return int(row["raw"]) * 100 // int(row["scale"])
    value = row["value"] if row["data"] is None else row["data"]["v"]
    return round(float(value) * 100)


def web_rows(rows: pa.RecordBatch) -> Iterator[tuple[str, int]]:
    """Keys and values of the stream `web_events` of examples/web."""
    from qanat.sim.web import check

    for row in rows.to_pylist():
        yield f"{row['user_id']}/{row['timestamp']}", check(f"{row['event_type']}{row['payload']['page_url']}")

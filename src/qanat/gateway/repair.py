"""Dead letters tried again: decoded as their stream is declared now, and stored together with the note that they were.

What fits is committed in one transaction with the mark of `letters.Repaired`: whoever tries again, and whatever dies in
the middle, nothing is stored twice. What does not fit stays where it is. See docs/design/dead_letters.md.
"""

from __future__ import annotations

import contextlib
import difflib
import enum
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from qanat.codec.base import Decode
from qanat.codec.json import decode_payloads, encode_lines
from qanat.errors import ConfigError
from qanat.gateway.admit import Batch, Inlet, admit, open_inlet
from qanat.gateway.formats import CONTENT_TYPES
from qanat.gateway.letters import Letter, Repaired, Wanted, oldest
from qanat.gateway.offers import DeadKind, Offer, Verdict
from qanat.gateway.routes import Route, Routes, Sender
from qanat.log.base import Append, Log, Transaction
from qanat.model.streams import DEAD_LETTERS, Stream

#: Sources that are their letters' client, and read what they bring in their own way.
_INTAKES = ("broker", "folder")
#: What is said of a row that stands in its stream: taken once more, others would read it twice.
_OF_A_PIPELINE = "a pipeline cannot compute with it, but it is in its stream; correct the SQL, or send a corrected row"
#: Format -> a content type that names it.
_CONTENT_TYPES = {name: kind for kind, name in reversed(CONTENT_TYPES.items()) if "/" in kind}
#: Letters of one transaction.
AT_ONCE = 1_000


class Fate(enum.Enum):
    """What became of a letter that was tried again."""

    REPAIRED = "repaired"
    WOULD_FIT = "would fit"
    ALREADY = "repaired before"
    UNFIT = "does not fit"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Tried:
    """One letter and its fate. `rows` were (or would be) stored in `stream`; `reason` says why not."""

    offset: int
    fate: Fate
    stream: str | None = None
    rows: int = 0
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As an object for programs."""
        found: dict[str, Any] = {"id": f"0:{self.offset}", "fate": self.fate.value, "stream": self.stream}
        return found | {"rows": self.rows, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Terms:
    """How letters are tried. `to`: the stream, where it is not the one that was addressed; `set`: column and text that
    every row gets, whatever the payload says; `format`: how payloads are read where their source does not say, as in
    qanat.yaml, since a letter does not keep its content type; `dry_run` stores nothing. Raises `ConfigError`."""

    to: str | None = None
    set: tuple[tuple[str, str], ...] = ()
    format: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in _CONTENT_TYPES:
            raise ConfigError(f"no format {self.format!r}", hint=f"one of {', '.join(sorted(_CONTENT_TYPES))}")


@dataclass(frozen=True, slots=True)
class ColumnFinding:
    """A column of the stream beside what a letter has for it: the value as JSON, or why it does not fit."""

    name: str
    type: str
    value: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What would become of a letter now, and what would have to change. `columns` is empty where nothing was read."""

    tried: Tried
    columns: tuple[ColumnFinding, ...] = ()


#: (stream, topic) -> whether the one who asks may feed it.
Allowed = Callable[[str, str], bool]


class Repair:
    """Tries letters again. One per log and process; safe from several threads, which take turns.

    `streams`: all of the project, in the log already. Raises what the log raises; then nothing of the call is stored.
    """

    def __init__(
        self, log: Log, streams: Mapping[str, Stream], routes: Routes, max_future_skew_ms: int, clock: Callable[[], int]
    ) -> None:
        self._log, self._routes, self._skew, self._clock = log, routes, max_future_skew_ms, clock
        self._inlets = {name: open_inlet(streams[name], decode_payloads) for name in routes.inputs}
        self._turn = threading.Lock()

    def run(
        self, changed: Mapping[int, bytes | None], terms: Terms = Terms(), allowed: Allowed | None = None
    ) -> list[Tried]:
        """Try the letters with these offsets, with other bytes where they are given; `AT_ONCE` a transaction."""
        offsets = sorted(changed)
        found: list[Tried] = []
        for start in range(0, len(offsets), AT_ONCE):
            part = {offset: changed[offset] for offset in offsets[start : start + AT_ONCE]}
            with self._turn:
                found += self._run(part, terms, allowed)
        return found

    def drop(self, offsets: Sequence[int], allowed: Allowed) -> dict[int, str]:
        """Put letters aside as if they had been repaired: `dropped`, `repaired before`, `not allowed` or `gone`."""
        found = dict.fromkeys(offsets, "gone")
        with self._turn:
            for letter in oldest(self._log, Wanted(ids=frozenset(offsets), repaired=True)):
                fate = "dropped" if allowed(letter.stream or "", letter.origin) else "not allowed"
                found[letter.offset] = Fate.ALREADY.value if letter.repaired else fate
            dropped = [offset for offset, fate in found.items() if fate == "dropped"]
            if dropped:
                self._log.submit(Transaction(state=Repaired(self._log).marked(dropped))).result()
        return found

    def examine(self, letter: Letter, terms: Terms = Terms()) -> Finding:
        """What would become of the letter now, column by column."""
        route = self._route(letter, terms)
        if route.stream is None or route.name not in self._inlets:
            return Finding(Tried(letter.offset, Fate.REFUSED, route.name, reason=_refusal(route)))
        offer = self._offer(letter, letter.data, route, terms)
        (tried,), _ = self._admit([(letter, offer)], dry_run=True)
        return Finding(tried, _columns(offer, self._inlets[route.name]))

    # --- one transaction

    def _run(self, changed: Mapping[int, bytes | None], terms: Terms, allowed: Allowed | None) -> list[Tried]:
        found: dict[int, Tried] = {}
        offers: list[tuple[Letter, Offer]] = []
        for letter in oldest(self._log, Wanted(ids=frozenset(changed), repaired=True)):
            data = changed[letter.offset]
            judged = self._judge(letter, letter.data if data is None else data, terms, allowed)
            if isinstance(judged, Tried):
                found[letter.offset] = judged
            else:
                offers.append((letter, judged))
        tried, appends = self._admit(offers, dry_run=terms.dry_run)
        found |= {one.offset: one for one in tried}
        stored = [one.offset for one in tried if one.fate is Fate.REPAIRED]
        if stored:
            self._log.submit(Transaction(appends, state=Repaired(self._log).marked(stored))).result()
        gone = "retention has deleted it, or it never was"
        return [found.get(offset) or Tried(offset, Fate.GONE, reason=gone) for offset in changed]

    def _judge(self, letter: Letter, data: bytes, terms: Terms, allowed: Allowed | None) -> Tried | Offer:
        """The offer that the letter makes, or why it makes none."""
        if letter.repaired:
            return Tried(letter.offset, Fate.ALREADY, letter.stream)
        if letter.source == "sql":
            return Tried(letter.offset, Fate.REFUSED, letter.stream, reason=_OF_A_PIPELINE)
        route = self._route(letter, terms)
        if route.stream is None or route.name not in self._inlets:
            return Tried(letter.offset, Fate.REFUSED, route.name, reason=_refusal(route))
        if allowed is not None and not allowed(route.name, letter.origin):
            return Tried(letter.offset, Fate.REFUSED, route.name, reason=f"this user may not publish to {route.name}")
        unknown = _unknown_column(route.stream, terms)
        if unknown is not None:
            return Tried(letter.offset, Fate.REFUSED, route.name, reason=unknown)
        return self._offer(letter, data, route, terms)

    def _route(self, letter: Letter, terms: Terms) -> Route:
        """As a message with this topic would go now; else the stream that was addressed then."""
        if terms.to is not None:
            return self._routes.find(terms.to)
        route = None
        if letter.source in ("mqtt", "grpc"):
            route = self._routes.resolve(letter.origin)
        elif letter.source == "http":
            route = self._routes.at(letter.origin.removeprefix("/streams/"))
        elif letter.source in _INTAKES:
            with contextlib.suppress(KeyError):  # the source has another name by now
                route = self._routes.intake(letter.client).resolve(letter.origin)
        if route is not None and route.stream is not None:
            return route
        return self._routes.find(letter.stream or "")

    def _offer(self, letter: Letter, data: bytes, route: Route, terms: Terms) -> Offer:
        said = {} if terms.format is None else {"content_type": _CONTENT_TYPES[terms.format]}
        sender = Sender(letter.source, letter.origin, letter.client, said)
        offer = route.offer([data], sender, letter.arrived, _nothing)
        if terms.set:
            offer.fill = tuple({**dict(offer.fill), **dict(terms.set)}.items())
        return offer

    def _admit(self, offers: Sequence[tuple[Letter, Offer]], *, dry_run: bool) -> tuple[list[Tried], list[Append]]:
        """Fates and appends. Event times are held against now, and missing ones are the time of the first arrival."""
        if not offers:
            return [], []
        now = self._clock()
        batch = self._decode([offer for _, offer in offers], now)
        newest = max((one.max_time for one in _kept(batch) if one.max_time is not None), default=now)
        pairs = zip(offers, batch.verdicts, strict=True)
        if newest <= now + self._skew:
            tried = [self._tried(letter, offer, verdict, dry_run) for (letter, offer), verdict in pairs]
            return tried, [replace(one, at=now) for one in _kept(batch)]
        if len(offers) == 1:
            letter, offer = offers[0]
            return [Tried(letter.offset, Fate.UNFIT, offer.stream, reason=self._ahead())], []
        parts = [self._admit([one], dry_run=dry_run) for one in offers]
        return [tried for part, _ in parts for tried in part], [one for _, part in parts for one in part]

    def _tried(self, letter: Letter, offer: Offer, verdict: Verdict, dry_run: bool) -> Tried:
        if verdict.dead:
            dead = verdict.dead[0]
            reason = self._ahead() if dead.kind is DeadKind.FUTURE else dead.reason
            return Tried(letter.offset, Fate.UNFIT, offer.stream, reason=reason)
        return Tried(letter.offset, Fate.WOULD_FIT if dry_run else Fate.REPAIRED, offer.stream, verdict.rows)

    def _ahead(self) -> str:
        return f"the event time is more than {self._skew // 1000} s ahead of now (max_future_skew)"

    def _decode(self, offers: Sequence[Offer], now: int) -> Batch:
        """`admit`, with a guard against the future that none of them can be hurt by: it counts from their arrival."""
        earliest = min(offer.arrived for offer in offers)
        return admit(offers, self._inlets, max(now - earliest, 0) + self._skew)


def _unknown_column(stream: Stream, terms: Terms) -> str | None:
    known = [column.name for column in stream.columns]
    for name, _ in terms.set:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"its columns are {', '.join(known)}"
            return f"the stream {stream.name} has no column {name}; {hint}"
    return None


def _refusal(route: Route) -> str:
    if route.refusal is not None:
        return route.refusal
    return f"there is no stream {route.name!r}; declare it, or send it to another one (--to STREAM)"


def _kept(batch: Batch) -> list[Append]:
    """What fitted; what did not is among the dead letters already."""
    return [one for one in batch.appends if one.stream != DEAD_LETTERS]


def _columns(offer: Offer, inlet: Inlet) -> tuple[ColumnFinding, ...]:
    """Every column read alone, so that each fault is seen and not only the first."""
    decode: Decode = offer.decode or inlet.decode
    filled = dict(offer.fill)
    found = []
    for column in inlet.columns:
        kind = str(column.type)
        if column.name in filled:
            found.append(ColumnFinding(column.name, kind, orjson.dumps(filled[column.name]).decode(), None))
            continue
        read = decode(list(offer.payloads), (column,))
        fault = read.bad[0].reason.removeprefix(f"column {column.name}: ") if read.bad else None
        values = [orjson.loads(line).get(column.name) for line in encode_lines(read.rows).splitlines()]
        value = None if read.bad else orjson.dumps(values[0] if len(values) == 1 else values).decode()
        found.append(ColumnFinding(column.name, kind, value, fault))
    return tuple(found)


def _nothing(_: Verdict) -> None:
    """Nobody waits for the verdict of such an offer: it is read from the batch."""

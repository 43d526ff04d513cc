"""Which stream a topic or path feeds, in which form, and whether that stream takes input.

Pure; who may feed it is `secure.users`. How patterns match is `patterns`, what a format is `formats`, what a source
fills is `feeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qanat.codec.base import Decode
from qanat.codec.framed import Schemas
from qanat.errors import ConfigError
from qanat.gateway.feeds import Feed, Fill, Sender, open_feed
from qanat.gateway.offers import Offer, Verdict
from qanat.gateway.patterns import Pattern, PatternTable, parse_pattern
from qanat.model.sources import Source
from qanat.model.streams import DEAD_LETTERS, LATE, Stream

__all__ = ["Intake", "Maker", "Route", "Routes", "Sender"]

#: What an offer wants kept, once its verdict is known.
MakeState = Callable[[Verdict], Mapping[str, bytes | None]]


class Maker(Protocol):
    """Payloads of one sender -> an offer for the stream that the sender feeds."""

    def __call__(
        self, payloads: Sequence[bytes], arrived: int, done: Callable[[Verdict], None], state: MakeState | None = None
    ) -> Offer:
        """See `Route.offer`."""
        ...


#: Routes are kept for so many topics, each no longer than this: some 30 MB at most.
_MAX_CACHED = 50_000
_LONGEST_CACHED = 200


@dataclass(frozen=True, slots=True)
class Route:
    """`name` is the stream as it was addressed; `stream` is None where there is none of that name.

    `refusal` says why the stream takes no input, or is None. `feed`: how payloads are read and which columns are
    filled; `fill`: these, as far as the topic says them.
    """

    name: str
    stream: Stream | None
    refusal: str | None = None
    feed: Feed | None = None
    fill: Fill = ()

    @property
    def format(self) -> str | None:
        """The format that the source demands; None goes by the content type, or by what the front knows."""
        return None if self.feed is None else self.feed.format

    def offer(
        self,
        payloads: Sequence[bytes],
        sender: Sender,
        arrived: int,
        done: Callable[[Verdict], None],
        state: MakeState | None = None,
        decode: Decode | None = None,
    ) -> Offer:
        """These payloads for the stream of this route, as the route says that they are to be read.

        `decode`: how the front has cut them and wants them read; it goes before the source's `format`, which goes
        before the content type. A front that cuts payloads leaves them whole where the feed is that of a source.
        """
        return self.maker(sender, decode)(payloads, arrived, done, state)

    def maker(self, sender: Sender, decode: Decode | None = None) -> Maker:
        """As `offer`, for many payloads of one sender, which are all read in the same way."""
        feed, fill = self.feed, self.fill
        if feed is not None:
            decode = feed.choose(decode, sender)
            if feed.asks_sender:
                fill = feed.complete(fill, sender)
        name, known = self.name, self.stream is not None
        source, origin, client = sender.source, sender.origin, sender.client

        def make(
            payloads: Sequence[bytes], arrived: int, done: Callable[[Verdict], None], state: MakeState | None = None
        ) -> Offer:
            return Offer(name, payloads, source, origin, client, arrived, done, known, decode, fill, state)

        return make


class Intake:
    """One source that brings its own topics or files: an outside broker, or a folder."""

    def __init__(self, feed: Feed, table: PatternTable[None] | None, filters: tuple[str, ...]) -> None:
        self._feed, self._table = feed, table
        self.filters = filters

    @property
    def feed(self) -> Feed:
        """How its payloads become rows."""
        return self._feed

    def resolve(self, topic: str) -> Route:
        """The route of a topic that the broker sent, or of a file's path."""
        feed = self._feed
        if self._table is None:
            return Route(feed.stream.name, feed.stream, None, feed, feed.fill(topic, {}))
        found = self._table.find(topic)
        if found is None:  # a capture would be empty
            return Route(topic.partition("/")[0], None)
        return Route(feed.stream.name, feed.stream, None, feed, feed.fill(topic, found[1]))


class Routes:
    """Topics of sources feed their streams; else the topics `NAME` and `NAME/...` feed the stream NAME.

    `feeds`: how payloads become rows, by source. Raises `ConfigError` for sources whose stream, columns, pattern or
    format cannot be, and for ambiguous patterns.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        accepts: frozenset[str] | None,
        sources: Mapping[str, Source] | None = None,
        schemas: Schemas | None = None,
    ) -> None:
        self._streams, self._schemas = streams, schemas
        self._accepts = (frozenset(streams) if accepts is None else accepts) - {DEAD_LETTERS, LATE}
        unknown = self._accepts - set(streams)
        if unknown:
            raise ConfigError(
                f"no such stream: {', '.join(sorted(unknown))}",
                hint=f"the streams are: {', '.join(sorted(streams)) or 'none'}",
            )
        self._own = {
            name: open_feed(None, Source(stream=name), streams, self._accepts, (), schemas) for name in self._accepts
        }
        self._cache: dict[str, Route] = {}
        self._intakes: dict[str, Intake] = {}
        self.feeds: dict[str, Feed] = {}
        self._table = self._open(sources or {})

    def _open(self, sources: Mapping[str, Source]) -> PatternTable[Feed]:
        entries = []
        for name, source in sources.items():
            whose = f"source {name!r}"
            texts = (source.topic,) if source.topic is not None else source.mqtt.topics if source.mqtt else ()
            patterns = [parse_pattern(text, whose) for text in texts]
            captures = _same_names(patterns, whose)
            feed = open_feed(name, source, self._streams, self._accepts, captures, self._schemas)
            self.feeds[name] = feed
            if source.topic is not None:
                entries.append((whose, patterns[0], feed))
                continue
            table = PatternTable([(whose, one, None) for one in patterns]) if source.mqtt else None
            self._intakes[name] = Intake(feed, table, tuple(one.filter for one in patterns))
        return PatternTable(entries)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The streams that take input, by name."""
        return tuple(sorted(self._accepts))

    def intake(self, name: str) -> Intake:
        """The source of that name, for the front that reads its broker or folder."""
        return self._intakes[name]

    def resolve(self, topic: str) -> Route:
        """The route of a topic; the same topic gives the same one, for as long as it is remembered."""
        route = self._cache.get(topic)
        if route is None:
            route = self._find_topic(topic)
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            if len(topic) <= _LONGEST_CACHED:
                self._cache[topic] = route
        return route

    def find(self, name: str) -> Route:
        """The route of a stream's own name."""
        stream = self._streams.get(name)
        if name in (DEAD_LETTERS, LATE):
            return Route(name, stream, f"qanat itself writes the stream {name}; nothing else may")
        if stream is not None and name not in self._accepts:
            return Route(name, stream, f"the stream {name} is written by a pipeline and takes no input from outside")
        return Route(name, stream, None, self._own.get(name))

    def at(self, path: str) -> Route:
        """The route of what follows /streams/ in a URL: a stream's own name, else a topic."""
        return self.find(path) if path in self._streams or "/" not in path else self.resolve(path)

    def _find_topic(self, topic: str) -> Route:
        found = self._table.find(topic)
        if found is None:
            return self.find(topic.partition("/")[0])
        feed, captured = found
        return Route(feed.stream.name, feed.stream, None, feed, feed.fill(topic, captured))


def _same_names(patterns: Sequence[Pattern], whose: str) -> tuple[str, ...]:
    """What all patterns of a source capture: each the same, since they fill the same columns."""
    first = patterns[0].names if patterns else ()
    for other in patterns:
        if set(other.names) != set(first):
            raise ConfigError(
                f"{whose}: {patterns[0].text} and {other.text} do not capture the same names",
                hint="write + for a level that only one of them has, or make two sources",
            )
    return first

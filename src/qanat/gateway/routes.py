"""Which stream a topic or path feeds, in which form, and whether that stream takes input.

Pure; who may feed it is `secure.users`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qanat.errors import ConfigError
from qanat.gateway.offers import Offer, Verdict
from qanat.model.streams import DEAD_LETTERS, LATE, Stream

_MAX_CACHED = 100_000


@dataclass(frozen=True, slots=True)
class Sender:
    """Where payloads come from: `source` is the protocol, `origin` the topic or path, `client` who.

    `attributes`: what the protocol says about the messages beside their payload, by name: `user`, `content_type`,
    `property.NAME`.
    """

    source: str
    origin: str
    client: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """`name` is the stream as it was addressed; `stream` is None where there is none of that name.

    `refusal` says why the stream takes no input, or is None.
    """

    name: str
    stream: Stream | None
    refusal: str | None = None

    def offer(
        self,
        payloads: Sequence[bytes],
        sender: Sender,
        arrived: int,
        done: Callable[[Verdict], None],
        state: Callable[[Verdict], Mapping[str, bytes | None]] | None = None,
    ) -> Offer:
        """These payloads for the stream of this route, as the route says that they are to be read."""
        return Offer(
            self.name,
            payloads,
            sender.source,
            sender.origin,
            sender.client,
            arrived,
            done,
            known=self.stream is not None,
            state=state,
        )


class Routes:
    """The topics `NAME` and `NAME/...` feed the stream NAME."""

    def __init__(self, streams: Mapping[str, Stream], accepts: frozenset[str] | None) -> None:
        self._streams = streams
        self._accepts = (frozenset(streams) if accepts is None else accepts) - {DEAD_LETTERS, LATE}
        unknown = self._accepts - set(streams)
        if unknown:
            raise ConfigError(
                f"no such stream: {', '.join(sorted(unknown))}",
                hint=f"the streams are: {', '.join(sorted(streams)) or 'none'}",
            )
        self._cache: dict[str, Route] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The streams that take input, by name."""
        return tuple(sorted(self._accepts))

    def resolve(self, topic: str) -> Route:
        """The route of a topic; the same topic gives the same one."""
        route = self._cache.get(topic)
        if route is None:
            route = self.find(topic.partition("/")[0])
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[topic] = route
        return route

    def find(self, name: str) -> Route:
        """The route of a stream's own name."""
        stream = self._streams.get(name)
        if name in (DEAD_LETTERS, LATE):
            return Route(name, stream, f"qanat itself writes the stream {name}; nothing else may")
        if stream is not None and name not in self._accepts:
            return Route(name, stream, f"the stream {name} is written by a pipeline and takes no input from outside")
        return Route(name, stream)

"""Which stream a topic or path feeds, and whether that stream takes input. Pure; who may feed it is `secure.users`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qanat.errors import ConfigError
from qanat.model.streams import DEAD_LETTERS, LATE, Stream

_MAX_CACHED = 100_000


@dataclass(frozen=True, slots=True)
class Route:
    """`name` is the stream as it was addressed; `stream` is None where there is none of that name.

    `refusal` says why the stream takes no input, or is None.
    """

    name: str
    stream: Stream | None
    refusal: str | None = None


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

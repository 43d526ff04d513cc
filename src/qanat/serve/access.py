"""Who asks, and whether he may: one place that every endpoint goes through. Decides by `secure`; stores nothing."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from qanat.errors import UnknownStreamError
from qanat.gateway.http.identity import authenticate
from qanat.gateway.http.problems import RefusedError
from qanat.log.base import StreamStatus
from qanat.model.streams import DEAD_LETTERS
from qanat.secure.keys import may_query, may_watch
from qanat.secure.users import User, may_manage, may_manage_devices, may_publish, may_subscribe
from qanat.serve.context import ServeContext

_KEYS = "qanat key add NAME --scope {} makes a key that may; users of qanat.yaml: subscribe"


class Caller:
    """Somebody who sent a request; `user` is None where nobody is asked who he is."""

    def __init__(self, user: User | None, peer: str) -> None:
        self.user = user
        self.name = peer if user is None else user.name

    def may_read(self, stream: str) -> bool:
        """Whether he may read all rows of a stream."""
        return may_subscribe(self.user, stream)

    def demand_read(self, stream: str, keys: frozenset[str] | None = None) -> None:
        """Raises `RefusedError` 403; `keys`: only the rows of these."""
        if self.may_read(stream):
            return
        if keys and all(may_subscribe(self.user, f"{stream}/{key}") for key in keys):
            return
        raise RefusedError(403, f"this user may not read {stream}", hint=_KEYS.format(f"read:{stream}"))

    def demand_write(self, stream: str) -> None:
        """Raises `RefusedError` 403."""
        if not may_publish(self.user, stream):
            raise RefusedError(403, f"this user may not feed {stream}", hint=_KEYS.format(f"write:{stream}"))

    def demand_query(self) -> None:
        """Raises `RefusedError` 403."""
        if not may_query(self.user):
            raise RefusedError(403, "this user may not run queries", hint=_KEYS.format("query"))

    def demand_watch(self) -> None:
        """Raises `RefusedError` 403."""
        if not may_watch(self.user):
            raise RefusedError(403, "this user may not see the pipelines", hint=_KEYS.format("query"))

    def demand_letters(self) -> None:
        """Raises `RefusedError` 403."""
        if not (may_manage(self.user) or may_subscribe(self.user, DEAD_LETTERS)):
            raise RefusedError(403, "this user may not read dead_letters", hint=_KEYS.format("dead-letters"))

    @property
    def may_see_devices(self) -> bool:
        """Whether devices are shown to him."""
        return may_manage_devices(self.user)


async def caller_of(context: ServeContext, connection: HTTPConnection) -> Caller:
    """Who it is. Raises `AuthError`."""
    user = await authenticate(context.auth, connection)
    return Caller(user, connection.client.host if connection.client else "")


def stream_of(context: ServeContext, caller: Caller, name: str, keys: frozenset[str] | None = None) -> StreamStatus:
    """A stream that he may read. Raises `RefusedError` 403, `UnknownStreamError`."""
    caller.demand_read(name, keys)
    statuses = context.log.status()
    if name not in statuses:
        known = ", ".join(sorted(one for one in statuses if caller.may_read(one))) or "none"
        raise UnknownStreamError(f"no stream {name!r}", hint=f"the streams are: {known}")
    return statuses[name]

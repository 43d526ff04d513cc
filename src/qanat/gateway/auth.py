"""The async edge of `secure.passwords`: argon2 in threads, one check at a time per secret. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from qanat.secure.passwords import Passwords
from qanat.secure.users import User, index_users

_THREADS = 2


class Authenticator:
    """Who is behind a name and a password. Without users nobody is asked."""

    def __init__(self, users: Sequence[User]) -> None:
        index = index_users(users)
        self.demanded = bool(index)
        self._passwords = Passwords(index)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="qanat-argon2")
        self._running: dict[bytes, asyncio.Future[User | None]] = {}
        self._watchers: list[Callable[[str], None]] = []

    def recall(self, name: str, password: str) -> User | None:
        """The user, where this password was right before; quick."""
        return self._passwords.recall(name, password)

    async def verify(self, name: str, password: str) -> User | None:
        """The user, or None. A fleet that comes with one and the same secret costs one argon2 check, not thousands."""
        known = self.recall(name, password)
        if known is not None:
            return known
        digest = self._passwords.digest(name, password)
        running = self._running.get(digest)
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, self._passwords.verify, name, password)
            self._running[digest] = running
            running.add_done_callback(lambda _: self._running.pop(digest, None))
        return await asyncio.shield(running)

    async def token(self, text: str) -> User | None:  # noqa: ARG002  no registry, no tokens
        """The device that a bearer token belongs to, or None. Users of qanat.yaml have no tokens."""
        return None

    def certificate(self, der: bytes) -> User | None:  # noqa: ARG002  as above
        """The device that a client certificate belongs to, or None; TLS has verified its chain before."""
        return None

    def still(self, user: User) -> bool:  # noqa: ARG002  as above
        """Whether this user may still do what he could when he came in. Ask it when `watch` names him."""
        return True

    def watch(self, callback: Callable[[str], None]) -> None:
        """Call `callback(name)` in the event loop when the rights of that user end or change.

        Close his connections for which `still` is False; then they come again, or not.
        """
        self._watchers.append(callback)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

"""The async edge of `secure`: who somebody is, argon2 in threads, and word of rights that end. Decides nothing.

Users stand in qanat.yaml and do not change while qanat runs; devices stand in the registry, which the command line may
change at any time: it is looked at every 100 ms. So is the file of API keys.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from qanat.clock import now_ms
from qanat.errors import RegistryError
from qanat.observe.metrics import Metrics
from qanat.secure.gatekeeper import Gatekeeper
from qanat.secure.keyring import Keyring
from qanat.secure.keys import KEY_PREFIX
from qanat.secure.passwords import Passwords
from qanat.secure.registry import Registry
from qanat.secure.users import User, index_users

_THREADS = 2
_LOOK_S = 0.1
_WRITE_SEEN_S = 30.0
#: After so many names whose rights ended the event loop does something else first.
_TOLD_AT_ONCE = 100


class Authenticator:
    """Who is behind a name and a password, a token or a certificate.

    Without users, devices and keys nobody is asked, unless `demanded`; once there was one, everybody is. The clock
    gives ms since 1970. `seen` gives the names that came in or sent something since it was asked last, and when.
    """

    def __init__(
        self,
        users: Sequence[User],
        registry: Registry | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], int] = now_ms,
        demanded: bool = False,
        keys: Keyring | None = None,
    ) -> None:
        self._users = index_users(users)
        self._passwords = Passwords(self._users)
        self._registry, self._metrics, self._keys = registry, metrics, keys
        #: For changes: a connection of its own, so that no login waits for a write.
        self.desk = None if registry is None else Registry(registry.path)
        self._devices = None if registry is None else Gatekeeper(registry, clock, self._count_refused)
        self.demanded = demanded or bool(users)
        self._fault: str | None = None
        self._seen_fault: str | None = None
        self._keys_fault: str | None = None
        self.seen: Callable[[], Mapping[str, int]] = dict
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="qanat-argon2")
        self._running: dict[str, tuple[int, asyncio.Future[User | None]]] = {}
        self._watchers: list[Callable[[str], None]] = []
        self._news: deque[str] = deque()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._count_known()

    # --- who is it? --------------------------------------------------------------------------------------------------

    def recall(self, name: str, password: str) -> User | None:
        """The user or device, where this password (or token) was right before; quick."""
        user = self._passwords.recall(name, password)
        if user is None and self._devices is not None and name not in self._users:
            return self._devices.recall(name, password)
        return user

    async def verify(self, name: str, password: str) -> User | None:
        """The user or device, or None. A fleet that comes with one secret costs one argon2 check, not thousands.

        For a device the password may also be its token; `name` is its id (in MQTT the user name, or the client id
        where there is none).
        """
        known = self.recall(name, password)
        if known is not None:
            return known
        digest = self._passwords.digest(name, password).hex()
        keeper = self._passwords if self._devices is None or name in self._users else self._devices
        if digest not in self._running:
            running = asyncio.get_running_loop().run_in_executor(self._threads, keeper.verify, name, password)
            self._running[digest] = self._generation, running
            running.add_done_callback(lambda _: self._running.pop(digest, None))
        generation, running = self._running[digest]
        try:
            user = await asyncio.shield(running)
        except RegistryError as error:
            self._refuse(error)
            return None
        return user if generation == self._generation or user is None or self.still(user) else None

    def token(self, text: str) -> User | None:
        """The device that a bearer token belongs to, or whoever has this API key; None for neither.

        Users of qanat.yaml have no tokens.
        """
        try:
            if text.startswith(KEY_PREFIX):
                return None if self._keys is None else self._keys.find(text)
            return None if self._devices is None else self._devices.token(text)
        except RegistryError as error:
            self._refuse(error)
            return None

    def certificate(self, der: bytes) -> User | None:
        """The device that a client certificate belongs to, or None; TLS has verified its chain before."""
        try:
            return None if self._devices is None else self._devices.certificate(der)
        except RegistryError as error:
            self._refuse(error)
            return None

    # --- who is it no longer? ----------------------------------------------------------------------------------------

    def still(self, user: User) -> bool:
        """Whether this user may still do what he could when he came in. Ask it when `watch` names him."""
        try:
            if user.scopes is not None:
                return self._keys is not None and self._keys.still(user)
            return user.device is None or (self._devices is not None and self._devices.still(user))
        except RegistryError as error:
            self._refuse(error)
            return False

    def is_gone(self, name: str) -> bool:
        """Whether nobody is called so any more: no user, and no device of the registry."""
        if self._registry is None or not name or name in self._users:
            return False
        try:
            return self._registry.find(name) is None
        except RegistryError as error:
            self._refuse(error)
            return False

    def watch(self, callback: Callable[[str], None]) -> None:
        """Call `callback(name)` in the event loop when the rights of that user end or change.

        Close his connections for which `still` is False; then they come again, or not.
        """
        self._watchers.append(callback)

    def start(self) -> None:
        """Begin to look at the registry and the keys, in the running loop."""
        if self._devices is not None or self._keys is not None:
            self._look()
        if self._devices is not None:
            self._timers["seen"] = asyncio.get_running_loop().call_later(_WRITE_SEEN_S, self._write_seen)

    def checks(self) -> Mapping[str, str | None]:
        """For /healthz: what is wrong with the registry, where there is one."""
        keys = {} if self._keys is None else {"keys": self._keys_fault}
        return keys if self._registry is None else {"devices": self._fault or self._seen_fault, **keys}

    def refresh(self) -> None:
        """Look at once: this process has just changed the registry."""
        self._tell()

    def close(self) -> None:
        """End the threads; write down who was last seen."""
        for timer in self._timers.values():
            timer.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._registry is not None and self.desk is not None:
            with contextlib.suppress(RegistryError):  # when a device was last seen is not worth an unclean end
                self.desk.see(self.seen())
            self.desk.close()
            self._registry.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _generation(self) -> int:
        return 0 if self._devices is None else self._devices.generation

    def _refuse(self, error: RegistryError) -> None:
        """A registry that cannot be read lets nobody in; /healthz says so."""
        self._fault = str(error)
        self._count_refused("registry")

    def _look(self) -> None:
        self._look_at_keys()
        self._tell()
        self._timers["look"] = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look_at_keys(self) -> None:
        if self._keys is None:
            return
        try:
            self._news += self._keys.news()
            self._keys_fault = None
        except RegistryError as error:  # shown by /healthz, tried again; who is in stays in
            self._keys_fault = str(error)
        self._count_known()
        self._pass_on()

    def _tell(self) -> None:
        if self._devices is None:
            return
        try:
            if self._fault is not None:
                self._devices.registry.probe()
            before = self._devices.version
            names = self._devices.news()
            if before != self._devices.version:
                self._count_known()
            self._fault = None
        except RegistryError as error:  # shown by /healthz, tried again
            self._fault = str(error)
            return
        self._news += names
        self._pass_on()

    def _pass_on(self) -> None:
        """Tell the watchers of the next few names; when 10,000 devices are disabled, others must not wait for it."""
        for _ in range(min(len(self._news), _TOLD_AT_ONCE)):
            name = self._news.popleft()
            for callback in self._watchers:
                callback(name)
        if self._news:
            self._timers["news"] = asyncio.get_running_loop().call_later(0, self._pass_on)

    def _write_seen(self) -> None:
        seen = self.seen()
        if seen and self.desk is not None:
            done = asyncio.get_running_loop().run_in_executor(self._threads, self.desk.see, seen)
            done.add_done_callback(self._on_seen)
        self._timers["seen"] = asyncio.get_running_loop().call_later(_WRITE_SEEN_S, self._write_seen)

    def _on_seen(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            error = done.exception()
            self._seen_fault = None if error is None else str(error)

    def _count_known(self) -> None:
        self.demanded = self.demanded or (self._keys is not None and self._keys.known > 0)
        if self._registry is not None:
            known = self._registry.count()
            self.demanded = self.demanded or known > 0
            if self._metrics is not None:
                self._metrics.devices_known(known)

    def _count_refused(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.device_refused(reason)

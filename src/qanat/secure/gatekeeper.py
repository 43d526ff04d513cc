"""Who a device is, by its password, token or certificate; with a memory of what was right. No event loop.

`recall` looks into memory and takes a microsecond; `verify` hashes and is for a worker thread; `token` and
`certificate` ask SQLite at most once for what they have not seen. `news` says whose rights ended. Thread-safe.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from qanat.model.devices import Credential, Device, Secret
from qanat.secure.certificates import common_name, fingerprint
from qanat.secure.enrolment import token_digest
from qanat.secure.passwords import Cost, draw_secret, hash_password, is_right
from qanat.secure.registry import Registry
from qanat.secure.users import DeviceRights, User

#: Called with the class of a refusal: unknown, wrong, disabled, expired.
Refused = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """A right secret: whose it is, and until when (ms) it counts."""

    user: User
    expires_at: int | None


class Gatekeeper:
    """Checks the devices of a registry. `clock` gives ms since 1970, `refused` hears why somebody was not let in."""

    def __init__(self, registry: Registry, clock: Callable[[], int], refused: Refused = lambda _: None) -> None:
        self.registry = registry
        self._clock, self._refused = clock, refused
        self._key = secrets.token_bytes(32)
        self._nobody = hash_password(draw_secret(), Cost.DEVICE)
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._keys: dict[str, set[str]] = {}
        self._generation = 0  # counts how often something was forgotten
        self.version = 0  # counts how often the registry had changed
        self._change = registry.last_change()
        self._looked = clock()
        self._next_expiry = registry.next_expiry(self._looked)

    def recall(self, name: str, password: str) -> User | None:
        """The device, if exactly this secret was verified before and still counts; None says nothing."""
        return self._remembered(self.digest(name, password))

    def verify(self, name: str, password: str) -> User | None:
        """The device by id and password, or by id and token; None for anything else, which takes as long."""
        key, generation = self.digest(name, password), self._generation
        device = self.registry.find(name)
        if device is None:
            is_right(self._nobody, password)
            self._refused("unknown")
            return None
        token = token_digest(password)
        for credential in self.registry.credentials(name):
            match credential.kind:
                case Secret.PASSWORD if is_right(credential.value, password):
                    return self._admit(device, credential, key, generation)
                case Secret.TOKEN if credential.value == token:
                    return self._admit(device, credential, key, generation)
        self._refused("wrong")
        return None

    def token(self, text: str) -> User | None:
        """The device that the bearer token belongs to, or None."""
        return self._by(Secret.TOKEN, token_digest(text))

    def certificate(self, der: bytes) -> User | None:
        """The device of this very certificate, or of its subject's common name; None for neither."""
        key = f"certificate {fingerprint(der)}"
        known, generation = self._remembered(key), self._generation
        if known is not None:
            return known
        found = self.registry.credential(Secret.CERTIFICATE, fingerprint(der))
        if found is None:
            name = common_name(der)
            found = None if name is None else self.registry.credential(Secret.COMMON_NAME, name)
        return self._enter(found, key, generation)

    def still(self, user: User) -> bool:
        """Whether the device is there, not disabled, with the same rights, and what it came in with still counts."""
        device = self.registry.find(user.name)
        if device is None or device.disabled or rights_of(device) != user.device:
            return False
        return any(
            one.value == user.proof and self._counts(one.expires_at) for one in self.registry.credentials(user.name)
        )

    def news(self) -> tuple[str, ...]:
        """Whose rights ended or changed since this was asked last; forgets what it knew of them.

        Costs microseconds while nothing has happened.
        """
        now, names = self._clock(), set[str]()
        if self.registry.moved():
            self.version += 1
            names |= self._changed()
            self._next_expiry = self.registry.next_expiry(self._looked)
        if self._next_expiry is not None and now >= self._next_expiry:
            names |= set(self.registry.expired(self._looked, now))
            self._next_expiry = self.registry.next_expiry(now)
            self._looked = now
        if names:
            self._forget(names)
        return tuple(sorted(names))

    @property
    def generation(self) -> int:
        """Changes whenever somebody's rights end; what was read before may be wrong then."""
        return self._generation

    def digest(self, name: str, secret: str) -> str:
        """What stands for this pair in memory; of no use to another process."""
        text = f"{len(name)}:{name}{secret}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).hexdigest()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _by(self, kind: Secret, value: str) -> User | None:
        key, generation = f"{kind.value} {value}", self._generation
        known = self._remembered(key)
        return known if known is not None else self._enter(self.registry.credential(kind, value), key, generation)

    def _enter(self, found: Credential | None, key: str, generation: int) -> User | None:
        device = None if found is None else self.registry.find(found.device)
        if found is None or device is None:
            self._refused("unknown")
            return None
        return self._admit(device, found, key, generation)

    def _admit(self, device: Device, credential: Credential, key: str, generation: int) -> User | None:
        """Whoever proved to be this device, unless it may not come in."""
        if device.disabled or not self._counts(credential.expires_at):
            self._refused("disabled" if device.disabled else "expired")
            return None
        user = User(device.id, "", (), (), device=rights_of(device), proof=credential.value)
        with self._lock:
            if generation == self._generation:  # else it may be of a time before some right ended
                self._known[key] = _Known(user, credential.expires_at)
                self._keys.setdefault(device.id, set()).add(key)
        return user

    def _remembered(self, key: str) -> User | None:
        known = self._known.get(key)
        return known.user if known is not None and self._counts(known.expires_at) else None

    def _counts(self, expires_at: int | None) -> bool:
        return expires_at is None or self._clock() < expires_at

    def _changed(self) -> set[str]:
        since, self._change = self._change, self.registry.last_change()
        if since == self._change:
            return set()
        names = self.registry.changed_since(since)
        return set(self._keys) if names is None else set(names)

    def _forget(self, names: set[str]) -> None:
        with self._lock:
            self._generation += 1
            for name in names & self._keys.keys():  # the name itself stays: it may have connections
                for key in self._keys[name]:
                    self._known.pop(key, None)
                self._keys[name].clear()


def rights_of(device: Device) -> DeviceRights:
    """The filters of a device with its id in place."""
    publish, subscribe = (
        tuple(text.replace("{id}", device.id) for text in topics) for topics in (device.publish, device.subscribe)
    )
    return DeviceRights(publish, subscribe)

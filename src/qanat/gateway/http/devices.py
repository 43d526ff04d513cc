"""Devices over HTTP, under /v1/devices: register, list, show, change, rotate, disable, enable, remove.

Only for users with the right `admin`. What a device may be is `model.devices`' business, how it is kept
`secure.registry`'s; open connections hear of a change before the answer goes out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from qanat.errors import ConfigError, DeviceExistsError, UnknownDeviceError
from qanat.gateway.auth import Authenticator
from qanat.gateway.http.problems import RefusedError
from qanat.model.devices import WAYS, Device, Record, apply_record, describe, parse_label, parse_time
from qanat.secure.enrolment import Enrolled, enrol, numbered, renew
from qanat.secure.registry import Filter, Registry
from qanat.secure.users import User, may_manage_devices

_PATH = "/v1/devices"
_PAGE, _LARGEST_PAGE = 100, 10_000
_LARGEST_BODY = 32 << 20
_HINT = 'for example {"id": "meter-17", "labels": {"site": "north"}, "credential": "token"}'
_T = TypeVar("_T")

#: Who sent a request, None where nobody is asked. Raises `AuthError`.
Identify = Callable[[Request], Awaitable[User | None]]


class _Numbered(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Many devices, with numbered ids."""

    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    prefix: str = "device-"
    first: Annotated[int, msgspec.Meta(ge=0)] = 1


class _Rotation(Record, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another secret; of a record only the ways to come in count. `grace`: so long the old one works, too."""

    grace: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What the requests share. `clock` gives ms since 1970."""

    registry: Registry
    auth: Authenticator
    identify: Identify
    clock: Callable[[], int]


def mount_devices(app: FastAPI, context: DeviceContext) -> None:
    """Add the routes."""

    @app.post(_PATH, summary="Register one device, or many; their secrets are in the answer and nowhere else")
    async def add(request: Request) -> Response:
        return await _managed(context, request, _add)

    @app.get(_PATH, summary="Devices in the order of their ids")
    async def page(request: Request) -> Response:
        return await _managed(context, request, _page)

    @app.get(f"{_PATH}/{{name}}", summary="One device")
    async def show(request: Request) -> Response:
        return await _managed(context, request, _show)

    @app.patch(f"{_PATH}/{{name}}", summary="Change what is known of a device, or what it may do")
    async def change(request: Request) -> Response:
        return await _managed(context, request, _change)

    @app.delete(f"{_PATH}/{{name}}", summary="Forget a device")
    async def remove(request: Request) -> Response:
        return await _managed(context, request, _remove)

    @app.post(f"{_PATH}/{{name}}/rotate", summary="Give a device another secret")
    async def rotate(request: Request) -> Response:
        return await _managed(context, request, _rotate)

    @app.post(f"{_PATH}/{{name}}/disable", summary="Let a device in no more")
    async def disable(request: Request) -> Response:
        return await _managed(context, request, lambda registry, asked: _switch(registry, asked, disabled=True))

    @app.post(f"{_PATH}/{{name}}/enable", summary="Let a device in again")
    async def enable(request: Request) -> Response:
        return await _managed(context, request, lambda registry, asked: _switch(registry, asked, disabled=False))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, read: `name` is the device of the path."""

    name: str
    body: bytes
    given: Mapping[str, str]
    labels: Sequence[str]
    now: int


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: object
    location: str | None = None


async def _managed(context: DeviceContext, request: Request, work: Callable[[Registry, _Asked], _Answer]) -> Response:
    """Check who asks, do the work in a thread, and let open connections hear of it."""
    user = await context.identify(request)
    if not may_manage_devices(user):
        who = "this user" if user is not None else "nobody without credentials"
        hint = "admin: true of a user in qanat.yaml allows it, or a key with --scope devices"
        raise RefusedError(403, f"{who} may manage devices", hint=hint)
    given = {name: text for name, text in request.query_params.items() if name != "label"}
    name = request.path_params.get("name", "")
    asked = _Asked(name, await _body(request), given, request.query_params.getlist("label"), context.clock())
    try:
        answer = await asyncio.to_thread(_work, context.registry, asked, work)
    except UnknownDeviceError as error:
        raise RefusedError(404, error.message, hint=f"GET {_PATH}") from error
    except DeviceExistsError as error:
        raise RefusedError(409, error.message, hint=f"POST {_PATH}/ID/rotate makes a new secret") from error
    except ConfigError as error:
        raise RefusedError(400, error.message, hint=error.hint) from error
    context.auth.refresh()
    headers = {} if answer.location is None else {"location": answer.location}
    return Response(orjson.dumps(answer.content), answer.status, headers, media_type="application/json")


def _work(registry: Registry, asked: _Asked, work: Callable[[Registry, _Asked], _Answer]) -> _Answer:
    if asked.given.get("dry_run") not in ("1", "true"):
        return work(registry, asked)
    with registry.rehearsal():
        return work(registry, asked)


async def _body(request: Request) -> bytes:
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > _LARGEST_BODY:
            raise RefusedError(413, f"the body has more than {_LARGEST_BODY} bytes", hint="send fewer devices at once")
    return bytes(found)


def _add(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked, "dry_run")
    records = _records(asked.body)
    made = enrol(records, asked.now)
    registry.add([one.device for one in made], [one.credential for one in made])
    dry = asked.given.get("dry_run") in ("1", "true")
    told = [_secret(one, hidden=dry) for one in made]
    if not re.match(rb"\s*\[", asked.body) and not isinstance(_one(asked.body), _Numbered):
        device = made[0].device
        return _Answer(200 if dry else 201, {**describe(device), **told[0]}, f"{_PATH}/{quote(device.id)}")
    return _Answer(200 if dry else 201, {"devices": told})


def _page(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked, "owner", "kind", "prefix", "disabled", "limit", "after")
    given = asked.given
    limit = given.get("limit", str(_PAGE))
    if not re.fullmatch(r"[0-9]{1,6}", limit) or not 1 <= int(limit) <= _LARGEST_PAGE:
        raise ConfigError(f"limit is {limit!r}", hint=f"a number from 1 to {_LARGEST_PAGE}")
    if given.get("disabled", "true") not in ("true", "false"):
        raise ConfigError(f"disabled is {given['disabled']!r}", hint="true or false")
    disabled = given["disabled"] == "true" if "disabled" in given else None
    labels = dict(map(parse_label, asked.labels))
    wanted = Filter(given.get("prefix", ""), given.get("owner"), given.get("kind"), disabled, labels)
    found = registry.select(wanted, given.get("after", ""), int(limit) + 1)
    shown = found[: int(limit)]
    following = shown[-1].id if len(found) > len(shown) else None
    return _Answer(200, {"devices": list(map(describe, shown)), "next": following})


def _show(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked)
    return _Answer(200, describe(registry.get(asked.name), registry.credentials(asked.name)))


def _change(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked, "dry_run")
    record = _decode(asked.body, Record)
    if record.id or any(getattr(record, way) is not None for way in WAYS):
        raise ConfigError("an id cannot be changed, and a secret not in this way", hint=f"POST {_PATH}/ID/rotate")
    device = apply_record(registry.get(asked.name), record)
    registry.replace([device])
    return _Answer(200, describe(device))


def _remove(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked, "dry_run")
    registry.remove([asked.name], asked.now)
    return _Answer(200, {"id": asked.name, "removed": True})


def _rotate(registry: Registry, asked: _Asked) -> _Answer:
    _known(asked, "dry_run")
    wanted = _decode(asked.body or b"{}", _Rotation)
    until = None if wanted.grace is None else asked.now + parse_time(wanted.grace, "grace")
    ways = {name: getattr(wanted, name) for name in Record.__struct_fields__}
    device = registry.get(asked.name)
    made = renew(device, registry.credentials(asked.name), Record(**ways), asked.now)
    registry.rotate([made.credential], until, asked.now)
    return _Answer(200, _secret(made, hidden=asked.given.get("dry_run") in ("1", "true")))


def _switch(registry: Registry, asked: _Asked, disabled: bool) -> _Answer:
    _known(asked, "dry_run")
    device: Device = replace(registry.get(asked.name), disabled=disabled)
    registry.replace([device])
    return _Answer(200, describe(device))


def _records(body: bytes) -> list[Record]:
    if re.match(rb"\s*\[", body):
        return _decode(body, list[Record])
    one = _one(body)
    if isinstance(one, _Numbered):
        said = {name: getattr(one, name) for name in Record.__struct_fields__}
        return numbered(Record(**said), one.prefix, one.count, one.first)
    return [one]


def _one(body: bytes) -> Record:
    """One device, or so many of a kind."""
    raw = _decode(body, dict[str, msgspec.Raw])
    return _decode(body, _Numbered) if "count" in raw else _decode(body, Record)


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the body is not what it should be: {error}", hint=_HINT) from error


def _secret(one: Enrolled, hidden: bool) -> dict[str, Any]:
    """What was drawn; nothing of it where it is not kept."""
    told: dict[str, Any] = {"id": one.device.id, "credential": one.credential.kind.value}
    return told if hidden or one.secret is None else {**told, "secret": one.secret}


def _known(asked: _Asked, *names: str) -> None:
    unknown = sorted(set(asked.given) - set(names))
    if unknown:
        raise ConfigError(f"there is no parameter {unknown[0]!r}", hint=f"known are {', '.join(names) or 'none'}")

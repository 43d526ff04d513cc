"""The schema registry over HTTP: paths, bodies and error codes of the Confluent Schema Registry, under `/registry`.

Its clients take the base URL `http://HOST:PORT/registry`. What the calls mean is `qanat.contracts.registry`.
Reading is for everybody who may come in; to change a subject one needs the right to publish to its stream.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from qanat.codec.protobuf_schema import ProtoFile
from qanat.contracts.registry import Registry
from qanat.contracts.schema import Format, Mode, Reference, Schema, Version
from qanat.errors import AuthError, ContractError, QanatError
from qanat.secure.users import User, may_publish

PREFIX = "/registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_LARGEST_BODY = 4 << 20
_REALM = 'Basic realm="qanat", charset="UTF-8"'

#: Who is behind a request; None where the listener demands no credentials. Raises `AuthError`.
Identify = Callable[[Request], Awaitable[User | None]]


class _Call:
    """One request, read: path, query and body; `user` who asks."""

    def __init__(self, registry: Registry, request: Request, user: User | None, body: Any) -> None:
        self.registry, self.user, self.body = registry, user, body
        self.path: Mapping[str, Any] = request.path_params
        self._query = request.query_params

    @property
    def subject(self) -> str:
        return str(self.path.get("subject", ""))

    def flag(self, name: str) -> bool:
        return self._query.get(name, "").lower() == "true"

    def text(self, name: str) -> str:
        return self._query.get(name, "")

    def number(self) -> int | None:
        """The version of the path; None is the latest. Raises 42202."""
        given = str(self.path["version"])
        if given in ("latest", "-1"):
            return None
        if not given.isdigit() or not 1 <= int(given) < 1 << 31:
            message = (
                f"The specified version '{given}' is not a valid version id. Allowed values are between "
                '[1, 2^31-1] and the string "latest"'
            )
            raise ContractError(message, code=42202)
        return int(given)

    def id(self) -> int:
        given = str(self.path["id"])
        if not given.isdigit() or int(given) >= 1 << 63:
            raise ContractError(f"Schema {given} not found", code=40403)
        return int(given)

    def schema(self) -> Schema:
        """The schema of the body. Raises 42201."""
        body = self.body if isinstance(self.body, dict) else {}
        text, kind = body.get("schema"), body.get("schemaType") or "AVRO"
        if not isinstance(text, str):
            raise ContractError("Invalid schema: the body has no text under 'schema'", code=42201)
        if kind not in Format.__members__:
            raise ContractError(f"Invalid schema type {kind}; known are {', '.join(Format)}", code=42201)
        return Schema(Format(kind), text, _references(body), _opaque(body, "metadata"), _opaque(body, "ruleSet"))

    def may_change(self) -> None:
        """Whoever may publish to the stream may change its contract; a subject of no stream has its own name."""
        stream = self.subject.removesuffix("-value").removesuffix("-key") if self.subject else "*"
        if self.user is not None and not may_publish(self.user, stream):
            raise _ForbiddenError(f"{self.user.name} may not change {self.subject or 'what holds for all subjects'}")


class _ForbiddenError(QanatError):
    """Somebody without the right to."""


_Answer = Callable[[_Call], Any]


def registry_routes(registry: Registry, identify: Identify) -> APIRouter:
    """All paths, to be included into the HTTP application."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    for method, path, answer in _PATHS:
        router.add_api_route(path, _endpoint(registry, identify, answer), methods=[method])
    return router


def _endpoint(registry: Registry, identify: Identify, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            user = await identify(request)
            body = await _body(request)
            return _json(await run_in_threadpool(answer, _Call(registry, request, user, body)))
        except AuthError as error:
            return _error(40101, str(error.message), {"www-authenticate": _REALM})
        except _ForbiddenError as error:
            return _error(40301, error.message)
        except ContractError as error:
            return _error(error.code, str(error))

    return endpoint


async def _body(request: Request) -> Any:
    if request.method not in ("POST", "PUT"):
        return None
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _LARGEST_BODY:
            raise ContractError(f"the body has more than {_LARGEST_BODY} bytes", code=413)
    try:
        return orjson.loads(bytes(data) or b"{}")
    except orjson.JSONDecodeError as error:
        raise ContractError(f"the body is not JSON: {error}", code=400) from error


def _json(value: Any) -> Response:
    if isinstance(value, Response):
        return value
    return Response(orjson.dumps(value), media_type=MEDIA_TYPE)


def _error(code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    status = code if code < 1000 else code // 100
    return Response(orjson.dumps({"error_code": code, "message": message}), status, headers, media_type=MEDIA_TYPE)


def _references(body: Mapping[str, Any]) -> tuple[Reference, ...]:
    try:
        return tuple(
            Reference(str(one["name"]), str(one["subject"]), int(one["version"]))
            for one in body.get("references") or ()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError("Invalid schema: a reference needs name, subject and version", code=42201) from error


def _opaque(body: Mapping[str, Any], key: str) -> str | None:
    given = body.get(key)
    return None if given is None else orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode()


# --- bodies of answers -----------------------------------------------------------------------------------------------


def _described(call: _Call, schema: Schema, number: int) -> dict[str, Any]:
    """A schema without its place; the type is left out where it is Avro, as clients of old want it."""
    made: dict[str, Any] = {"schema": _formatted(call, schema, number), "guid": call.registry.guid(number)}
    if schema.format is not Format.AVRO:
        made["schemaType"] = schema.format
    if schema.references:
        made["references"] = [
            {"name": one.name, "subject": one.subject, "version": one.version} for one in schema.references
        ]
    if schema.metadata is not None:
        made["metadata"] = orjson.loads(schema.metadata)
    if schema.rules is not None:
        made["ruleSet"] = orjson.loads(schema.rules)
    return made


def _formatted(call: _Call, schema: Schema, number: int) -> str:
    """The text; clients of Protobuf ask for the serialised descriptor instead."""
    if schema.format is Format.PROTOBUF and call.text("format") == "serialized":
        tree = call.registry.tree(number)
        assert isinstance(tree, ProtoFile)
        return base64.b64encode(tree.descriptor).decode()
    return schema.text


def _placed(call: _Call, one: Version) -> dict[str, Any]:
    place = {"subject": one.subject, "version": one.version, "id": one.id}
    return place | _described(call, one.schema, one.id)


def _raw(text: str) -> Response:
    return Response(text, media_type=MEDIA_TYPE)


# --- subjects --------------------------------------------------------------------------------------------------------


def _subjects(call: _Call) -> Any:
    return call.registry.subjects(call.text("subjectPrefix"), call.flag("deleted"), call.flag("deletedOnly"))


def _versions(call: _Call) -> Any:
    found = call.registry.versions(call.subject, call.flag("deleted"), call.flag("deletedOnly"))
    return [one.version for one in found]


def _version(call: _Call) -> Any:
    return _placed(call, call.registry.version(call.subject, call.number(), call.flag("deleted")))


def _version_text(call: _Call) -> Any:
    found = call.registry.version(call.subject, call.number(), call.flag("deleted"))
    return _raw(_formatted(call, found.schema, found.id))


def _referenced_by(call: _Call) -> Any:
    return call.registry.referenced_by(call.subject, call.number())


def _metadata(call: _Call) -> Any:
    return _placed(call, call.registry.version(call.subject, None, call.flag("deleted")))


def _register(call: _Call) -> Any:
    call.may_change()
    schema, wanted = call.schema(), call.body.get("version")
    if isinstance(wanted, int) and wanted > 0 and call.registry.mode(call.subject) is Mode.IMPORT:
        found: Version | None = call.registry.import_version(call.subject, schema, wanted)
    else:
        found = call.registry.register(call.subject, schema, call.flag("normalize"))
    assert found is not None
    return _placed(call, found)


def _lookup(call: _Call) -> Any:
    found = call.registry.lookup(call.subject, call.schema(), call.flag("normalize"), call.flag("deleted"))
    return _placed(call, found)


def _delete_version(call: _Call) -> Any:
    call.may_change()
    return call.registry.delete_version(call.subject, call.number(), call.flag("permanent"))


def _delete_subject(call: _Call) -> Any:
    call.may_change()
    return call.registry.delete_subject(call.subject, call.flag("permanent"))


# --- schemas ---------------------------------------------------------------------------------------------------------


def _all_schemas(call: _Call) -> Any:
    found = call.registry.everything(call.text("subjectPrefix"), call.flag("deleted"))
    if call.flag("latestOnly"):
        found = list({one.subject: one for one in found}.values())
    return [_placed(call, one) for one in found]


def _by_id(call: _Call) -> Any:
    return _described(call, call.registry.schema(call.id()), call.id())


def _by_id_text(call: _Call) -> Any:
    return _raw(_formatted(call, call.registry.schema(call.id()), call.id()))


def _by_guid(call: _Call) -> Any:
    number = call.registry.id_of_guid(str(call.path["guid"]))
    return {"id": number} | _described(call, call.registry.schema(number), number)


def _ids_of_guid(call: _Call) -> Any:
    return [{"contextId": ".", "id": call.registry.id_of_guid(str(call.path["guid"]))}]


def _id_subjects(call: _Call) -> Any:
    return sorted({one.subject for one in call.registry.used_by(call.id(), call.flag("deleted"))})


def _id_versions(call: _Call) -> Any:
    found = call.registry.used_by(call.id(), call.flag("deleted"))
    return [{"subject": one.subject, "version": one.version} for one in found]


def _types(_: _Call) -> Any:
    return [Format.JSON, Format.PROTOBUF, Format.AVRO]


# --- compatibility, configuration, mode ------------------------------------------------------------------------------


def _compatible_with_one(call: _Call) -> Any:
    return _compatible(call, call.registry.check(call.subject, call.schema(), call.number()))


def _compatible_with_all(call: _Call) -> Any:
    return _compatible(call, call.registry.check(call.subject, call.schema(), all_versions=True))


def _compatible(call: _Call, broken: list[str]) -> Any:
    made: dict[str, Any] = {"is_compatible": not broken}
    return made | {"messages": broken} if call.flag("verbose") else made


def _get_config(call: _Call) -> Any:
    registry, subject = call.registry, call.subject
    own = registry.own_level(subject)
    if own is None and subject and not call.flag("defaultToGlobal") and not registry.more_config(subject):
        raise ContractError(f"Subject '{subject}' does not have subject-level compatibility configured", code=40408)
    return {"compatibilityLevel": registry.level(subject)} | registry.more_config(subject)


def _put_config(call: _Call) -> Any:
    call.may_change()
    body = call.body if isinstance(call.body, dict) else {}
    level = body.get("compatibility", body.get("compatibilityLevel"))
    if level is not None:
        call.registry.set_level(call.subject, str(level).upper())
    more = {key: value for key, value in body.items() if key not in ("compatibility", "compatibilityLevel")}
    if more:
        call.registry.set_more_config(call.subject, call.registry.more_config(call.subject) | more)
    return body


def _delete_config(call: _Call) -> Any:
    call.may_change()
    registry, subject = call.registry, call.subject
    if registry.own_level(subject) is None and subject and not registry.more_config(subject):
        raise ContractError(f"Subject '{subject}' does not have subject-level compatibility configured", code=40408)
    before = {"compatibilityLevel": registry.level(subject)} | registry.more_config(subject)
    registry.set_level(subject, None)
    registry.set_more_config(subject, None)
    return before


def _get_mode(call: _Call) -> Any:
    if call.subject and call.registry.own_mode(call.subject) is None and not call.flag("defaultToGlobal"):
        raise ContractError(f"Subject '{call.subject}' does not have subject-level mode configured", code=40409)
    return {"mode": call.registry.mode(call.subject)}


def _put_mode(call: _Call) -> Any:
    call.may_change()
    mode = call.body.get("mode") if isinstance(call.body, dict) else None
    call.registry.set_mode(call.subject, str(mode).upper(), call.flag("force"))
    return {"mode": call.registry.mode(call.subject)}


def _delete_mode(call: _Call) -> Any:
    call.may_change()
    if call.registry.own_mode(call.subject) is None:
        raise ContractError(f"Subject '{call.subject}' does not have subject-level mode configured", code=40409)
    before = call.registry.mode(call.subject)
    call.registry.set_mode(call.subject, None)
    return {"mode": before}


def _nothing(_: _Call) -> Any:
    return {}


def _cluster(_: _Call) -> Any:
    return {"id": "", "scope": {"path": [], "clusters": {"schema-registry-cluster": "qanat"}}}


_SUBJECT = "/subjects/{subject:path}"
#: In the order in which they are tried: a subject may have slashes, so longer paths come first.
_PATHS: tuple[tuple[str, str, _Answer], ...] = (
    ("GET", "/", _nothing),
    ("GET", "/v1/metadata/id", _cluster),
    ("GET", "/subjects", _subjects),
    ("GET", f"{_SUBJECT}/versions/{{version}}/schema", _version_text),
    ("GET", f"{_SUBJECT}/versions/{{version}}/referencedby", _referenced_by),
    ("GET", f"{_SUBJECT}/versions/{{version}}", _version),
    ("DELETE", f"{_SUBJECT}/versions/{{version}}", _delete_version),
    ("GET", f"{_SUBJECT}/versions", _versions),
    ("POST", f"{_SUBJECT}/versions", _register),
    ("GET", f"{_SUBJECT}/metadata", _metadata),
    ("POST", _SUBJECT, _lookup),
    ("DELETE", _SUBJECT, _delete_subject),
    ("GET", "/schemas", _all_schemas),
    ("GET", "/schemas/types", _types),
    ("GET", "/schemas/ids/{id}", _by_id),
    ("GET", "/schemas/ids/{id}/schema", _by_id_text),
    ("GET", "/schemas/ids/{id}/subjects", _id_subjects),
    ("GET", "/schemas/ids/{id}/versions", _id_versions),
    ("GET", "/schemas/guids/{guid}", _by_guid),
    ("GET", "/schemas/guids/{guid}/ids", _ids_of_guid),
    ("POST", "/compatibility/subjects/{subject:path}/versions/{version}", _compatible_with_one),
    ("POST", "/compatibility/subjects/{subject:path}/versions", _compatible_with_all),
    ("GET", "/config", _get_config),
    ("PUT", "/config", _put_config),
    ("DELETE", "/config", _delete_config),
    ("GET", "/config/{subject:path}", _get_config),
    ("PUT", "/config/{subject:path}", _put_config),
    ("DELETE", "/config/{subject:path}", _delete_config),
    ("GET", "/mode", _get_mode),
    ("PUT", "/mode", _put_mode),
    ("GET", "/mode/{subject:path}", _get_mode),
    ("PUT", "/mode/{subject:path}", _put_mode),
    ("DELETE", "/mode/{subject:path}", _delete_mode),
)

"""The schema registry over HTTP, by its public client and by its bare calls, on a running gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import ConfigCompatibilityLevel, ServerConfig

from qanat.contracts.decoders import Contracts
from qanat.contracts.registry import Registry
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")

V1 = json.dumps({"type": "record", "name": "Power", "fields": [{"name": "id", "type": "string"}]})
V2 = json.dumps(
    {
        "type": "record",
        "name": "Power",
        "fields": [{"name": "id", "type": "string"}, {"name": "w", "type": ["null", "double"], "default": None}],
    }
)
WRONG = json.dumps(
    {
        "type": "record",
        "name": "Power",
        "fields": [{"name": "id", "type": "long"}, {"name": "w", "type": "double"}],
    }
)
PROTO = 'syntax = "proto3";\nmessage Power {\n  string id = 1;\n}\n'


@pytest.fixture
def contracts() -> Iterator[Contracts]:
    registry = Registry()
    yield Contracts(registry, {})
    registry.close()


@pytest.fixture
def url(start: Callable[..., Any], contracts: Contracts) -> str:
    return f"{start(contracts=contracts).url}/registry"


Connect = Callable[..., SchemaRegistryClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(url, **settings)` gives a client whose connections end with the test."""
    clients: list[SchemaRegistryClient] = []

    def make(url: str, **settings: str) -> SchemaRegistryClient:
        clients.append(SchemaRegistryClient({"url": url, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client._rest_client.session.close()


@pytest.fixture
def client(url: str, connect: Connect) -> SchemaRegistryClient:
    return connect(url)


def refused(call: Callable[[], object]) -> tuple[int, int, str]:
    """Status, code and message of what the client hears."""
    with pytest.raises(SchemaRegistryError) as caught:
        call()
    return caught.value.http_status_code, caught.value.error_code, caught.value.error_message


def test_a_schema_is_registered_once_and_found_by_id_subject_and_text(client: SchemaRegistryClient) -> None:
    number = client.register_schema("power-value", Schema(V1, "AVRO"))
    assert client.register_schema("power-value", Schema(json.dumps(json.loads(V1), indent=2), "AVRO")) == number
    assert json.loads(client.get_schema(number).schema_str) == json.loads(V1)
    found = client.lookup_schema("power-value", Schema(V1, "AVRO"))
    assert (found.schema_id, found.version, found.subject) == (number, 1, "power-value")
    assert client.get_subjects() == ["power-value"]
    assert client.get_latest_version("power-value").schema_id == number
    assert client.get_versions("power-value") == [1]


def test_the_same_schema_has_one_id_under_all_subjects(client: SchemaRegistryClient) -> None:
    number = client.register_schema("a", Schema(V1, "AVRO"))
    assert client.register_schema("b/c d", Schema(V1, "AVRO")) == number
    assert client.get_subjects_by_schema_id(number) == ["a", "b/c d"]
    assert [(one.subject, one.version) for one in client.get_schema_versions(number)] == [("a", 1), ("b/c d", 1)]
    assert client.get_versions("b/c d") == [1]


def test_a_compatible_schema_is_the_next_version_and_another_one_is_refused_with_its_rules(
    client: SchemaRegistryClient,
) -> None:
    client.register_schema("power-value", Schema(V1, "AVRO"))
    assert client.test_compatibility("power-value", Schema(V2, "AVRO")) is True
    client.register_schema("power-value", Schema(V2, "AVRO"))
    assert client.get_latest_version("power-value").version == 2
    assert client.test_compatibility("power-value", Schema(WRONG, "AVRO")) is False
    status, code, message = refused(lambda: client.register_schema("power-value", Schema(WRONG, "AVRO")))
    assert (status, code) == (409, 409)
    assert "/id: long does not read string (TYPE_MISMATCH)" in message
    assert client.get_versions("power-value") == [1, 2]


def test_verbose_checks_say_why(url: str, client: SchemaRegistryClient) -> None:
    client.register_schema("s", Schema(V1, "AVRO"))
    for path in ("versions/1", "versions/latest", "versions"):
        answer = httpx.post(f"{url}/compatibility/subjects/s/{path}?verbose=true", json={"schema": WRONG}).json()
        assert answer["is_compatible"] is False
        assert len(answer["messages"]) == 2
    assert httpx.post(f"{url}/compatibility/subjects/new/versions/latest", json={"schema": V1}).json() == {
        "is_compatible": True
    }


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c: c.get_versions("nobody"), (404, 40401, "Subject 'nobody' not found.")),
        (lambda c: c.get_version("s", 9), (404, 40402, "Version 9 not found.")),
        (lambda c: c.get_schema(99), (404, 40403, "Schema 99 not found")),
        (lambda c: c.lookup_schema("s", Schema(V2, "AVRO")), (404, 40403, "Schema not found")),
        (lambda c: c.register_schema("s", Schema('{"type": "recor"}', "AVRO")), (422, 42201, "no type 'recor'")),
        (lambda c: c.register_schema("s", Schema("message {", "PROTOBUF")), (422, 42201, "schema.proto:1:")),
        (lambda c: c.register_schema("s", Schema('{"type": 7}', "JSON")), (422, 42201, "no JSON Schema")),
        (lambda c: c.register_schema("s", Schema(V1, "XML")), (422, 42201, "Invalid schema type XML")),
        (lambda c: c.get_version("s", -7), (422, 42202, "The specified version '-7' is not a valid version id")),
        (lambda c: c.set_compatibility("s", "SOMEWHAT"), (422, 42203, "Invalid compatibility level")),
        (lambda c: c.get_compatibility("s"), (404, 40408, "does not have subject-level compatibility")),
        (lambda c: c.delete_subject("s", permanent=True), (404, 40405, "was not deleted first")),
        (lambda c: c.delete_version("s", 1, permanent=True), (404, 40407, "was not deleted first")),
    ],
)
def test_errors_have_the_codes_of_the_confluent_registry(
    client: SchemaRegistryClient, call: Callable[[Any], object], expected: tuple[int, int, str]
) -> None:
    client.register_schema("s", Schema(V1, "AVRO"))
    status, code, message = refused(lambda: call(client))
    assert (status, code) == expected[:2]
    assert expected[2] in message


def test_levels_of_compatibility_are_set_for_all_and_for_one(client: SchemaRegistryClient) -> None:
    assert client.get_compatibility() == "BACKWARD"
    client.set_compatibility(level="FULL")
    client.set_compatibility("s", "NONE")
    assert (client.get_compatibility(), client.get_compatibility("s")) == ("FULL", "NONE")
    client.register_schema("s", Schema(V1, "AVRO"))
    client.register_schema("s", Schema(WRONG, "AVRO"))
    client.delete_config("s")
    assert refused(lambda: client.get_compatibility("s"))[1] == 40408
    client.set_config("s", ServerConfig(compatibility=ConfigCompatibilityLevel.FORWARD, compatibility_group="site"))
    found = client.get_config("s")
    assert (found.compatibility_level.value, found.compatibility_group) == ("FORWARD", "site")


@pytest.mark.parametrize("level", ["BACKWARD", "BACKWARD_TRANSITIVE"])
def test_transitive_levels_ask_all_versions(client: SchemaRegistryClient, level: str) -> None:
    """x was a string, is gone, and comes back as a number: only who asks version 1 finds that wrong."""

    def with_fields(**kinds: str) -> Schema:
        fields = [
            {"name": name, "type": kind, "default": "" if kind == "string" else 0} for name, kind in kinds.items()
        ]
        return Schema(json.dumps({"type": "record", "name": "R", "fields": fields}), "AVRO")

    client.set_compatibility("s", level)
    client.register_schema("s", with_fields(a="int", x="string"))
    client.register_schema("s", with_fields(a="int"))
    again = with_fields(a="int", x="int")
    assert client.test_compatibility("s", again, version="latest") is True
    if level == "BACKWARD":
        client.register_schema("s", again)
        assert client.get_versions("s") == [1, 2, 3]
    else:
        _, code, message = refused(lambda: client.register_schema("s", again))
        assert code == 409
        assert "version 1 wrote: /x: int does not read string" in message


def test_deleting_hides_first_and_forgets_then(client: SchemaRegistryClient, url: str, connect: Connect) -> None:
    number = client.register_schema("s", Schema(V1, "AVRO"))
    client.register_schema("s", Schema(V2, "AVRO"))
    assert client.delete_version("s", 1) == 1
    assert client.get_versions("s") == [2]
    assert httpx.get(f"{url}/subjects/s/versions?deleted=true").json() == [1, 2]
    assert httpx.get(f"{url}/subjects/s/versions?deletedOnly=true").json() == [1]
    assert json.loads(connect(url).get_schema(number).schema_str) == json.loads(V1)
    assert refused(lambda: client.delete_version("s", 1))[1] == 40406
    assert client.delete_version("s", 1, permanent=True) == 1
    assert client.delete_subject("s") == [2]
    assert client.get_subjects() == []
    assert httpx.get(f"{url}/subjects?deleted=true").json() == ["s"]
    assert refused(lambda: client.delete_subject("s"))[1] == 40404
    assert client.register_schema("s", Schema(V1, "AVRO")) == number
    assert client.get_versions("s") == [3]
    client.delete_subject("s")
    client.delete_subject("s", permanent=True)
    assert httpx.get(f"{url}/subjects?deleted=true").json() == []


def test_a_schema_that_others_need_is_not_deleted(client: SchemaRegistryClient) -> None:
    client.register_schema("place", Schema('{"type": "record", "name": "Place", "fields": []}', "AVRO"))
    whole = '{"type": "record", "name": "Site", "fields": [{"name": "at", "type": "Place"}]}'
    number = client.register_schema("site", Schema(whole, "AVRO", [SchemaReference("Place", "place", 1)]))
    assert client.get_referenced_by("place", 1) == [number]
    assert client.get_schema(number).references[0].subject == "place"
    assert refused(lambda: client.delete_subject("place"))[:2] == (422, 42206)
    missing = Schema(whole, "AVRO", [SchemaReference("Place", "place", 7)])
    assert refused(lambda: client.register_schema("other", missing))[1] == 42201


def test_protobuf_imports_and_json_references_are_followed(client: SchemaRegistryClient) -> None:
    client.register_schema("common", Schema('syntax = "proto3"; package f; message Id { string v = 1; }', "PROTOBUF"))
    main = 'syntax = "proto3"; import "common.proto"; message M { f.Id id = 1; }'
    number = client.register_schema("m", Schema(main, "PROTOBUF", [SchemaReference("common.proto", "common", 1)]))
    assert "import" in client.get_schema(number).schema_str
    client.register_schema("unit", Schema('{"type": "string", "enum": ["W", "kW"]}', "JSON"))
    document = '{"type": "object", "properties": {"unit": {"$ref": "unit.json"}}}'
    client.register_schema("reading", Schema(document, "JSON", [SchemaReference("unit.json", "unit", 1)]))
    assert refused(lambda: client.register_schema("lost", Schema(document, "JSON")))[1] == 42201


def test_protobuf_is_given_out_serialised_and_text_and_descriptor_are_one_schema(client: SchemaRegistryClient) -> None:
    number = client.register_schema("p", Schema(PROTO, "PROTOBUF"))
    serialised = client.get_schema(number, fmt="serialized").schema_str
    assert client.register_schema("p", Schema(serialised, "PROTOBUF")) == number
    assert client.get_versions("p") == [1]


def test_normalize_finds_what_is_only_written_otherwise(client: SchemaRegistryClient) -> None:
    long = '{"name": "R", "type": "record", "fields": [{"name": "a", "type": {"type": "int"}}]}'
    short = '{"type": "record", "name": "R", "fields": [{"type": "int", "name": "a"}]}'
    number = client.register_schema("s", Schema(long, "AVRO"))
    assert client.register_schema("s", Schema(short, "AVRO"), normalize_schemas=True) == number
    assert client.register_schema("s", Schema(short, "AVRO")) != number


def test_modes_close_a_subject(client: SchemaRegistryClient, url: str) -> None:
    assert client.get_global_mode() == "READWRITE"
    client.update_mode("s", "READONLY")
    assert client.get_mode("s") == "READONLY"
    assert refused(lambda: client.register_schema("s", Schema(V1, "AVRO")))[:2] == (422, 42205)
    client.delete_mode("s")
    client.update_mode("s", "IMPORT")
    body = {"schema": V1, "version": 7}
    assert httpx.post(f"{url}/subjects/s/versions", json=body).json()["version"] == 7
    assert refused(lambda: client.update_mode("s", "SLEEPY"))[1] == 42204


def test_the_rest_of_the_paths(client: SchemaRegistryClient, url: str) -> None:
    number = client.register_schema("s", Schema(V1, "AVRO"))
    compact = json.dumps(json.loads(V1), separators=(",", ":"))
    assert httpx.get(f"{url}/subjects/s/versions/latest/schema").text == compact
    assert httpx.get(f"{url}/schemas/ids/{number}/schema").text == compact
    assert set(httpx.get(f"{url}/schemas/types").json()) == {"AVRO", "PROTOBUF", "JSON"}
    assert [one["subject"] for one in httpx.get(f"{url}/schemas").json()] == ["s"]
    guid = httpx.get(f"{url}/schemas/ids/{number}").json()["guid"]
    assert client.get_schema_by_guid(guid).schema_str == compact
    answer = httpx.get(f"{url}/subjects")
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    assert httpx.post(f"{url}/subjects/s/versions", content=b"{").status_code == 400


def test_metadata_and_rules_come_back_as_they_were_given(url: str) -> None:
    body = {
        "schema": V1,
        "metadata": {"properties": {"owner": "farm"}},
        "ruleSet": {
            "domainRules": [{"name": "r", "kind": "CONDITION", "type": "CEL", "mode": "WRITE", "expr": "true"}]
        },
    }
    number = httpx.post(f"{url}/subjects/s/versions", json=body).json()["id"]
    answer = httpx.get(f"{url}/schemas/ids/{number}").json()
    assert (answer["metadata"], answer["ruleSet"]) == (body["metadata"], body["ruleSet"])
    assert httpx.post(f"{url}/subjects/s/versions", json={"schema": V1}).json()["id"] != number


def test_with_users_reading_demands_credentials_and_changing_the_right_to_publish(
    start: Callable[..., Any], contracts: Contracts, connect: Connect
) -> None:
    users = (User("meter", hash_password("secret", Cost.DEVICE), publish=("power",)),)
    url = f"{start(contracts=contracts, users=users).url}/registry"
    assert refused(lambda: connect(url).get_subjects())[:2] == (401, 40101)
    client = connect(url, **{"basic.auth.user.info": "meter:secret"})
    client.register_schema("power-value", Schema(V1, "AVRO"))
    assert client.get_subjects() == ["power-value"]
    assert refused(lambda: client.register_schema("plain-value", Schema(V1, "AVRO")))[:2] == (403, 40301)
    assert refused(lambda: client.set_compatibility(level="NONE"))[:2] == (403, 40301)
    assert refused(lambda: client.delete_subject("plain-value"))[:2] == (403, 40301)


def test_what_is_registered_outlives_the_process_and_is_seen_by_others(tmp_path: Path) -> None:
    from qanat.contracts import schema as model

    mine = Registry(tmp_path / "contracts.db")
    theirs = Registry(tmp_path / "contracts.db")
    found = mine.register("s", model.Schema(model.Format.AVRO, V1))
    assert found is not None
    assert theirs.version("s", None).id == found.id
    theirs.register("s", model.Schema(model.Format.AVRO, V2))
    mine.close()
    again = Registry(tmp_path / "contracts.db")
    assert [one.version for one in again.versions("s")] == [1, 2]
    again.close()
    theirs.close()

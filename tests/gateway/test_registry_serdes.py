"""confluent-kafka's serializers write, qanat stores rows; and its deserializers read what is registered here."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import httpx
import paho.mqtt.client as mqtt
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tests.gateway.conftest import NOW, POWER, STREAMS

from qanat.contracts import schema as model
from qanat.contracts.decoders import Contracts
from qanat.contracts.registry import Registry
from qanat.contracts.streams import Terms, bind
from qanat.model.sources import Source

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

HERE = SerializationContext("power", MessageField.VALUE)
SECONDS = NOW // 1000
ROW = {"client_id": "h1", "timestamp": SECONDS, "consumption": 230.5}
DOCUMENT = json.dumps(
    {
        "title": "power",
        "type": "object",
        "properties": {
            "client_id": {"type": "string"},
            "timestamp": {"type": "integer"},
            "consumption": {"type": "number", "minimum": 0},
        },
        "required": ["client_id"],
        "additionalProperties": False,
    }
)


@pytest.fixture
def registry() -> Iterator[Registry]:
    one = Registry()
    yield one
    one.close()


@pytest.fixture
def run(start: Callable[..., Any], registry: Registry) -> Callable[..., tuple[Any, SchemaRegistryClient]]:
    """`run(terms, format)` gives a gateway that reads `power` in that format, and a client of its registry."""
    clients: list[SchemaRegistryClient] = []

    def begin(terms: Terms, name: str) -> tuple[Any, SchemaRegistryClient]:
        bound = bind(registry, [POWER], {"power": terms})
        sources = {"meters": Source(stream="power", topic="power", format=name)}
        running = start(contracts=Contracts(registry, bound), sources=sources)
        clients.append(SchemaRegistryClient({"url": f"{running.url}/registry"}))
        return running, clients[-1]

    begin.clients = clients  # type: ignore[attr-defined]
    return begin


@pytest.fixture(autouse=True)
def _close(run: Any) -> Iterator[None]:
    yield
    for client in run.clients:
        client._rest_client.session.close()


def publish(running: Any, *payloads: bytes) -> None:
    """Send by MQTT, QoS 1; returns when all are acknowledged."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="d1", protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", running.mqtt)
    client.loop_start()
    for payload in payloads:
        client.publish("power", payload, qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def test_avro_goes_in_by_mqtt_with_the_contract_of_the_stream(run: Any, registry: Registry) -> None:
    running, client = run(Terms(), "avro")
    latest = client.get_latest_version("power-value")
    assert latest.version == 1
    serializer = AvroSerializer(client, latest.schema.schema_str, conf={"auto.register.schemas": False})
    payload = serializer(ROW, HERE)
    assert payload[:5] == b"\x00" + latest.schema_id.to_bytes(4, "big")
    publish(running, payload, serializer({**ROW, "consumption": None}, HERE))
    assert running.log.rows("power") == [ROW, {**ROW, "consumption": None}]
    assert AvroDeserializer(client)(payload, HERE) == ROW


def test_a_sender_with_a_schema_of_its_own_registers_it_and_is_read_with_it(run: Any, registry: Registry) -> None:
    running, client = run(Terms(compatibility=model.Level.NONE), "avro")
    own = {
        "type": "record",
        "name": "Meter",
        "fields": [
            {"name": "firmware", "type": "string"},
            {"name": "consumption", "type": "float"},
            {"name": "client_id", "type": "string"},
            {"name": "timestamp", "type": "int"},
        ],
    }
    serializer = AvroSerializer(client, json.dumps(own))
    publish(running, serializer({**ROW, "firmware": "1.2"}, HERE))
    assert running.log.rows("power") == [ROW]
    assert client.get_versions("power-value") == [1, 2]


def test_protobuf_goes_in_framed_and_bare(run: Any, registry: Registry) -> None:
    running, client = run(Terms(format=model.Format.PROTOBUF), "protobuf")
    text = client.get_latest_version("power-value", fmt="serialized").schema.schema_str
    kind = message_class(text, "Power")
    serializer = ProtobufSerializer(
        kind, client, {"auto.register.schemas": False, "use.latest.version": True, "use.deprecated.format": False}
    )
    payload = serializer(kind(**ROW), HERE)
    assert payload[:1] == b"\x00"
    publish(running, payload, kind(**ROW).SerializeToString(), kind(client_id="h2").SerializeToString())
    assert running.log.rows("power") == [ROW, ROW, {"client_id": "h2", "timestamp": SECONDS, "consumption": None}]
    reader = ProtobufDeserializer(kind, {"use.deprecated.format": False}, client)
    assert reader(payload, HERE) == kind(**ROW)


def test_protobuf_that_registers_itself_and_a_message_inside_of_another(run: Any, registry: Registry) -> None:
    running, client = run(Terms(compatibility=model.Level.NONE, format=model.Format.PROTOBUF), "protobuf")
    source = """
      syntax = "proto3";
      package farm;
      message Other { int32 x = 1; }
      message Outer { message Inner { string client_id = 1; double consumption = 2; int64 timestamp = 3; } }
    """
    from qanat.codec.protobuf_schema import parse_protobuf

    kind = message_class_of(parse_protobuf(source).descriptor, "farm.Outer.Inner")
    serializer = ProtobufSerializer(kind, client, {"use.deprecated.format": False})
    payload = serializer(kind(**ROW), HERE)
    assert payload[5:8] == b"\x04\x02\x00"  # two places: 1, 0
    publish(running, payload)
    assert running.log.rows("power") == [ROW]
    assert client.get_latest_version("power-value").schema.schema_type == "PROTOBUF"


def message_class(serialised: str, name: str) -> Any:
    import base64

    return message_class_of(base64.b64decode(serialised), name)


def message_class_of(descriptor: bytes, name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto.FromString(descriptor)
    file.name = "power.proto"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_json_goes_in_framed_and_bare_and_has_to_fit(run: Any, registry: Registry) -> None:
    running, client = run(Terms(format=model.Format.JSON, text=DOCUMENT), "json-schema")
    serializer = JSONSerializer(DOCUMENT, client)
    payload = serializer(ROW, HERE)
    publish(running, payload, json.dumps(ROW).encode(), json.dumps({**ROW, "consumption": -1}).encode(), b'{"x": 1}')
    assert running.log.rows("power") == [ROW, ROW]
    reasons = [letter["reason"] for letter in running.log.rows("dead_letters")]
    assert reasons[0].startswith("/consumption: -1 is less than the minimum of 0")
    assert "additional" in reasons[1].lower() or "required" in reasons[1].lower()
    assert JSONDeserializer(DOCUMENT, schema_registry_client=client)(payload, HERE) == ROW


def test_what_cannot_be_read_is_a_dead_letter_that_says_why_and_which_version_was_in_force(
    run: Any, registry: Registry
) -> None:
    running, client = run(Terms(), "avro")
    good = AvroSerializer(client, client.get_latest_version("power-value").schema.schema_str)(ROW, HERE)
    publish(
        running,
        b"\x00\x00\x00\x10\x00" + good[5:],
        good[:-1],
        good + b"\x00",
        b"\xc3\x01" + bytes(8) + good[5:],
        b'{"client_id": "h1"}',
        b"\x00\x00",
        b"",
        good,
    )
    assert running.log.rows("power") == [ROW]
    letters = running.log.rows("dead_letters")
    assert [letter["reason"] for letter in letters] == [
        "Schema 4096 not found",
        "it ends too soon",
        "1 bytes are left over",
        "no Avro schema with the fingerprint 0000000000000000 is registered",
        "it begins with neither 00 and a schema id nor C3 01 and a fingerprint",
        "it ends before its schema id",
        "it begins with neither 00 and a schema id nor C3 01 and a fingerprint",
    ]
    assert {letter["schema_version"] for letter in letters} == {1}
    assert letters[1]["data"] == good[:-1]


def test_single_objects_are_found_by_their_fingerprint(run: Any, registry: Registry) -> None:
    running, client = run(Terms(), "avro")
    schema = fastavro.parse_schema(json.loads(client.get_latest_version("power-value").schema.schema_str))
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    mark = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, ROW)
    publish(running, b"\xc3\x01" + mark + body.getvalue())
    assert running.log.rows("power") == [ROW]


def test_a_schema_that_is_registered_while_the_gateway_runs_is_known_at_once(run: Any, registry: Registry) -> None:
    running, client = run(Terms(), "avro")
    schema = client.get_latest_version("power-value").schema.schema_str
    good = AvroSerializer(client, schema)(ROW, HERE)
    more = json.loads(schema)
    more["fields"].append({"name": "phase", "type": ["null", "int"], "default": None})
    number = client.register_schema("power-value", Schema(json.dumps(more), "AVRO"))
    evolved = AvroSerializer(client, json.dumps(more))({**ROW, "phase": 2}, HERE)
    assert evolved[1:5] == number.to_bytes(4, "big")
    publish(running, good, evolved)
    assert running.log.rows("power") == [ROW, ROW]


@pytest.mark.parametrize("content_type", ["application/vnd.apache.avro", "avro/binary"])
def test_http_bodies_say_by_their_content_type_that_they_are_avro(
    start: Callable[..., Any], registry: Registry, content_type: str
) -> None:
    bound = bind(registry, [POWER], {})
    running = start(contracts=Contracts(registry, bound))
    client = SchemaRegistryClient({"url": f"{running.url}/registry"})
    payload = AvroSerializer(client, client.get_latest_version("power-value").schema.schema_str)(ROW, HERE)
    client._rest_client.session.close()
    answer = httpx.post(f"{running.url}/streams/power", content=payload, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text
    assert running.log.rows("power") == [ROW]


def test_the_streams_of_these_tests_are_those_of_the_others() -> None:
    assert STREAMS["power"] is POWER
    assert topic_subject_name_strategy(HERE, None) == "power-value"

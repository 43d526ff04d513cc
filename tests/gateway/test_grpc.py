"""gRPC over real sockets, with Google's own client: rows in, answers after the commit, rows out, and every refusal."""

from __future__ import annotations

import base64
import filecmp
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
import trustme
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.gateway.conftest import InLoop

import qanat.gateway.grpc as room
from qanat.errors import ConfigError, LogFullError
from qanat.gateway import Gateway, GatewayConfig
from qanat.gateway.config import IngestLimits, Listener, TlsFiles
from qanat.gateway.grpc import qanat_pb2 as v1
from qanat.gateway.grpc.qanat_pb2_grpc import GatewayStub
from qanat.gateway.limits import Limit, RateLimits
from qanat.log import open_log
from qanat.log.base import Log, Transaction
from qanat.model.sources import Source
from qanat.model.streams import ArrivalColumn, Column, Stream, dead_letter_stream
from qanat.model.types import BIGINT, DOUBLE, STRING
from qanat.observe.metrics import Metrics
from qanat.secure.passwords import Cost, hash_password
from qanat.secure.users import User

SOURCES = Path(room.__file__).parent
POWER = Stream(
    "power",
    (Column("client_id", STRING), Column("timestamp", BIGINT), Column("consumption", DOUBLE)),
    event_time=ArrivalColumn("timestamp", 1),
    key=("client_id",),
    partitions=2,
)
OUT = Stream("results", (Column("id", STRING),))
STREAMS = {"power": POWER, "results": OUT, "dead_letters": dead_letter_stream()}


class Held:
    """A log that can be made to refuse, or to wait."""

    def __init__(self) -> None:
        self.log: Log = open_log("memory://")
        for stream in STREAMS.values():
            self.log.create(stream)
        self.refuses = False
        self.gate = threading.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def submit(self, transaction: Transaction) -> Any:
        if self.refuses:
            raise LogFullError("the disk is full", hint="make room")
        if self.gate.is_set():
            return self.log.submit(transaction)
        from concurrent.futures import Future

        late: Future[Any] = Future()

        def later() -> None:
            self.gate.wait(20)
            late.set_result(self.log.submit(transaction).result())

        threading.Thread(target=later, daemon=True).start()
        return late

    def rows(self, stream: str) -> list[dict[str, Any]]:
        return [
            row
            for partition in range(STREAMS[stream].partitions)
            for chunk in self.log.read((stream, partition), 0, 10**9)
            for row in chunk.rows.to_pylist()
        ]


class Served(InLoop):
    """A gateway with a gRPC listener in a thread of its own, and a client."""

    def __init__(self, log: Held, tls: TlsFiles | None = None, **settings: Any) -> None:
        super().__init__()
        self.log = log
        listener = Listener("grpc", port=0, tls=tls)
        settings = {"mqtt_port": None, "http_port": None, "accepts": frozenset({"power"}), **settings}
        self.config = GatewayConfig(grpc=listener, **settings)
        self.open(self.config, STREAMS, log, Metrics())
        assert self.gateway is not None
        self.port = self.gateway.ports["grpc"]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.stub = GatewayStub(self.channel)

    def close(self) -> None:
        self.channel.close()
        self.log.gate.set()
        super().close()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(**settings)` gives a running gateway."""
    running: list[Served] = []

    def begin(log: Held | None = None, tls: TlsFiles | None = None, **settings: Any) -> Served:
        running.append(Served(log or Held(), tls, **settings))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def row(name: str, value: object = 1.5, time: int = 1_700_000_000) -> bytes:
    return json.dumps({"client_id": name, "timestamp": time, "consumption": value}).encode()


def batch(*rows: bytes, **more: Any) -> v1.AppendRequest:
    return v1.AppendRequest(**{"stream": "power", "json": v1.JsonRows(rows=rows), **more})


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_rows_of_every_form_are_stored(serve: Serve) -> None:
    served = serve()
    struct = Struct()
    struct.update({"client_id": "s", "timestamp": 1_700_000_000, "consumption": 2})
    table = pa.table({"client_id": ["a", "b"], "timestamp": [1_700_000_000, None], "consumption": [0.5, 1.5]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert served.stub.Append(batch(row("j"), row("k"), sequence=7)) == v1.AppendReply(sequence=7, accepted=2)
    assert served.stub.Append(v1.AppendRequest(stream="power", structs=v1.StructRows(rows=[struct]))).accepted == 1
    assert served.stub.Append(v1.AppendRequest(stream="power", arrow=sink.getvalue().to_pybytes())).accepted == 2
    assert {one["client_id"] for one in served.log.rows("power")} == {"j", "k", "s", "a", "b"}
    assert all(one["timestamp"] for one in served.log.rows("power"))


@pytest.mark.parametrize("form", ["json", "arrow", "structs"])
def test_rows_that_do_not_fit_are_named_and_kept_as_dead_letters(serve: Serve, form: str) -> None:
    served = serve()
    bad = {"client_id": "b", "timestamp": 1_700_000_000, "consumption": "much"}
    match form:
        case "json":
            request = batch(row("a"), json.dumps(bad).encode(), row("c"))
        case "structs":
            structs = [Struct(), Struct(), Struct()]
            for struct, name in zip(structs, "abc", strict=True):
                struct.update({**bad, "client_id": name, "consumption": "much" if name == "b" else 1.0})
            request = v1.AppendRequest(stream="power", structs=v1.StructRows(rows=structs))
        case _:
            times = [1_700_000_000, 5_000_000_000, 1_700_000_000]  # the second is far ahead
            table = pa.table({"client_id": ["a", "b", "c"], "timestamp": times, "consumption": [1.0, 1.0, 1.0]})
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            request = v1.AppendRequest(stream="power", arrow=sink.getvalue().to_pybytes())
    reply = served.stub.Append(request)
    assert (reply.accepted, reply.dead_letters, [one.row for one in reply.errors]) == (2, 1, [1])
    (letter,) = served.log.rows("dead_letters")
    assert (letter["source"], letter["stream"], letter["client"]) == ("grpc", "power", "127.0.0.1")
    assert letter["reason"] == reply.errors[0].reason
    assert b'"b"' in letter["data"]


def test_the_answer_comes_after_the_commit(serve: Serve) -> None:
    served = serve()
    served.log.gate.clear()
    future = served.stub.Append.future(batch(row("a")))
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(0.2)
    assert served.log.rows("power") == []
    served.log.gate.set()
    assert future.result(20).accepted == 1
    assert len(served.log.rows("power")) == 1


def test_many_batches_have_one_answer(serve: Serve) -> None:
    served = serve()
    requests = [batch(row(f"c{number}"), b"{", stream="power" if not number else "") for number in range(50)]
    summary = served.stub.AppendStream(iter(requests))
    assert (summary.batches, summary.accepted, summary.dead_letters) == (50, 50, 50)
    assert [one.row for one in summary.errors] == list(range(1, 100, 2))
    assert len(served.log.rows("power")) == 50


def test_batches_are_answered_by_number_and_one_that_is_refused_ends_nothing(serve: Serve) -> None:
    served = serve()
    requests = [batch(row(f"c{number}"), sequence=number) for number in range(1, 500)]
    requests[9] = batch(row("x"), stream="nowhere", sequence=10)
    requests[10].stream = "power"
    replies = list(served.stub.Exchange(iter(requests)))
    assert [one.sequence for one in replies] == list(range(1, 500))
    (refusal,) = [one.refusal for one in replies if one.HasField("refusal")]
    assert refusal.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert len(served.log.rows("power")) == 498


def test_rows_of_one_caller_keep_their_order(serve: Serve) -> None:
    served = serve()
    list(served.stub.Exchange(batch(row("same", float(number))) for number in range(300)))
    assert [one["consumption"] for one in served.log.rows("power")] == [float(number) for number in range(300)]


def test_the_same_key_again_is_answered_as_the_first_time(serve: Serve) -> None:
    log = Held()
    served = serve(log)
    request = batch(row("a"), b"{", idempotency_key="k1", sequence=1)
    first = served.stub.Append(request)
    request.sequence = 2
    again = served.stub.Append(request)
    assert (again.sequence, again.replayed, again.accepted, again.errors) == (2, True, 1, first.errors)
    served.stop()
    after = serve(log).stub.Append(request)
    assert (after.replayed, after.dead_letters) == (True, 1)
    assert len(log.rows("power")) == 1


def test_the_same_key_twice_at_once_is_stored_once(serve: Serve) -> None:
    served = serve()
    served.log.gate.clear()
    futures = [served.stub.Append.future(batch(row("a"), idempotency_key="k")) for _ in range(5)]
    served.log.gate.set()
    replies = [future.result(20) for future in futures]
    assert sorted(one.replayed for one in replies) == [False, True, True, True, True]
    assert len(served.log.rows("power")) == 1


def test_a_key_for_other_rows_is_refused(serve: Serve) -> None:
    served = serve()
    served.stub.Append(batch(row("a"), idempotency_key="k"))
    error = refused(lambda: served.stub.Append(batch(row("b"), idempotency_key="k")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = refused(lambda: served.stub.Append(batch(row("b"), idempotency_key="k" * 300)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (batch(row("a"), stream="nowhere"), grpc.StatusCode.NOT_FOUND),
        (batch(row("a"), stream="results"), grpc.StatusCode.PERMISSION_DENIED),
        (batch(row("a"), stream="dead_letters"), grpc.StatusCode.PERMISSION_DENIED),
        (batch(), grpc.StatusCode.INVALID_ARGUMENT),
        (v1.AppendRequest(stream="power"), grpc.StatusCode.INVALID_ARGUMENT),
        (v1.AppendRequest(stream="power", arrow=b"not arrow"), grpc.StatusCode.INVALID_ARGUMENT),
        (batch(b"x" * (17 << 20)), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_what_cannot_be_taken_has_its_status(serve: Serve, request_: v1.AppendRequest, code: grpc.StatusCode) -> None:
    served = serve()
    assert refused(lambda: served.stub.Append(request_)).code() is code
    assert served.log.rows("power") == []


def test_a_full_log_says_when_to_come_again(serve: Serve) -> None:
    served = serve()
    served.log.refuses = True
    error = refused(lambda: served.stub.Append(batch(row("a"))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    assert trailers["retry-after"] == "5"
    wait = RetryInfo()
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert status.details[0].Unpack(wait)
    assert wait.retry_delay.seconds == 5
    replies = list(served.stub.Exchange(iter([batch(row("a"), sequence=1)])))
    assert (replies[0].refusal.code, replies[0].refusal.retry_after) == (8, 5.0)
    served.log.refuses = False
    assert served.stub.Append(batch(row("a"))).accepted == 1


def test_a_caller_over_its_rate_is_refused_with_the_time_and_its_streams_are_read_later(serve: Serve) -> None:
    served = serve(limits=RateLimits(device=Limit(messages_per_second=100)))
    begin = time.monotonic()
    served.stub.Append(batch(*[row(f"c{number}") for number in range(150)]))
    error = refused(lambda: served.stub.Append(batch(row("a"))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "retry-after" in dict(error.trailing_metadata())
    assert served.stub.AppendStream(iter([batch(row("a"))] * 2)).accepted == 2
    assert time.monotonic() - begin >= 0.5
    assert len(served.log.rows("power")) == 152


def test_a_row_that_is_too_large_refuses_its_batch(serve: Serve) -> None:
    served = serve(limits=RateLimits(device=Limit(message_size=200)))
    error = refused(lambda: served.stub.Append(batch(row("a"), row("b" * 200))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "row 1 has" in error.details()
    assert served.stub.Append(batch(row("a"))).accepted == 1
    assert len(served.log.rows("power")) == 1


def test_a_full_ingest_refuses_single_calls_and_stops_reading_streams(serve: Serve) -> None:
    served = serve(ingest=IngestLimits(max_pending_messages=10))
    served.log.gate.clear()
    sent = 0

    def requests() -> Iterator[v1.AppendRequest]:
        nonlocal sent
        for number in range(2000):
            sent += 1
            yield batch(row(f"c{number}"), b" " * 10_000, sequence=number)

    replies = served.stub.Exchange(requests())
    assert served.gateway is not None
    ingest = served.gateway._ingest
    while not ingest.is_full:
        pass
    error = refused(lambda: served.stub.Append(batch(row("a"))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sent < 1500
    served.log.gate.set()
    assert [one.sequence for one in replies] == list(range(2000))
    assert ingest.is_full is False


# --- rows out --------------------------------------------------------------------------------------------------------


def read(replies: Any, count: int) -> list[tuple[int, int, str]]:
    places: list[tuple[int, int, str]] = []
    for rows in replies:
        places += [(one.partition, one.offset, one.key) for one in rows.places]
        if len(places) >= count:
            return places
    return places


def test_subscribers_read_from_the_beginning_and_what_comes_later(serve: Serve) -> None:
    served = serve()
    served.stub.Append(batch(*(row(f"c{number}") for number in range(20))))
    replies = served.stub.Subscribe(v1.SubscribeRequest(stream="power", start=v1.START_EARLIEST), timeout=20)
    assert {key for _, _, key in read(replies, 20)} == {f"c{number}" for number in range(20)}
    served.stub.Append(batch(row("new")))
    assert [key for _, _, key in read(replies, 1)] == ["new"]


def test_subscribers_read_from_an_offset_on_and_by_key(serve: Serve) -> None:
    served = serve()
    served.stub.Append(batch(*(row("a", float(number)) for number in range(10)), row("b")))
    stored = read(served.stub.Subscribe(v1.SubscribeRequest(stream="power", start=1), timeout=20), 11)
    mine = [place for place in stored if place[2] == "a"]
    home, first, _ = mine[6]
    request = v1.SubscribeRequest(stream="power", offsets={home: first, 1 - home: 100}, keys=["a"])
    assert read(served.stub.Subscribe(request, timeout=20), 4) == mine[6:]


def test_the_newest_rows_only_unless_more_is_asked_for(serve: Serve) -> None:
    served = serve()
    served.stub.Append(batch(row("old")))
    replies = served.stub.Subscribe(v1.SubscribeRequest(stream="power"), timeout=20)
    replies.initial_metadata()
    served.stub.Append(batch(row("new")))
    assert [key for _, _, key in read(replies, 1)] == ["new"]


@pytest.mark.parametrize("form", [v1.FORMAT_JSON, v1.FORMAT_ARROW, v1.FORMAT_STRUCT])
def test_rows_go_out_in_every_form(serve: Serve, form: v1.Format) -> None:
    served = serve()
    served.stub.Append(batch(row("a", 2.5)))
    request = v1.SubscribeRequest(stream="power", start=v1.START_EARLIEST, format=form)
    rows = next(iter(served.stub.Subscribe(request, timeout=20)))
    match rows.WhichOneof("rows"):
        case "json":
            got = json.loads(rows.json.rows[0])
        case "arrow":
            table = pa.ipc.open_stream(rows.arrow).read_all()
            assert table.schema.field("timestamp").type == pa.int64()
            got = table.to_pylist()[0]
        case _:
            got = dict(rows.structs.rows[0].items())
    assert got == {"client_id": "a", "timestamp": 1_700_000_000, "consumption": 2.5}


def test_a_subscriber_that_does_not_read_holds_no_rows(serve: Serve) -> None:
    served = serve()
    many = [batch(*(row(f"c{number}", float(number)) for number in range(2000))) for _ in range(20)]
    replies = served.stub.Subscribe(v1.SubscribeRequest(stream="power", start=v1.START_EARLIEST), timeout=60)
    served.stub.AppendStream(iter(many))
    assert len(set(read(replies, 40_000))) == 40_000


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (v1.SubscribeRequest(stream="nowhere"), grpc.StatusCode.NOT_FOUND),
        (v1.SubscribeRequest(stream="results", keys=["x"]), grpc.StatusCode.INVALID_ARGUMENT),
        (v1.SubscribeRequest(stream="power", offsets={7: 1}), grpc.StatusCode.INVALID_ARGUMENT),
        (v1.SubscribeRequest(stream="power", format=9), grpc.StatusCode.INVALID_ARGUMENT),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_subscribed_to(serve: Serve, request_: v1.SubscribeRequest, code: grpc.StatusCode) -> None:
    served = serve()
    assert refused(lambda: next(served.stub.Subscribe(request_, timeout=20))).code() is code


# --- who -------------------------------------------------------------------------------------------------------------

USERS = (
    User("h1", hash_password("secret", Cost.DEVICE), subscribe=("power/h1",)),
    User("reader", hash_password("secret", Cost.DEVICE), publish=(), subscribe=("*",)),
)


def basic(name: str, password: str = "secret") -> list[tuple[str, str]]:
    return [("authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())]


@pytest.mark.parametrize(
    "metadata",
    [[], basic("h1", "wrong"), [("authorization", "Bearer nothing")], [("authorization", "Digest x")],
     [("authorization", "Basic ***")]],
)  # fmt: skip
def test_without_credentials_nothing_goes(serve: Serve, metadata: list[tuple[str, str]]) -> None:
    served = serve(users=USERS)
    for call in (
        lambda: served.stub.Append(batch(row("a")), metadata=metadata),
        lambda: list(served.stub.Exchange(iter([batch(row("a"))]), metadata=metadata)),
        lambda: next(served.stub.Subscribe(v1.SubscribeRequest(stream="power"), metadata=metadata)),
    ):
        assert refused(call).code() is grpc.StatusCode.UNAUTHENTICATED
    assert served.log.rows("power") == []


def test_rights_are_those_of_the_user(serve: Serve) -> None:
    served = serve(users=USERS)
    assert served.stub.Append(batch(row("a")), metadata=basic("h1")).accepted == 1
    error = refused(lambda: served.stub.Append(batch(row("a")), metadata=basic("reader")))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    own = v1.SubscribeRequest(stream="power", keys=["h1"], start=v1.START_EARLIEST)
    foreign = v1.SubscribeRequest(stream="power", keys=["a"], start=v1.START_EARLIEST)
    error = refused(lambda: next(served.stub.Subscribe(foreign, metadata=basic("h1"))))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    served.stub.Append(batch(row("h1")), metadata=basic("h1"))
    assert read(served.stub.Subscribe(own, metadata=basic("h1"), timeout=20), 1)
    assert read(served.stub.Subscribe(foreign, metadata=basic("reader"), timeout=20), 1)


def test_a_user_whose_rights_end_is_sent_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(users=USERS)
    assert served.gateway is not None
    auth = served.gateway._auth
    replies = served.stub.Subscribe(v1.SubscribeRequest(stream="power"), metadata=basic("reader"), timeout=20)
    exchange = served.stub.Exchange(iter(lambda: threading.Event().wait(30), 1), metadata=basic("h1"), timeout=20)
    replies.initial_metadata()
    monkeypatch.setattr(auth, "still", lambda user: False)
    for name in ("reader", "h1", "nobody"):
        for watcher in auth._watchers:
            served.loop.call_soon_threadsafe(watcher, name)
    assert refused(lambda: next(replies)).code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused(lambda: next(exchange)).code() is grpc.StatusCode.UNAUTHENTICATED


def test_tls_with_client_certificates(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    server, client, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("h1"), stranger.issue_cert("h1")
    (tmp_path / "cert.pem").write_bytes(b"".join(one.bytes() for one in server.cert_chain_pems))
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem", demand_client=True)
    served = serve(tls=tls, users=USERS)
    assert served.gateway is not None
    seen: list[bytes] = []

    def certificate(der: bytes) -> User:
        seen.append(der)
        return USERS[0]

    monkeypatch.setattr(served.gateway._auth, "certificate", certificate)

    def call(cert: trustme.LeafCert | None) -> v1.AppendReply:
        key = None if cert is None else cert.private_key_pem.bytes()
        chain = None if cert is None else cert.cert_chain_pems[0].bytes()
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)
        with grpc.secure_channel(f"127.0.0.1:{served.port}", credentials) as channel:
            reply: v1.AppendReply = GatewayStub(channel).Append(batch(row("a")), timeout=20)
            return reply

    assert call(client).accepted == 1
    assert len(seen) == 1
    for bad in (None, other):
        assert refused(lambda bad=bad: call(bad)).code() is grpc.StatusCode.UNAVAILABLE


# --- the server ------------------------------------------------------------------------------------------------------


def test_health_and_reflection(serve: Serve) -> None:
    served = serve()
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", "qanat.v1.Gateway"):
        reply = health.Check(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(served.channel).get_services()
    assert {"qanat.v1.Gateway", "grpc.health.v1.Health"} <= set(services)


def test_the_end_answers_what_was_taken_and_ends_subscriptions(serve: Serve) -> None:
    served = serve()
    replies = served.stub.Subscribe(v1.SubscribeRequest(stream="power"), timeout=20)
    replies.initial_metadata()
    served.log.gate.clear()
    asked = served.stub.Append.future(batch(row("a")))
    assert served.gateway is not None
    while not served.gateway._ingest._messages:
        pass
    ending = threading.Thread(target=served.stop)
    ending.start()
    assert refused(lambda: next(replies)).code() is grpc.StatusCode.UNAVAILABLE
    served.log.gate.set()
    assert asked.result(20).accepted == 1
    ending.join(20)
    assert not ending.is_alive()


def test_a_taken_port_is_said_plainly(serve: Serve) -> None:
    served = serve()
    config = GatewayConfig(mqtt_port=0, http_port=0, grpc=Listener("grpc", port=served.port))

    async def begin() -> None:
        await Gateway(config, STREAMS, served.log, Metrics()).start()  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match=f"cannot listen for grpc on 127.0.0.1:{served.port}"):
        served.run(begin())


def test_missing_packages_are_named(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PACKAGES", ("grpc", "not_there.at_all"))
    with pytest.raises(ConfigError) as caught:
        serve()
    assert caught.value.hint == "pip install 'qanat[grpc]'"


def test_topics_of_sources_are_streams_too(serve: Serve) -> None:
    served = serve(sources={"meters": Source(stream="power", topic="meter/{client_id}")})
    reply = served.stub.Append(batch(b'{"consumption": 3.5}', stream="meter/m7"))
    assert reply.accepted == 1
    assert served.log.rows("power")[0]["client_id"] == "m7"


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    top = SOURCES.parents[2]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{top}"]
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *outs, "qanat/gateway/grpc/qanat.proto"], check=True, timeout=60)
    made = tmp_path / "qanat" / "gateway" / "grpc"
    names = ["qanat_pb2.py", "qanat_pb2.pyi", "qanat_pb2_grpc.py"]
    assert filecmp.cmpfiles(made, SOURCES, names, shallow=False)[0] == names

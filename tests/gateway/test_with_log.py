"""The gateway in front of the logs that qanat really has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from qanat.gateway.mqtt.device import encode_publish
from qanat.gateway.mqtt.packets import V5, Ack, Kind
from qanat.log import open_log
from qanat.log.base import Log


@pytest.fixture(params=["memory", "sqlite"])
def log(request: Any, tmp_path: Path) -> Iterator[Log]:
    opened = open_log("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db")
    yield opened
    opened.close()


def stored(log: Log, stream: str) -> list[dict[str, Any]]:
    status = log.status()[stream]
    batches = [
        chunk.rows
        for partition, end in status.ends.items()
        if end
        for chunk in log.read((stream, partition), 0, 1_000_000)
    ]
    return pa.Table.from_batches(batches).to_pylist() if batches else []


def test_rows_of_both_protocols_and_dead_letters_are_in_the_log(
    start: Callable[..., Any], raw: Callable[..., Any], log: Log, streams: Any
) -> None:
    for name in ("plain", "spread"):
        log.create(streams[name])
    running = start(log, accepts=frozenset({"plain", "spread"}))
    client = raw(running.mqtt, V5)
    total = 2000
    for i in range(total):
        payload = json.dumps({"client_id": f"h{i % 50}", "timestamp": i}).encode() if i % 10 else b"bad %d" % i
        client.send(encode_publish("spread", payload, 1, i + 1, V5))
        if i % 500 == 499:
            acks = [client.read() for _ in range(500)]
            assert [ack.packet_id for ack in acks if isinstance(ack, Ack) and ack.kind is Kind.PUBACK] == list(
                range(i - 498, i + 2)
            )
    body = b"\n".join(b'{"id": "%d"}' % i for i in range(1000))
    assert httpx.post(f"{running.url}/streams/plain", content=body).json() == {"accepted": 1000, "dead_letters": 0}
    assert [row["id"] for row in stored(log, "plain")] == [str(i) for i in range(1000)]
    rows = stored(log, "spread")
    assert sorted(row["timestamp"] for row in rows) == [i for i in range(total) if i % 10]
    for key in range(50):
        mine = [row["timestamp"] for row in rows if row["client_id"] == f"h{key}"]
        assert mine == sorted(mine)
    assert [row["data"] for row in stored(log, "dead_letters")] == [b"bad %d" % i for i in range(0, total, 10)]
    running.stop()

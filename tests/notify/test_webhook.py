"""Webhooks against a real HTTP server that fails, hangs, drips, closes, answers 500 and then 200; signature; TLS."""

from __future__ import annotations

import base64
import hmac
import re
import threading
import time
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from tests.notify.conftest import Receiver, put, wait_for

from qanat.errors import ConfigError
from qanat.model.sinks import Sink, Webhook
from qanat.notify import open_sinks
from qanat.notify.webhook import open_webhook
from qanat.observe.metrics import Metrics

DOCUMENT = Path(__file__).parents[2] / "docs" / "alerts.md"


def hook(receiver, **more):
    return Webhook(url=receiver.url, **more)


def test_what_a_request_looks_like(log, play, receiver):
    put(log, ("a", "raised", -0.4, 7))
    play(webhook=hook(receiver, headers={"X-Farm": "7"}), key=("site",), state="state").run()
    [(headers, _)] = receiver.requests
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "alerts/0/0"
    assert headers["x-farm"] == "7"
    assert "webhook-signature" not in headers
    assert receiver.bodies == [
        {
            "id": "alerts/0/0", "sink": "ops", "stream": "alerts", "status": "raised", "key": "a",
            "at": "1970-01-01T00:00:01.000Z", "row": {"site": "a", "state": "raised", "level": -0.4, "n": 7},
        }
    ]  # fmt: skip


@pytest.mark.parametrize("secret", ["a plain text", "whsec_" + base64.b64encode(b"24 bytes of a real key..").decode()])
def test_the_signature_is_right_and_the_documented_check_takes_it(log, play, receiver, monkeypatch, secret):
    monkeypatch.setenv("HOOK_SECRET", secret)
    put(log, ("a", "raised", 1.0, 1))
    play(webhook=hook(receiver, secret_env="HOOK_SECRET")).run()
    [(headers, body)] = receiver.requests
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"alerts/0/0.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
    assert headers["webhook-signature"] == expected
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    if not secret.startswith("whsec_"):
        code = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
        names: dict = {}
        exec(code, names)
        assert names["is_ours"](headers, body, secret)
        assert not names["is_ours"](headers, body + b" ", secret)


def test_cloudevents_as_their_library_reads_them(log, play, receiver):
    put(log, ("a", "raised", 1.0, 1), ("a", "ok", 1.0, 2))
    play(webhook=hook(receiver, format="cloudevents"), key=("site",), state="state").run()
    events = [from_http_event(HTTPMessage(headers, body)) for headers, body in receiver.requests]
    assert [event.get_type() for event in events] == ["qanat.alert.raised", "qanat.alert.cleared"]
    assert [event.get_id() for event in events] == ["alerts/0/0", "alerts/0/1"]
    assert events[0].get_source() == "/qanat/sinks/ops"
    assert events[0].get_subject() == "a"
    assert events[0].get_data() == {"site": "a", "state": "raised", "level": 1.0, "n": 1}


def test_batches(log, play, receiver):
    put(log, *(("a", "raised", 1.0, n) for n in range(7)))
    play(webhook=hook(receiver), batch=5).run()
    assert [[one["row"]["n"] for one in body] for body in receiver.bodies] == [[0, 1, 2, 3, 4], [5, 6]]
    assert [headers["idempotency-key"] for headers, _ in receiver.requests] == ["alerts/0/0-4", "alerts/0/5-6"]
    put(log, *(("a", "raised", 1.0, n) for n in range(2)), partition=1)
    receiver.requests.clear()
    play(webhook=hook(receiver, format="cloudevents"), batch=5).run()
    assert receiver.requests[0][0]["content-type"] == "application/cloudevents-batch+json"


@pytest.mark.parametrize("fault", [500, 503, 429, 401, 403, 404, 408, "close", "hang", "drip"])
def test_what_passes_is_tried_again_with_the_same_id(log, play, receiver, fault):
    receiver.answers = [fault, fault, 200]
    put(log, ("a", "raised", 1.0, 0), ("a", "raised", 1.0, 1))
    playing = play(webhook=hook(receiver), timeout=300)
    playing.sender.step(playing.moment)
    assert playing.sender.fault is not None
    playing.run(10)
    ids = [headers["idempotency-key"] for headers, _ in receiver.requests]
    assert ids == ["alerts/0/0"] * 3 + ["alerts/0/1"]
    assert playing.sender.fault is None
    assert log.status()["dead_letters"].rows == 0


@pytest.mark.parametrize("status", [400, 405, 410, 413, 422, 301, 308])
def test_what_does_not_pass_goes_to_dead_letters(log, play, receiver, status):
    receiver.answers = [(status, {"Location": receiver.url}, "no such\n level")] * 2
    put(log, ("a", "raised", 1.0, 0), ("b", "raised", 1.0, 1))
    playing = play(webhook=hook(receiver), attempts=2)
    playing.run(10)
    assert [body["row"]["site"] for body in receiver.bodies] == ["a", "a", "b"]
    [chunk] = log.read(("dead_letters", 0), 0, 10)
    assert chunk.rows.to_pylist()[0]["reason"] == f"sink ops: {receiver.url} answered {status}: no such level"


def test_retry_after_is_kept_to(log, play, receiver):
    receiver.answers = [(503, {"Retry-After": "90"}, "")]
    put(log, ("a", "raised", 1.0, 0))
    playing = play(webhook=hook(receiver))
    playing.run(89)
    assert len(receiver.requests) == 1
    playing.run(2)
    assert len(receiver.requests) == 2


def test_nobody_there(log, play):
    put(log, ("a", "raised", 1.0, 0))
    playing = play(webhook=Webhook(url="http://127.0.0.1:1/"))
    playing.run(100)
    assert "cannot reach http://127.0.0.1:1/" in playing.sender.fault
    assert log.positions("sink:ops")["alerts", 0] == 0


def test_tls_trusts_whom_it_is_told_to_and_nobody_else(log, play, server_context, ca_file):
    receiver = Receiver(server_context)
    put(log, ("a", "raised", 1.0, 0))
    playing = play(webhook=hook(receiver))
    playing.run(1)
    assert "is not trusted" in playing.sender.fault
    assert receiver.requests == []
    play(webhook=hook(receiver, ca=ca_file)).run()
    assert len(receiver.requests) == 1
    receiver.shutdown()
    receiver.server_close()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"url": "ftp://x"}, "no http:// or https://"),
        ({"url": "http://u:p@x/"}, "credentials"),
        ({"url": "http://x:99999/"}, "no URL"),
        ({"url": "http://x/", "token_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"url": "http://x/", "headers": {"A": "b\r\nC: d"}}, "cannot be sent"),
        ({"url": "https://x/", "ca": "none.pem"}, "cannot be used"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(declared, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as caught:
        open_webhook("ops", Webhook(**declared), 1.0, tmp_path)
    assert "p@x" not in str(caught.value)


def test_the_thread_wakes_with_new_rows_and_stops_while_a_target_hangs(log, receiver):
    from tests.notify.conftest import ALERTS

    sink = Sink(stream="alerts", webhook=hook(receiver), timeout=60_000)
    [running] = open_sinks({"ops": sink}, {"alerts": ALERTS}, log, Metrics(), Path())
    running.start()
    put(log, ("a", "raised", 1.0, 0))
    wait_for(lambda: log.positions("sink:ops")["alerts", 0] == 1, "the first row is delivered")
    receiver.answers = ["hang"]
    put(log, ("a", "raised", 1.0, 1))
    wait_for(lambda: len(receiver.requests) == 2, "the second request hangs")
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 4
    assert log.positions("sink:ops")["alerts", 0] == 1
    assert "qanat-sink-ops" not in {thread.name for thread in threading.enumerate()}

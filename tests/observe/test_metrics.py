"""Metrics by name, and log lines in both forms."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import pytest
import structlog

from qanat.errors import ConfigError
from qanat.observe import metrics as module
from qanat.observe.logs import get_logger, setup_logs
from qanat.observe.metrics import Metrics


@pytest.fixture(autouse=True)
def _restore_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_what_is_counted_is_rendered() -> None:
    metrics = Metrics()
    metrics.gateway_received("mqtt", "power", 3, 120)
    metrics.gateway_accepted("power", 2)
    metrics.gateway_dead("power", "decode", 1)
    metrics.gateway_shed("mqtt", "power", 4)
    metrics.gateway_refused("http", "backpressure")
    metrics.gateway_connections("mqtt", 1)
    metrics.gateway_connections("mqtt", -1)
    metrics.gateway_pending(7)
    metrics.gateway_ack("mqtt", 0.004)
    metrics.log_appended("power", 2, 80)
    metrics.log_committed(0.003)
    metrics.pipeline_batch("predict", 10, 5, 0.02)
    metrics.pipeline_late("predict", 1)
    metrics.pipeline_partly_late("predict", 2)
    metrics.pipeline_watermark("predict", 1_700_000_000_000)
    metrics.pipeline_lag("predict", 0)
    metrics.pipeline_latency("predict", [0.05, 0.07])
    text = metrics.render().decode()
    for line in (
        'qanat_gateway_messages_total{protocol="mqtt",stream="power"} 3.0',
        'qanat_gateway_bytes_total{protocol="mqtt",stream="power"} 120.0',
        'qanat_gateway_dead_letters_total{reason="decode",stream="power"} 1.0',
        'qanat_gateway_connections{protocol="mqtt"} 0.0',
        "qanat_log_commit_seconds_count 1.0",
        'qanat_pipeline_watermark_ms{pipeline="predict"} 1.7e+12',
        'qanat_pipeline_latency_seconds_count{pipeline="predict"} 2.0',
    ):
        assert line in text


def test_every_metric_stands_in_the_table_of_the_module() -> None:
    table = module.__doc__ or ""
    for family in Metrics().registry.collect():
        last = re.sub(r"^qanat_(gateway|pipeline|log)", "", family.name)
        assert family.name in table or f"{last}_total" in table, family.name


def test_two_processes_worth_of_metrics_do_not_collide() -> None:
    one, two = Metrics(), Metrics()
    one.gateway_accepted("power", 1)
    assert "power" not in two.render().decode()


def test_log_lines_as_json_carry_their_context() -> None:
    out = io.StringIO()
    setup_logs("json", "info", out)
    log = get_logger(room="gateway")
    log.debug("not this one")
    log.info("listening", port=1883)
    (line,) = out.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "listening", "level": "info", "port": 1883, "room": "gateway"}


def test_log_lines_for_people() -> None:
    out = io.StringIO()
    setup_logs("console", "warning", out)
    get_logger().warning("slow disk", seconds=2)
    assert "slow disk" in out.getvalue()
    assert "seconds=2" in out.getvalue()


def test_an_unknown_style_or_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="xml"):
        setup_logs("xml")
    with pytest.raises(ConfigError, match="loud"):
        setup_logs("json", "loud")

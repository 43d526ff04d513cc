"""docs/mapping.md keeps its word: its vendors' messages become the rows that it shows, in a running project."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
import yaml
from tests.cli.conftest import Server

from qanat.gateway.formats import CONTENT_TYPES, FORMATS
from qanat.model.project import validate
from qanat.model.sources import Source

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The project of the page."""
    (tmp_path / "vendors.sql").write_text(blocks("sql")[0])
    (tmp_path / "qanat.yaml").write_text(next(one for one in blocks("yaml") if one.startswith("# qanat.yaml")))
    server = Server(tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate()


def publish(port: int, lines: list[str]) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for line in lines:
            words = shlex.split(line)
            topic, payload = words[words.index("-t") + 1], words[words.index("-m") + 1]
            client.publish(topic, payload, qos=1).wait_for_publish(20)
    finally:
        client.disconnect()
        client.loop_stop()


def test_three_vendors_become_one_stream(server: Server) -> None:
    example = blocks("console")[-1].splitlines()
    wanted = [json.loads(line) for line in example if line.startswith("{")]
    query = shlex.split(next(line for line in example if line.startswith("$ qanat query")))[3]
    publish(server.port("mqtt"), [line for line in example if line.startswith("$ mosquitto_pub")])
    found: list[object] = []
    for _ in range(100):  # the pipeline is a moment behind
        answer = subprocess.run(
            [sys.executable, "-m", "qanat", "query", query, "--json"],
            cwd=server.folder,
            capture_output=True,
            timeout=60,
        )
        found = [json.loads(line) for line in answer.stdout.splitlines()]
        if len(found) == len(wanted):
            break
    assert found == wanted


@pytest.mark.parametrize("text", blocks("yaml"), ids=range(len(blocks("yaml"))))
def test_every_example_of_a_source_can_be_read(text: str) -> None:
    assert validate(yaml.safe_load(text), "docs/mapping.md", lambda _: None).sources


def test_every_setting_and_format_is_documented() -> None:
    settings = [name for name in Source.__struct_fields__ if f"`{name}`" not in PAGE]
    own = [name for name in FORMATS if name not in ("avro-plain", "json-schema") and f"`{name}`" not in PAGE]
    assert (settings, own) == ([], [])
    numbers = [number for number in CONTENT_TYPES if number.isdigit() and not re.search(rf"\b{number}\b", PAGE)]
    assert numbers == []

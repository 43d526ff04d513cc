"""docs/serving.md: every command on it works against a real project."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
SQL = re.search(r"```sql\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("project")
    assert SQL is not None
    (folder / "main.sql").write_text(SQL[1])
    command = [sys.executable, "-m", "qanat", "up", ".", "--mqtt-port", "0", "--http-port", "0", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "ready":
            break
    port = next(one["port"] for one in events if one.get("protocol") == "http")
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_all_commands_of_the_page_work(url: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    bad = '{"temperature": "warm"}'
    subprocess.run(["curl", "-s", f"{url}/streams/readings", "-d", bad], check=True, capture_output=True)
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        assert command.startswith("curl "), command
        told = run(command, url)
        assert "problem" not in told, command
        assert '"errors":[{"message"' not in told, command


def run(command: str, url: str) -> str:
    """What it says; its status must be 200."""
    script = command.replace("$URL", url).replace("curl ", "curl -w '\\n%{http_code} %{content_type}' ", 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, encoding="utf-8", timeout=30)
    status = done.stdout.rsplit("\n", 1)[1]
    assert status.startswith("200 "), (command, done.stdout)
    assert "problem" not in status
    return done.stdout


def test_the_page_names_every_endpoint(url: str) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    named = [path for path in paths if path.startswith("/v1/") and "{" not in path]
    assert [path for path in named if path not in TEXT] == []
